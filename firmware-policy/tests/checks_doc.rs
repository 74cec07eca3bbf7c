//! `docs/checks.md` is made from the catalogue, the catalogue names each check
//! once, and its remedies name only what their readers have.
#![cfg(test)]

use std::fmt::Write;
use std::path::Path;

use portcullis_firmware_policy::{CATALOGUE, Entry, Reader, remedy};

fn document() -> String {
    let mut text = String::from(
        "# Checks\n\nEvery refusal names a check by a stable id. Made from `firmware-policy/src/remedy.rs`; a trailing `*` stands for a number or name. Where somebody can do something else, a line of their own says so.\n\n| check | what it means | what to do |\n|---|---|---|\n",
    );
    for entry in CATALOGUE {
        let mut cell = entry.remedy.to_owned();
        for (reader, text) in entry.remedies {
            let _infallible = write!(cell, "<br>*{}:* {text}", reader.name());
        }
        let _infallible = writeln!(text, "| `{}` | {} | {} |", entry.id, entry.cause, cell);
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
    assert!(found == document(), "docs/checks.md is not what the catalogue says: run with UPDATE=1 to write it");
}

#[test]
fn every_id_is_listed_once_and_has_a_remedy() {
    for (at, entry) in CATALOGUE.iter().enumerate() {
        assert!(CATALOGUE.iter().skip(at + 1).all(|other| other.id != entry.id), "{}", entry.id);
        let texts = Reader::ALL.map(|reader| entry.remedy(reader));
        assert!(entry.cause.ends_with('.') && texts.iter().all(|text| text.ends_with('.')), "{}", entry.id);
        let mut own: Vec<&str> = entry.remedies.iter().map(|(reader, _)| reader.name()).collect();
        own.dedup();
        assert_eq!(own.len(), entry.remedies.len(), "{}: two remedies for one reader", entry.id);
    }
    let node = |id| remedy(id, Reader::Node);
    assert_eq!(node("tpm.pcr.11"), node("tpm.pcr.*"));
    assert_ne!(node("tpm.pcr_digest"), node("tpm.pcr.*"));
}

/// Families of checks that a reader meets. What is left out is told to others:
/// an auditor never hears of `anchor.missing`, a node never of `archive.hole`.
fn meets(reader: Reader, entry: &Entry) -> bool {
    let among = |families: &[&str]| families.iter().any(|family| entry.id.starts_with(family));
    let owner = ["anchor.", "succession.", "watch.", "witness.", "log."];
    let audit = ["archive.", "trail.", "replay."];
    let exchange = ["exchange.", "activation.", "budget", "governance.", "lease.", "execution.", "auditor."];
    match reader {
        Reader::Node => !among(&owner) && !among(&audit) && !among(&["governance."]),
        Reader::Governor => !among(&owner) && !among(&audit),
        Reader::Auditor => !among(&["anchor.", "succession.", "watch.", "witness."]) && !among(&exchange),
        Reader::Operator => among(&owner) || among(&["bundle.", "authority.", "snp.crl", "snp.issuer", "snp.root"]),
    }
}

/// What a remedy cannot name, because its reader does not have it. Whoever is told
/// whom to ask may be told what to ask for.
#[test]
fn no_remedy_names_what_its_reader_does_not_have() {
    let folder = ["policy.toml", "reference/", "collateral/", "roots/", "ima/", "portcullis-policy", "--after"];
    let bundle = ["into the bundle", "to the bundle", "in the bundle", "Enrol ", "enrol ", "Sign ", "sign "];
    let flags = ["--crl", "--certs", "--cache", "--root", "--ak", "--pcrs", "--eventlog", "--at ", "--policy"];
    let machine = [
        "Boot ",
        "Launch ",
        "Relaunch ",
        "Attest ",
        "Quote ",
        "Send ",
        "Activate ",
        "Switch ",
        "Link ",
        "Move ",
        "Have ",
        "Ask for a new permit",
        "Use the arguments",
        "Use the environment",
        "Update the platform",
        "Restart ",
    ];
    let mut all = Vec::new();
    for entry in CATALOGUE {
        for reader in Reader::ALL.into_iter().filter(|reader| meets(*reader, entry)) {
            let text = entry.remedy(reader);
            let asks = text.contains("overnors");
            let names = |words: &[&str]| words.iter().any(|word| text.contains(word));
            let wrong = match reader {
                Reader::Node | Reader::Operator => !asks && (names(&folder) || names(&bundle)) || names(&flags),
                Reader::Governor => names(&["sk the governors", "portcullis.toml"]) || names(&flags),
                Reader::Auditor => names(&folder) || (!asks && names(&bundle)) || names(&machine),
            };
            all.extend(wrong.then(|| format!("{}, read by the {}: {text}", entry.id, reader.name())));
        }
    }
    assert!(all.is_empty(), "{}", all.join("\n"));
    // A node that meets an authority that has tripped is not told to reboot itself.
    for check in ["watch.pcr", "anchor.clone", "witness.lag", "log.storage"] {
        assert!(remedy(check, Reader::Node).starts_with("Tell the authority's operator"), "{check}");
        assert!(!remedy(check, Reader::Operator).contains("operator"), "{check}");
    }
    // The same check in three places.
    assert!(remedy("snp.crl", Reader::Auditor).contains("--crl"));
    assert!(remedy("snp.crl", Reader::Governor).contains("collateral/"));
    assert!(remedy("snp.crl", Reader::Node).starts_with("Ask the governors"));
    assert!(remedy("governance.sequence", Reader::Governor).contains("--after"));
}
