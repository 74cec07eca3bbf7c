//! `portcullis-audit` verifies evidence, permits and logs offline.
//!
//! It uses no network, device or signer. Every command reads files and prints a verdict
//! with its checks in documented order, for people or as one JSON object.
//!
//! | exit code | verdict |
//! |---|---|
//! | 0 | pass |
//! | 1 | fail |
//! | 2 | usage, or an unreadable file |
//! | 3 | undetermined: nothing failed, but a named input is missing |
//!
//! ```
//! assert_eq!(portcullis_auditor::run(["portcullis-audit", "snp-report", "/nonexistent"]), 2);
//! ```
//!
//! It does not fetch missing inputs; it names them.

mod azure;
mod collateral;
mod endorsed;
mod eventlog;
mod evidence;
mod explain;
mod facts;
mod ima;
mod inputs;
mod later;
mod log;
mod permit;
mod quote;
mod report;
mod snp_report;
mod tpm_quote;
mod vendor;

use std::ffi::OsString;

use clap::{Parser, Subcommand};
use portcullis_cli::Common;

/// Verifies attestation reports, quotes, permits and logs, offline.
#[derive(Debug, Parser)]
#[command(name = "portcullis-audit", version, arg_required_else_help = true, after_help = HELP)]
struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Verify an AMD SEV-SNP attestation report.
    SnpReport(snp_report::Arguments),
    /// Verify a TPM 2.0 quote.
    TpmQuote(tpm_quote::Arguments),
    /// Verify the evidence of an Azure confidential VM: HCL report and quote.
    Azure(azure::Arguments),
    /// Replay an event log, and show the claims about the boot that it proves.
    Eventlog(eventlog::Arguments),
    /// Replay an IMA measurement list.
    Ima(ima::Arguments),
    /// Verify archived evidence in its envelope, of Portcullis or other systems.
    Evidence(evidence::Arguments),
    /// Explain a check: cause of a failure, and remedy.
    ExplainCheck(explain::Arguments),
    /// Verify a permit with its receipt.
    Permit(permit::Arguments),
    /// Verify a transparency log.
    #[command(subcommand)]
    Log(log::Action),
    /// Show the history of a permit: chip, boot, policy, permit, renewals, end.
    Trail(log::TrailArguments),
    /// Re-run every decision of a log, from archived bytes.
    Replay(log::ReplayArguments),
    /// Find bit rot, missing files and orphans in the folder of a log.
    Fsck(log::FsckArguments),
    #[command(flatten)]
    Common(Common),
}

const HELP: &str = "\
Examples:
  portcullis-audit snp-report report.bin --certs vcek.pem --crl milan.crl
  portcullis-audit evidence evidence.json --json
  portcullis-audit fsck /var/lib/portcullis/log
  portcullis-audit explain-check snp.vek

Exit codes:
  0  pass: every check passed
  1  fail: at least one check failed
  2  usage, or an unreadable file; nothing was judged
  3  undetermined: nothing failed, something is missing and named
  4  the result could not be printed";

/// Runs the tool and returns its exit code.
pub fn run<I, T>(arguments: I) -> u8
where
    I: IntoIterator<Item = T>,
    T: Into<OsString> + Clone,
{
    let arguments = match portcullis_cli::parse::<Arguments>(arguments) {
        Ok(arguments) => arguments,
        Err(code) => return code,
    };
    let outcome = match arguments.action {
        Action::SnpReport(arguments) => snp_report::run(&arguments),
        Action::TpmQuote(arguments) => tpm_quote::run(&arguments),
        Action::Azure(arguments) => azure::run(&arguments),
        Action::Eventlog(arguments) => eventlog::run(&arguments),
        Action::Ima(arguments) => ima::run(&arguments),
        Action::Evidence(arguments) => evidence::run(&arguments),
        Action::ExplainCheck(arguments) => explain::run(&arguments),
        Action::Permit(arguments) => permit::run(&arguments),
        Action::Log(action) => log::run(&action),
        Action::Trail(arguments) => log::run_trail(&arguments),
        Action::Replay(arguments) => log::run_replay(&arguments),
        Action::Fsck(arguments) => log::run_fsck(&arguments),
        Action::Common(common) => common.print::<Arguments>().map(|()| 0).map_err(Into::into),
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("portcullis-audit: {error:#}");
        2
    })
}
