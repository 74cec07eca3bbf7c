//! Real TPM quotes and event logs, each with the outcome that the manifests of
//! the vectors demand.
#![cfg(test)]

mod common;

use std::path::Path;

use data_encoding::{BASE64, HEXLOWER_PERMISSIVE as HEX};
use portcullis_attest::check::{Checks, Outcome};
use portcullis_attest::eventlog::Unlogged;
use portcullis_attest::eventlog::{EventLog, EventLogError, Format};
use portcullis_attest::tpm::attest::Quote;
use portcullis_attest::tpm::pcr::{Bank, PcrValues};
use portcullis_attest::tpm::verify::{KeySource, QuoteInput, SelectionRule, verify};

fn pcrs(json: &[u8]) -> PcrValues {
    let json: serde_json::Value = serde_json::from_slice(json).unwrap();
    let mut values = PcrValues::default();
    for (bank, list) in json.as_object().unwrap() {
        let Some(bank) = Bank::from_name(bank) else { continue };
        for (pcr, value) in list.as_object().unwrap() {
            assert!(values.insert(bank, pcr.parse().unwrap(), HEX.decode(value.as_str().unwrap().as_bytes()).unwrap()));
        }
    }
    values
}

/// A quote with its key and nonce, and nothing beside it.
fn alone<'a>(attest: &'a [u8], signature: &'a [u8], ak: &'a [u8], nonce: &'a [u8]) -> QuoteInput<'a> {
    QuoteInput {
        attest,
        signature,
        ak: KeySource::Presented(ak),
        pcrs: None,
        expected: None,
        event_log: None,
        user_space_log: None,
        unlogged: Unlogged::Refused,
        measured_files: None,
        nonce: Some(nonce),
        selection: SelectionRule::NotEmpty,
    }
}

fn refused(root: &Path, folder: &str, quote: &str, ak: &str, log: &str) -> Vec<(String, Outcome)> {
    let at = |file: &str| common::read(&root.join(folder).join(file));
    let attest = at(&format!("{quote}.msg"));
    let nonce = Quote::parse(&attest).unwrap().extra_data;
    let mut checks = Checks::all();
    verify(
        &QuoteInput {
            pcrs: Some(&pcrs(&at("pcrs.json"))),
            event_log: Some(&at(log)),
            ..alone(&attest, &at(&format!("{quote}.sig")), &at(ak), &nonce)
        },
        &mut checks,
    );
    checks.refused().map(|c| (c.id.to_string(), c.outcome)).collect()
}

const BARE_KEY: (&str, Outcome) = ("tpm.ak.attributes", Outcome::Missing);

fn assert_refused(found: Vec<(String, Outcome)>, required: &[(&str, Outcome)], what: &str) {
    let found: Vec<(&str, Outcome)> = found.iter().map(|(id, outcome)| (id.as_str(), *outcome)).collect();
    assert_eq!(found, required, "{what}");
}

#[test]
fn quotes_of_other_verifiers_verify() {
    let Some(root) = common::vectors("tpm-quote") else { return };
    let run = |folder| refused(&root, folder, "quote", "ak_recovered.pem", "eventlog.bin");
    assert_refused(run("haruhi-good-1"), &[BARE_KEY], "haruhi-good-1");
    let no_ima_list = ("tpm.pcr.10", Outcome::Missing);
    assert_refused(run("x1carbon-before"), &[BARE_KEY, no_ima_list], "PCR 10 has a log of its own");
    for quote in ["quote.sha256", "quote.sha384"] {
        let no_ima_list = [("tpm.pcr.10", Outcome::Missing)];
        assert_refused(
            refused(&root, "gce-cos-85-nonce9009", quote, "ak.tpmt_public", "eventlog.bin"),
            &no_ima_list,
            quote,
        );
    }
}

#[test]
fn an_event_log_of_another_boot_fails_at_the_pcr_that_differs() {
    let Some(root) = common::vectors("tpm-quote") else { return };
    let found = refused(&root, "haruhi-failed-1-NEG", "quote", "ak_recovered.pem", "eventlog.bin");
    assert_refused(found, &[("tpm.pcr.0", Outcome::Fail), BARE_KEY], "PCR 0 only");
}

