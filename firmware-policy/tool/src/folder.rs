//! The source folder of a bundle, and changes that tools make to its texts without
//! notice: other line ends, another encoding, copies of an editor.
//!
//! The signatures cover each byte of the bundle. Governors whose tools rewrite a text
//! would sign different bundles. Such a folder is refused before it is built.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use portcullis_firmware_policy::{Files, Finding, SCHEMA_FILE};

/// The `.gitattributes` file that `new` writes beside the texts. Its name begins with a
/// dot, so it is not part of the bundle. Certificates and lists may be DER, so they are
/// not converted.
pub(crate) const ATTRIBUTES: &str = "* text=auto eol=lf\ncollateral/* -text\nroots/* -text\n";

/// Suffixes of copies that editors and version control keep.
const COPIES: [&str; 7] = ["~", ".bak", ".orig", ".rej", ".tmp", ".swp", ".swo"];
/// Files that desktop systems leave in folders.
const LITTER: [&str; 3] = ["Thumbs.db", "desktop.ini", "Icon\r"];
/// Characters that some file systems do not allow in a name.
const UNPORTABLE: &str = "\\:*?\"<>|";

const LINE_ENDS: &str = "save it with LF line ends, and write `* text=auto eol=lf` into .gitattributes beside \
                         policy.toml, so that version control leaves them alone";
const ENCODING: &str = "save it as UTF-8 without a byte order mark";

/// Reads a folder: its files, and all mistakes in them.
///
/// Files whose names begin with a dot belong to version control and editors, and are
/// skipped.
pub(crate) fn read(folder: &Path) -> Result<(Files, Vec<Finding>)> {
    let (mut files, mut findings) = (Files::new(), Vec::new());
    collect(folder, "", &mut files, &mut findings)?;
    findings.extend(one_name_for_two(&files));
    findings.extend(rewritten(&files));
    Ok((files, findings))
}

fn collect(folder: &Path, prefix: &str, files: &mut Files, findings: &mut Vec<Finding>) -> Result<()> {
    for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let entry = entry?;
        let (name, kind) = (entry.file_name(), entry.file_type()?);
        if name.as_encoded_bytes().starts_with(b".") {
            continue;
        }
        let path = format!("{prefix}{}", name.to_string_lossy());
        if let Some((what, hint)) = misnamed(&name.to_string_lossy()) {
            findings.push(about(&path, None, what, hint));
        } else if kind.is_dir() {
            collect(&entry.path(), &format!("{path}/"), files, findings)?;
        } else if kind.is_file() {
            files.insert(path, super::files::read(&entry.path())?);
        } else {
            let hint = "put a copy of the file in its place: a link leads to something else on another machine";
            findings.push(about(&path, None, "is neither a file nor a folder", hint));
        }
    }
    Ok(())
}

/// Why a file with this name cannot be part of a bundle.
fn misnamed(name: &str) -> Option<(&'static str, &'static str)> {
    let copy = COPIES.iter().any(|end| name.ends_with(end)) || (name.starts_with('#') && name.ends_with('#'));
    if copy || LITTER.contains(&name) {
        return Some(("is a copy that an editor or desktop keeps", "remove it, or move it out of the folder"));
    }
    let portable = |c: char| (c.is_ascii_graphic() || c == ' ') && !UNPORTABLE.contains(c);
    let hint = "rename it, with ASCII letters, digits, '-', '_' and '.': other characters are written in different \
                ways by different systems";
    (!name.chars().all(portable)).then_some(("has a name that is not the same everywhere", hint))
}

/// Different names that some file systems treat as the same name.
fn one_name_for_two(files: &Files) -> Vec<Finding> {
    let mut seen: BTreeMap<String, &str> = BTreeMap::new();
    let mut all = Vec::new();
    for path in files.keys() {
        if let Some(other) = seen.insert(path.to_ascii_lowercase(), path) {
            let what = format!("differs from {other} in capitals only");
            all.push(about(path, None, &what, "rename one of the two: some systems take them for one file"));
        }
    }
    all
}

/// Mistakes in texts that an editor does not show.
pub(crate) fn rewritten(files: &Files) -> Vec<Finding> {
    let text = |path: &str, bytes: &[u8]| {
        let certificate = path.starts_with("collateral/") || path.starts_with("roots/");
        path.ends_with(".toml")
            || path.ends_with(".cedar")
            || path == SCHEMA_FILE
            || path.starts_with("ima/")
            || (certificate && bytes.trim_ascii_start().starts_with(b"-----BEGIN"))
    };
    files.iter().filter(|(path, bytes)| text(path, bytes)).filter_map(|(path, bytes)| misread(path, bytes)).collect()
}

/// The first mistake in a text, with its place.
fn misread(path: &str, bytes: &[u8]) -> Option<Finding> {
    if bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]) {
        return Some(about(path, None, "is UTF-16", ENCODING));
    }
    if bytes.starts_with(&[0xef, 0xbb, 0xbf]) {
        return Some(about(path, Some(1), "begins with a byte order mark", ENCODING));
    }
    let line = |offset: usize| {
        let before = bytes.iter().take(offset);
        Some(before.filter(|byte| **byte == b'\n').count().saturating_add(1))
    };
    if let Err(error) = std::str::from_utf8(bytes) {
        return Some(about(path, line(error.valid_up_to()), "is not UTF-8", ENCODING));
    }
    if let Some(at) = bytes.iter().position(|byte| *byte == 0) {
        return Some(about(path, line(at), "has a zero byte", "remove it: this is no text"));
    }
    if let Some(at) = bytes.iter().position(|byte| *byte == b'\r') {
        let returns = bytes.iter().filter(|byte| **byte == b'\r').count();
        let kind = if bytes.get(at.saturating_add(1)) == Some(&b'\n') { "CRLF line ends" } else { "a lone CR" };
        let what = match returns {
            1 => format!("has {kind}, once"),
            _ => format!("has {kind}, {returns} times"),
        };
        return Some(about(path, line(at), &what, LINE_ENDS));
    }
    let text = std::str::from_utf8(bytes).unwrap_or_default();
    let (at, found) = text.char_indices().find(|(_, c)| invisible(*c))?;
    let what = format!("has the invisible character U+{:04X}", u32::from(found));
    Some(about(path, line(at), &what, "remove it: the text does not mean what an editor shows"))
}

/// Characters that are invisible, or change how a text is shown.
fn invisible(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

fn about(file: &str, line: Option<usize>, what: &str, hint: &str) -> Finding {
    Finding { file: file.to_owned(), line, key: String::new(), what: what.to_owned(), hint: hint.to_owned() }
}
