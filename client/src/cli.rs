//! The command line of `portcullis`.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::{Parser, Subcommand};
use portcullis_attester::OpenMachine;
use portcullis_channel::Identity;
use portcullis_cli::{Common, rfc3339, say};
use portcullis_files::{PRIVATE, create_durably, write_durably};
use portcullis_permit::{Permit, SigningKey, Suite, TransparentPermit};
use portcullis_wire::hex::hex;
use serde_json::json;
use zeroize::Zeroizing;

use crate::collateral::{self, FetchError};
use crate::config::{Config, DEFAULT_PATH};
use crate::devices::Devices;
use crate::export;
use crate::gate::{self, Ended, GateOptions, Program};
use crate::http::PATIENCE;
use crate::identity;
use crate::line::Line;
use crate::mirror;
use crate::refusal::{ClientError, complain};
use crate::runtime::in_runtime;
use crate::session::{Ask, Session};
use crate::submit;

/// Node of an attested permit authority.
#[derive(Debug, Parser)]
#[command(name = "portcullis", version, arg_required_else_help = true, after_help = HELP)]
struct Arguments {
    /// Configuration file.
    #[arg(long, global = true, value_name = "FILE", default_value = DEFAULT_PATH)]
    config: PathBuf,
    #[command(subcommand)]
    action: Action,
}

const HELP: &str = "\
Examples:
  portcullis attest
  portcullis run -- /usr/bin/service --port 80
  portcullis permit request --key node.pem --out permit.cose -- /usr/bin/service
  portcullis collateral fetch

Exit codes:
  0  done
  1  refused, by a check of this node or by the authority
  2  usage, or an unreadable file
  4  the authority or a service could not be reached in time
  run has exit codes of its own: portcullis run --help";

const RUN_HELP: &str = "\
Examples:
  portcullis run -- /usr/bin/service --port 80
  portcullis --config node.toml run --result result.json -- /usr/bin/service

Exit codes:
  77   denied: no permit, and the program did not start
  75   the authority could not be reached, and the program did not start
  124  the program was killed, because trust lapsed
  125  the gate itself failed
  126  the program cannot be executed
  127  the program was not found
  Any other code, and 128 plus the number of a signal, is the program's own.";

#[derive(Debug, Subcommand)]
enum Action {
    /// Verify the authority, and print its identity.
    Attest {
        /// One JSON object on stdout.
        #[arg(long)]
        json: bool,
    },
    /// Print the table for a policy bundle: `[[node]]` for this machine, or `[[workload]]`
    /// for a program.
    Identity {
        /// Name of the node or program. Default: CHANGE-ME for a node, the file's
        /// name for a program.
        #[arg(long)]
        name: Option<String>,
        /// Print the table of this program instead; its arguments follow after --.
        #[arg(long, value_name = "CMD", conflicts_with = "evidence")]
        workload: Option<OsString>,
        /// Arguments of the program.
        #[arg(last = true, requires = "workload")]
        arguments: Vec<OsString>,
        /// Also write evidence of this machine to this file, for `portcullis-policy new
        /// --from-evidence`.
        #[arg(long, value_name = "FILE")]
        evidence: Option<PathBuf>,
        /// One JSON object on stdout.
        #[arg(long)]
        json: bool,
    },
    /// Manage AMD's certificates and revocation lists: fetch, import, export, show.
    #[command(subcommand)]
    Collateral(collateral::Action),
    /// Export or mirror the authority's log for an audit, and make an auditor's key.
    #[command(subcommand)]
    Log(LogAction),
    /// Send a signed bundle, revocation or endorsement to the authority.
    Submit(submit::Arguments),
    /// Request, show and verify permits.
    #[command(subcommand)]
    Permit(PermitAction),
    /// Run a program under a permit, and stop it when the permit ends.
    #[command(after_help = RUN_HELP)]
    Run {
        /// Write the result as JSON (docs/run.md): it names the permit, and distinguishes a
        /// program's own exit code 77 from a denial.
        #[arg(long, value_name = "FILE")]
        result: Option<PathBuf>,
        /// Program and arguments.
        #[arg(last = true, required = true)]
        command: Vec<OsString>,
    },
    #[command(flatten)]
    Common(Common),
}