#[test]
fn logs_after_resume_fail_at_the_pcrs_that_they_no_longer_cover() {
    let Some(root) = common::vectors("tpm-quote") else { return };
    let run = |log: &str| refused(&root, "windows-dell-5-logs", "quote", "ak_recovered.pem", log);
    assert_refused(run("eventlog4.bin"), &[BARE_KEY], "log 4");
    let fail = |pcr: &'static str| (pcr, Outcome::Fail);
    let expected = [fail("tpm.pcr.12"), fail("tpm.pcr.13"), fail("tpm.pcr.14"), BARE_KEY];
    assert_refused(run("eventlog.bin"), &expected, "log 0");
    for log in ["eventlog1.bin", "eventlog2.bin", "eventlog3.bin"] {
        assert_refused(run(log), &[fail("tpm.pcr.12"), BARE_KEY], log);
    }
}

#[test]
fn sha1_is_never_trusted() {
    let Some(root) = common::vectors("tpm-quote") else { return };
    let found = refused(&root, "gce-cos-85-nonce9009", "quote.sha1", "ak.tpmt_public", "eventlog.bin");
    assert_refused(found, &[("tpm.bank", Outcome::Fail)], "SHA-1 bank under a SHA-256 signature");
    let found = refused(&root, "windows-supermicro-wbcl", "quote", "ak_recovered.pem", "eventlog.bin");
    assert_refused(found, &[("tpm.bank", Outcome::Fail), BARE_KEY], "SHA-1 beside SHA-256");
}

/// Keylime's string, without the key: quote and digest are read, SHA-1 is refused.
#[test]
fn a_quote_of_keylime_names_sha1_and_is_refused_for_it() {
    let Some(root) = common::vectors("tpm-quote") else { return };
    let text = String::from_utf8(common::read(&root.join("keylime-quote-encoding/test-quote.txt"))).unwrap();
    let parts: Vec<Vec<u8>> = text
        .trim_end()
        .strip_prefix('r')
        .unwrap()
        .split(':')
        .map(|part| BASE64.decode(part.as_bytes()).unwrap())
        .collect();
    let [attest, signature, _pcrs] = parts.try_into().unwrap();
    let quote = Quote::parse(&attest).unwrap();
    assert_eq!(quote.extra_data, b"TEST");
    assert_eq!(quote.selection.pcrs().collect::<Vec<_>>(), [(Bank::Sha1, 16)]);
    let mut checks = Checks::all();
    let input = alone(&attest, &signature, &[], b"TEST");
    assert!(verify(&input, &mut checks).is_none());
    let failed = checks.list().iter().filter(|c| c.outcome == Outcome::Fail).map(|c| c.id.as_ref());
    assert_eq!(failed.collect::<Vec<_>>(), ["tpm.ak", "tpm.bank"]);
}

/// This quote was made without a nonce, and to ask for none makes it no fresher.
#[test]
fn an_empty_nonce_makes_no_quote_fresh() {
    let Some(root) = common::vectors("tpm-quote") else { return };
    let json: serde_json::Value =
        serde_json::from_slice(&common::read(&root.join("windows-gcp-shielded/windows_gcp_shielded_vm.json"))).unwrap();
    let attest = BASE64.decode(json["Quote"]["Quote"].as_str().unwrap().as_bytes()).unwrap();
    assert_eq!(Quote::parse(&attest).unwrap().extra_data, b"");
    let mut checks = Checks::all();
    let input = alone(&attest, &[], &[], &[]);
    verify(&input, &mut checks);
    let nonce = checks.list().iter().find(|check| check.id == "tpm.nonce").unwrap();
    assert_eq!(nonce.outcome, Outcome::Missing);
}

