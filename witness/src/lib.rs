//! `portcullis-witness`: stores the largest checkpoint of each known log, and cosigns
//! only checkpoints that extend it (C2SP tlog-witness v1.0.0).
//!
//! It does not trust the logs, and its only secret is its key. A cosignature states
//! that the log did not fork in the view of this witness, and at what time. The witness
//! stores a checkpoint durably before it cosigns.
//!
//! | request | answer |
//! |---|---|
//! | `POST /add-checkpoint` | 200 with the cosignature; 400, 403, 404, 409, 422 as in the specification |
//! | `GET /` | its name and key |
//!
//! ```
//! assert_eq!(portcullis_witness::run(["portcullis-witness", "serve", "--config", "/nonexistent"]), 2);
//! ```
//!
//! It does not fetch or inspect logs, and does not terminate TLS: run it behind a proxy
//! if clients other than its logs can reach it. Its answers are not secret, and cannot
//! be forged without its key.

mod config;
mod serve;
mod state;

use std::ffi::OsString;
use std::path::PathBuf;

use anyhow::Result;
use clap::{Parser, Subcommand};
use portcullis_cli::{Common, say};

use crate::config::Config;

/// Witness of transparency logs.
#[derive(Debug, Parser)]
#[command(name = "portcullis-witness", version, arg_required_else_help = true, after_help = HELP)]
struct Arguments {
    /// Configuration file of `serve`.
    #[arg(long, global = true, value_name = "FILE", default_value = "/etc/portcullis/witness.toml")]
    config: PathBuf,
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Generate a key, and print the public key for operators that require this witness.
    Init {
        /// Name of the witness, such as `witness.example.org/1`.
        name: String,
        /// File for the key; it must not exist.
        #[arg(long, value_name = "FILE")]
        key: PathBuf,
    },
    /// Cosign checkpoints of the logs in the configuration.
    Serve,
    #[command(flatten)]
    Common(Common),
}

const HELP: &str = "\
Examples:
  portcullis-witness init witness.example.org/1 --key /etc/portcullis/witness.key
  portcullis-witness --config /etc/portcullis/witness.toml serve

Exit codes:
  0  done
  2  usage, or an unreadable file
  4  internal";

/// Runs the program and returns its exit code: 0 done, 2 usage or unreadable
/// input, 4 internal.
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
        Action::Common(common) => common.print::<Arguments>().map_err(|error| (2, error.into())),
        Action::Init { name, key } => init(&name, &key).map_err(|error| (2, error)),
        Action::Serve => match Config::read(&arguments.config) {
            Err(error) => Err((2, error)),
            Ok(config) => serve(&config).map_err(|error| (4, error)),
        },
    };
    match outcome {
        Ok(()) => 0,
        Err((code, error)) => {
            eprintln!("portcullis-witness: {error:#}");
            code
        }
    }
}

fn init(name: &str, key: &std::path::Path) -> Result<()> {
    let cosigner = config::make_key(name, key)?;
    say!("{}", cosigner.public());
    Ok(())
}

fn serve(config: &Config) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(serve::serve(config))
}
