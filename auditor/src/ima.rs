//! `portcullis-audit ima`: does a measurement list lead to PCR 10, and are its
//! files allowed?

use std::path::PathBuf;

use anyhow::{Context, Result};
use portcullis_attest::check::Checks;
use portcullis_attest::ima::{AllowList, List, VerifiedList, verify};
use portcullis_attest::tpm::pcr::{Bank, PcrValues};
use portcullis_wire::hex::hex;
use serde_json::{Map, Value, json};

use crate::inputs::Inputs;
use crate::quote::read_pcrs;
use crate::report::{Facts, Output, Report};

/// Rows of files for people; all of them stand in the JSON.
const SHOWN: usize = 40;

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Measurement list, binary or ASCII.
    list: PathBuf,
    /// PCR values as JSON: {"sha256": {"10": "hex"}, ...}.
    #[arg(long, value_name = "FILE")]
    pcrs: Option<PathBuf>,
    /// Bank of PCR 10 that must vouch for the list.
    #[arg(long, default_value = "sha256")]
    bank: String,
    /// Files that may be measured, in the format of sha256sum.
    #[arg(long, value_name = "FILE")]
    allow: Option<PathBuf>,
    #[command(flatten)]
    output: Output,
}

pub(crate) fn run(arguments: &Arguments) -> Result<u8> {
    let mut inputs = Inputs::default();
    let bytes = inputs.read(&arguments.list, "ima")?;
    let bank = Bank::from_name(&arguments.bank).context("--bank: sha1, sha256, sha384 or sha512")?;
    let values = match &arguments.pcrs {
        None => PcrValues::default(),
        Some(path) => read_pcrs(&inputs.read(path, "pcrs")?).with_context(|| path.display().to_string())?,
    };
    let allow = match &arguments.allow {
        None => None,
        Some(path) => {
            let text = String::from_utf8(inputs.read(path, "allow")?).context("--allow: text")?;
            Some(AllowList::parse(&text).with_context(|| path.display().to_string())?)
        }
    };
    let mut checks = Checks::all();
    let verified = verify(&bytes, bank, &values, allow.as_ref(), &mut checks);
    let list = List::parse(&bytes).ok();
    let mut members = Map::new();
    members.insert("list".into(), list.as_ref().map_or(Value::Null, |list| list_json(list, verified.as_ref())));
    let mut beyond = vec![
        "Whether the PCR value is of a TPM at all: verify its quote with `tpm-quote`.",
        "Signatures of files: they are shown as stated.",
    ];
    if allow.is_none() {
        beyond.push("Whether the files are ones that may run: name them with --allow.");
    }
    let report = Report {
        schema: "portcullis/ima/1",
        title: format!("IMA measurement list {}", arguments.list.display()),
        at: None,
        inputs,
        checks,
        facts: list.iter().map(|list| list_facts(list, verified.as_ref())).collect(),
        beyond,
        note: "the PCR value was taken as given",
        policies: Vec::new(),
        members,
    };
    report.give(&arguments.output)
}

fn list_facts(list: &List<'_>, verified: Option<&VerifiedList<'_>>) -> Facts {
    let mut rows = vec![("entries".to_owned(), list.entries().len().to_string())];
    if let Some(verified) = verified {
        rows.push(("vouched for".into(), verified.entries().len().to_string()));
        rows.push(("changed while measured".into(), verified.violations().to_string()));
    }
    let files = list.entries().iter().filter_map(|entry| entry.file().ok());
    rows.extend(
        files.take(SHOWN).map(|(file, name)| (format!("{}:{}", file.algorithm, hex(file.digest)), name.into())),
    );
    let left = list.entries().len().saturating_sub(SHOWN);
    if left > 0 {
        rows.push(("and".into(), format!("{left} more, see --json")));
    }
    Facts { title: "What the list states", rows }
}

fn list_json(list: &List<'_>, verified: Option<&VerifiedList<'_>>) -> Value {
    let files = list.entries().iter().filter_map(|entry| {
        let (file, name) = entry.file().ok()?;
        Some(json!({
            "name": name,
            "algorithm": file.algorithm,
            "digest": hex(file.digest),
            "template": entry.template.name(),
            "violation": entry.is_violation(),
            "signature": entry.signature().map(hex),
        }))
    });
    json!({
        "entries": list.entries().len(),
        "covered": verified.map(|verified| verified.entries().len()),
        "files": files.collect::<Vec<_>>(),
    })
}
