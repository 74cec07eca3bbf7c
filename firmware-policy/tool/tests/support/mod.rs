//! What the tests of the command line share.
#![cfg(test)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

pub(crate) fn tool(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_portcullis-policy")).args(arguments).output().unwrap()
}

pub(crate) fn good(arguments: &[&str]) -> String {
    let output = tool(arguments);
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

pub(crate) fn refused(arguments: &[&str]) -> String {
    let output = tool(arguments);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{arguments:?}: {said}");
    said
}

pub(crate) fn text(path: &Path) -> String {
    path.display().to_string()
}

pub(crate) fn edit(folder: &Path, file: &str, changes: &[(&str, &str)]) {
    let path = folder.join(file);
    let mut content = fs::read_to_string(&path).unwrap();
    for (from, to) in changes {
        assert!(content.contains(from), "{file} has no {from}");
        content = content.replacen(from, to, 1);
    }
    fs::write(path, content).unwrap();
}

/// The template, filled in as its comments say.
pub(crate) fn filled(at: &Path) -> PathBuf {
    let folder = at.join("bundle");
    good(&["new", &text(&folder)]);
    let (chip, digest, measurement) = ("12".repeat(64), "34".repeat(32), "56".repeat(48));
    edit(
        &folder,
        "policy.toml",
        &[
            ("CHANGE-ME: origin of the authority's log, such as permits.example.org", "permits.example.org"),
            ("CHANGE-ME, such as 2026-01-01T00:00:00Z", "2026-01-01T00:00:00Z"),
            ("\"CHANGE-ME\"", "\"2100-01-01T00:00:00Z\""),
            ("CHANGE-ME: 64 bytes in hex", &chip),
            ("CHANGE-ME: SHA-256 of the executable", &digest),
        ],
    );
    edit(&folder, "reference/image.toml", &[("reviewed = false", "reviewed = true"), ("CHANGE-ME", &measurement)]);
    folder
}
