//! The contract that scripts rely on: exit codes and the JSON object, on real
//! evidence.
#![cfg(test)]

mod common;

use std::path::Path;
use std::process::{Command, Stdio};

use common::{audit, failed, ids, json};
use portcullis_firmware_policy::{CATALOGUE, Reader};
use portcullis_vectors::vectors;
use serde_json::Value;

const MILAN: [&str; 4] =
    ["milan-v3-ms-aci/report.bin", "--certs", "milan-v3-ms-aci/vcek.pem", "milan-v3-ms-aci/ask.pem"];
const MILAN_CRL: [&str; 2] = ["--crl", "amd-crl/milan_2025-05-06.crl.der"];

#[test]
fn snp_report_passes_fails_and_stays_undetermined() {
    let Some(root) = vectors("snp") else { return };
    let run = |rest: &[&str]| json(&root, &[&["snp-report"][..], rest].concat());

    let good = [&MILAN[..], &MILAN_CRL, &["--at", "2026-03-01T00:00:00Z"]].concat();
    let (code, body) = run(&good);
    assert_eq!((code, body["appraised"].as_bool(), body["roots"].as_str()), (0, Some(false), Some("amd")));
    assert_eq!(body["schema"], "portcullis/snp-report/1");
    assert_eq!(body["at"], "2026-03-01T00:00:00Z");
    assert_eq!(body["missing"], Value::Array(vec![]));
    assert_eq!(body["report"]["version"], 3);
    let roles: Vec<&str> = body["inputs"].as_array().unwrap().iter().map(|i| i["role"].as_str().unwrap()).collect();
    assert_eq!(roles, ["report", "certs", "certs", "crl"]);

    // now, when every CRL has expired; and without any CRL
    let (code, body) = run(&[&MILAN[..], &MILAN_CRL].concat());
    assert_eq!((code, body["missing"].clone()), (3, serde_json::json!(["snp.crl"])));
    assert_eq!(run(&MILAN).0, 3);
    // without the VCEK; the known ASKs are at hand all the same
    let (code, body) = run(&[MILAN[0]]);
    assert_eq!((code, body["missing"].clone()), (3, serde_json::json!(["snp.vek"])));
    let (code, _) = run(&[&MILAN[..3], &MILAN_CRL, &["--at", "2026-03-01T00:00:00Z"]].concat());
    assert_eq!(code, 0);

    // other roots than AMD's: the chain is foreign
    let (code, body) = run(&[&good[..], &["--root", "genoa-v3-ms-aci/ark.pem"]].concat());
    assert_eq!((code, body["roots"].as_str()), (1, Some("given")));
    assert!(failed(&body).contains(&"snp.root"), "{:?}", failed(&body));

    for (report, required) in [
        ("neg-malformed-lit/guest_report_bad_sig.bin", "snp.length"),
        ("neg-malformed-lit/guest_report_corrupt.bin", "snp.length"),
    ] {
        let (code, body) = run(&[report]);
        assert_eq!((code, failed(&body)), (1, vec![required]), "{report}");
        assert_eq!(body["report"], Value::Null);
    }
    let forged = ["milan-v2-trustee/report.bin", "--certs", "milan-v2-trustee/vcek-invalid-new.der"];
    let (code, body) = run(&[&forged[..], &MILAN_CRL, &["--at", "2025-06-01T00:00:00Z"]].concat());
    assert_eq!(code, 1);
    assert!(failed(&body).contains(&"snp.chain.vek") && failed(&body).contains(&"snp.signature"));
}

