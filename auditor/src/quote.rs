//! The parts of a quote, from an auditor's files.

use std::path::PathBuf;

use anyhow::{Context, Result, bail, ensure};
use portcullis_attest::eventlog::Unlogged;
use portcullis_attest::evidence::TpmEvidence;
use portcullis_attest::tpm::attest::Quote;
use portcullis_attest::tpm::pcr::{Bank, PcrValues};
use portcullis_attest::tpm::verify::{KeySource, QuoteInput, SelectionRule};
use portcullis_wire::hex::{hex, hex_u64, unhex};
use serde_json::{Value, json};

use crate::inputs::Inputs;
use crate::report::Facts;

/// Files with the quoted values, and the logs that explain them.
#[derive(Debug, clap::Args)]
pub(crate) struct Measured {
    /// PCR values as JSON: {"sha256": {"0": "hex", ...}, ...}. If the evidence contains
    /// values, these are the required ones, as with --expected-pcrs.
    #[arg(long, value_name = "FILE")]
    pcrs: Option<PathBuf>,
    /// Values that the quoted PCRs must have, in the same form, such as those of a
    /// reference machine. If every quoted PCR has one, no event log is needed.
    #[arg(long, value_name = "FILE")]
    expected_pcrs: Option<PathBuf>,
    /// Event log in TCG format.
    #[arg(long, value_name = "FILE")]
    eventlog: Option<PathBuf>,
    /// Later measurements of user space: systemd's tpm2-measure.log, after an event log.
    #[arg(long, value_name = "FILE")]
    user_space: Option<PathBuf>,
    /// IMA measurement list that leads to PCR 10, with an event log.
    #[arg(long, value_name = "FILE")]
    ima: Option<PathBuf>,
}

impl Measured {
    /// Whether no file was named.
    pub(crate) const fn is_empty(&self) -> bool {
        matches!(self, Self { pcrs: None, expected_pcrs: None, eventlog: None, user_space: None, ima: None })
    }

    /// Reads the files into parts of a quote that are still empty. Two event logs are
    /// refused, because the right one cannot be guessed.
    pub(crate) fn complete(&self, parts: &mut QuoteParts, inputs: &mut Inputs) -> Result<()> {
        parts.expected = pcrs_argument(self.expected_pcrs.as_ref(), inputs)?;
        let values = pcrs_argument(self.pcrs.as_ref(), inputs)?;
        match (&parts.pcrs, values) {
            (_, None) => {}
            (None, values) => parts.pcrs = values,
            (Some(_), values) => {
                ensure!(
                    parts.expected.is_none(),
                    "--pcrs and --expected-pcrs both say what the evidence's own values must be"
                );
                parts.expected = values;
            }
        }
        let mut read = |path: Option<&PathBuf>, role| path.map(|path| inputs.read(path, role)).transpose();
        fill(&mut parts.event_log, "--eventlog", read(self.eventlog.as_ref(), "eventlog")?)?;
        fill(&mut parts.user_space_log, "--user-space", read(self.user_space.as_ref(), "user-space")?)?;
        fill(&mut parts.measured_files, "--ima", read(self.ima.as_ref(), "ima")?)?;
        ensure!(
            parts.user_space_log.is_none() || parts.event_log.is_some(),
            "--user-space: it takes part behind an event log, --eventlog"
        );
        ensure!(
            parts.measured_files.is_none() || parts.event_log.is_some(),
            "--ima: it takes part beside an event log, --eventlog"
        );
        Ok(())
    }
}

fn fill<T>(slot: &mut Option<T>, name: &str, given: Option<T>) -> Result<()> {
    match given {
        Some(_) if slot.is_some() => bail!("{name}: the evidence brings its own"),
        Some(given) => *slot = Some(given),
        None => {}
    }
    Ok(())
}

/// The parts of a quote, from files or from an envelope.
#[derive(Debug, Default)]
pub(crate) struct QuoteParts {
    pub(crate) attest: Vec<u8>,
    pub(crate) signature: Vec<u8>,
    /// Absent if a platform names it.
    pub(crate) ak: Option<Vec<u8>>,
    pub(crate) pcrs: Option<PcrValues>,
    pub(crate) expected: Option<PcrValues>,
    pub(crate) event_log: Option<Vec<u8>>,
    pub(crate) user_space_log: Option<Vec<u8>>,
    pub(crate) measured_files: Option<Vec<u8>>,
}

