//! `portcullis-audit tpm-quote`.

use std::path::PathBuf;

use anyhow::{Context, Result};
use portcullis_attest::check::Checks;
use portcullis_attest::tpm::attest::Quote;
use portcullis_attest::tpm::certificate::{self, Certified, VendorChains};
use portcullis_attest::tpm::key::AttestationKey;
use portcullis_attest::tpm::verify::{QuoteInput, SelectionRule, verify};
use serde_json::{Map, Value};

use crate::facts::{boot_facts, boot_json};
use crate::inputs::{Inputs, time};
use crate::quote::{hex_argument, pcrs_argument, quote_facts, quote_json};
use crate::report::{Output, Report};

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
    /// IMA measurement list that leads to PCR 10.
    #[arg(long, value_name = "FILE", requires = "eventlog")]
    ima: Option<PathBuf>,
    /// The nonce that the quote must carry.
    #[arg(long, value_name = "HEX")]
    nonce: Option<String>,
    #[command(flatten)]
    vendor: Vendor,
    #[command(flatten)]
    output: Output,
}

/// A certificate of the attestation key.
#[derive(Debug, clap::Args)]
struct Vendor {
    /// Certificate of the attestation key: PEM, DER, or the contents of the NV
    /// index.
    #[arg(long, value_name = "FILE")]
    ak_cert: Option<PathBuf>,
    /// Certificates between it and the root.
    #[arg(long, num_args = 1.., value_name = "FILE", requires = "ak_cert")]
    tpm_chain: Vec<PathBuf>,
    /// Roots of the TPM's vendor. There are none by default.
    #[arg(long, num_args = 1.., value_name = "FILE", requires = "ak_cert")]
    tpm_root: Vec<PathBuf>,
    /// Time at which the certificates must be valid, RFC 3339; now if absent.
    #[arg(long, value_name = "RFC3339", requires = "ak_cert")]
    at: Option<String>,
}

pub(crate) fn run(arguments: &Arguments) -> Result<u8> {
    let mut inputs = Inputs::default();
    let attest = inputs.read(&arguments.attest, "attest")?;
    let signature = inputs.read(&arguments.signature, "signature")?;
    let ak = inputs.read(&arguments.ak, "ak")?;
    let pcrs = pcrs_argument(arguments.pcrs.as_ref(), &mut inputs)?;
    let event_log = arguments.eventlog.as_ref().map(|path| inputs.read(path, "eventlog")).transpose()?;
    let measured_files = arguments.ima.as_ref().map(|path| inputs.read(path, "ima")).transpose()?;
    let nonce = hex_argument("--nonce", arguments.nonce.as_ref())?;

    let mut checks = Checks::all();
    let verified = verify(
        &QuoteInput {
            attest: &attest,
            signature: &signature,
            ak: &ak,
            pcrs: pcrs.as_ref(),
            event_log: event_log.as_deref(),
            measured_files: measured_files.as_deref(),
            nonce: nonce.as_deref(),
            selection: SelectionRule::NotEmpty,
        },
        &mut checks,
    );
    let at = arguments.vendor.check(&ak, &mut inputs, &mut checks)?;
    let quote = Quote::parse(&attest).ok();
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

impl Vendor {
    /// Checks the certificate, if one was named; returns the time that counts.
    fn check(&self, ak: &[u8], inputs: &mut Inputs, checks: &mut Checks) -> Result<Option<u64>> {
        let Some(path) = &self.ak_cert else { return Ok(None) };
        let bytes = inputs.read(path, "ak-cert")?;
        let mut all = |paths: &[PathBuf], role: &str| -> Result<Vec<Vec<u8>>> {
            paths.iter().map(|path| inputs.read(path, role)).collect()
        };
        let (roots, others) = (all(&self.tpm_root, "tpm-root")?, all(&self.tpm_chain, "tpm-chain")?);
        let (roots, others) = (slices_of(&roots), slices_of(&others));
        let chains = VendorChains::read(&roots, &others).context("--tpm-chain, --tpm-root: certificates")?;
        let at = time(self.at.as_deref())?;
        let key = AttestationKey::parse(ak).ok();
        certificate::verify(&bytes, Certified::Attestation, key.as_ref().map(AttestationKey::key), &chains, at, checks);
        Ok(Some(at))
    }
}

fn slices_of(files: &[Vec<u8>]) -> Vec<&[u8]> {
    files.iter().map(Vec::as_slice).collect()
}