#[test]
fn unreadable_input_and_usage_are_exit_code_2_with_empty_stdout() {
    let Some(root) = vectors("snp") else { return };
    for arguments in [
        &["snp-report", "nonexistent"][..],
        &["snp-report", MILAN[0], "--certs", MILAN[0]],
        &["snp-report", MILAN[0], "--crl", "nonexistent"],
        &["snp-report", MILAN[0], "--at", "yesterday"],
        &["snp-report", MILAN[0], "--policy", MILAN[0]],
        &["snp-report"],
        &["tpm-quote"],
        // shell variables that are not set
        &["snp-report", ""],
        &["snp-report", MILAN[0], "--certs", ""],
        &["snp-report", MILAN[0], "--at", ""],
        &["tpm-quote", "--attest", MILAN[0], "--signature", MILAN[0], "--ak", MILAN[0], "--nonce", ""],
        &["azure", MILAN[0], "--user-data", ""],
        &["evidence", MILAN[0], "--report-data="],
        &["frobnicate"],
    ] {
        let output = audit(&root, &[arguments, &["--json"]].concat());
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(output.stdout.is_empty(), "{arguments:?}");
        assert!(!output.stderr.is_empty(), "{arguments:?}");
    }
}

/// Certificates of others may stand in the same file; one that claims a place in
/// AMD's chains must be of AMD's profile.
/// `| head` is no reason to panic; half an answer on a full disk is no answer.
#[test]
fn a_reader_who_leaves_and_a_full_disk() {
    let command = |stdout: Stdio| {
        let mut child = Command::new(env!("CARGO_BIN_EXE_portcullis-audit"));
        child.arg("man").stdout(stdout).stderr(Stdio::piped()).spawn().unwrap()
    };
    let mut child = command(Stdio::piped());
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), output.stderr.len()), (Some(0), 0), "{output:?}");

    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let output = command(full.into()).wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(4));
    assert!(String::from_utf8_lossy(&output.stderr).starts_with("standard output: "), "{output:?}");
}

/// Also where a file is walked and not kept.
#[test]
fn files_of_unreasonable_size_are_exit_code_2() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::File::create(folder.path().join("large")).unwrap().set_len((64 << 20) + 1).unwrap();
    for command in ["snp-report", "ima"] {
        let output = audit(folder.path(), &[command, "large"]);
        assert_eq!((output.status.code(), output.stdout.len()), (Some(2), 0), "{command}");
        assert!(String::from_utf8_lossy(&output.stderr).contains("67108865 bytes, at most 67108864"), "{command}");
    }
}

#[test]
fn foreign_certificates_do_not_matter_and_false_ones_fail() {
    let (Some(root), Some(quotes)) = (vectors("snp"), vectors("tpm-quote")) else { return };
    let other = quotes.join("gce-ak-certs/gce_ek_ak_root.pem").display().to_string();
    let at = ["--at", "2026-03-01T00:00:00Z"];
    let (code, _) = json(&root, &[&["snp-report"][..], &MILAN, &[other.as_str()], &MILAN_CRL, &at].concat());
    assert_eq!(code, 0);

    // a VCEK whose signature algorithm was edited, in both places
    let mut vcek = std::fs::read(root.join("milan-v2-trustee/vcek.der")).unwrap();
    let sha384: &[u8] = &[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x02];
    let places: Vec<usize> = (0..vcek.len() - 9).filter(|at| &vcek[*at..*at + 9] == sha384).collect();
    places.iter().for_each(|at| vcek[at + 8] = 0x01);
    let folder = tempfile::tempdir().unwrap();
    let edited = folder.path().join("vcek.der");
    std::fs::write(&edited, vcek).unwrap();
    let edited = edited.display().to_string();
    let (code, body) = json(&root, &["snp-report", "milan-v2-trustee/report.bin", "--certs", &edited]);
    assert_eq!((code, failed(&body)), (1, vec!["snp.certificates"]));
}

#[test]
fn people_are_told_that_nothing_was_appraised() {
    let Some(root) = vectors("snp") else { return };
    let arguments = [&["snp-report"][..], &MILAN, &MILAN_CRL, &["--at", "2026-03-01T00:00:00Z"]].concat();
    let said = String::from_utf8(audit(&root, &arguments).stdout).unwrap();
    assert!(said.contains("verdict: pass; authenticity only: nothing was appraised against a policy"), "{said}");
    assert!(!said.contains('\x1b'), "colour only on a terminal");
}

