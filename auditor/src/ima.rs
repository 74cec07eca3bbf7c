//! `portcullis-audit ima` checks that a measurement list leads to the PCR values, and
//! that its files are allowed.

use std::io::{BufRead, Seek};
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use portcullis_attest::check::Checks;
use portcullis_attest::ima::{AllowList, Entries, Entry, PCR, VerifiedList, verify};
use portcullis_attest::tpm::pcr::{Bank, PcrValues};
use portcullis_wire::hex::hex;
use serde_json::{Map, Value, json};

use crate::inputs::Inputs;
use crate::quote::pcrs_argument;
use crate::report::{Facts, Output, Report};

/// Largest number of rows of files for people; the JSON has all of them.
const SHOWN: usize = 40;

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Measurement list, binary or ASCII, of any bank; its hashes identify the bank.
    list: PathBuf,
    /// PCR values as JSON: {"sha256": {"10": "hex"}, ...}; one for every PCR with entries
    /// in the list.
    #[arg(long, value_name = "FILE")]
    pcrs: Option<PathBuf>,
    /// Bank of the PCRs that must vouch for the list: sha256, sha384, sha512 or
    /// sha1; the first of them with a value in --pcrs if absent.
    #[arg(long)]
    bank: Option<String>,
    /// Files that may be measured, in the format of sha256sum.
    #[arg(long, value_name = "FILE")]
    allow: Option<PathBuf>,
    #[command(flatten)]
    output: Output,
}

pub(crate) fn run(arguments: &Arguments) -> Result<u8> {
    let mut inputs = Inputs::default();
    let mut file = inputs.open(&arguments.list, "ima")?;
    let values = pcrs_argument(arguments.pcrs.as_ref(), &mut inputs)?.unwrap_or_default();
    let bank = bank(arguments.bank.as_deref(), &values)?;
    let allow = match &arguments.allow {
        None => None,
        Some(path) => {
            let list = AllowList::parse(inputs.read(path, "allow")?);
            Some(list.with_context(|| path.display().to_string())?)
        }
    };
    let mut checks = Checks::all();
    let verified = verify(&mut file, bank, &values, allow.as_ref(), &mut checks);
    // A second pass for the displayed entries, because the first one stores nothing.
    file.rewind().with_context(|| arguments.list.display().to_string())?;
    let stated = Stated::read(file, arguments.output.json);
    let mut members = Map::new();
    members.insert("list".into(), stated.as_ref().map_or(Value::Null, |stated| stated.json(verified.as_ref())));
    let mut beyond = vec!["Signatures of files: they are shown as stated."];
    if arguments.pcrs.is_some() {
        beyond.push("Whether the PCR values are of a TPM at all: verify its quote with `tpm-quote`.");
    }
    if allow.is_none() {
        beyond.push("Whether the files are ones that may run: name them with --allow.");
    }
    let report = Report {
        schema: "portcullis/ima/1",
        title: format!("IMA measurement list {}", arguments.list.display()),
        at: None,
        inputs,
        checks,
        facts: stated.iter().map(|stated| stated.facts(verified.as_ref())).collect(),
        beyond,
        note: if arguments.pcrs.is_some() { "the PCR values were taken as given" } else { "" },
        policies: Vec::new(),
        members,
    };
    report.give(&arguments.output)
}

/// The named bank, or the first one with a value, in order of preference.
fn bank(named: Option<&str>, values: &PcrValues) -> Result<Bank> {
    const PREFERRED: [Bank; 4] = [Bank::Sha256, Bank::Sha384, Bank::Sha512, Bank::Sha1];
    let Some(name) = named else {
        let given = |bank: &Bank| values.iter().any(|(of, ..)| of == *bank);
        return Ok(PREFERRED.into_iter().find(given).unwrap_or(Bank::Sha256));
    };
    if name.starts_with("sm3") {
        bail!("--bank: SM3 is not supported; name another bank of the same TPM, such as sha256");
    }
    Bank::from_name(name).context("--bank: sha256, sha384, sha512 or sha1")
}

/// The contents of the list, whether or not a PCR vouches for them.
struct Stated {
    /// The bank of the listed template hashes.
    bank: Bank,
    entries: usize,
    /// All of them for JSON, the first few for people.
    files: Vec<Value>,
}

impl Stated {
    fn read(list: impl BufRead, all: bool) -> Option<Self> {
        let entries = Entries::of(list).ok()?;
        let mut stated = Self { bank: entries.bank(), entries: 0, files: Vec::new() };
        for entry in entries {
            let entry = entry.ok()?;
            stated.entries = stated.entries.saturating_add(1);
            if all || stated.files.len() < SHOWN {
                stated.files.extend(file_json(&entry));
            }
        }
        Some(stated)
    }

    fn facts(&self, verified: Option<&VerifiedList>) -> Facts {
        let mut rows = vec![("hashes".to_owned(), self.bank.to_string()), ("entries".into(), self.entries.to_string())];
        if let Some(verified) = verified {
            rows.push(("vouched for".into(), verified.covered().to_string()));
            rows.push(("changed while measured".into(), verified.violations().to_string()));
        }
        let text = |file: &Value, name: &str| file[name].as_str().unwrap_or_default().to_owned();
        let row = |file: &Value| {
            let digest = format!("{}:{}", text(file, "algorithm"), text(file, "digest"));
            match file["pcr"].as_u64() {
                Some(pcr) if pcr != u64::from(PCR) => (format!("PCR {pcr} {digest}"), text(file, "name")),
                _ => (digest, text(file, "name")),
            }
        };
        rows.extend(self.files.iter().take(SHOWN).map(row));
        let left = self.entries.saturating_sub(SHOWN);
        if left > 0 {
            rows.push(("and".into(), format!("{left} more, see --json")));
        }
        Facts { title: "What the list states", rows }
    }

    fn json(&self, verified: Option<&VerifiedList>) -> Value {
        json!({
            "bank": self.bank.name(),
            "entries": self.entries,
            "covered": verified.map(VerifiedList::covered),
            "files": self.files,
        })
    }
}

fn file_json(entry: &Entry) -> Option<Value> {
    let (file, name) = entry.file().ok()?;
    Some(json!({
        "pcr": entry.pcr,
        "name": name.to_string(),
        "algorithm": file.algorithm,
        "digest": hex(file.digest),
        "template": entry.template.name(),
        "violation": entry.is_violation(),
        "signature": entry.signature().map(hex),
    }))
}