impl QuoteParts {
    /// The parts in evidence of Portcullis.
    pub(crate) fn of(tpm: &TpmEvidence) -> Self {
        Self {
            attest: tpm.attest.clone(),
            signature: tpm.signature.clone(),
            ak: Some(tpm.ak.clone()),
            pcrs: Some(tpm.pcrs.clone()),
            expected: None,
            event_log: Some(tpm.event_log.clone()).filter(|log| !log.is_empty()),
            user_space_log: tpm.user_space_log.clone(),
            measured_files: tpm.measured_files.clone(),
        }
    }

    /// Reads the key, if it was named and did not come with the quote.
    pub(crate) fn complete_key(&mut self, path: Option<&PathBuf>, inputs: &mut Inputs) -> Result<()> {
        fill(&mut self.ak, "--ak", path.map(|path| inputs.read(path, "ak")).transpose()?)
    }

    /// The input for verification, with a nonce.
    pub(crate) fn input<'a>(&'a self, nonce: Option<&'a [u8]>) -> QuoteInput<'a> {
        QuoteInput {
            attest: &self.attest,
            signature: &self.signature,
            ak: self.ak.as_deref().map_or(KeySource::Platform, KeySource::Presented),
            pcrs: self.pcrs.as_ref(),
            expected: self.expected.as_ref(),
            event_log: self.event_log.as_deref(),
            user_space_log: self.user_space_log.as_deref(),
            unlogged: Unlogged::Refused,
            measured_files: self.measured_files.as_deref(),
            nonce,
            selection: SelectionRule::NotEmpty,
        }
    }
}

/// The PCR values of `--pcrs`, if given.
pub(crate) fn pcrs_argument(path: Option<&PathBuf>, inputs: &mut Inputs) -> Result<Option<PcrValues>> {
    let read = |path: &PathBuf| read_pcrs(&inputs.read(path, "pcrs")?).with_context(|| path.display().to_string());
    path.map(read).transpose()
}

/// PCR values as JSON: an object by bank, of objects by number.
fn read_pcrs(bytes: &[u8]) -> Result<PcrValues> {
    let json: Value = serde_json::from_slice(bytes).context("PCR values: JSON")?;
    let mut values = PcrValues::default();
    for (bank, list) in json.as_object().context("PCR values: an object by bank")? {
        // An unknown bank cannot have been quoted either.
        let Some(bank) = Bank::from_name(bank) else { continue };
        for (pcr, value) in list.as_object().context("PCR values: an object by number")? {
            let number: u8 = pcr.parse().with_context(|| format!("PCR {pcr:?}"))?;
            let value = value.as_str().map(str::to_lowercase).and_then(|text| unhex(&text));
            let value = value.with_context(|| format!("value of PCR {pcr}: hex"))?;
            ensure!(values.insert(bank, number, value), "PCR {pcr}: number or length of the value");
        }
    }
    Ok(values)
}

/// Hex on the command line.
pub(crate) fn hex_argument(name: &str, text: Option<&String>) -> Result<Option<Vec<u8>>> {
    text.map(|text| unhex(&text.to_lowercase()).with_context(|| format!("{name}: hex"))).transpose()
}

pub(crate) fn quote_json(quote: &Quote) -> Value {
    json!({
        "qualified_signer": hex(&quote.qualified_signer),
        "extra_data": hex(&quote.extra_data),
        "clock": hex_u64(quote.clock.clock),
        "reset_count": quote.clock.reset_count,
        "restart_count": quote.clock.restart_count,
        "safe": quote.clock.safe,
        "firmware_version": hex_u64(quote.firmware_version),
        "selection": quote.selection.to_string(),
        "pcr_digest": hex(&quote.pcr_digest),
    })
}

pub(crate) fn quote_facts(quote: &Quote) -> Facts {
    Facts::new(
        "What the quote states",
        [
            ("extra data", hex(&quote.extra_data)),
            ("registers", quote.selection.to_string()),
            ("resets", quote.clock.reset_count.to_string()),
            ("restarts", quote.clock.restart_count.to_string()),
            ("clock", format!("{} ms", quote.clock.clock)),
            ("TPM firmware", hex_u64(quote.firmware_version)),
        ],
    )
}