#[test]
fn tpm_quote_has_the_same_shape() {
    let Some(root) = vectors("tpm-quote/gce-cos-85-nonce9009") else { return };
    let base =
        ["tpm-quote", "--attest", "quote.sha256.msg", "--signature", "quote.sha256.sig", "--ak", "ak.tpmt_public"];
    let (code, body) = json(&root, &base);
    assert_eq!((code, body["missing"].clone()), (3, serde_json::json!(["tpm.nonce", "tpm.pcrs"])));
    let with = [&base[..], &["--pcrs", "pcrs.json", "--eventlog", "eventlog.bin", "--nonce", "9009"]].concat();
    let (code, body) = json(&root, &with);
    assert_eq!((code, failed(&body)), (3, vec![]), "PCR 10 has a log of its own");
    assert_eq!(body["missing"], serde_json::json!(["tpm.pcr.10"]));
    let other = [&base[..], &["--pcrs", "pcrs.json", "--eventlog", "eventlog.bin", "--nonce", "9008"]].concat();
    let (code, body) = json(&root, &other);
    assert_eq!((code, failed(&body)), (1, vec!["tpm.nonce"]));
    let pem = ["tpm-quote", "--attest", "quote.sha256.msg", "--signature", "quote.sha256.sig", "--ak", "ak.pem"];
    assert_eq!(json(&root, &pem).1["missing"][0], "tpm.ak.attributes");
    let sha1 = ["tpm-quote", "--attest", "quote.sha1.msg", "--signature", "quote.sha1.sig", "--ak", "ak.pem"];
    let (code, body) = json(&root, &sha1);
    assert_eq!((code, failed(&body)), (1, vec!["tpm.bank"]));
}

#[test]
fn azure_evidence_in_files_and_in_envelopes() {
    let Some(root) = vectors("azure-vtpm") else { return };
    let at = ["--at", "2025-10-01T00:00:00Z", "--crl", "../snp/amd-crl/milan_2025-05-06.crl.der"];
    for file in ["trustee-v0-v1/evidence-v0.json", "trustee-v0-v1/evidence-v1.json"] {
        let (code, body) = json(&root, &[&["evidence", file, "--nonce", "6368616c6c656e6765"][..], &at].concat());
        assert_eq!((code, ids(&body, "fail")), (3, vec![]), "{file}");
        assert_eq!(ids(&body, "missing"), ["tpm.eventlog", "azure.user_data"], "{file}");
        assert_eq!(body["envelope"], "Azure SNP vTPM evidence");
        assert_eq!(body["report"]["version"], 3);
        let (code, body) = json(&root, &[&["evidence", file, "--nonce", "00"][..], &at].concat());
        assert_eq!((code, ids(&body, "fail")), (1, vec!["tpm.nonce".to_owned()]), "{file}");
    }
    let raw = ["azure", "trustee-raw/hcl-report.bin", "--certs", "trustee-raw/vcek.pem"];
    let (code, body) = json(&root, &[&raw[..], &at].concat());
    assert_eq!((code, ids(&body, "missing")), (3, vec!["tpm.attest".to_owned(), "azure.user_data".to_owned()]));
    assert_eq!(body["runtime"]["secure_boot"], true);
    let (code, body) = json(&root, &["azure", "neg-tdx/hcl-report-tdx.bin"]);
    assert_eq!((code, failed(&body)), (1, vec!["azure.form"]));
    assert!(body["checks"][0]["found"].as_str().unwrap().contains("TDX"));
    assert_eq!(body["runtime"], Value::Null, "what nothing vouches for is not shown");
}

