#![cfg(test)]
//! Logs of user space, as systemd writes them, in the hands of an auditor.

#[expect(dead_code, reason = "each test file uses a part")]
mod common;

use std::path::Path;

use common::{audit, failed, json};

fn data() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../attest/tests/data")
}

/// The values that both logs lead to.
fn pcrs(folder: &Path, later: &str) -> String {
    let (_, body) = json(&data(), &["eventlog", "boot.bin", "--user-space", later]);
    let replayed = body["log"]["replayed"].as_array().unwrap();
    let of_bank = replayed.iter().filter(|one| one["bank"] == "sha256");
    let values: serde_json::Map<String, serde_json::Value> =
        of_bank.map(|one| (one["pcr"].to_string(), one["value"].clone())).collect();
    let path = folder.join("pcrs.json");
    std::fs::write(&path, serde_json::json!({ "sha256": values }).to_string()).unwrap();
    path.display().to_string()
}

#[test]
fn what_user_space_measured_is_listed_and_proven() {
    let folder = tempfile::tempdir().unwrap();
    let pcrs = pcrs(folder.path(), "tpm2-measure.log");
    let with = ["eventlog", "boot.bin", "--user-space", "tpm2-measure.log", "--pcrs", &pcrs];
    let (code, body) = json(&data(), &with);
    assert_eq!(code, 0, "{body}");
    assert_eq!(body["boot"]["phases"], serde_json::json!(["enter-initrd", "leave-initrd", "sysinit", "ready"]));
    let listed = body["log"]["user_space"].as_array().unwrap();
    assert_eq!(listed.len(), 4);
    assert_eq!((&listed[3]["pcr"], &listed[3]["text"]), (&11.into(), &"ready".into()));
    assert!(listed.iter().all(|one| one["text_hashes"] == true));
    let (code, body) = json(&data(), &["eventlog", "boot.bin", "--pcrs", &pcrs]);
    assert_eq!((code, failed(&body)), (1, vec!["tpm.pcr.11"]), "without the log of user space");
}

#[test]
fn records_of_nv_indices_are_listed_as_what_no_quote_covers() {
    let folder = tempfile::tempdir().unwrap();
    let pcrs = pcrs(folder.path(), "tpm2-measure-nvpcr.log");
    let with = ["eventlog", "boot.bin", "--user-space", "tpm2-measure-nvpcr.log", "--pcrs", &pcrs];
    let (code, body) = json(&data(), &with);
    assert_eq!(code, 0, "{body}");
    let listed = body["log"]["user_space"].as_array().unwrap();
    let of_index: Vec<_> = listed.iter().filter(|one| !one["nv_index"].is_null()).collect();
    assert_eq!(of_index.len(), 1);
    assert_eq!(of_index[0]["nv_index"], 0x01d1_0201);
    let said = String::from_utf8(audit(&data(), &with).stdout).unwrap();
    assert!(said.contains("NV 0x01d10201, in no quote") && said.contains("cryptsetup:root:tpm2"), "{said}");
}
