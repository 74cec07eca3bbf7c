#![cfg(test)]
//! What the reports say in sentences, beside the checks in their JSON: on real
//! evidence, with inputs left out one after another. No sentence says more than
//! its checks.

use std::path::{Path, PathBuf};
use std::process::Command;

use portcullis_vectors::vectors;
use serde_json::Value;

/// Sentences, and the checks that must have passed where one stands.
const SENTENCES: [(&str, &[&str]); 12] = [
    ("leads to a trusted root", &["snp.root", "snp.chain.vek", "snp.chain.issuer", "snp.validity"]),
    ("names no certificate of the chain", &["snp.crl", "snp.revoked", "snp.root"]),
    (
        "signed this report, and nothing in it was changed",
        &["snp.signature", "snp.root", "snp.chain.vek", "snp.crl", "snp.revoked", "snp.validity"],
    ),
    ("agree on product and patch level", &["snp.product", "snp.tcb.certificate"]),
    ("The attestation key signed this quote", &["tpm.signature", "tpm.ak.attributes", "tpm.attest.magic"]),
    ("carries the nonce", &["tpm.nonce"]),
    ("The PCR values are those in the quote", &["tpm.pcrs", "tpm.pcr_digest"]),
    ("The event log leads to the value", &["tpm.eventlog", "tpm.pcr.0"]),
    ("The list of measured files leads to", &["ima.pcr", "ima.template", "ima.bank"]),
    ("values were taken as given", &[]),
    (
        "The report vouches for the paravisor's runtime data",
        &["azure.ak", "azure.runtime_data", "azure.keys", "tpm.signature", "snp.signature", "snp.root", "snp.crl"],
    ),
    (
        "The quoted PCRs that are named here have the values that wer",
        &["tpm.expected.7", "tpm.pcr_digest", "tpm.signature"],
    ),
];

fn audit(folder: &Path, arguments: &[&str]) -> Vec<u8> {
    let audit = Path::new(env!("CARGO_BIN_EXE_portcullis-audit"));
    Command::new(audit).current_dir(folder).args(arguments).output().unwrap().stdout
}

