//! `portcullis-policy measure`: what an image will be measured as, before it runs.

mod digest;
mod firmware;
mod hashes;
mod image;
mod snp;
mod stub;
mod uki;
mod vmsa;

use clap::Subcommand;

/// What to measure.
#[derive(Debug, Subcommand)]
pub(crate) enum Measure {
    /// The launch measurement of an SEV-SNP guest, as its report will state it.
    Snp(snp::Arguments),
    /// PCR 11 after a unified kernel image has booted.
    Uki(uki::Arguments),
}

/// Measures, and prints.
pub(crate) fn run(action: &Measure) -> anyhow::Result<()> {
    match action {
        Measure::Snp(arguments) => snp::run(arguments),
        Measure::Uki(arguments) => uki::run(arguments),
    }
}
