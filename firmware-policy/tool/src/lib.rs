//! `portcullis-policy`, the tool for governors: keys, bundles, endorsements,
//! revocations.
//!
//! Governors write a bundle as a folder of texts and build it into one file. Each
//! governor signs it on their own machine, and the signatures are assembled. The tool
//! sends no data: the operator gives the files to an authority, or sends them with
//! `POST` to its `/v1`.
//!
//! ```
//! assert_eq!(portcullis_policy_tool::run(["portcullis-policy", "check", "/nonexistent"]), 2);
//! ```

mod commands;
mod corim;
mod describe;
mod draft;
mod files;
mod folder;
mod measure;
mod rehearse;
mod signatures;

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Parser, Subcommand};
use portcullis_cli::Common;

/// Keys, policy bundles, endorsements and revocations of governors.
#[derive(Debug, Parser)]
#[command(name = "portcullis-policy", version, arg_required_else_help = true, after_help = HELP)]
struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Generate a governor's key: FILE.pem (private, mode 0600) and FILE.cose (public).
    Keygen {
        /// Path without an extension.
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
        /// `classic` (ESP256) or `pq` (ML-DSA-65).
        #[arg(long, default_value = "classic")]
        suite: String,
    },
    /// Write the governance root: the governors' public keys, their names, and the number
    /// of required signatures.
    Governance {
        /// Number of required signatures.
        #[arg(long)]
        threshold: usize,
        /// Public keys (`.cose`), each as FILE or NAME=FILE. Default name of a governor: the
        /// file's name.
        #[arg(required = true, value_name = "[NAME=]FILE")]
        keys: Vec<String>,
        /// Leave out the names: for the root of a deployment without names.
        #[arg(long)]
        unnamed: bool,
        /// Output file for the governance root.
        #[arg(long)]
        out: PathBuf,
    },
    /// Create a folder with a bundle to complete, or draft the reference values of a
    /// known-good machine into a folder.
    New(draft::Arguments),
    /// Check a folder or a bundle: print every mistake with file, line and a hint.
    Check {
        /// Folder, or bundle (`.pcb`).
        bundle: PathBuf,
        #[command(flatten)]
        against: commands::Against,
        /// One JSON object on stdout.
        #[arg(long)]
        json: bool,
    },
    /// Build a folder into an unsigned bundle.
    Build {
        /// Folder.
        folder: PathBuf,
        /// Output file for the bundle (`.pcb`).
        #[arg(long)]
        out: PathBuf,
    },
    /// Sign a bundle: the signatures go into a separate file.
    Sign {
        /// Bundle (`.pcb`), or its source folder.
        bundle: PathBuf,
        /// Private key of a governor (`.pem`); may be given several times.
        #[arg(long, required = true)]
        key: Vec<PathBuf>,
        /// The governors' keys and threshold: refuse other keys.
        #[arg(long, value_name = "FILE")]
        governance: Option<PathBuf>,
        /// Set of signatures (`.pcs`); an existing set is extended.
        #[arg(long)]
        out: PathBuf,
    },
    /// Add sets of signatures to a bundle.
    Assemble {
        /// Bundle (`.pcb`), or its source folder.
        bundle: PathBuf,
        /// Sets of signatures (`.pcs`).
        #[arg(required = true)]
        signatures: Vec<PathBuf>,
        /// The governors' keys and threshold: refuse too few signatures.
        #[arg(long)]
        governance: Option<PathBuf>,
        /// Output file for the signed bundle.
        #[arg(long)]
        out: PathBuf,
    },
    /// Show the full content of a folder or bundle and its signers, or show the governors.
    Show {
        /// Folder, bundle (`.pcb`), or governance root.
        bundle: PathBuf,
        /// The governors' keys and threshold: print the names of the signers.
        #[arg(long)]
        governance: Option<PathBuf>,
        /// One JSON object on stdout.
        #[arg(long)]
        json: bool,
    },
    /// Describe the changes from one folder or bundle to another.
    Diff {
        /// The current one.
        old: PathBuf,
        /// The proposed one.
        new: PathBuf,
        /// The governors' keys and threshold: print the names of the signers of each.
        #[arg(long, value_name = "FILE")]
        governance: Option<PathBuf>,
        /// One JSON object on stdout.
        #[arg(long)]
        json: bool,
    },
    /// Explain a denial or a check: its meaning, and the remedy.
    Explain {
        /// File with a denial, or the id of a check.
        what: String,
        /// One JSON object on stdout.
        #[arg(long)]
        json: bool,
    },
    /// Re-run an authority's archived requests under a proposed bundle: which nodes
    /// would gain or lose permits, and why.
    Rehearse(rehearse::Arguments),
    /// Endorse an instance: show the request of `portcullisd init`, and sign it.
    Endorse {
        /// The request, or an endorsement with signatures of other governors.
        request: PathBuf,
        /// Private key of a governor (`.pem`); may be given several times.
        #[arg(long, required = true)]
        key: Vec<PathBuf>,
        /// The governors' keys and threshold: refuse other keys, and print the names of the
        /// signers.
        #[arg(long, value_name = "FILE")]
        governance: Option<PathBuf>,
        /// Output file for the endorsement.
        #[arg(long)]
        out: PathBuf,
    },
    /// Sign a revocation; with --lift, sign its withdrawal.
    Revoke(commands::Revoke),
    /// Import and export reference values in CoRIM format.
    #[command(subcommand)]
    Corim(corim::Corim),
    /// Compute the measurement of an image.
    #[command(subcommand)]
    Measure(measure::Measure),
    #[command(flatten)]
    Common(Common),
}

