//! How many archived decisions a second a rehearsal plays, over the signatures in
//! them that must be verified, on the same number of cores in the same run.
//!
//! The archive is a real log, with entries by a real permit key under signed
//! checkpoints. Its requests are made once and repeated to the wanted number:
//! nothing in a rehearsal remembers a signature that it has verified.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::archived::{Archived, Options, Program};
use super::bare::Bare;

/// Makes an archive, plays it, and prints the figures.
///
/// # Errors
/// Below the limit.
pub(super) fn run(lab: &Path, options: &Options) -> Result<()> {
    let mut archived = Archived::make(tempfile::tempdir()?, options)?;
    let bundle = archived.path("bundle");
    for (path, bytes) in archived.scene().files()? {
        let path = bundle.join(path);
        fs::create_dir_all(path.parent().context("a folder")?)?;
        fs::write(path, bytes)?;
    }
    let mut command = Command::new(lab);
    command.args(["portcullis-policy", "rehearse", "--json", "--bundle"]).arg(&bundle);
    command.arg("--archive").arg(archived.log()).args(["--floor", "milan.snp=25"]);
    archived.measure(Program {
        name: "rehearsal",
        command,
        signatures: "P-384, P-256, P-256",
        verify: Bare::verify_decision,
        judge: &|report| {
            ensure!(report["decisions"] == options.decisions, "{} decisions", report["decisions"]);
            ensure!(report["loses"] == options.nodes, "{} nodes would lose", report["loses"]);
            Ok(())
        },
    })
}
