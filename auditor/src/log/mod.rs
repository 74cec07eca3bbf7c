//! Audits of a transparency log: it was not rewritten, the history of a permit, every
//! decision repeats, nothing is missing.

mod fsck;
mod keys;
mod replay;
mod resume;
mod source;
mod statements;
mod trail;
mod verify;

use anyhow::Result;
use clap::Subcommand;

#[derive(Debug, Subcommand)]
pub(crate) enum Action {
    /// Verify checkpoint, tiles or receipts, entries, and every statement's
    /// signature.
    Verify(verify::Arguments),
}

pub(crate) use fsck::{Arguments as FsckArguments, run as run_fsck};
pub(crate) use replay::{Arguments as ReplayArguments, run as run_replay};
pub(crate) use trail::{Arguments as TrailArguments, run as run_trail};

pub(crate) fn run(action: &Action) -> Result<u8> {
    let Action::Verify(arguments) = action;
    verify::run(arguments)
}