#[derive(Debug, Subcommand)]
enum LogAction {
    /// Write statements, receipts, checkpoint, evidence, collateral and bundles
    /// into one file, for `portcullis-audit`.
    Export(export::Arguments),
    /// Copy the whole log over the network, as an auditor that the bundle names; a later
    /// run fetches only new parts.
    Mirror(mirror::Arguments),
    /// Print the table with which governors enrol an auditor's key.
    Key {
        /// Private key (PKCS#8 PEM, P-256); generated if absent.
        #[arg(long, value_name = "FILE")]
        key: PathBuf,
        /// Name for the enrolment.
        #[arg(long, default_value = "CHANGE-ME")]
        name: String,
    },
}

#[derive(Debug, Subcommand)]
enum PermitAction {
    /// Request a permit for a program, bound to a key.
    Request {
        /// Private key that the permit is bound to (PKCS#8 PEM); generated if absent.
        #[arg(long, value_name = "FILE")]
        key: PathBuf,
        /// Output file for the permit.
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
        /// Program and arguments.
        #[arg(last = true, required = true)]
        command: Vec<OsString>,
    },
    /// Show the contents of a permit, without verifying it.
    Show {
        /// The permit.
        permit: PathBuf,
        /// One JSON object on stdout.
        #[arg(long)]
        json: bool,
    },
    /// Verify a permit as a gate would, without running the program.
    Verify {
        /// The permit.
        permit: PathBuf,
        /// Endorsement of the authority (`.pce`), which holds its public keys.
        #[arg(long, value_name = "FILE")]
        endorsement: PathBuf,
        /// Key that the permit is bound to.
        #[arg(long, value_name = "FILE")]
        key: PathBuf,
        /// Program and arguments.
        #[arg(last = true, required = true)]
        command: Vec<OsString>,
    },
}

/// Runs the program and returns its exit code.
pub fn run<I, T>(arguments: I, platform: &dyn OpenMachine) -> u8
where
    I: IntoIterator<Item = T>,
    T: Into<OsString> + Clone,
{
    let arguments = match portcullis_cli::parse::<Arguments>(arguments) {
        Ok(arguments) => arguments,
        Err(code) => return code,
    };
    let config = &arguments.config;
    match arguments.action {
        Action::Common(common) => report(common.print::<Arguments>().map_err(Into::into)),
        Action::Run { result, command } => run_gate(config, platform, command, result.as_deref()),
        Action::Attest { json } => report(attest(config, json)),
        Action::Identity { name, workload: Some(program), arguments, json, .. } => {
            let command: Vec<OsString> = std::iter::once(program).chain(arguments).collect();
            report(identity::print_workload(name.as_deref(), &command, json))
        }
        Action::Identity { name, evidence, json, .. } => {
            let name = name.as_deref().unwrap_or("CHANGE-ME");
            report(identity::print(platform, name, evidence.as_deref(), json))
        }
        Action::Collateral(action) => report(collateral::run(&action, platform).map_err(ClientError::Own)),
        Action::Log(LogAction::Export(arguments)) => report(export::run(&arguments).map_err(ClientError::Own)),
        Action::Log(LogAction::Mirror(arguments)) => report(in_runtime(mirror::run(&arguments))),
        Action::Log(LogAction::Key { key, name }) => report(auditor_key(&key, &name)),
        Action::Submit(arguments) => report(in_runtime(submit::run(&arguments))),
        Action::Permit(PermitAction::Request { key, out, command }) => {
            report(request(config, platform, &key, &out, &command))
        }
        Action::Permit(PermitAction::Show { permit, json }) => report(show(&permit, json)),
        Action::Permit(PermitAction::Verify { permit, endorsement, key, command }) => {
            report(verify(config, &permit, &endorsement, &key, &command))
        }
    }
}

/// Prints an error and returns the exit code: 0 done, 1 refused, 2 unreadable input, 4
/// unreachable.
fn report(outcome: Result<(), ClientError>) -> u8 {
    match outcome {
        Ok(()) => 0,
        Err(error) => {
            complain(&error.to_string());
            match error {
                ClientError::Denied(_) | ClientError::Refused(_) => 1,
                ClientError::Own(error) => error.downcast_ref().map_or(2, FetchError::exit_code),
                ClientError::Unreachable(_) => 4,
            }
        }
    }
}

