//! `portcullis-audit azure`: an HCL report with its quote.

use std::path::PathBuf;

use anyhow::{Result, ensure};
use portcullis_attest::azure::{AzureInput, HclReport, RuntimeData, UserData, VerifiedAzure, report_in, verify};
use portcullis_attest::check::Checks;
use portcullis_attest::snp::report::Report as SnpReport;
use portcullis_attest::tpm::attest::Quote;
use portcullis_attest::tpm::key::{AttestationKey, KeyMaterial};
use portcullis_wire::hex::hex;
use serde_json::{Map, Value, json};

use crate::collateral::{Brought, CollateralFiles, Supplied};
use crate::facts::{boot_facts, boot_json, report_facts, report_json};
use crate::inputs::Inputs;
use crate::quote::{Measured, QuoteParts, hex_argument, quote_facts, quote_json};
use crate::report::{Facts, Output, Report};
use crate::snp_report::{Policy, appraise, note, policies};
use crate::vendor::Vendor;

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The HCL report, as in NV index 0x01400001.
    hcl: PathBuf,
    /// The quote's signed structure (`TPMS_ATTEST`).
    #[arg(long, value_name = "FILE", requires = "signature")]
    attest: Option<PathBuf>,
    /// The quote's signature (`TPMT_SIGNATURE`).
    #[arg(long, value_name = "FILE", requires = "attest")]
    signature: Option<PathBuf>,
    /// The attestation key: PEM, `TPM2B_PUBLIC` or `TPMT_PUBLIC`; default: the key in the
    /// runtime data (HCLAkPub).
    #[arg(long, value_name = "FILE", requires = "attest")]
    ak: Option<PathBuf>,
    #[command(flatten)]
    measured: Measured,
    #[command(flatten)]
    vendor: Vendor,
    #[command(flatten)]
    challenge: Challenge,
    #[command(flatten)]
    collateral: CollateralFiles,
    #[command(flatten)]
    policy: Policy,
    #[command(flatten)]
    output: Output,
}

/// The values that the verifier asked for.
#[derive(Debug, clap::Args)]
pub(crate) struct Challenge {
    /// The nonce that the quote must carry.
    #[arg(long, value_name = "HEX")]
    pub(crate) nonce: Option<String>,
    /// User data that the guest had to write before the report was made; "none" if it had
    /// to write nothing, and the report must contain only zeroes.
    #[arg(long, value_name = "HEX|none")]
    pub(crate) user_data: Option<String>,
}

pub(crate) fn run(arguments: &Arguments) -> Result<u8> {
    let mut inputs = Inputs::default();
    let hcl = inputs.read(&arguments.hcl, "hcl-report")?;
    let parts = arguments.parts(&mut inputs)?;
    let supplied = arguments.collateral.read(&mut inputs, report_in(&hcl), &Brought::default())?;
    let case = Case {
        schema: "portcullis/azure/1",
        title: format!("Azure confidential VM {}", arguments.hcl.display()),
        hcl: &hcl,
        parts: parts.as_ref(),
        challenge: &arguments.challenge,
        vendor: &arguments.vendor,
        policy: &arguments.policy,
        supplied: &supplied,
    };
    judge(case, inputs)?.give(&arguments.output)
}

impl Arguments {
    fn parts(&self, inputs: &mut Inputs) -> Result<Option<QuoteParts>> {
        let (Some(attest), Some(signature)) = (&self.attest, &self.signature) else {
            ensure!(
                self.measured.is_empty() && !self.vendor.is_named() && self.challenge.nonce.is_none(),
                "--attest and --signature are missing: what else was named is about a quote"
            );
            return Ok(None);
        };
        let mut parts = QuoteParts {
            attest: inputs.read(attest, "attest")?,
            signature: inputs.read(signature, "signature")?,
            ..QuoteParts::default()
        };
        parts.complete_key(self.ak.as_ref(), inputs)?;
        self.measured.complete(&mut parts, inputs)?;
        Ok(Some(parts))
    }
}

/// An HCL report with its quote, from any source, and all inputs for its verification.
pub(crate) struct Case<'a> {
    pub(crate) schema: &'static str,
    pub(crate) title: String,
    pub(crate) hcl: &'a [u8],
    pub(crate) parts: Option<&'a QuoteParts>,
    pub(crate) challenge: &'a Challenge,
    pub(crate) vendor: &'a Vendor,
    pub(crate) policy: &'a Policy,
    pub(crate) supplied: &'a Supplied,
}

pub(crate) fn judge(case: Case<'_>, mut inputs: Inputs) -> Result<Report> {
    let Case { schema, title, hcl, parts, challenge, vendor, policy, supplied } = case;
    let bundle = policy.read(&mut inputs)?;
    let nonce = hex_argument("--nonce", challenge.nonce.as_ref())?;
    let given = challenge.user_data.as_ref().filter(|text| *text != "none");
    let user_data = hex_argument("--user-data", given)?;
    let input = AzureInput {
        hcl,
        certificates: supplied.presented(),
        quote: parts.map(|parts| parts.input(nonce.as_deref())),
        user_data: match (&challenge.user_data, &user_data) {
            (None, _) => UserData::Unknown,
            (Some(_), None) => UserData::Nothing,
            (Some(_), Some(data)) => UserData::Exactly(data),
        },
    };
    let mut checks = Checks::all();
    let verified = verify(&input, &supplied.verifier, supplied.at, &mut checks);
    supplied.check_refused(&mut checks);
    // The runtime data prove nothing before the report vouches for them.
    let vouched = checks.list().iter().any(|check| check.id == "azure.keys" && check.outcome.as_str() == "pass");
    let runtime = HclReport::parse(hcl).ok().filter(|_| vouched).and_then(|hcl| RuntimeData::parse(hcl.json).ok());
    let key = runtime.as_ref().map(|runtime| runtime.ak.clone()).or_else(|| presented_key(parts));
    vendor.check(key.as_ref(), supplied.at, &mut inputs, &mut checks)?;
    let appraised = appraise(bundle.as_ref(), verified.as_ref().map(VerifiedAzure::snp), supplied.at, &mut checks);

    let snp = HclReport::parse(hcl).ok().and_then(|hcl| SnpReport::parse(hcl.snp, &mut Checks::refusals()));
    let stated = parts.and_then(|parts| Quote::parse(&parts.attest).ok());
    let log = verified.as_ref().and_then(VerifiedAzure::quote).and_then(|quote| quote.event_log());
    let claims = log.map(|log| log.claims());
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

/// The key that came with a quote.
fn presented_key(parts: Option<&QuoteParts>) -> Option<KeyMaterial> {
    let ak = parts?.ak.as_deref()?;
    AttestationKey::parse(ak).ok().map(|ak| ak.key().clone())
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
