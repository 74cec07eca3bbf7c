//! Files of governors: keys, folders, bundles.

use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use anyhow::{Context, Result};
use portcullis_firmware_policy::{Files, MAX_LENGTH, pack};
use portcullis_permit::{Quorum, SigningKey};

/// Reads a file, naming it in the error.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| path.display().to_string())
}

/// Reads a private key.
pub(crate) fn key(path: &Path) -> Result<SigningKey> {
    let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
    SigningKey::from_pem(&text).with_context(|| path.display().to_string())
}

/// Writes a private file that must not exist yet.
pub(crate) fn write_private(path: &Path, bytes: &[u8]) -> Result<()> {
    let open = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    Ok(open.with_context(|| path.display().to_string())?.write_all(bytes)?)
}

/// Writes a file, naming it in the error.
pub(crate) fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    fs::write(path, bytes).with_context(|| path.display().to_string())
}

/// A folder as an unsigned bundle, or a bundle with its signatures.
pub(crate) fn quorum(path: &Path) -> Result<Quorum> {
    if path.is_dir() {
        let mut files = Files::new();
        collect(path, "", &mut files)?;
        return Ok(Quorum::unsigned(pack(&files)?));
    }
    Quorum::decode(&read(path)?, MAX_LENGTH).with_context(|| path.display().to_string())
}

fn collect(folder: &Path, prefix: &str, files: &mut Files) -> Result<()> {
    for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let entry = entry?;
        let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
        if entry.file_type()?.is_dir() {
            collect(&entry.path(), &format!("{name}/"), files)?;
        } else {
            files.insert(name, read(&entry.path())?);
        }
    }
    Ok(())
}