#[test]
fn a_sha1_signature_is_refused_by_scheme() {
    let Some(root) = common::vectors("tpm-quote") else { return };
    let json: serde_json::Value =
        serde_json::from_slice(&common::read(&root.join("windows-gcp-shielded/windows_gcp_shielded_vm.json"))).unwrap();
    let bytes = |value: &serde_json::Value| BASE64.decode(value.as_str().unwrap().as_bytes()).unwrap();
    let quote = &json["Quote"];
    let mut checks = Checks::all();
    verify(
        &alone(&bytes(&quote["Quote"]), &bytes(&quote["Signature"]), &bytes(&json["AK"]["Public"]), &[]),
        &mut checks,
    );
    let failed: Vec<_> = checks.list().iter().filter(|c| c.outcome == Outcome::Fail).map(|c| c.id.as_ref()).collect();
    assert_eq!(failed, ["tpm.scheme", "tpm.bank"]);
}

#[test]
fn a_quote_over_all_24_pcrs_verifies_against_its_nonce() {
    let Some(root) = common::vectors("tpm-quote") else { return };
    let json: serde_json::Value =
        serde_json::from_slice(&common::read(&root.join("trustee-tpm/tpm_evidence.json"))).unwrap();
    let der = BASE64.decode(json["ak_public"].as_str().unwrap().as_bytes()).unwrap();
    let pem = format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", wrap(&BASE64.encode(&der)));
    let quote = &json["tpm_quote"];
    let part = |name: &str| BASE64.decode(quote[name].as_str().unwrap().as_bytes()).unwrap();
    let mut values = PcrValues::default();
    for (pcr, value) in quote["pcrs"].as_array().unwrap().iter().enumerate() {
        let value = HEX.decode(value.as_str().unwrap().as_bytes()).unwrap();
        assert!(values.insert(Bank::Sha256, u8::try_from(pcr).unwrap(), value));
    }
    // The signature stands bare in the JSON: RSASSA with SHA-256.
    let bare = part("signature");
    let mut signature = vec![0x00, 0x14, 0x00, 0x0b];
    if bare.len() == 256 {
        signature.extend([0x01, 0x00]);
        signature.extend(&bare);
    } else {
        signature = bare;
    }
    let mut nonce = HEX
        .decode(b"a04182b506878d4f29b91ee606a71a0d3361ccf1b22db20c98adcaa537bea393ef0e41a18b3569ab678f1497fbc5c120")
        .unwrap();
    nonce.extend([0; 16]);
    let run = |nonce: &[u8]| {
        let mut checks = Checks::all();
        let attest = part("message");
        let input = QuoteInput { pcrs: Some(&values), ..alone(&attest, &signature, pem.as_bytes(), nonce) };
        verify(&input, &mut checks);
        checks.refused().map(|c| (c.id.to_string(), c.outcome)).collect::<Vec<_>>()
    };
    let no_log = ("tpm.eventlog", Outcome::Missing);
    assert_refused(run(&nonce), &[BARE_KEY, no_log], "the manifest's nonce");
    assert_refused(run(&nonce[..48]), &[("tpm.nonce", Outcome::Fail), BARE_KEY, no_log], "a shorter nonce");
}

fn wrap(base64: &str) -> String {
    base64.as_bytes().chunks(64).map(|line| String::from_utf8_lossy(line).into_owned()).collect::<Vec<_>>().join("\n")
}

#[test]
fn event_logs_replay_to_the_values_read_from_the_tpm() {
    let Some(root) = common::vectors("eventlog") else { return };
    let folder = root.join("go-tpm-tools");
    let mut seen = 0;
    for entry in std::fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        let Some(name) = path.file_name().and_then(|n| n.to_str()).and_then(|n| n.strip_suffix(".pcrs.json")) else {
            continue;
        };
        let log = EventLog::parse(&common::read(&folder.join(format!("{name}.bin")))).unwrap();
        for (bank, pcr, value) in pcrs(&common::read(&path)).iter() {
            if bank == Bank::Sha1 || log.format == Format::CryptoAgile {
                assert_eq!(log.replay(bank).unwrap().value(pcr), value, "{name} {bank}:{pcr}");
            }
        }
        seen += 1;
    }
    assert!(seen >= 6, "only {seen} logs with PCR values");
}

