//! Runs of `portcullis-audit`, and what every one of its JSON objects has.

use std::path::Path;
use std::process::{Command, Output};

use portcullis_firmware_policy::CATALOGUE;
use serde_json::Value;

pub(crate) fn audit(folder: &Path, arguments: &[&str]) -> Output {
    let audit = Path::new(env!("CARGO_BIN_EXE_portcullis-audit"));
    Command::new(audit).current_dir(folder).args(arguments).output().unwrap()
}

/// Runs with `--json` and checks what every object must have.
pub(crate) fn json(folder: &Path, arguments: &[&str]) -> (i32, Value) {
    let output = audit(folder, &[arguments, &["--json"]].concat());
    let code = output.status.code().unwrap();
    let body: Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|_| panic!("{arguments:?}: {}", String::from_utf8_lossy(&output.stderr)));
    let _described = portcullis_schemas::check(&body);
    let verdict = body["verdict"].as_str().unwrap();
    assert_eq!(code, ["pass", "fail", "", "undetermined"].iter().position(|v| *v == verdict).unwrap() as i32);
    for check in body["checks"].as_array().unwrap() {
        let id = check["id"].as_str().unwrap();
        let listed = |entry: &&portcullis_firmware_policy::Entry| match entry.id.strip_suffix('*') {
            Some(prefix) => id.starts_with(prefix),
            None => entry.id == id,
        };
        assert!(CATALOGUE.iter().any(|entry| listed(&entry)), "{id} is not in the catalogue");
        assert!(["pass", "fail", "missing"].contains(&check["outcome"].as_str().unwrap()));
        for member in ["found", "required"] {
            assert!(check[member].is_string() || check[member].is_null(), "{id} {member}");
        }
        assert!(check["detail"].is_string());
    }
    (code, body)
}

pub(crate) fn failed(body: &Value) -> Vec<&str> {
    let list = body["checks"].as_array().unwrap().iter();
    list.filter(|c| c["outcome"] == "fail").map(|c| c["id"].as_str().unwrap()).collect()
}

pub(crate) fn ids(body: &Value, outcome: &str) -> Vec<String> {
    let list = body["checks"].as_array().unwrap().iter();
    list.filter(|c| c["outcome"] == outcome).map(|c| c["id"].as_str().unwrap().to_owned()).collect()
}
