//! Where evidence made by others lies, and what to do where it does not.

use std::path::PathBuf;

/// The folder of the vectors. `$PORTCULLIS_VECTORS` must exist if it is set;
/// without it, `../shared/vectors` beside the workspace is used if it is there.
pub(crate) fn vectors(folder: &str) -> Option<PathBuf> {
    let beside = || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared/vectors");
    let (root, demanded) = match std::env::var_os("PORTCULLIS_VECTORS") {
        Some(path) => (PathBuf::from(path), true),
        None => (beside(), false),
    };
    let path = root.join(folder);
    if path.is_dir() {
        return Some(path);
    }
    assert!(!demanded, "PORTCULLIS_VECTORS is set, but {} is no folder", path.display());
    eprintln!("SKIPPED: no test vectors at {}; nothing was shown about real evidence", path.display());
    None
}

/// A file of the vectors.
pub(crate) fn read(path: &std::path::Path) -> Vec<u8> {
    std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}
