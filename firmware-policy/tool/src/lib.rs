//! `portcullis-policy`, the tool of governors: keys, bundles, endorsements,
//! revocations.
//!
//! A document and its signatures are one file; every governor adds a signature
//! to it. Nothing is sent anywhere: files go to an authority by its operator,
//! or by `POST` to its `/v1`.
//!
//! ```
//! assert_eq!(portcullis_policy_tool::run(["portcullis-policy", "check", "/nonexistent"]), 2);
//! ```

mod commands;
mod files;
mod measure;
mod template;

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Parser, Subcommand};
use portcullis_cli::Common;

/// Keys, policy bundles, endorsements and revocations of governors.
#[derive(Debug, Parser)]
#[command(name = "portcullis-policy", version, arg_required_else_help = true)]
struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Make a governor's key: FILE.pem (private, mode 0600) and FILE.cose (public).
    Keygen {
        /// Path without an extension.
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
        /// `classic` (ESP256) or `pq` (ML-DSA-65).
        #[arg(long, default_value = "classic")]
        suite: String,
    },
    /// Put governors' public keys and a threshold together: the governance root.
    Governance {
        /// How many governors must sign.
        #[arg(long)]
        threshold: usize,
        /// Public keys (`.cose`).
        #[arg(required = true)]
        keys: Vec<PathBuf>,
        /// Where it goes.
        #[arg(long)]
        out: PathBuf,
    },
    /// Make a folder with a bundle to fill in.
    New {
        /// Folder; must not exist.
        folder: PathBuf,
    },
    /// Check a folder or a bundle; with --governance, its signatures too.
    Check {
        /// Folder, or bundle (`.pcb`).
        bundle: PathBuf,
        /// The governors' keys and threshold.
        #[arg(long)]
        governance: Option<PathBuf>,
    },
    /// Sign a folder, or add a signature to a bundle.
    Sign {
        /// Folder, or bundle (`.pcb`).
        bundle: PathBuf,
        /// Private keys of governors.
        #[arg(long, required = true)]
        key: Vec<PathBuf>,
        /// Where the bundle goes.
        #[arg(long)]
        out: PathBuf,
    },
    /// Show what a folder or bundle says.
    Show {
        /// Folder, or bundle (`.pcb`).
        bundle: PathBuf,
        /// One JSON object on stdout.
        #[arg(long)]
        json: bool,
    },
    /// Endorse an instance: show what `portcullisd init` asks for, and sign it.
    Endorse {
        /// The request, or an endorsement that others have signed.
        request: PathBuf,
        /// Private keys of governors.
        #[arg(long, required = true)]
        key: Vec<PathBuf>,
        /// Where the endorsement goes.
        #[arg(long)]
        out: PathBuf,
    },
    /// Sign a revocation.
    Revoke {
        /// Origin of the authority that it is for.
        #[arg(long)]
        authority: String,
        /// One more than the authority's last revocation.
        #[arg(long)]
        sequence: u64,
        /// RFC 3339 time from which on the command is refused.
        #[arg(long)]
        expires: String,
        /// Why, for the log.
        #[arg(long)]
        reason: String,
        #[command(flatten)]
        target: commands::Target,
        /// Private keys of governors.
        #[arg(long, required = true)]
        key: Vec<PathBuf>,
        /// Where the command goes.
        #[arg(long)]
        out: PathBuf,
    },
    /// Compute what an image will be measured as.
    #[command(subcommand)]
    Measure(measure::Measure),
    #[command(flatten)]
    Common(Common),
}

/// Runs the tool and returns its exit code: 0 done, 1 refused, 2 usage or
/// unreadable input.
pub fn run<I, T>(arguments: I) -> u8
where
    I: IntoIterator<Item = T>,
    T: Into<OsString> + Clone,
{
    let arguments = match portcullis_cli::parse::<Arguments>(arguments) {
        Ok(arguments) => arguments,
        Err(code) => return code,
    };
    match dispatch(arguments.action) {
        Ok(()) => 0,
        Err(error) => {
            eprintln!("portcullis-policy: {error:#}");
            if error.is::<commands::Refused>() { 1 } else { 2 }
        }
    }
}

fn dispatch(action: Action) -> anyhow::Result<()> {
    match action {
        Action::Keygen { out, suite } => commands::keygen(&out, &suite),
        Action::Governance { threshold, keys, out } => commands::governance(threshold, &keys, &out),
        Action::New { folder } => template::write(&folder),
        Action::Check { bundle, governance } => commands::check(&bundle, governance.as_deref()),
        Action::Sign { bundle, key, out } => commands::sign(&bundle, &key, &out),
        Action::Show { bundle, json } => commands::show(&bundle, json),
        Action::Endorse { request, key, out } => commands::endorse(&request, &key, &out),
        Action::Revoke { authority, sequence, expires, reason, target, key, out } => {
            commands::revoke(&commands::Revoke { authority, sequence, expires, reason, target }, &key, &out)
        }
        Action::Measure(action) => measure::run(&action),
        Action::Common(common) => Ok(common.print::<Arguments>()?),
    }
}