/// A signed wrapper of a TSM report, as other verifiers archive it.
#[test]
fn signed_envelopes_are_judged_by_the_key_that_is_named() {
    use portcullis_permit::{SigningKey, Suite};
    use portcullis_wire::{Value, encode, sign1};
    let Some(root) = vectors("snp/milan-v2-gsg") else { return };
    let read = |file: &str| std::fs::read(root.join(file)).unwrap();
    let tsm = encode(&Value::Map(vec![
        ("outblob".into(), Value::Bytes(read("report.bin"))),
        ("provider".into(), "sev_guest".into()),
    ]));
    let record = Value::Array(vec!["application/vnd.veraison.tsm-report+cbor".into(), Value::Bytes(tsm), 4.into()]);
    let wrapper = encode(&Value::Map(vec![("snp".into(), record)]));
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let write = |name: &str, bytes: &[u8]| std::fs::write(folder.path().join(name), bytes).unwrap();
    let (classic, pq) = (SigningKey::generate(Suite::Classic).unwrap(), SigningKey::generate(Suite::Pq).unwrap());
    write("classic.key", &classic.public().to_cose());
    write("pq.key", &pq.public().to_cose());
    write("unsigned", &wrapper);
    for (name, key, algorithm) in [("esp256", &classic, -9), ("es256", &classic, -7), ("ml-dsa", &pq, -49)] {
        let headers = vec![(1, Value::from(algorithm)), (3, "application/cmw+cbor".into())];
        write(name, &sign1(headers, &wrapper, false, |tbs| key.sign(tbs)).unwrap());
    }
    let mut changed = std::fs::read(folder.path().join("esp256")).unwrap();
    *changed.last_mut().unwrap() ^= 1;
    write("changed", &changed);

    let signature = |file: &str, signer: Option<&str>| {
        let mut line = vec!["evidence".to_owned(), path(file), "--at".into(), "2022-12-01T00:00:00Z".into()];
        line.extend(["--certs", "vcek.der", "ask_ark.pem"].map(str::to_owned));
        line.extend(signer.iter().flat_map(|key| ["--signer".into(), path(key)]));
        let (_, body) = json(&root, &line.iter().map(String::as_str).collect::<Vec<_>>());
        assert_eq!(body["report"]["version"], 2, "{file}");
        let check = body["checks"].as_array().unwrap().iter().find(|c| c["id"] == "evidence.signature");
        check.map(|check| check["outcome"].as_str().unwrap().to_owned())
    };
    for (file, signer, outcome) in [
        ("unsigned", None, None),
        ("unsigned", Some("classic.key"), Some("fail")),
        ("esp256", None, Some("missing")),
        ("esp256", Some("classic.key"), Some("pass")),
        ("es256", Some("classic.key"), Some("pass")),
        ("ml-dsa", Some("pq.key"), Some("pass")),
        ("esp256", Some("pq.key"), Some("fail")),
        ("ml-dsa", Some("classic.key"), Some("fail")),
        ("changed", Some("classic.key"), Some("fail")),
    ] {
        assert_eq!(signature(file, signer).as_deref(), outcome, "{file} {signer:?}");
    }
}

