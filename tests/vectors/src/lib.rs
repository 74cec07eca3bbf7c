//! Finds the test data that others made: `$PORTCULLIS_VECTORS`, or
//! `../shared/vectors` beside the workspace. It is read in place.

use std::path::{Path, PathBuf};

/// A folder of the vectors. `None` where there are none at the default place,
/// which is said loudly: nothing was shown then.
///
/// # Panics
/// The variable is set, and the folder is missing.
#[must_use]
#[expect(clippy::panic, reason = "for tests: data that was promised must be there")]
pub fn vectors(folder: &str) -> Option<PathBuf> {
    let beside = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/vectors");
    let demanded = std::env::var_os("PORTCULLIS_VECTORS").map(PathBuf::from);
    let path = demanded.clone().unwrap_or_else(beside).join(folder);
    if path.is_dir() {
        return Some(path);
    }
    if demanded.is_some() {
        panic!("PORTCULLIS_VECTORS is set, but {} is no folder", path.display());
    }
    eprintln!("SKIPPED: no test vectors at {}; nothing was shown about real evidence", path.display());
    None
}
