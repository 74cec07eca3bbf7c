//! `portcullis-policy`, the tool of governors: keys, bundles, endorsements,
//! revocations.
//!
//! A bundle is written as a folder of texts, built into one file, signed by each
//! governor on a machine of their own, and assembled. Nothing is sent anywhere:
//! files go to an authority by its operator, or by `POST` to its `/v1`.
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
    /// Make a governor's key: FILE.pem (private, mode 0600) and FILE.cose (public).
    Keygen {
        /// Path without an extension.
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
        /// `classic` (ESP256) or `pq` (ML-DSA-65).
        #[arg(long, default_value = "classic")]
        suite: String,
    },
    /// Write the governance root: the governors' public keys, their names, and how
    /// many must sign.
    Governance {
        /// How many governors must sign.
        #[arg(long)]
        threshold: usize,
        /// Public keys (`.cose`), each as FILE or NAME=FILE. A governor is called
        /// what the file is called, or NAME.
        #[arg(required = true, value_name = "[NAME=]FILE")]
        keys: Vec<String>,
        /// Leave out the names: the root of a deployment that has none.
        #[arg(long)]
        unnamed: bool,
        /// Where the governance root goes.
        #[arg(long)]
        out: PathBuf,
    },
    /// Make a folder with a bundle to fill in, or draft the reference values of
    /// a known-good machine into one.
    New(draft::Arguments),
    /// Check a folder or a bundle: every mistake, with file, line and a hint.
    Check {
        /// Folder, or bundle (`.pcb`).
        bundle: PathBuf,
        #[command(flatten)]
        against: commands::Against,
        /// One JSON object on stdout.
        #[arg(long)]
        json: bool,
    },
    /// Build a folder into a bundle that nobody has signed yet.
    Build {
        /// Folder.
        folder: PathBuf,
        /// Where the bundle goes (`.pcb`).
        #[arg(long)]
        out: PathBuf,
    },
    /// Sign a bundle: the signatures go into a file of their own.
    Sign {
        /// Bundle (`.pcb`), or the folder that it is built of.
        bundle: PathBuf,
        /// Private key of a governor (`.pem`); may be given several times.
        #[arg(long, required = true)]
        key: Vec<PathBuf>,
        /// The governors' keys and threshold: refuse a key that is no governor's.
        #[arg(long, value_name = "FILE")]
        governance: Option<PathBuf>,
        /// Set of signatures (`.pcs`); added to where it exists.
        #[arg(long)]
        out: PathBuf,
    },
    /// Join a bundle and sets of signatures.
    Assemble {
        /// Bundle (`.pcb`), or the folder that it is built of.
        bundle: PathBuf,
        /// Sets of signatures (`.pcs`).
        #[arg(required = true)]
        signatures: Vec<PathBuf>,
        /// The governors' keys and threshold: refuse what is not enough.
        #[arg(long)]
        governance: Option<PathBuf>,
        /// Where the signed bundle goes.
        #[arg(long)]
        out: PathBuf,
    },
    /// Show everything that a folder or bundle says, and who signed it; or who
    /// the governors are.
    Show {
        /// Folder, bundle (`.pcb`), or governance root.
        bundle: PathBuf,
        /// The governors' keys and threshold: name who signed.
        #[arg(long)]
        governance: Option<PathBuf>,
        /// One JSON object on stdout.
        #[arg(long)]
        json: bool,
    },
    /// Say in sentences what would change from one folder or bundle to another.
    Diff {
        /// The one that is.
        old: PathBuf,
        /// The one that is proposed.
        new: PathBuf,
        /// The governors' keys and threshold: name who signed each.
        #[arg(long, value_name = "FILE")]
        governance: Option<PathBuf>,
        /// One JSON object on stdout.
        #[arg(long)]
        json: bool,
    },
    /// Explain a denial, or a check: what it means and what to do.
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
    /// Endorse an instance: show what `portcullisd init` asks for, and sign it.
    Endorse {
        /// The request, or an endorsement that others have signed.
        request: PathBuf,
        /// Private key of a governor (`.pem`); may be given several times.
        #[arg(long, required = true)]
        key: Vec<PathBuf>,
        /// The governors' keys and threshold: refuse a key that is no governor's,
        /// and name who has signed.
        #[arg(long, value_name = "FILE")]
        governance: Option<PathBuf>,
        /// Where the endorsement goes.
        #[arg(long)]
        out: PathBuf,
    },
    /// Sign a revocation, or with --lift one that takes it back.
    Revoke(commands::Revoke),
    /// Read and write reference values in the form of others.
    #[command(subcommand)]
    Corim(corim::Corim),
    /// Compute what an image will be measured as.
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
