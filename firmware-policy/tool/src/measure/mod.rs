//! `portcullis-policy measure`: computes the measurement of an image before it runs.

mod digest;
mod firmware;
mod hashes;
mod image;
mod snp;
mod stub;
mod uki;
mod vmsa;

use clap::Subcommand;

/// The kind of measurement.
#[derive(Debug, Subcommand)]
pub(crate) enum Measure {
    /// The launch measurement of an SEV-SNP guest, as in its report.
    Snp(snp::Arguments),
    /// PCR 11 after a unified kernel image has booted.
    Uki(uki::Arguments),
}

/// Computes and prints a measurement.
pub(crate) fn run(action: &Measure) -> anyhow::Result<()> {
    match action {
        Measure::Snp(arguments) => snp::run(arguments),
        Measure::Uki(arguments) => uki::run(arguments),
    }
}