#[test]
fn event_logs_say_what_they_prove() {
    let Some(root) = vectors("eventlog") else { return };
    let log = "go-tpm-tools/ubuntu-2404-amd-sevsnp.bin";
    let (code, body) = json(&root, &["eventlog", log]);
    assert_eq!(
        (code, body["missing"].clone(), body["boot"].clone()),
        (3, serde_json::json!(["tpm.pcrs"]), Value::Null)
    );
    let (code, body) = json(&root, &["eventlog", log, "--pcrs", "go-tpm-tools/ubuntu-2404-amd-sevsnp.pcrs.json"]);
    assert_eq!((code, ids(&body, "fail")), (0, vec![]), "{:?}", body["missing"]);
    assert_eq!(body["boot"]["secure_boot"]["enabled"], false);
    assert_eq!(body["boot"]["boot_chain"].as_array().unwrap().len(), 2);
    // Another machine's values.
    let (code, body) = json(&root, &["eventlog", log, "--pcrs", "go-tpm-tools/rhel8-uefi.pcrs.json"]);
    assert_eq!(code, 1);
    assert!(ids(&body, "fail").contains(&"tpm.pcr.7".to_owned()));
    // Only SHA-1: parsed and replayed, trusted by nobody.
    let (code, body) = json(&root, &["eventlog", "go-attestation/ebs_event_missing_eventlog.bin"]);
    assert_eq!((code, body["log"]["format"].as_str()), (3, Some("SHA-1 (TCG_PCR_EVENT)")));
    for bad in ["keylime/binary_bios_measurements-bogus", "keylime/binary_bios_measurements-empty"] {
        let (code, body) = json(&root, &["eventlog", bad]);
        assert_eq!((code, failed(&body)), (1, vec!["tpm.eventlog"]), "{bad}");
    }
}

#[test]
fn measurement_lists_have_the_same_shape() {
    let Some(root) = vectors("ima/h12ssl") else { return };
    let base = ["ima", "binary_runtime_measurements", "--pcrs", "pcrs.json"];
    let (code, body) = json(&root, &base);
    assert_eq!((code, failed(&body)), (1, vec!["ima.pcr"]));
    let (code, body) = json(&root, &[&base[..], &["--bank", "sha1"]].concat());
    assert_eq!((code, body["missing"].clone()), (3, serde_json::json!(["ima.bank"])));
    assert_eq!(body["list"]["entries"], 2365);
    let (code, body) = json(&root, &["ima", "../keylime-ascii/invalid_ima_log.txt"]);
    assert_eq!((code, failed(&body)), (1, vec!["ima.form"]));
}

#[test]
fn certificates_of_attestation_keys_take_part() {
    let (Some(root), Some(quote)) = (vectors("tpm-quote/gce-ak-certs"), vectors("tpm-quote/gce-cos-85-nonce9009"))
    else {
        return;
    };
    let file = |name: &str| quote.join(name).display().to_string();
    let (attest, signature, ak) = (file("quote.sha256.msg"), file("quote.sha256.sig"), file("ak.tpmt_public"));
    let base = ["tpm-quote", "--attest", &attest, "--signature", &signature, "--ak", &ak];
    let certificate = ["--ak-cert", "gce_ak_cert.pem", "--at", "2026-01-01T00:00:00Z"];
    let (code, body) = json(&root, &[&base[..], &certificate].concat());
    assert_eq!(code, 1, "a certificate of another machine's key");
    assert_eq!(failed(&body), ["tpm.certificate.same_key"]);
    assert!(ids(&body, "missing").contains(&"tpm.certificate.chain".to_owned()));
    let chain = ["--tpm-chain", "gce_ak_intermediate_cert.pem", "--tpm-root", "gce_ek_ak_root.pem"];
    let (_, body) = json(&root, &[&base[..], &certificate, &chain].concat());
    assert!(ids(&body, "pass").contains(&"tpm.certificate.chain".to_owned()));
}

#[test]
fn checks_are_explained() {
    let here = Path::new(".");
    for entry in CATALOGUE {
        let output = audit(here, &["explain-check", entry.id]);
        let said = String::from_utf8(output.stdout).unwrap();
        let told = said.contains(entry.cause) && said.contains(entry.remedy(Reader::Auditor));
        assert!(output.status.success() && told, "{}", entry.id);
    }
    let said = String::from_utf8(audit(here, &["explain-check", "tpm.pcr.11"]).stdout).unwrap();
    assert!(said.starts_with("tpm.pcr.*"), "{said}");
    let said = String::from_utf8(audit(here, &["explain-check", "azure"]).stdout).unwrap();
    assert_eq!(said.lines().filter(|line| line.starts_with("azure.")).count(), 5);
    assert_eq!(audit(here, &["explain-check", "nothing.of.the.kind"]).status.code(), Some(2));
}

