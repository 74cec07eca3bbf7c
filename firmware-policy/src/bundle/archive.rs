//! The files of a bundle as one deterministic tar.

use std::collections::BTreeMap;
use std::io::Read;

use super::error::BundleError;

/// Largest bundle accepted, in bytes.
pub const MAX_LENGTH: usize = 8 * 1024 * 1024;
const MAX_FILES: usize = 4096;

/// The files of a bundle, by path.
pub type Files = BTreeMap<String, Vec<u8>>;

/// Packs files into their only valid archive: sorted, without times, owners or modes.
///
/// # Errors
/// [`BundleError::Archive`] for a path that tar cannot hold, and beyond
/// [`MAX_LENGTH`].
pub fn pack(files: &Files) -> Result<Vec<u8>, BundleError> {
    let refused = |_| BundleError::Archive("cannot be written: a path that is too long, or leads out of the folder");
    let mut builder = tar::Builder::new(Vec::new());
    for (path, bytes) in files {
        let mut header = tar::Header::new_ustar();
        header.set_path(path).map_err(refused)?;
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_entry_type(tar::EntryType::Regular);
        header.set_cksum();
        builder.append(&header, bytes.as_slice()).map_err(refused)?;
    }
    let archive = builder.into_inner().map_err(refused)?;
    if archive.len() > MAX_LENGTH { Err(BundleError::Archive("larger than 8 MiB")) } else { Ok(archive) }
}

/// Unpacks an archive and refuses any other encoding of the same files.
///
/// # Errors
/// [`BundleError::Archive`].
pub fn unpack(archive: &[u8]) -> Result<Files, BundleError> {
    if archive.len() > MAX_LENGTH {
        return Err(BundleError::Archive("larger than 8 MiB"));
    }
    let mut files = Files::new();
    let mut reader = tar::Archive::new(archive);
    for entry in reader.entries().map_err(|_| BundleError::Archive("not a tar archive"))? {
        let mut entry = entry.map_err(|_| BundleError::Archive("not a tar archive"))?;
        let path = entry.path().ok().and_then(|p| p.to_str().map(str::to_owned));
        let path = path.ok_or(BundleError::Archive("a path that is no text"))?;
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).map_err(|_| BundleError::Archive("truncated"))?;
        if files.len() >= MAX_FILES || files.insert(path, bytes).is_some() {
            return Err(BundleError::Archive("too many files, or one twice"));
        }
    }
    if pack(&files)? == archive { Ok(files) } else { Err(BundleError::Archive("not deterministic")) }
}