/// The `pcrs` section of a dump by tpm2_eventlog, compared with our replay.
/// Returns how many values there were.
#[expect(clippy::arithmetic_side_effects, reason = "counts lines of a file, in a test")]
fn compare_with_dump(name: &str, log: &EventLog, yaml: &str) -> usize {
    let Some(section) = yaml.split("\npcrs:\n").nth(1) else { return 0 };
    let (mut bank, mut seen) = (None, 0);
    for line in section.lines() {
        let Some((pcr, value)) = line.trim().split_once(": 0x") else {
            bank = Bank::from_name(line.trim().trim_end_matches(':'));
            continue;
        };
        let Some(bank) = bank else { continue };
        let pcr: u8 = pcr.trim().parse().unwrap();
        // Debian's tool knows no startup locality and extends information that
        // TPMs do not; the TPMs' own values, which other tests compare, say so.
        if log.events.iter().any(|event| event.pcr == Some(pcr) && event.kind == 3) {
            continue;
        }
        let value = HEX.decode(value.trim().as_bytes()).unwrap();
        assert_eq!(log.replay(bank).unwrap().value(pcr), value, "{name} {bank}:{pcr}");
        seen += 1;
    }
    seen
}

#[test]
fn event_logs_replay_to_the_dumps_of_tpm2_tools() {
    let Some(root) = common::vectors("eventlog") else { return };
    let folder = root.join("tpm2-tools");
    for name in ["event-sd-boot-fedora37", "event-postcode", "event-uefi-sha1-log", "event-uefivar", "event-uefiaction"]
    {
        let log = EventLog::parse(&common::read(&folder.join(format!("{name}.bin")))).unwrap();
        let yaml = String::from_utf8(common::read(&folder.join(format!("{name}.yaml")))).unwrap();
        assert!(compare_with_dump(name, &log, &yaml) > 0, "{name}");
    }
}

/// Every log at hand that both read, through Debian's tpm2_eventlog.
#[test]
fn event_logs_replay_as_tpm2_eventlog_does() {
    let Some(root) = common::vectors("") else { return };
    let oracle = |path: &Path| std::process::Command::new("tpm2_eventlog").arg(path).output();
    if oracle(&root).is_err() {
        eprintln!("SKIPPED: tpm2_eventlog is not installed; nothing was compared with it");
        return;
    }
    let mut compared = 0;
    for part in ["eventlog", "tpm-quote", "ima"] {
        let folders = std::fs::read_dir(root.join(part)).unwrap().map(|entry| entry.unwrap().path());
        for path in
            folders.filter(|path| path.is_dir()).flat_map(|f| std::fs::read_dir(f).unwrap()).map(|e| e.unwrap().path())
        {
            let Ok(log) = EventLog::parse(&common::read(&path)) else { continue };
            let output = oracle(&path).unwrap();
            let yaml = String::from_utf8_lossy(&output.stdout).into_owned();
            // It prints what it understood before it failed: that is no oracle.
            if output.status.success() {
                compared += compare_with_dump(&path.display().to_string(), &log, &yaml);
            }
        }
    }
    assert!(compared >= 100, "only {compared} values");
}

#[test]
fn what_is_no_tpm_event_log_is_refused() {
    let Some(root) = common::vectors("eventlog") else { return };
    let parse = |file: &str| EventLog::parse(&common::read(&root.join(file))).map(|log| log.events.len());
    assert_eq!(parse("keylime/binary_bios_measurements-empty"), Err(EventLogError::Empty));
    assert!(matches!(parse("keylime/binary_bios_measurements-bogus"), Err(EventLogError::Pcr(_))));
    assert_eq!(parse("neg-ccel/CCEL_unpadded.data.bin"), Err(EventLogError::NotATpmLog));
    assert!(parse("neg-ccel/CCEL.table.bin").is_err());
}

#[test]
fn odd_but_real_logs_parse() {
    let Some(root) = common::vectors("eventlog") else { return };
    for file in [
        "go-attestation/crypto_agile_eventlog.bin",
        "go-attestation/ebs_event_missing_eventlog.bin",
        "go-attestation/sb_cert_eventlog.bin",
        "go-attestation/short_no_action_eventlog.bin",
        "keylime/binary_bios_measurements-secureboot",
        "guard-oss/windows_event_log",
        "openpcc/tcg_event_log.bin",
    ] {
        let parsed = EventLog::parse(&common::read(&root.join(file)));
        assert!(parsed.is_ok(), "{file}: {parsed:?}");
    }
}