fn run_gate(config: &Path, platform: &dyn OpenMachine, command: Vec<OsString>, result: Option<&Path>) -> u8 {
    let options = GateOptions { command, environment: std::env::vars_os().collect() };
    let ended = match Config::read(config).and_then(|config| {
        portcullis_sys::locked::forbid_dumps()?;
        Ok(gate::run(&config, platform, &options))
    }) {
        Ok(ended) => ended,
        Err(error) => {
            complain(&format!("{error:#}"));
            return 125;
        }
    };
    if ended.stage != gate::Stage::Ended {
        let kill = ended.time_to_kill.map(|time| format!(" (everything dead after {} ms)", time.as_millis()));
        complain(&format!("{}{}", ended.message, kill.unwrap_or_default()));
    }
    match result.map(|path| write_durably(path, describe(&ended).as_bytes())) {
        None | Some(Ok(())) => ended.code,
        Some(Err(error)) => {
            complain(&format!("result file: {error}"));
            125
        }
    }
}

fn describe(ended: &Ended) -> String {
    let body = json!({
        "schema": "portcullis/run-result/1",
        "stage": ended.stage.name(),
        "code": ended.code,
        "check": ended.check,
        "message": ended.message,
        "permit": ended.permit.map(|id| id.to_string()),
        "first_permit": ended.first_permit.map(|id| id.to_string()),
        "renewals": ended.renewals,
        "kill_milliseconds": ended.time_to_kill.map(|time| time.as_secs_f64() * 1000.0),
    });
    format!("{body}\n")
}

fn attest(config: &Path, as_json: bool) -> Result<(), ClientError> {
    let config = Config::read(config)?;
    let trust = config.trust()?;
    let session = in_runtime(Session::open(&config, &trust))?;
    let authority = session.authority();
    let endorsement = authority.endorsement();
    let rows = [
        ("origin", endorsement.origin().to_owned()),
        ("evidence", authority.result().class().to_string()),
        ("image", authority.result().reference().to_owned()),
        ("chip id", hex(&endorsement.chip_id)),
        ("permit key", hex(endorsement.permit_key.thumbprint())),
        ("log size", authority.checkpoint().size().to_string()),
        ("bundle version", authority.bundle_version().to_string()),
    ];
    if as_json {
        let mut body: serde_json::Map<String, serde_json::Value> =
            rows.into_iter().map(|(name, value)| (name.replace(' ', "_"), value.into())).collect();
        body.insert("schema".into(), "portcullis/authority/1".into());
        say!("{}", serde_json::Value::Object(body));
    } else {
        say!("the authority proved what it is");
        rows.iter().for_each(|(name, value)| say!("  {name:<16}{value}"));
    }
    Ok(())
}

fn request(
    config: &Path,
    platform: &dyn OpenMachine,
    key: &Path,
    out: &Path,
    command: &[OsString],
) -> Result<(), ClientError> {
    let config = Config::read(config)?;
    let program = open_program(command)?;
    let key = load_or_make_key(key)?;
    let trust = config.trust()?;
    let permit = in_runtime(async {
        let devices = Devices::of(platform.open()?);
        let ask = Ask { key: &key, workload: program.workload(), parent: None };
        let granted = Line::new(config, trust).permit(&devices, ask, PATIENCE).await?;
        Ok::<_, ClientError>(granted.permit)
    })?;
    write_durably(out, permit.transparent().bytes())?;
    say!("permit {} until {}", permit.permit().id, rfc3339(permit.permit().expires));
    crate::refusal::warnings(permit.permit()).for_each(|warning| complain(&warning));
    Ok(())
}

fn open_program(command: &[OsString]) -> Result<Program, ClientError> {
    Program::open(command, std::env::vars_os().collect()).map_err(|error| ClientError::Own(error.into()))
}

/// Reads a private key.
pub(crate) fn private_key(path: &Path) -> Result<SigningKey, ClientError> {
    let bytes = Zeroizing::new(fs::read(path).with_context(|| path.display().to_string())?);
    Ok(SigningKey::from_pem(&*bytes).with_context(|| path.display().to_string())?)
}