/// The sentences that a command prints, after each was compared with its checks.
fn said(folder: &Path, arguments: &[&str]) -> Vec<&'static str> {
    let page = tempfile::NamedTempFile::new().unwrap();
    let html = ["--html", page.path().to_str().unwrap()];
    let text = String::from_utf8(audit(folder, &[arguments, &html].concat())).unwrap();
    let json: Value = serde_json::from_slice(&audit(folder, &[arguments, &["--json"]].concat())).unwrap();
    let html = std::fs::read_to_string(page.path()).unwrap().replace("&#39;", "'");
    let outcomes = |id: &str| {
        let list = json["checks"].as_array().unwrap().iter().filter(|check| check["id"] == id);
        list.map(|check| check["outcome"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let printed = SENTENCES.iter().filter(|(sentence, _)| {
        assert_eq!(text.contains(sentence), html.contains(sentence), "{arguments:?}: {sentence}");
        text.contains(sentence)
    });
    let printed: Vec<_> = printed.collect();
    for (sentence, ids) in &printed {
        for id in *ids {
            let found = outcomes(id);
            let passed = !found.is_empty() && found.iter().all(|outcome| outcome == "pass");
            assert!(passed, "{arguments:?}: {sentence:?}, but {id} is {found:?}");
        }
    }
    printed.iter().map(|(sentence, _)| *sentence).collect()
}

#[test]
fn sentences_about_reports() {
    let Some(root) = vectors("snp") else { return };
    let at = ["--at", "2026-03-01T00:00:00Z"];
    let milan =
        ["snp-report", "milan-v3-ms-aci/report.bin", "--certs", "milan-v3-ms-aci/vcek.pem", "milan-v3-ms-aci/ask.pem"];
    let crl = ["--crl", "amd-crl/milan_2025-05-06.crl.der"];
    let all: Vec<&str> = SENTENCES[..4].iter().map(|(sentence, _)| *sentence).collect();
    assert_eq!(said(&root, &[&milan[..], &crl, &at].concat()), all);
    // without a revocation list, nothing is said of it, and nothing that rests on it
    assert_eq!(said(&root, &[&milan[..], &at].concat()), [all[0], all[3]]);
    // without a certificate; with another root
    assert_eq!(said(&root, &[&milan[..2], &at].concat()), Vec::<&str>::new());
    assert_eq!(
        said(&root, &[&milan[..], &crl, &at, &["--root", "genoa-v3-ms-aci/ark.pem"]].concat()),
        Vec::<&str>::new()
    );
    // a report that was signed by somebody else
    let forged = ["snp-report", "milan-v2-trustee/report.bin", "--certs", "milan-v2-trustee/vcek-invalid-new.der"];
    let said = said(&root, &[&forged[..], &crl, &["--at", "2025-06-01T00:00:00Z"]].concat());
    assert!(!said.contains(&all[0]) && !said.contains(&all[2]), "{said:?}");
}

#[test]
fn sentences_about_quotes() {
    let Some(root) = vectors("tpm-quote/gce-cos-85-nonce9009") else { return };
    let base =
        ["tpm-quote", "--attest", "quote.sha256.msg", "--signature", "quote.sha256.sig", "--ak", "ak.tpmt_public"];
    let run = |rest: &[&str]| said(&root, &[&base[..], rest].concat());
    let [signed, nonce, values] = [4, 5, 6].map(|at: usize| SENTENCES[at].0);
    assert_eq!(run(&[]), [signed]);
    assert_eq!(run(&["--nonce", "9009"]), [signed, nonce]);
    assert_eq!(run(&["--nonce", "9008"]), [signed]);
    assert_eq!(run(&["--pcrs", "pcrs.json"]), [signed, values]);
    // The list of files is not there, so that the log does not account for PCR 10.
    assert_eq!(run(&["--pcrs", "pcrs.json", "--eventlog", "eventlog.bin"]), [signed, values]);
    // A key whose attributes nobody knows may sign anything.
    let pem = [&base[..6], &["ak.pem"]].concat();
    assert_eq!(said(&root, &pem), Vec::<&str>::new());
}

#[test]
fn sentences_about_logs() {
    let Some(root) = vectors("eventlog/go-tpm-tools") else { return };
    let [leads, given] = [7, 9].map(|at: usize| SENTENCES[at].0);
    let log = ["eventlog", "ubuntu-2404-amd-sevsnp.bin"];
    // No value, so nothing that the log leads to.
    assert_eq!(said(&root, &log), Vec::<&str>::new());
    assert_eq!(said(&root, &[&log[..], &["--pcrs", "ubuntu-2404-amd-sevsnp.pcrs.json"]].concat()), [leads, given]);
    assert_eq!(said(&root, &[&log[..], &["--pcrs", "rhel8-uefi.pcrs.json"]].concat()), [given]);
}

#[test]
fn sentences_about_measured_files() {
    let Some(root) = vectors("ima/h12ssl") else { return };
    let given = SENTENCES[9].0;
    assert_eq!(said(&root, &["ima", "binary_runtime_measurements"]), Vec::<&str>::new());
    // SHA-1 leads to the PCR, and nobody should rely on it.
    let sha1 = ["ima", "binary_runtime_measurements", "--bank", "sha1", "--pcrs", "pcrs.json"];
    assert_eq!(said(&root, &sha1), [given]);
    let folder = tempfile::tempdir().unwrap();
    let (list, pcrs) = good_list(folder.path());
    let paths = [list.to_str().unwrap(), "--pcrs", pcrs.to_str().unwrap()];
    assert_eq!(said(&root, &[&["ima"], &paths[..]].concat()), [SENTENCES[8].0, given]);
}

#[test]
fn sentences_about_azure() {
    let Some(root) = vectors("azure-vtpm") else { return };
    let [paravisor, expected] = [10, 11].map(|at: usize| SENTENCES[at].0);
    let evidence = "trustee-v0-v1/evidence-v1.json";
    let json: Value = serde_json::from_slice(&std::fs::read(root.join(evidence)).unwrap()).unwrap();
    let hex = |value: &Value| match value {
        Value::Array(bytes) => bytes.iter().map(|byte| format!("{:02x}", byte.as_u64().unwrap())).collect(),
        text => text.as_str().unwrap().to_owned(),
    };
    let values = json["tpm_quote"]["pcrs"].as_array().unwrap().iter().enumerate();
    let values: serde_json::Map<String, Value> =
        values.map(|(pcr, value)| (pcr.to_string(), Value::from(hex(value)))).collect();
    let folder = tempfile::tempdir().unwrap();
    let pcrs = folder.path().join("pcrs.json");
    std::fs::write(&pcrs, serde_json::json!({ "sha256": values }).to_string()).unwrap();
    let (at, crl) = (["--at", "2025-10-01T00:00:00Z"], ["--crl", "../snp/amd-crl/milan_2025-05-06.crl.der"]);
    let known = ["--nonce", "6368616c6c656e6765", "--user-data", "none", "--expected-pcrs", pcrs.to_str().unwrap()];
    let run = |parts: &[&[&str]]| said(&root, &[&["evidence", evidence][..], &at, &parts.concat()].concat());
    let all = run(&[&crl, &known]);
    assert!(all.contains(&paravisor) && all.contains(&expected), "{all:?}");
    // Without a revocation list nobody vouches for the paravisor, nor for its key.
    let less = run(&[&known]);
    assert!(!less.contains(&paravisor) && !less.contains(&expected), "{less:?}");
    // With another key than the runtime data name.
    let other = run(&[&crl, &known, &["--ak", "kinvolk/akpub.pem"]]);
    assert!(!other.contains(&paravisor) && !other.contains(&expected), "{other:?}");
    let nothing = run(&[&crl]);
    assert!(!nothing.contains(&expected), "{nothing:?}");
}

/// A list of one entry, and the value that it leads to.
fn good_list(folder: &Path) -> (PathBuf, PathBuf) {
    use portcullis_attest::tpm::pcr::Bank;
    let field = |bytes: &[u8]| [&u32::try_from(bytes.len()).unwrap().to_le_bytes()[..], bytes].concat();
    let data = [field(&[&b"sha256:\0"[..], &[1; 32]].concat()), field(b"boot_aggregate\0")].concat();
    let entry = [&10_u32.to_le_bytes()[..], &Bank::Sha1.hash(&[&data]), &field(b"ima-ng"), &field(&data)].concat();
    let value = Bank::Sha256.extend(&[0; 32], &Bank::Sha256.hash(&[&data]));
    let json = serde_json::json!({ "sha256": { "10": portcullis_wire::hex::hex(&value) } });
    let (list, pcrs) = (folder.join("list"), folder.join("pcrs.json"));
    std::fs::write(&list, entry).unwrap();
    std::fs::write(&pcrs, json.to_string()).unwrap();
    (list, pcrs)
}
