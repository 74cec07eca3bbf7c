//! Files of governors: keys, folders, bundles.

use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use anyhow::{Context, Result, bail};
use portcullis_firmware_policy::{BundleError, Content, Files, MAX_LENGTH, Reader, pack, remedy, unpack};
use portcullis_permit::{Governance, Quorum, SigningKey};

/// Something that was read and does not pass.
#[derive(Debug)]
pub(crate) struct Refused {
    text: String,
    /// Where it is a bundle: the check that refuses it, and what is to be mended.
    pub(crate) bundle: Option<BundleError>,
}

impl Refused {
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Self { text: text.into(), bundle: None }
    }
}

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for Refused {}

/// Why a bundle does not pass: in texts every mistake with its place and a hint.
pub(crate) fn refused(error: &BundleError) -> anyhow::Error {
    let mut text = format!("refused by {}", error.check());
    for finding in error.findings() {
        text.push_str(&format!("\n  {finding}\n      hint: {}", finding.hint));
    }
    if error.findings().is_empty() {
        text.push_str(&format!("\n  {error}\n      hint: {}", remedy(error.check(), Reader::Governor)));
    }
    Refused { text, bundle: Some(error.clone()) }.into()
}

/// Reads a file, naming it in the error.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| path.display().to_string())
}

/// Reads a private key.
pub(crate) fn key(path: &Path) -> Result<SigningKey> {
    let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
    SigningKey::from_pem(&text).with_context(|| path.display().to_string())
}

/// Reads the governors' keys and threshold.
pub(crate) fn governance(path: &Path) -> Result<Governance> {
    Governance::decode(&read(path)?).with_context(|| path.display().to_string())
}

/// Writes a private file that must not exist yet.
pub(crate) fn write_private(path: &Path, bytes: &[u8]) -> Result<()> {
    let open = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    Ok(open.with_context(|| path.display().to_string())?.write_all(bytes)?)
}

/// Writes a file as a whole or not at all, naming it in the error.
pub(crate) fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    let name = path.file_name().with_context(|| format!("{}: not the name of a file", path.display()))?;
    let draft = path.with_file_name(format!(".{}.draft", name.to_string_lossy()));
    let written = fs::write(&draft, bytes).and_then(|()| fs::rename(&draft, path));
    written.with_context(|| path.display().to_string())
}

/// A bundle as somebody named it: a folder that is being written, or a file.
pub(crate) struct Opened {
    /// The document with its signatures; a folder has none.
    pub(crate) quorum: Quorum,
    /// Its files.
    pub(crate) files: Files,
    /// What they say.
    pub(crate) content: Content,
}

/// Opens a folder or a bundle; its texts must pass, its signatures are not
/// looked at.
pub(crate) fn open(path: &Path) -> Result<Opened> {
    let quorum = quorum(path)?;
    let files = unpack(quorum.unverified_document()).map_err(|error| refused(&error))?;
    let content = Content::read(&files).map_err(|error| refused(&error))?;
    Ok(Opened { quorum, files, content })
}

/// A folder as an unsigned bundle, or a bundle with its signatures.
fn quorum(path: &Path) -> Result<Quorum> {
    if path.is_dir() {
        let mut files = Files::new();
        collect(path, "", &mut files)?;
        return Ok(Quorum::unsigned(pack(&files).map_err(|error| refused(&error))?));
    }
    let bytes = read(path)?;
    Quorum::decode(&bytes, MAX_LENGTH)
        .map_err(|error| refused(&error.into()))
        .with_context(|| path.display().to_string())
}

/// Files that begin with a dot are those of version control and editors.
fn collect(folder: &Path, prefix: &str, files: &mut Files) -> Result<()> {
    for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let entry = entry?;
        let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
        let kind = entry.file_type()?;
        if entry.file_name().to_string_lossy().starts_with('.') {
            continue;
        }
        if kind.is_dir() {
            collect(&entry.path(), &format!("{name}/"), files)?;
        } else if kind.is_file() {
            files.insert(name, read(&entry.path())?);
        } else {
            bail!("{}: neither a file nor a folder; links are not followed", entry.path().display());
        }
    }
    Ok(())
}
