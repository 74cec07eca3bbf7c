//! Genuine archives of Azure VMs come to a pass with what an archive has and what
//! an auditor knows; what is named and cannot be used is refused.
#![cfg(test)]

mod common;

use std::path::Path;

use common::{audit, failed, ids, json};
use portcullis_vectors::vectors;
use serde_json::{Value, json};

const AT: [&str; 4] = ["--at", "2025-10-01T00:00:00Z", "--crl", "../snp/amd-crl/milan_2025-05-06.crl.der"];
/// "challenge", which Trustee's samples were quoted for.
const NONCE: [&str; 2] = ["--nonce", "6368616c6c656e6765"];

/// The PCR values of a quote of Trustee's, in the form of `--pcrs`.
fn pcrs_of(quote: &Value) -> Value {
    let hex = |value: &Value| match value {
        Value::Array(bytes) => bytes.iter().map(|byte| format!("{:02x}", byte.as_u64().unwrap())).collect(),
        text => text.as_str().unwrap().to_owned(),
    };
    let values = quote["pcrs"].as_array().unwrap().iter().enumerate();
    json!({ "sha256": values.map(|(pcr, value)| (pcr.to_string(), hex(value).into())).collect::<serde_json::Map<_, _>>() })
}

fn read(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn write(folder: &Path, name: &str, bytes: &[u8]) -> String {
    std::fs::write(folder.join(name), bytes).unwrap();
    folder.join(name).display().to_string()
}

#[test]
fn archives_of_trustee_pass() {
    let Some(root) = vectors("azure-vtpm") else { return };
    let folder = tempfile::tempdir().unwrap();
    for (file, quote) in [("trustee-v0-v1/evidence-v0.json", "quote"), ("trustee-v0-v1/evidence-v1.json", "tpm_quote")]
    {
        let values = pcrs_of(&read(&root.join(file))[quote]);
        let expected = write(folder.path(), "pcrs.json", values.to_string().as_bytes());
        let run = |rest: &[&str]| json(&root, &[&["evidence", file][..], &AT, rest].concat());
        let zeroes = "00".repeat(64);
        for user_data in ["none", zeroes.as_str()] {
            let line = [&NONCE[..], &["--user-data", user_data, "--expected-pcrs", &expected]].concat();
            let (code, body) = run(&line);
            assert_eq!((code, failed(&body), ids(&body, "missing")), (0, vec![], vec![]), "{file}");
            assert!(ids(&body, "pass").contains(&"tpm.expected.7".to_owned()));
        }
        // Values beside those of the evidence are what they must be.
        let (code, body) = run(&[&NONCE[..], &["--user-data", "none", "--pcrs", &expected]].concat());
        assert_eq!((code, ids(&body, "missing")), (0, vec![]), "{file}");
        // The key need not be named, and the rest is named as missing.
        let (code, body) = run(&NONCE);
        assert_eq!((code, ids(&body, "missing")), (3, vec!["tpm.eventlog".into(), "azure.user_data".to_owned()]));
        // A value of another boot, and user data that the guest was to write.
        let mut other = values.clone();
        other["sha256"]["11"] = "11".repeat(32).into();
        let other = write(folder.path(), "other.json", other.to_string().as_bytes());
        let sevens = "07".repeat(64);
        let line = [&NONCE[..], &["--user-data", &sevens, "--expected-pcrs", &other]].concat();
        let (code, body) = run(&line);
        assert_eq!((code, failed(&body)), (1, vec!["tpm.expected.11", "azure.user_data"]), "{file}");
        // An event log of another machine is compared with what was quoted.
        let log = "../eventlog/go-tpm-tools/ubuntu-2404-amd-sevsnp.bin";
        let (code, body) = run(&[&NONCE[..], &["--user-data", "none", "--eventlog", log]].concat());
        assert_eq!(code, 1);
        assert!(failed(&body).contains(&"tpm.pcr.0"), "{:?}", failed(&body));
    }
}

/// The same as files, without the key.
#[test]
fn files_of_an_azure_vm_pass_without_the_key() {
    let Some(root) = vectors("azure-vtpm") else { return };
    let folder = tempfile::tempdir().unwrap();
    let quote = read(&root.join("trustee-raw/tpm-quote-v1.json"));
    let unhex = |name: &str| portcullis_wire::hex::unhex(quote[name].as_str().unwrap()).unwrap();
    let signature = unhex("signature");
    let length = u16::try_from(signature.len()).unwrap().to_be_bytes();
    let attest = write(folder.path(), "attest", &unhex("message"));
    let signature = write(folder.path(), "signature", &[&[0, 0x14, 0, 0x0b][..], &length, &signature].concat());
    let pcrs = write(folder.path(), "pcrs.json", pcrs_of(&quote).to_string().as_bytes());
    let base = ["azure", "trustee-raw/hcl-report.bin", "--certs", "trustee-raw/vcek.pem"];
    let quoted = ["--attest", &attest, "--signature", &signature, "--pcrs", &pcrs, "--user-data", "none"];
    let run = |rest: &[&str]| json(&root, &[&base[..], &AT, &NONCE, &quoted, rest].concat());
    let (code, body) = run(&["--expected-pcrs", &pcrs]);
    assert_eq!((code, failed(&body), ids(&body, "missing")), (0, vec![], vec![]));
    // A key that is named is compared; a bare one leaves its attributes open.
    let (code, body) = run(&["--expected-pcrs", &pcrs, "--ak", "kinvolk/akpub.pem"]);
    assert_eq!(code, 1);
    assert_eq!(failed(&body), ["azure.ak", "tpm.signature"]);
    // A certificate is for the key that the runtime data name, or for none of this VM.
    let certificate = [
        "--ak-cert",
        "openpcc-akcert/ak_cert_03_nv_padded.bin",
        "--tpm-chain",
        "openpcc-akcert/azure_tpm_intermediate_03.pem",
        "--tpm-root",
        "openpcc-akcert/azure_tpm_root_2023.pem",
    ];
    let (code, body) = run(&[&["--expected-pcrs", &pcrs][..], &certificate].concat());
    assert_eq!((code, failed(&body)), (1, vec!["tpm.certificate.same_key"]));
    // A quote under a report that vouches for nothing has no key.
    let mut hcl = std::fs::read(root.join("trustee-raw/hcl-report.bin")).unwrap();
    hcl[0x540] ^= 1;
    let hcl = write(folder.path(), "hcl", &hcl);
    let line = [&["azure", &hcl, "--certs", "trustee-raw/vcek.pem"][..], &AT, &NONCE, &quoted].concat();
    let (code, body) = json(&root, &line);
    assert_eq!((code, failed(&body)), (1, vec!["azure.runtime_data"]));
}

/// What cannot take part is not passed over in silence.
#[test]
fn options_about_something_else_are_wrong_usage() {
    let Some(root) = vectors("azure-vtpm") else { return };
    const TSM: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../attest/tests/tsm-reports/provider-plain.cbor");
    let folder = tempfile::tempdir().unwrap();
    let pcrs = write(folder.path(), "pcrs.json", b"{}");
    let azure = "trustee-v0-v1/evidence-v1.json";
    for (line, said) in [
        (&["evidence", TSM, "--nonce", "00"][..], "the evidence has no quote"),
        (&["evidence", TSM, "--expected-pcrs", &pcrs], "the evidence has no quote"),
        (&["evidence", TSM, "--ak", TSM], "the evidence has no quote"),
        (&["evidence", TSM, "--user-data", "none"], "the evidence is not of Azure"),
        (&["evidence", azure, "--report-data", "00"], "on Azure, --user-data"),
        (&["evidence", azure, "--pcrs", &pcrs, "--expected-pcrs", &pcrs], "--pcrs and --expected-pcrs both say"),
        (&["evidence", azure, "--ima", TSM], "beside an event log"),
        (&["evidence", azure, "--user-data", "nothing"], "--user-data: hex"),
        (&["azure", "trustee-raw/hcl-report.bin", "--nonce", "00"], "--attest and --signature are missing"),
        (&["azure", "trustee-raw/hcl-report.bin", "--eventlog", TSM], "--attest and --signature are missing"),
    ] {
        let output = audit(&root, line);
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!((output.status.code(), output.stdout.len()), (Some(2), 0), "{line:?}");
        assert!(stderr.contains(said), "{line:?}: {stderr}");
    }
}
