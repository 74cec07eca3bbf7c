//! Costs of the product over the bare cryptography in them.

mod archive;
mod archived;
mod bare;
mod log;
mod permits;
mod policy;
mod rehearse;
mod replay;
mod turns;

use std::path::Path;

use anyhow::Result;
use clap::Subcommand;

/// What to measure.
#[derive(Debug, Subcommand)]
pub enum Bench {
    /// Load on an authority.
    Permits(permits::Options),
    /// Appends to a log over the disk's limit, and costs that must not grow.
    Log(log::Options),
    /// Appraisal and Cedar, by the number of nodes and measurements.
    Policy(policy::Options),
    /// Replay of an archive, by decisions a second.
    Replay(archived::Options),
    /// Rehearsal of an archive, by decisions a second.
    Rehearse(archived::Options),
}

/// Measures, and prints the figures.
///
/// # Errors
/// Something costs more than its limit, or fails.
pub fn run(lab: &Path, bench: &Bench) -> Result<()> {
    match bench {
        Bench::Permits(options) => permits::run(lab, options),
        Bench::Log(options) => log::run(options),
        Bench::Policy(options) => policy::run(options),
        Bench::Replay(options) => replay::run(lab, options),
        Bench::Rehearse(options) => rehearse::run(lab, options),
    }
}