fn load_or_make_key(path: &Path) -> Result<SigningKey, ClientError> {
    if path.exists() {
        return private_key(path);
    }
    let key = SigningKey::generate(Suite::Classic).map_err(|error| ClientError::Own(error.into()))?;
    let pem = key.to_pem().map_err(|error| ClientError::Own(error.into()))?;
    create_durably(path, pem.as_bytes(), PRIVATE)?;
    Ok(key)
}

fn auditor_key(path: &Path, name: &str) -> Result<(), ClientError> {
    let identity = auditor_identity(&load_or_make_key(path)?)?;
    say!("[[auditor]]\nname = \"{name}\"\nkey = \"{}\"", hex(identity.spki()));
    Ok(())
}

/// The identity with which an auditor connects.
pub(crate) fn auditor_identity(key: &SigningKey) -> Result<Identity, ClientError> {
    let pkcs8 = key.to_pkcs8().map_err(|error| ClientError::Own(error.into()))?;
    Identity::from_pkcs8(&pkcs8).map_err(|error| ClientError::Own(error.into()))
}

fn show(path: &Path, as_json: bool) -> Result<(), ClientError> {
    let object = portcullis_wire::Sign1::parse(&fs::read(path)?, portcullis_permit::statement::MAX_LENGTH)
        .map_err(portcullis_permit::PermitError::from)?;
    let permit = Permit::decode(object.payload().unwrap_or_default())?;
    let warnings: Vec<String> = permit.warnings.iter().map(crate::refusal::warning).collect();
    let rows = [
        ("id", permit.id.to_string()),
        ("issuer", permit.issuer),
        ("subject", permit.subject),
        ("audience", permit.audience),
        ("not before", rfc3339(permit.not_before)),
        ("expires", rfc3339(permit.expires)),
        ("key", hex(&permit.confirmation)),
        ("workload", hex(&permit.workload)),
        ("linking", permit.constraints.linking.as_str().to_owned()),
        ("status", format!("{} of {}", permit.status.index, permit.status.uri)),
        ("evidence", hex(&permit.evidence)),
        ("bundle", hex(&permit.bundle)),
        ("result", hex(&permit.result)),
        ("parent", permit.parent.map_or_else(|| "none".to_owned(), |id| id.to_string())),
        ("warnings", if warnings.is_empty() { "none".to_owned() } else { warnings.join("; ") }),
    ];
    if as_json {
        let mut body: serde_json::Map<String, serde_json::Value> =
            rows.into_iter().map(|(name, value)| (name.replace(' ', "_"), value.into())).collect();
        body.insert("schema".into(), "portcullis/permit/1".into());
        body.insert("verified".into(), false.into());
        say!("{}", serde_json::Value::Object(body));
    } else {
        say!("not verified");
        rows.iter().for_each(|(name, value)| say!("  {name:<12}{value}"));
    }
    Ok(())
}

fn verify(
    config: &Path,
    permit: &Path,
    endorsement: &Path,
    key: &Path,
    command: &[OsString],
) -> Result<(), ClientError> {
    let config = Config::read(config)?;
    let trust = config.trust()?;
    let endorsement = portcullis_permit::Endorsement::verify(&fs::read(endorsement)?, &trust.governance)
        .map_err(|error| ClientError::check("authority.endorsement", error, "an endorsement by the governors"))?;
    let program = open_program(command)?;
    let key = private_key(key)?;
    let transparent =
        TransparentPermit::verify(&fs::read(permit)?, &endorsement.permit_key, &endorsement.receipt_key, None)?;
    let expectation = portcullis_permit::GateExpectation {
        issuer: endorsement.origin(),
        node: &config.node,
        confirmation: key.public(),
        workload: program.workload(),
        clock: trust.bundle.policy().clock(crate::clock::now()),
        life: portcullis_permit::PermitLife::ByClock,
        checkpoint_key: &endorsement.checkpoint_key,
        witnesses: trust.bundle.policy().witnesses.as_ref().map(|witnesses| &witnesses.quorum),
    };
    let verified = transparent.expect(&expectation)?;
    let inclusion = verified.transparent().inclusion();
    say!("permit {} is valid until {}", verified.permit().id, rfc3339(verified.permit().expires));
    say!("  logged as entry {} of {}", inclusion.index(), inclusion.size());
    Ok(())
}
