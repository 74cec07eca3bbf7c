//! The lab: machines, deployments, the story, and the programs of Portcullis on
//! lab machines.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use mimalloc::MiMalloc;
use portcullis_appliance::file_storage;
use portcullis_cli::Common;
use portcullis_lab::crash::CrashingStorage;
use portcullis_lab::{LabPlatform, bench, story, up};

/// The same allocator as in the shipped daemon, so that measurements here also apply
/// there.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// Emulated confidential machines for Portcullis. Nothing here is trusted
/// unless a bundle names the lab's own root.
#[derive(Debug, Parser)]
#[command(name = "portcullis-lab", version, arg_required_else_help = true, after_help = HELP)]
struct Arguments {
    #[command(subcommand)]
    action: Action,
}

const HELP: &str = "\
Examples:
  portcullis-lab up /tmp/lab
  portcullis-lab story

Exit codes:
  0  done
  1  the story did not go as it must
  2  usage
  4  the lab itself failed; programs of the product have their own";

#[derive(Debug, Subcommand)]
enum Action {
    /// Run the whole story and print a table; exits non-zero if anything differs.
    Story {
        /// Folder for the deployments; a temporary one if absent.
        #[arg(long)]
        folder: Option<PathBuf>,
    },
    /// Start an authority and nodes, and say how to use them, until Ctrl-C.
    ///
    /// An existing lab in the folder is resumed: the same authority, log, nodes and keys.
    /// The lab ends with Ctrl-C, with SIGTERM, or, if standard input is a pipe, when that
    /// closes. Everything that it started ends with it.
    Up {
        /// Folder of the lab: absent, empty, or with an existing lab.
        folder: PathBuf,
        /// Number of nodes of a new lab; 2 if absent.
        #[arg(long)]
        nodes: Option<u32>,
    },
    /// Measure costs.
    #[command(subcommand)]
    Bench(bench::Bench),
    /// Run portcullisd on a lab machine.
    Portcullisd(OnMachine),
    /// Run portcullis on a lab machine.
    Portcullis(OnMachine),
    /// Run portcullis-audit.
    #[command(disable_help_flag = true)]
    PortcullisAudit {
        /// Its arguments.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
    /// Run portcullis-witness.
    #[command(disable_help_flag = true)]
    PortcullisWitness {
        /// Its arguments.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
    /// Run portcullis-policy.
    #[command(disable_help_flag = true)]
    PortcullisPolicy {
        /// Its arguments.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
    #[command(flatten)]
    Common(Common),
}

#[derive(Debug, clap::Args)]
struct OnMachine {
    /// Folder of the machine.
    #[arg(long)]
    machine: PathBuf,
    /// Crash at this point of the log.
    #[arg(long)]
    crash: Option<String>,
    /// Batches that are written before the crash.
    #[arg(long, default_value_t = 0)]
    crash_after: u32,
    /// Arguments of the program.
    #[arg(last = true)]
    arguments: Vec<OsString>,
}

fn main() -> ExitCode {
    let arguments = match portcullis_cli::parse::<Arguments>(std::env::args_os()) {
        Ok(arguments) => arguments,
        Err(code) => return ExitCode::from(code),
    };
    match dispatch(arguments.action) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("portcullis-lab: {error:#}");
            ExitCode::from(4)
        }
    }
}

fn dispatch(action: Action) -> Result<u8> {
    match action {
        Action::Story { folder } => story::run(&lab()?, folder.as_deref()),
        Action::Up { folder, nodes } => up::run(&lab()?, &folder, nodes).map(|()| 0),
        Action::Common(common) => Ok(common.print::<Arguments>().map(|()| 0)?),
        Action::Bench(bench) => bench::run(&lab()?, &bench).map(|()| 0),
        Action::Portcullis(on) => {
            let platform = LabPlatform { machine: on.machine };
            Ok(portcullis_client::run(arguments("portcullis", on.arguments), &platform))
        }
        Action::Portcullisd(on) => {
            let platform = LabPlatform { machine: on.machine };
            let storage = move |folder: &Path| {
                let files = file_storage(folder)?;
                Ok(match &on.crash {
                    Some(point) => Arc::new(CrashingStorage::new(files, point, on.crash_after)),
                    None => files,
                })
            };
            Ok(portcullis_appliance::run(arguments("portcullisd", on.arguments), &platform, &storage))
        }
        Action::PortcullisAudit { arguments: list } => Ok(portcullis_auditor::run(arguments("portcullis-audit", list))),
        Action::PortcullisWitness { arguments: list } => {
            Ok(portcullis_witness::run(arguments("portcullis-witness", list)))
        }
        Action::PortcullisPolicy { arguments: list } => {
            Ok(portcullis_policy_tool::run(arguments("portcullis-policy", list)))
        }
    }
}

fn arguments(program: &str, rest: Vec<OsString>) -> Vec<OsString> {
    [vec![program.into()], rest].concat()
}

fn lab() -> Result<PathBuf> {
    std::env::current_exe().context("path of the lab's binary")
}
