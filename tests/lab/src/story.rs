//! WIP
use std::path::Path;
/// Runs.
pub fn run(_lab: &Path, _folder: Option<&Path>) -> anyhow::Result<u8> {
    Ok(0)
}
