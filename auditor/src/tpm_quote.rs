//! `portcullis-audit tpm-quote`.

use std::path::PathBuf;

use anyhow::Result;
use portcullis_attest::check::Checks;
use portcullis_attest::tpm::attest::Quote;
use portcullis_attest::tpm::key::AttestationKey;
use portcullis_attest::tpm::verify::verify;
use serde_json::{Map, Value};

use crate::facts::{boot_facts, boot_json};
use crate::inputs::{Inputs, time};
use crate::quote::{Measured, QuoteParts, hex_argument, quote_facts, quote_json};
use crate::report::{Output, Report};
use crate::vendor::Vendor;

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
    #[command(flatten)]
    measured: Measured,
    /// The nonce that the quote must carry.
    #[arg(long, value_name = "HEX")]
    nonce: Option<String>,
    #[command(flatten)]
    vendor: Vendor,
    /// Time at which the certificates must be valid, RFC 3339; now if absent.
    #[arg(long, value_name = "RFC3339", requires = "ak_cert")]
    at: Option<String>,
    #[command(flatten)]
    output: Output,
}

pub(crate) fn run(arguments: &Arguments) -> Result<u8> {
    let mut inputs = Inputs::default();
    let mut parts = QuoteParts {
        attest: inputs.read(&arguments.attest, "attest")?,
        signature: inputs.read(&arguments.signature, "signature")?,
        ak: Some(inputs.read(&arguments.ak, "ak")?),
        ..QuoteParts::default()
    };
    arguments.measured.complete(&mut parts, &mut inputs)?;
    let nonce = hex_argument("--nonce", arguments.nonce.as_ref())?;

    let mut checks = Checks::all();
    let verified = verify(&parts.input(nonce.as_deref()), &mut checks);
    let at = if arguments.vendor.is_named() { Some(time(arguments.at.as_deref())?) } else { None };
    if let Some(at) = at {
        let key = parts.ak.as_deref().and_then(|ak| AttestationKey::parse(ak).ok());
        arguments.vendor.check(key.as_ref().map(AttestationKey::key), at, &mut inputs, &mut checks)?;
    }
    let quote = Quote::parse(&parts.attest).ok();
    let claims = verified.as_ref().and_then(|quote| quote.event_log()).map(|log| log.claims());
    let mut members = Map::new();
    members.insert("quote".into(), quote.as_ref().map_or(Value::Null, quote_json));
    members.insert("boot".into(), claims.as_ref().map_or(Value::Null, boot_json));
    let mut beyond = vec!["Which machine the TPM is part of."];
    if at.is_none() {
        beyond.push("Whether the key is of a TPM that somebody vouches for: name its certificate with --ak-cert.");
    }
    let report = Report {
        schema: "portcullis/tpm-quote/1",
        title: format!("TPM quote {}", arguments.attest.display()),
        at,
        inputs,
        checks,
        facts: quote.iter().map(quote_facts).chain(claims.iter().map(boot_facts)).collect(),
        beyond,
        note: match at {
            None => "authenticity only: whose TPM it is was not judged",
            Some(_) => "authenticity only: nothing was appraised against a policy",
        },
        policies: Vec::new(),
        members,
    };
    report.give(&arguments.output)
}
