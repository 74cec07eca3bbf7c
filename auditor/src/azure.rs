//! `portcullis-audit azure`: an HCL report with its quote.

use std::path::PathBuf;

use anyhow::Result;
use portcullis_attest::azure::{AzureInput, HclReport, RuntimeData, VerifiedAzure, report_in, verify};
use portcullis_attest::check::Checks;
use portcullis_attest::snp::report::Report as SnpReport;
use portcullis_attest::tpm::attest::Quote;
use portcullis_attest::tpm::pcr::PcrValues;
use portcullis_attest::tpm::verify::{QuoteInput, SelectionRule};
use portcullis_wire::hex::hex;
use serde_json::{Map, Value, json};

use crate::collateral::{Brought, CollateralFiles, Supplied};
use crate::facts::{boot_facts, boot_json, report_facts, report_json};
use crate::inputs::Inputs;
use crate::quote::{hex_argument, pcrs_argument, quote_facts, quote_json};
use crate::report::{Facts, Output, Report};
use crate::snp_report::{Policy, appraise, note, policies};

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The HCL report, as in NV index 0x01400001.
    hcl: PathBuf,
    /// The quote's signed structure (`TPMS_ATTEST`).
    #[arg(long, value_name = "FILE", requires_all = ["signature", "ak"])]
    attest: Option<PathBuf>,
    /// The quote's signature (`TPMT_SIGNATURE`).
    #[arg(long, value_name = "FILE", requires = "attest")]
    signature: Option<PathBuf>,
    /// The attestation key: PEM, `TPM2B_PUBLIC` or `TPMT_PUBLIC`.
    #[arg(long, value_name = "FILE", requires = "attest")]
    ak: Option<PathBuf>,
    /// PCR values as JSON: {"sha256": {"0": "hex", ...}, ...}.
    #[arg(long, value_name = "FILE", requires = "attest")]
    pcrs: Option<PathBuf>,
    /// Event log in TCG format.
    #[arg(long, value_name = "FILE", requires = "attest")]
    eventlog: Option<PathBuf>,
    #[command(flatten)]
    challenge: Challenge,
    #[command(flatten)]
    collateral: CollateralFiles,
    #[command(flatten)]
    policy: Policy,
    #[command(flatten)]
    output: Output,
}

/// What the verifier had asked for.
#[derive(Debug, clap::Args)]
pub(crate) struct Challenge {
    /// The nonce that the quote must carry.
    #[arg(long, value_name = "HEX")]
    pub(crate) nonce: Option<String>,
    /// What the guest was to write as user data before the report was made.
    #[arg(long, value_name = "HEX")]
    pub(crate) user_data: Option<String>,
}

/// The parts of a quote, as read.
pub(crate) struct QuoteParts {
    pub(crate) attest: Vec<u8>,
    pub(crate) signature: Vec<u8>,
    /// Absent where the runtime data alone name it.
    pub(crate) ak: Option<Vec<u8>>,
    pub(crate) pcrs: Option<PcrValues>,
    pub(crate) event_log: Option<Vec<u8>>,
}

pub(crate) fn run(arguments: &Arguments) -> Result<u8> {
    let mut inputs = Inputs::default();
    let hcl = inputs.read(&arguments.hcl, "hcl-report")?;
    let parts = arguments.parts(&mut inputs)?;
    let supplied = arguments.collateral.read(&mut inputs, report_in(&hcl), &Brought::default())?;
    let title = format!("Azure confidential VM {}", arguments.hcl.display());
    let schema = "portcullis/azure/1";
    let report =
        judge(schema, title, &hcl, parts.as_ref(), &arguments.challenge, &arguments.policy, &supplied, inputs)?;
    report.give(&arguments.output)
}

impl Arguments {
    fn parts(&self, inputs: &mut Inputs) -> Result<Option<QuoteParts>> {
        let (Some(attest), Some(signature), Some(ak)) = (&self.attest, &self.signature, &self.ak) else {
            return Ok(None);
        };
        let pcrs = pcrs_argument(self.pcrs.as_ref(), inputs)?;
        Ok(Some(QuoteParts {
            attest: inputs.read(attest, "attest")?,
            signature: inputs.read(signature, "signature")?,
            ak: Some(inputs.read(ak, "ak")?),
            pcrs,
            event_log: self.eventlog.as_ref().map(|path| inputs.read(path, "eventlog")).transpose()?,
        }))
    }
}

