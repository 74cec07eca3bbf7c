//! Where evidence made by others lies, and what to do where it does not.

pub(crate) use portcullis_vectors::vectors;

/// A file of the vectors.
pub(crate) fn read(path: &std::path::Path) -> Vec<u8> {
    std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}