/// The page is whole in itself, and nothing that an input says is markup in it.
#[test]
fn a_report_is_written_as_one_page() {
    let Some(root) = vectors("snp") else { return };
    let folder = tempfile::tempdir().unwrap();
    let hostile = folder.path().join("<script>alert(1)<img src=x>.bin");
    std::fs::copy(root.join(MILAN[0]), &hostile).unwrap();
    let page = folder.path().join("report.html").display().to_string();
    let arguments = ["snp-report", hostile.to_str().unwrap(), "--html", &page];
    assert_eq!(audit(&root, &arguments).status.code(), Some(3));
    let text = std::fs::read_to_string(&page).unwrap();
    assert!(text.starts_with("<!doctype html>") && text.ends_with("</html>\n"));
    assert!(text.contains("&lt;script&gt;alert(1)"));
    for markup in ["<script", "<img", "http://", "https://", "src=", "href="] {
        assert!(!text.to_lowercase().replace("img src=x", "").contains(markup), "{markup}");
    }
    assert!(text.contains("undetermined") && text.contains("What was not checked"));
}

/// Results in the terms of others say what the checks say.
#[test]
fn attestation_results_are_written() {
    use portcullis_firmware_policy::ear::{Aspect, Ear, Tier};
    let Some(root) = vectors("snp") else { return };
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ear.cbor").display().to_string();
    let good = [&["snp-report"][..], &MILAN, &MILAN_CRL, &["--at", "2026-03-01T00:00:00Z", "--ear", &file]].concat();
    assert_eq!(json(&root, &good).0, 0);
    let ear = Ear::decode(&std::fs::read(&file).unwrap()).unwrap();
    assert_eq!((ear.issued, ear.vector.status()), (1_772_323_200, Tier::Affirming));
    assert_eq!(ear.vector.value(Aspect::Executables), 0, "nothing was appraised");
    assert_eq!(json(&root, &["snp-report", MILAN[0], "--ear", &file]).0, 3);
    assert_eq!(Ear::decode(&std::fs::read(&file).unwrap()).unwrap().vector.status(), Tier::None);
}

