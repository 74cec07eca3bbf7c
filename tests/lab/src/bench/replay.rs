//! How many archived decisions a second a replay makes again, over the signatures
//! in them that must be verified, on the same number of cores in the same run.

use std::path::Path;
use std::process::Command;

use anyhow::{Result, ensure};

use super::archived::{Archived, Options, Program};
use super::bare::Bare;

/// Makes an archive, replays it, and prints the figures.
///
/// # Errors
/// A decision does not come out again, or below the limit.
pub(super) fn run(lab: &Path, options: &Options) -> Result<()> {
    let archived = Archived::make(tempfile::tempdir_in(".")?, options)?;
    let mut command = Command::new(lab);
    command.args(["portcullis-audit", "replay", "--json"]).arg(archived.log());
    command.arg("--endorsement").arg(archived.path("endorsement.pce"));
    command.arg("--governance-root").arg(archived.path("governance.cbor"));
    archived.measure(Program {
        name: "replay",
        command,
        signatures: "P-384, 3 P-256",
        verify: Bare::verify_entry,
        judge: &|report| {
            ensure!(report["replay"]["same"] == options.decisions, "{report}");
            Ok(())
        },
    })
}
