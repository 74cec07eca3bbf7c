//! The command line of `portcullisd`.

use std::ffi::OsString;
use std::io;
use std::path::PathBuf;

use clap::{Parser, Subcommand};
use portcullis_attester::OpenMachine;
use portcullis_cli::{Common, say};
use portcullis_sys::locked;

use crate::config::{Config, DEFAULT_PATH, LogFormat};
use crate::daemon::{self, OpenStorage};
use crate::genesis;
use crate::instance::Refused;
use crate::serve::take_descriptors;
use crate::succession;

/// Attested permit authority.
#[derive(Debug, Parser)]
#[command(name = "portcullisd", version, arg_required_else_help = true, after_help = HELP)]
struct Arguments {
    /// Configuration file.
    #[arg(long, global = true, value_name = "FILE", default_value = DEFAULT_PATH)]
    config: PathBuf,
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Genesis: make and seal the keys, write the first log entry, and print
    /// what governors must endorse.
    Init {
        #[command(flatten)]
        old: succession::Named,
    },
    /// Attest this machine, then serve permits.
    Serve,
    #[command(flatten)]
    Common(Common),
}

const HELP: &str = "\
Examples:
  portcullisd init
  portcullisd --config /etc/portcullis/portcullisd.toml serve

Exit codes:
  0  done, or stopped by SIGTERM
  2  usage, or an unreadable file
  3  a check of this authority about itself refused, by name
  4  internal";

/// Runs the program and returns its exit code: 0 done, 1 refused, 2 usage or
/// unreadable input, 3 self-check failed, 4 internal.
pub fn run<I, T>(arguments: I, platform: &dyn OpenMachine, storage: &OpenStorage) -> u8
where
    I: IntoIterator<Item = T>,
    T: Into<OsString> + Clone,
{
    let arguments = match portcullis_cli::parse::<Arguments>(arguments) {
        Ok(arguments) => arguments,
        Err(code) => return code,
    };
    match arguments.action {
        Action::Common(common) => match common.print::<Arguments>() {
            Ok(()) => 0,
            Err(error) => {
                eprintln!("portcullisd: {error}");
                2
            }
        },
        Action::Init { old } => with_config(&arguments.config, |config| {
            guard_memory()?;
            let made = genesis::run(&config, &old, platform)?;
            say!("{}", genesis::describe(&made).trim_end());
            Ok(())
        }),
        Action::Serve => with_config(&arguments.config, |config| {
            start_logging(config.log);
            guard_memory()?;
            take_descriptors()?;
            let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
            runtime.block_on(daemon::serve(config, platform, storage))
        }),
    }
}

/// Called before the memory holds a secret.
fn guard_memory() -> io::Result<()> {
    locked::forbid_dumps()?;
    locked::lock_all_memory()?;
    locked::wipe_freed_c_memory()
}

fn with_config(path: &std::path::Path, run: impl FnOnce(Config) -> anyhow::Result<()>) -> u8 {
    let config = match Config::read(path) {
        Ok(config) => config,
        Err(error) => {
            eprintln!("portcullisd: {error:#}");
            return 2;
        }
    };
    match run(config) {
        Ok(()) => 0,
        Err(error) => {
            eprintln!("portcullisd: {error:#}");
            match error.downcast_ref::<Refused>() {
                Some(_) => 3,
                None if error.downcast_ref::<io::Error>().is_some() => 2,
                None => 4,
            }
        }
    }
}

fn start_logging(format: LogFormat) {
    let builder = tracing_subscriber::fmt().with_writer(io::stderr).with_target(false);
    // A second call, in a process that hosts several programs, changes nothing.
    let _already = match format {
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
        LogFormat::Text => builder.with_ansi(false).try_init(),
    };
}