const HELP: &str = "\
Examples:
  portcullis-policy new bundle/
  portcullis-policy check bundle/
  portcullis-policy build bundle/ --out v1.pcb
  portcullis-policy sign v1.pcb --key alice.pem --out alice.pcs
  portcullis-policy explain snp.tcb.floor.current

Exit codes:
  0  done
  1  refused: the bundle, a signature or a file is not as it must be
  2  usage, or an unreadable file
  4  the result could not be printed";

/// Runs the tool and returns its exit code: 0 for success, 1 for a refusal, 2 for wrong
/// usage or unreadable input.
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
            if error.is::<files::Refused>() { 1 } else { 2 }
        }
    }
}

fn dispatch(action: Action) -> anyhow::Result<()> {
    match action {
        Action::Keygen { out, suite } => commands::keygen(&out, &suite),
        Action::Governance { threshold, keys, unnamed, out } => commands::governance(threshold, &keys, unnamed, &out),
        Action::New(arguments) => draft::run(&arguments),
        Action::Check { bundle, against, json } => commands::check(&bundle, &against, json),
        Action::Build { folder, out } => commands::build(&folder, &out),
        Action::Sign { bundle, key, governance, out } => commands::sign(&bundle, &key, governance.as_deref(), &out),
        Action::Assemble { bundle, signatures, governance, out } => {
            commands::assemble(&bundle, &signatures, governance.as_deref(), &out)
        }
        Action::Show { bundle, governance, json } => commands::show(&bundle, governance.as_deref(), json),
        Action::Diff { old, new, governance, json } => commands::diff(&old, &new, governance.as_deref(), json),
        Action::Explain { what, json } => commands::explain(&what, json),
        Action::Rehearse(arguments) => rehearse::run(&arguments),
        Action::Endorse { request, key, governance, out } => {
            commands::endorse(&request, &key, governance.as_deref(), &out)
        }
        Action::Revoke(arguments) => commands::revoke(&arguments),
        Action::Corim(corim) => corim::run(&corim),
        Action::Measure(measure) => measure::run(&measure),
        Action::Common(common) => Ok(common.print::<Arguments>()?),
    }
}
