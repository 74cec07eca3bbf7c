//! Files of governors: keys, folders, bundles.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, anyhow};
use portcullis_files::{PRIVATE, create_durably, write_durably};
use portcullis_firmware_policy::{BundleError, Content, Files, Finding, MAX_LENGTH, Reader, pack, remedy, unpack};
use portcullis_permit::{FileKind, Governance, Quorum, SigningKey};
use zeroize::Zeroizing;

use crate::folder;

/// An input that was read, and does not pass.
#[derive(Debug)]
pub(crate) struct Refused {
    text: String,
    /// The check that refuses it, if it is a bundle.
    pub(crate) check: Option<&'static str>,
    /// The mistakes to correct, each with its check.
    pub(crate) findings: Vec<(&'static str, Finding)>,
}

impl Refused {
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Self { text: text.into(), check: None, findings: Vec::new() }
    }
}

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for Refused {}

/// Why a bundle does not pass. For texts: every mistake, with its place and a hint.
pub(crate) fn refused(error: &BundleError) -> anyhow::Error {
    let mut text = format!("refused by {}", error.check());
    for finding in error.findings() {
        text.push_str(&format!("\n  {finding}\n      hint: {}", finding.hint));
    }
    if error.findings().is_empty() {
        text.push_str(&format!("\n  {error}\n      hint: {}", remedy(error.check(), Reader::Governor)));
    }
    let check = error.check();
    let findings = error.findings().iter().map(|finding| (check, finding.clone())).collect();
    Refused { text, check: Some(check), findings }.into()
}

/// Why a sound bundle does not pass at a given time.
pub(crate) fn refused_now(findings: Vec<(&'static str, Finding)>) -> anyhow::Error {
    let line =
        |(check, finding): &(&str, Finding)| format!("refused by {check}\n  {finding}\n      hint: {}", finding.hint);
    let text = findings.iter().map(line).collect::<Vec<_>>().join("\n");
    Refused { text, check: findings.first().map(|(check, _)| *check), findings }.into()
}

/// Reads a file. An error names the file.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| path.display().to_string())
}

/// Reads a private key.
pub(crate) fn key(path: &Path) -> Result<SigningKey> {
    let bytes = Zeroizing::new(read(path)?);
    SigningKey::from_pem(&*bytes).with_context(|| path.display().to_string())
}

/// Reads the governors' keys and threshold.
pub(crate) fn governance(path: &Path) -> Result<Governance> {
    Governance::from_file(&read(path)?).with_context(|| path.display().to_string())
}

/// Reads a document with its signatures; `required` is the kind of document.
pub(crate) fn quorum(path: &Path, required: &str) -> Result<Quorum> {
    let bytes = read(path)?;
    let wrong = |_| anyhow!("{}: {}; required {required}", path.display(), FileKind::of(&bytes));
    Quorum::decode(&bytes, MAX_LENGTH).map_err(wrong)
}

/// The error for a document of another kind than required.
pub(crate) fn another(path: &Path, quorum: &Quorum, required: &str) -> anyhow::Error {
    anyhow!("{}: {}; required {required}", path.display(), FileKind::of(&quorum.encode()))
}

/// Adds a set of signatures to the document that they sign.
pub(crate) fn attach(quorum: &mut Quorum, path: &Path) -> Result<()> {
    let bytes = read(path)?;
    let name = path.display();
    quorum.attach(&bytes).map_err(|error| match FileKind::of(&bytes) {
        FileKind::Signatures => anyhow!("{name}: {error}"),
        other => anyhow!("{name}: {other}; required a set of signatures (.pcs), as portcullis-policy sign writes it"),
    })
}

/// The governors' keys and threshold, if the file contains them.
pub(crate) fn as_governance(path: &Path) -> Option<Governance> {
    Governance::decode(&fs::read(path).ok()?).ok()
}

/// Writes a private file that must not exist yet.
pub(crate) fn write_private(path: &Path, bytes: &[u8]) -> Result<()> {
    Ok(create_durably(path, bytes, PRIVATE)?)
}

/// Writes a file completely or not at all. An error names the file.
pub(crate) fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    Ok(write_durably(path, bytes)?)
}

/// A bundle from the command line: a folder, or a file.
pub(crate) struct Opened {
    /// The document with its signatures; a folder has no signatures.
    pub(crate) quorum: Quorum,
    /// Its files.
    pub(crate) files: Files,
    /// The content of the files.
    pub(crate) content: Content,
}

/// Opens a folder or a bundle. Its texts must pass; its signatures are not checked.
pub(crate) fn open(path: &Path) -> Result<Opened> {
    if path.is_dir() {
        return open_folder(path);
    }
    let required = "a bundle (.pcb), or the folder that one is built of";
    let quorum = quorum(path, required)?;
    let unpacked = unpack(quorum.unverified_document());
    if unpacked.is_err() && FileKind::of(&quorum.encode()) != FileKind::Bundle {
        return Err(another(path, &quorum, required));
    }
    let files = unpacked.map_err(|error| refused(&error))?;
    let content = Content::read(&files).map_err(|error| refused(&error))?;
    Ok(Opened { quorum, files, content })
}

/// Opens a folder as an unsigned bundle. The error lists every mistake.
fn open_folder(path: &Path) -> Result<Opened> {
    let (files, mut findings) = folder::read(path)?;
    let content = Content::read(&files);
    if !findings.is_empty() {
        findings.extend(content.err().iter().flat_map(BundleError::findings).cloned());
        return Err(refused(&BundleError::Document(findings)));
    }
    let content = content.map_err(|error| refused(&error))?;
    let quorum = Quorum::unsigned(pack(&files).map_err(|error| refused(&error))?);
    Ok(Opened { quorum, files, content })
}
