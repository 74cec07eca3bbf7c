//! Texts that tools rewrite without anybody noticing are refused before they are
//! built: two governors must not sign different bytes that look the same.
#![cfg(test)]

mod support;

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::Command;

use support::{edit, filled, good, refused, text, tool};
use tempfile::TempDir;

/// Refusals name the file and line, and say what to do; nothing is built.
fn build_refused(folder: &Path, expected: &[&str]) {
    let out = folder.with_extension("pcb");
    let said = refused(&["build", &text(folder), "--out", &text(&out)]);
    for expected in expected {
        assert!(said.contains(expected), "{expected}\n{said}");
    }
    assert!(said.contains("bundle.document") && !out.exists(), "{said}");
}

/// The fault that was reported: a checkout with `core.autocrlf` has another digest.
#[test]
fn crlf_is_refused_with_file_line_and_what_to_do() {
    for file in ["policy.toml", "policy.cedar", "schema.cedarschema", "reference/image.toml"] {
        let at = TempDir::new().unwrap();
        let folder = filled(at.path());
        let path = folder.join(file);
        let unix = fs::read_to_string(&path).unwrap();
        let lines = unix.lines().count();
        fs::write(&path, unix.replace('\n', "\r\n")).unwrap();
        build_refused(
            &folder,
            &[&format!("{file}:1: has CRLF line ends, {lines} times"), "`* text=auto eol=lf` into .gitattributes"],
        );
    }
}

/// What a tool does to a text.
type Rewrite<'a> = &'a dyn Fn(&str) -> Vec<u8>;

#[test]
fn every_way_in_which_a_text_is_rewritten_is_named() {
    let cases: [(&str, Rewrite<'_>, &str); 7] = [
        ("one CRLF", &|t| t.replacen("\n", "\r\n", 1).into_bytes(), "policy.cedar:1: has CRLF line ends, once"),
        ("old Mac", &|t| t.replace('\n', "\r").into_bytes(), "policy.cedar:1: has a lone CR, 9 times"),
        (
            "UTF-8 with a mark",
            &|t| format!("\u{feff}{t}").into_bytes(),
            "policy.cedar:1: begins with a byte order mark",
        ),
        (
            "UTF-16",
            &|t| [0xfeff].into_iter().chain(t.encode_utf16()).flat_map(u16::to_le_bytes).collect(),
            "policy.cedar: is UTF-16",
        ),
        ("Latin-1", &|t| t.bytes().chain(*b"// na\xefve\n").collect(), "policy.cedar:11: is not UTF-8"),
        ("trailing zero", &|t| t.bytes().chain([0]).collect(), "policy.cedar:11: has a zero byte"),
        ("turned round", &|t| format!("{t}// \u{202e}x\n").into_bytes(), "the invisible character U+202E"),
    ];
    for (name, rewrite, expected) in cases {
        let at = TempDir::new().unwrap();
        let folder = filled(at.path());
        let path = folder.join("policy.cedar");
        let written = fs::read_to_string(&path).unwrap();
        let lines = written.lines().count();
        let expected =
            expected.replace("9 times", &format!("{lines} times")).replace(":11:", &format!(":{}:", lines + 1));
        fs::write(&path, rewrite(&written)).unwrap();
        println!("{name}");
        build_refused(&folder, &[&expected]);
    }
}

/// In `collateral`, `roots` and `ima` any name would be taken.
#[test]
fn copies_links_and_names_that_differ_elsewhere_are_refused() {
    let at = TempDir::new().unwrap();
    let folder = filled(at.path());
    fs::create_dir(folder.join("ima")).unwrap();
    let digest = "ab".repeat(32);
    for name in ["policy.toml~", "collateral/amd.pem.bak", "#policy.toml#", "reference/image.toml.orig", "Thumbs.db"] {
        fs::write(folder.join(name), "x").unwrap();
    }
    for name in ["ima/list", "ima/LIST", "ima/nai\u{308}ve", "ima/a:b"] {
        fs::write(folder.join(name), format!("{digest}  x\n")).unwrap();
    }
    fs::write(folder.join("ima").join(std::ffi::OsStr::from_bytes(b"na\xefve")), "x").unwrap();
    std::os::unix::fs::symlink("policy.cedar", folder.join("more.cedar")).unwrap();
    // Files of version control and desktops that begin with a dot are left out.
    fs::write(folder.join(".DS_Store"), "x").unwrap();
    build_refused(
        &folder,
        &[
            "policy.toml~: is a copy that an editor or desktop keeps",
            "collateral/amd.pem.bak: is a copy",
            "#policy.toml#: is a copy",
            "reference/image.toml.orig: is a copy",
            "Thumbs.db: is a copy",
            "ima/list: differs from ima/LIST in capitals only",
            "ima/nai\u{308}ve: has a name that is not the same everywhere",
            "ima/a:b: has a name that is not the same everywhere",
            "ima/na\u{fffd}ve: has a name that is not the same everywhere",
            "more.cedar: is neither a file nor a folder",
        ],
    );
}

/// What `new` writes keeps a checkout with `core.autocrlf` as it was committed.
#[test]
fn a_new_folder_survives_a_checkout_that_converts_line_ends() {
    let at = TempDir::new().unwrap();
    let folder = filled(at.path());
    fs::write(folder.join("collateral/of.der"), b"\x30\x03\r\n\x00").unwrap();
    let (first, second) = (text(&at.path().join("a.pcb")), text(&at.path().join("b.pcb")));
    fs::remove_file(folder.join("collateral/of.der")).unwrap();
    good(&["build", &text(&folder), "--out", &first]);
    fs::write(folder.join("collateral/of.der"), b"\x30\x03\r\n\x00").unwrap();
    let git = |arguments: &[&str]| {
        let mut git = Command::new("git");
        git.current_dir(&folder).args([
            "-c",
            "core.autocrlf=true",
            "-c",
            "user.name=x",
            "-c",
            "user.email=x@example.org",
        ]);
        let output = git.args(arguments).output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    };
    git(&["init", "-q"]);
    git(&["add", "-A"]);
    git(&["commit", "-qm", "bundle"]);
    for file in ["policy.toml", "policy.cedar", "reference/image.toml", "collateral/of.der"] {
        fs::remove_file(folder.join(file)).unwrap();
    }
    git(&["checkout", "-q", "--", "."]);
    assert_eq!(fs::read(folder.join("collateral/of.der")).unwrap(), b"\x30\x03\r\n\x00");
    fs::remove_file(folder.join("collateral/of.der")).unwrap();
    good(&["build", &text(&folder), "--out", &second]);
    assert_eq!(fs::read(first).unwrap(), fs::read(second).unwrap());
}

#[test]
fn mistakes_of_the_folder_and_of_its_texts_are_told_at_once() {
    let at = TempDir::new().unwrap();
    let folder = filled(at.path());
    edit(&folder, "policy.toml", &[("version = 1", "verison = 1")]);
    fs::write(folder.join("policy.toml~"), "x").unwrap();
    build_refused(&folder, &["policy.toml~: is a copy", "policy.toml:4: unknown field `verison`"]);
    let output = tool(&["check", "--json", &text(&folder)]);
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(json["findings"].as_array().unwrap().len(), 2, "{json:#}");
}
