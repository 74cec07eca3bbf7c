//! `portcullis-audit tpm-quote`.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use portcullis_attest::check::Checks;
use portcullis_attest::tpm::attest::Quote;
use portcullis_attest::tpm::pcr::{Bank, PcrValues};
use portcullis_attest::tpm::verify::{QuoteInput, SelectionRule, verify};
use portcullis_wire::hex::{hex, hex_u64, unhex};
use serde_json::{Value, json};

use crate::inputs::Inputs;
use crate::outcome::{exit_code, json_report, print_checks, print_verdict};

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The signed structure (`TPMS_ATTEST`).
    #[arg(long, value_name = "FILE")]
    attest: PathBuf,
    /// The signature (`TPMT_SIGNATURE`).
    #[arg(long, value_name = "FILE")]
    signature: PathBuf,
    /// The attestation key: PEM, `TPM2B_PUBLIC` or `TPMT_PUBLIC`.
    #[arg(long, value_name = "FILE")]
    ak: PathBuf,
    /// PCR values as JSON: {"sha256": {"0": "hex", ...}, ...}.
    #[arg(long, value_name = "FILE")]
    pcrs: Option<PathBuf>,
    /// Event log in TCG format.
    #[arg(long, value_name = "FILE")]
    eventlog: Option<PathBuf>,
    /// The nonce that the quote must carry.
    #[arg(long, value_name = "HEX")]
    nonce: Option<String>,
    /// One JSON object on stdout.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(arguments: &Arguments) -> Result<u8> {
    let mut inputs = Inputs::default();
    let attest = inputs.read(&arguments.attest, "attest")?;
    let signature = inputs.read(&arguments.signature, "signature")?;
    let ak = inputs.read(&arguments.ak, "ak")?;
    let pcrs = match &arguments.pcrs {
        None => None,
        Some(path) => {
            let bytes = inputs.read(path, "pcrs")?;
            Some(read_pcrs(&bytes).with_context(|| path.display().to_string())?)
        }
    };
    let event_log = arguments.eventlog.as_ref().map(|path| inputs.read(path, "eventlog")).transpose()?;
    let nonce = arguments.nonce.as_ref().map(|text| unhex(&text.to_lowercase()).context("--nonce: hex")).transpose()?;

    let mut checks = Checks::all();
    verify(
        &QuoteInput {
            attest: &attest,
            signature: &signature,
            ak: &ak,
            pcrs: pcrs.as_ref(),
            event_log: event_log.as_deref(),
            nonce: nonce.as_deref(),
            selection: SelectionRule::NotEmpty,
        },
        &mut checks,
    );
    let quote = Quote::parse(&attest).ok();
    if arguments.json {
        let mut body = json_report("portcullis/tpm-quote/1", &checks);
        body.insert("inputs".into(), inputs.json());
        body.insert("quote".into(), quote.as_ref().map_or(Value::Null, quote_json));
        println!("{}", Value::Object(body));
    } else {
        print_checks(&checks);
        print_verdict(checks.verdict(), "authenticity only: whose TPM it is was not judged");
    }
    Ok(exit_code(checks.verdict()))
}

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

fn quote_json(quote: &Quote) -> Value {
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
