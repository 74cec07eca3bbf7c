//! `docs/checks.md` is made from the catalogue, and the catalogue names each
//! check once.
#![cfg(test)]

use std::fmt::Write;
use std::path::Path;

use portcullis_firmware_policy::{CATALOGUE, remedy};

fn document() -> String {
    let mut text = String::from(
        "# Checks\n\nEvery refusal names a check by a stable id. Made from `firmware-policy/src/remedy.rs`; a trailing `*` stands for a number or name.\n\n| check | what it means | what to do |\n|---|---|---|\n",
    );
    for entry in CATALOGUE {
        let _infallible = writeln!(text, "| `{}` | {} | {} |", entry.id, entry.cause, entry.remedy);
    }
    text
}

#[test]
fn the_document_is_up_to_date() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/checks.md");
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, document()).unwrap();
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(found, document(), "run with UPDATE=1 to write docs/checks.md");
}

#[test]
fn every_id_is_listed_once_and_has_a_remedy() {
    for (at, entry) in CATALOGUE.iter().enumerate() {
        assert!(CATALOGUE.iter().skip(at + 1).all(|other| other.id != entry.id), "{}", entry.id);
        assert!(entry.cause.ends_with('.') && entry.remedy.ends_with('.'), "{}", entry.id);
    }
    assert_eq!(remedy("tpm.pcr.11"), remedy("tpm.pcr.*"));
    assert_ne!(remedy("tpm.pcr_digest"), remedy("tpm.pcr.*"));
}
