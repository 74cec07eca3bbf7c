//! Parts of a quote as auditors have them in files.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use portcullis_attest::tpm::attest::Quote;
use portcullis_attest::tpm::pcr::{Bank, PcrValues};
use portcullis_wire::hex::{hex, hex_u64, unhex};
use serde_json::{Value, json};

use crate::inputs::Inputs;
use crate::report::Facts;

/// The PCR values of `--pcrs`, where it was given.
pub(crate) fn pcrs_argument(path: Option<&PathBuf>, inputs: &mut Inputs) -> Result<Option<PcrValues>> {
    let read = |path: &PathBuf| read_pcrs(&inputs.read(path, "pcrs")?).with_context(|| path.display().to_string());
    path.map(read).transpose()
}

/// PCR values as JSON: an object by bank, of objects by number.
fn read_pcrs(bytes: &[u8]) -> Result<PcrValues> {
    let json: Value = serde_json::from_slice(bytes).context("PCR values: JSON")?;
    let mut values = PcrValues::default();
    for (bank, list) in json.as_object().context("PCR values: an object by bank")? {
        // A bank that nobody here knows cannot have been quoted either.
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