/// A quote over PCR 10 takes the list that leads there.
#[test]
fn measured_files_and_logs_of_user_space_take_part() {
    let Some(root) = vectors("ima/h12ssl") else { return };
    let base = ["eventlog", "binary_bios_measurements", "--pcrs", "pcrs.json"];
    let (code, body) = json(&root, &base);
    assert_eq!((code, body["missing"].clone()), (3, serde_json::json!(["tpm.pcr.10"])));
    let (code, body) = json(&root, &[&base[..], &["--ima", "binary_runtime_measurements"]].concat());
    assert_eq!((code, failed(&body)), (1, vec!["ima.pcr"]), "its SHA-256 bank is led to by nothing");

    let folder = tempfile::tempdir().unwrap();
    let digest = portcullis_wire::hex::hex(&portcullis_wire::sha256(&[b"ready"]));
    let record = format!(
        r#"[{{"pcr":11,"digests":[{{"hashAlg":"sha256","digest":"{digest}"}}],"content":{{"string":"ready"}}}}]"#
    );
    std::fs::write(folder.path().join("log.json"), record).unwrap();
    let (code, body) = json(folder.path(), &["eventlog", "log.json", "--form", "cel-json"]);
    assert_eq!((code, body["log"]["format"].as_str()), (3, Some("canonical")));
    let value = body["log"]["replayed"][0]["value"].as_str().unwrap();
    std::fs::write(folder.path().join("pcrs.json"), format!(r#"{{"sha256":{{"11":"{value}"}}}}"#)).unwrap();
    let (code, body) = json(folder.path(), &["eventlog", "log.json", "--form", "cel-json", "--pcrs", "pcrs.json"]);
    assert_eq!((code, body["boot"]["phases"].clone()), (0, serde_json::json!(["ready"])));
    assert_eq!(json(folder.path(), &["eventlog", "log.json"]).0, 1, "not as firmware writes it");
}

/// Lists of one bank, of two PCRs, and with a name that is no UTF-8.
#[test]
fn measurement_lists_of_every_kind() {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("../attest/tests/data/ima");
    let folder = tempfile::tempdir().unwrap();
    let pcrs = |values: Value| {
        let path = folder.path().join("pcrs.json");
        std::fs::write(&path, values.to_string()).unwrap();
        path.display().to_string()
    };
    let ten = "c2714c5e1e8ab1581d40f3680bbae19bc1b990deeaadb9d5326f5c82beb88322";
    let of_two = [
        "2d27d3d4196de2ae06b3b410b28f4e23e75495f053758f3c08c4d9cf865c5f25",
        "25644d0896eac0471c57a8eebf30c6dd5c90a4ccb6d34532490b2ced6189bbae",
    ];
    let one = pcrs(serde_json::json!({ "sha256": { "10": ten } }));
    let (code, body) = json(&data, &["ima", "pcr10-sha256-templates.bin", "--pcrs", &one]);
    assert_eq!((code, body["list"]["bank"].as_str(), body["list"]["covered"].as_u64()), (0, Some("sha256"), Some(4)));
    let (code, body) = json(&data, &["ima", "pcr10-sha1.bin", "--pcrs", &one]);
    assert_eq!(
        (code, body["list"]["bank"].as_str(), body["list"]["files"][1]["pcr"].as_u64()),
        (0, Some("sha1"), Some(10))
    );

    let less = pcrs(serde_json::json!({ "sha256": { "10": of_two[0] } }));
    let (code, body) = json(&data, &["ima", "pcr10-and-pcr11-sha1.bin", "--pcrs", &less]);
    assert_eq!((code, body["missing"].clone()), (3, serde_json::json!(["ima.pcr"])));
    let both = pcrs(serde_json::json!({ "sha256": { "10": of_two[0], "11": of_two[1] } }));
    let (code, body) = json(&data, &["ima", "pcr10-and-pcr11-sha1.bin", "--pcrs", &both]);
    assert_eq!((code, body["list"]["files"][1]["pcr"].as_u64()), (0, Some(11)));
    let said = String::from_utf8(audit(&data, &["ima", "pcr10-and-pcr11-sha1.bin", "--pcrs", &both]).stdout).unwrap();
    assert_eq!(said.matches("  PCR 11 sha256:").count(), 2, "{said}");

    let output = audit(&data, &["ima", "pcr10-sha1.bin", "--bank", "sm3_256", "--pcrs", &both]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2));
    assert!(said.contains("SM3 is not supported; name another bank"), "{said}");

    // One byte of a name is none of UTF-8: it is the file's name all the same.
    let mut list = std::fs::read(data.join("pcr10-sha256-templates.bin")).unwrap();
    let at = list.windows(4).position(|window| window == b"bash").unwrap();
    list[at] = 0xe9;
    std::fs::write(folder.path().join("latin"), list).unwrap();
    let (code, body) = json(folder.path(), &["ima", "latin"]);
    assert_eq!((code, failed(&body)), (1, vec!["ima.template"]), "the byte was changed afterwards");
    assert_eq!(body["list"]["files"][1]["name"], "/usr/bin/\\xe9ash");

    let sha1 = folder.path().join("allow");
    std::fs::write(&sha1, format!("{}  /init\n", "00".repeat(20))).unwrap();
    let output = audit(&data, &["ima", "pcr10-sha1.bin", "--allow", &sha1.display().to_string()]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2));
    assert!(said.contains("line 1: a digest of SHA-1") && said.contains("ima_hash=sha256"), "{said}");
}