/// Verifies an HCL report with its quote, wherever they came from.
#[expect(clippy::too_many_arguments, reason = "two commands, one report")]
pub(crate) fn judge(
    schema: &'static str,
    title: String,
    hcl: &[u8],
    parts: Option<&QuoteParts>,
    challenge: &Challenge,
    policy: &Policy,
    supplied: &Supplied,
    mut inputs: Inputs,
) -> Result<Report> {
    let bundle = policy.read(&mut inputs)?;
    let nonce = hex_argument("--nonce", challenge.nonce.as_ref())?;
    let user_data = hex_argument("--user-data", challenge.user_data.as_ref())?;
    // An archive without the key itself: the runtime data name it, and whether
    // they are the chip's word is checked.
    let named = named_key(hcl);
    let quote = parts.map(|parts| QuoteInput {
        attest: &parts.attest,
        signature: &parts.signature,
        ak: parts.ak.as_deref().unwrap_or(&named),
        pcrs: parts.pcrs.as_ref(),
        event_log: parts.event_log.as_deref(),
        measured_files: None,
        nonce: nonce.as_deref(),
        selection: SelectionRule::NotEmpty,
    });
    let input = AzureInput { hcl, certificates: supplied.presented(), quote, user_data: user_data.as_deref() };
    let mut checks = Checks::all();
    let verified = verify(&input, &supplied.verifier, supplied.at, &mut checks);
    supplied.check_refused(&mut checks);
    let appraised = appraise(bundle.as_ref(), verified.as_ref().map(VerifiedAzure::snp), supplied.at, &mut checks);

    let snp = HclReport::parse(hcl).ok().and_then(|hcl| SnpReport::parse(hcl.snp, &mut Checks::refusals()));
    let stated = parts.and_then(|parts| Quote::parse(&parts.attest).ok());
    let log = verified.as_ref().and_then(VerifiedAzure::quote).and_then(|quote| quote.event_log());
    let claims = log.map(|log| log.claims());
    // The runtime data are worth nothing before the report vouches for them.
    let vouched = checks.list().iter().any(|check| check.id == "azure.keys" && check.outcome.as_str() == "pass");
    let runtime = HclReport::parse(hcl).ok().filter(|_| vouched).and_then(|hcl| RuntimeData::parse(hcl.json).ok());
    let mut members = Map::new();
    members.insert("appraised".into(), appraised.into());
    members.insert("roots".into(), supplied.roots.into());
    members.insert("certificate_table".into(), supplied.table_json());
    members.insert("report".into(), snp.as_ref().map_or(Value::Null, report_json));
    members.insert("runtime".into(), runtime.as_ref().map_or(Value::Null, runtime_json));
    members.insert("quote".into(), stated.as_ref().map_or(Value::Null, quote_json));
    members.insert("boot".into(), claims.as_ref().map_or(Value::Null, boot_json));
    let mut facts: Vec<Facts> = snp.iter().map(report_facts).collect();
    facts.extend(supplied.table_facts());
    facts.extend(runtime.iter().map(runtime_facts));
    facts.extend(stated.iter().map(quote_facts));
    facts.extend(claims.iter().map(boot_facts));
    Ok(Report {
        schema,
        title,
        at: Some(supplied.at),
        inputs,
        checks,
        facts,
        beyond: vec![
            "Microsoft's paravisor: it runs with more rights than the guest, and is trusted as far as its measurement is.",
            "What the guest has done since it booted.",
        ],
        note: note(appraised, bundle.is_some()),
        policies: policies(bundle.as_ref()),
        members,
    })
}

/// PEM of the key that the runtime data name; empty where they name none.
fn named_key(hcl: &[u8]) -> Vec<u8> {
    let runtime = HclReport::parse(hcl).ok().and_then(|hcl| RuntimeData::parse(hcl.json).ok());
    runtime.and_then(|runtime| runtime.ak.to_pem()).unwrap_or_default()
}

fn runtime_facts(runtime: &RuntimeData) -> Facts {
    let flag = |flag: Option<bool>| flag.map_or("not stated", |on| if on { "on" } else { "off" }).to_owned();
    Facts::new(
        "What the paravisor states",
        [
            ("VM id", runtime.vm_id.clone().unwrap_or_else(|| "not stated".into())),
            ("Secure Boot", flag(runtime.secure_boot)),
            ("serial console", flag(runtime.console)),
            ("user data", hex(&runtime.user_data)),
        ],
    )
}

fn runtime_json(runtime: &RuntimeData) -> Value {
    json!({
        "vm_id": runtime.vm_id,
        "secure_boot": runtime.secure_boot,
        "console": runtime.console,
        "user_data": hex(&runtime.user_data),
    })
}
