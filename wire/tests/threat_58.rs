//! THREATS row 58: `docs/formats.md` is complete, and what it promises exists.
#![cfg(test)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Folders of what ships.
const SHIPPED: [&str; 12] = [
    "appliance",
    "attest",
    "auditor",
    "channel",
    "cli",
    "client",
    "collateral",
    "files",
    "firmware-policy",
    "lineage",
    "permit",
    "witness",
];
/// What only a file that encodes or decodes does.
const SIGNS: [&str; 10] = [
    "Fields::of(",
    " Reader::new(",
    "SliceReader::new(",
    "serde_json::from_slice",
    "from_reader",
    "::from_der(",
    "from_le_bytes",
    "from_be_bytes",
    "to_be_bytes",
    "toml::from_str",
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn page() -> String {
    fs::read_to_string(root().join("docs/formats.md")).unwrap()
}

/// Sources below a folder, with their path from the root of the tree.
fn sources(folder: &Path, found: &mut Vec<(String, String)>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && path.file_name().is_some_and(|name| name != "target" && name != "fuzz") {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let name = path.strip_prefix(root()).unwrap().display().to_string();
            found.push((name, fs::read_to_string(&path).unwrap()));
        }
    }
}

fn all(folders: &[&str]) -> Vec<(String, String)> {
    let mut found = Vec::new();
    folders.iter().for_each(|folder| sources(&root().join(folder), &mut found));
    found
}

/// The texts in backticks.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// Tests are sentences: long, with underscores. Programs and crates are not.
fn is_test_name(text: &str) -> bool {
    let word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    text.len() > 14 && text.contains('_') && text.chars().all(word)
}

/// The cells of each row of the tables.
fn rows(page: &str) -> impl Iterator<Item = Vec<&str>> {
    let lines = page.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| format "));
    lines.map(|line| line.trim_matches('|').split('|').map(str::trim).collect())
}

#[test]
fn threat_58_every_format_has_a_witness() {
    let sources = all(&[&SHIPPED[..], &["wire", "tests"]].concat());
    let tests: BTreeSet<&str> = sources
        .iter()
        .flat_map(|(_, source)| source.split("#[test]").skip(1))
        .filter_map(|rest| rest.split_once("fn ")?.1.split('(').next())
        .collect();
    let page = page();
    let mut standards = 0;
    for row in rows(&page) {
        let format = row[0];
        let [_, _, _, witness, _] = row.as_slice() else {
            assert_eq!(row.len(), 2, "{format}: five cells, or two for a format of this project");
            continue;
        };
        let named: Vec<&str> = quoted(witness).filter(|name| is_test_name(name)).collect();
        for name in &named {
            assert!(tests.contains(name), "{format}: there is no test {name}");
        }
        assert!(!named.is_empty() || witness.starts_with("none"), "{format}: neither a test nor \"none\"");
        standards += 1;
    }
    assert!(standards > 30, "{standards} formats of standards");
}

#[test]
fn threat_58_every_file_that_encodes_or_decodes_is_in_the_table() {
    let page = page();
    let listed: BTreeSet<&str> = quoted(&page).filter(|text| text.ends_with(".rs")).collect();
    for file in &listed {
        assert!(root().join(file).is_file(), "{file} is in docs/formats.md, and not in the tree");
    }
    let sources = all(&SHIPPED);
    let codecs = sources.iter().filter(|(name, source)| {
        let shipped = source.split("#[cfg(test)]\nmod tests").next().unwrap_or_default();
        name.contains("/src/") && SIGNS.iter().any(|sign| shipped.contains(sign))
    });
    let missing: Vec<&str> = codecs.map(|(name, _)| name.as_str()).filter(|name| !listed.contains(name)).collect();
    assert!(missing.is_empty(), "in no row of docs/formats.md: {missing:#?}");
}
