//! WIP
use std::path::Path;
/// Options.
#[derive(Debug, clap::Args)]
pub struct Options {}
/// Runs.
pub fn run(_lab: &Path, _options: &Options) -> anyhow::Result<()> {
    Ok(())
}
