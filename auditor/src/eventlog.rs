//! `portcullis-audit eventlog` checks that a log leads to the given PCR values, and
//! prints the claims about the boot that it proves.

use std::path::PathBuf;

use clap::ValueEnum;
use portcullis_attest::check::Checks;
use portcullis_attest::eventlog::{EventLog, EventLogError, Format, Unlogged, verify_parsed};
use portcullis_attest::tpm::pcr::{Bank, PcrSet, PcrValues, Selection};
use portcullis_wire::hex::hex;
use serde_json::{Map, Value, json};

use crate::facts::{boot_facts, boot_json};
use crate::inputs::Inputs;
use crate::later::{later_facts, later_json};
use crate::quote::pcrs_argument;
use crate::report::{Facts, Output, Report};

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Event log.
    log: PathBuf,
    /// Its form: as firmware writes it, or a canonical event log.
    #[arg(long, value_enum, default_value_t = Form::Tcg)]
    form: Form,
    /// Later measurements of user space: a canonical event log in JSON, such as systemd's
    /// tpm2-measure.log.
    #[arg(long, value_name = "FILE")]
    user_space: Option<PathBuf>,
    /// IMA measurement list that leads to PCR 10.
    #[arg(long, value_name = "FILE", requires = "pcrs")]
    ima: Option<PathBuf>,
    /// PCR values as JSON: {"sha256": {"0": "hex", ...}, ...}.
    #[arg(long, value_name = "FILE")]
    pcrs: Option<PathBuf>,
    #[command(flatten)]
    output: Output,
}

/// The form of a log.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Form {
    /// TCG PC Client, crypto-agile or SHA-1.
    Tcg,
    /// Canonical event log, TLV.
    CelTlv,
    /// Canonical event log, JSON.
    CelJson,
}

impl Form {
    fn parse(self, bytes: &[u8]) -> Result<EventLog, EventLogError> {
        match self {
            Self::Tcg => EventLog::parse(bytes),
            Self::CelTlv => EventLog::parse_cel_tlv(bytes),
            Self::CelJson => EventLog::parse_cel_json(bytes),
        }
    }
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<u8> {
    let mut inputs = Inputs::default();
    let bytes = inputs.read(&arguments.log, "eventlog")?;
    let values = pcrs_argument(arguments.pcrs.as_ref(), &mut inputs)?;
    let user_space = arguments.user_space.as_ref().map(|path| inputs.read(path, "user-space")).transpose()?;
    let measured_files = arguments.ima.as_ref().map(|path| inputs.read(path, "ima")).transpose()?;
    let parsed = arguments.form.parse(&bytes).and_then(|log| match &user_space {
        Some(later) => log.with_user_space(later),
        None => Ok(log),
    });
    let mut checks = Checks::all();
    let verified = match &values {
        Some(values) => {
            let selection = selection_of(values);
            verify_parsed(parsed.clone(), values, &selection, measured_files.as_deref(), Unlogged::Refused, &mut checks)
        }
        None => {
            checks.step("tpm.eventlog", parsed.clone(), "an event log", "form of the log");
            checks.missing("tpm.pcrs", "the values of the PCRs, best from a quote", "values that the log must lead to");
            None
        }
    };
    if values.as_ref().is_some_and(|values| selection_of(values).pcrs().next().is_none()) {
        checks.missing("tpm.bank", "values of a bank stronger than SHA-1", "PCR banks that can be trusted");
    }
    let log = parsed.ok();
    let claims = verified.as_ref().map(|log| log.claims());
    let mut members = Map::new();
    members.insert("log".into(), log.as_ref().map_or(Value::Null, log_json));
    members.insert("boot".into(), claims.as_ref().map_or(Value::Null, boot_json));
    let mut beyond = vec!["Whether what was started is what should have been."];
    if values.is_some() {
        beyond.push("Whether the PCR values are of a TPM at all: verify its quote with `tpm-quote`.");
    }
    let report = Report {
        schema: "portcullis/eventlog/1",
        title: format!("Event log {}", arguments.log.display()),
        at: None,
        inputs,
        checks,
        facts: log
            .iter()
            .map(log_facts)
            .chain(log.iter().filter_map(later_facts))
            .chain(claims.iter().map(boot_facts))
            .collect(),
        beyond,
        note: if values.is_some() { "the PCR values were taken as given" } else { "" },
        policies: Vec::new(),
        members,
    };
    report.give(&arguments.output)
}

/// Every PCR whose value was given, except in the SHA-1 bank.
fn selection_of(values: &PcrValues) -> Selection {
    let banks = Bank::ALL.into_iter().filter(|bank| *bank != Bank::Sha1);
    let of = |bank: Bank| PcrSet::of(values.iter().filter(|(other, ..)| *other == bank).map(|(_, pcr, _)| pcr));
    Selection(banks.map(|bank| (bank, of(bank))).filter(|(_, set)| !set.is_empty()).collect())
}

const fn name(format: Format) -> &'static str {
    match format {
        Format::Sha1 => "SHA-1 (TCG_PCR_EVENT)",
        Format::CryptoAgile => "crypto-agile (TCG_PCR_EVENT2)",
        Format::Canonical => "canonical",
    }
}

/// The values to which the log leads, in every bank that it covers completely.
fn replayed(log: &EventLog) -> Vec<(Bank, u8, Vec<u8>)> {
    let of = |bank: Bank| log.replay(bank).ok().map(|r| (bank, r));
    let banks = Bank::ALL.into_iter().filter_map(of);
    banks.flat_map(|(bank, r)| r.extended().map(|(pcr, v)| (bank, pcr, v.to_vec())).collect::<Vec<_>>()).collect()
}

fn log_facts(log: &EventLog) -> Facts {
    let rows = [("form".to_owned(), name(log.format).to_owned()), ("events".into(), log.events.len().to_string())];
    let values = replayed(log).into_iter().map(|(bank, pcr, value)| (format!("{bank}:{pcr}"), hex(&value)));
    Facts { title: "Values that the log leads to", rows: rows.into_iter().chain(values).collect() }
}

fn log_json(log: &EventLog) -> Value {
    let values = replayed(log).into_iter();
    let values = values.map(|(bank, pcr, value)| json!({ "bank": bank.name(), "pcr": pcr, "value": hex(&value) }));
    json!({
        "format": name(log.format),
        "events": log.events.len(),
        "replayed": values.collect::<Vec<_>>(),
        "user_space": later_json(log),
    })
}
