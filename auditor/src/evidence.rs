//! `portcullis-audit evidence`: archived evidence of any known form, in its envelope.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use portcullis_attest::azure::report_in;
use portcullis_attest::check::Checks;
use portcullis_attest::eventlog::VerifiedLog;
use portcullis_attest::evidence::{Collected, SnpEvidence, SvsmEvidence, TpmEvidence};
use portcullis_attest::import::{Envelope, Imported};
use portcullis_attest::snp::report::Report as SnpReport;
use portcullis_attest::snp::verify::VerifiedSnpReport;
use portcullis_attest::svsm::{self, SvsmInput, VerifiedSvsm};
use portcullis_attest::tpm::attest::Quote;
use portcullis_attest::tpm::key::AttestationKey;
use portcullis_attest::tpm::verify::{VerifiedQuote, verify as verify_quote};
use portcullis_permit::PublicKey;
use portcullis_wire::Sign1;
use portcullis_wire::hex::hex;
use serde_json::{Map, Value};

use crate::azure::{self, Case, Challenge};
use crate::collateral::{Brought, CollateralFiles, Supplied};
use crate::facts::{boot_facts, boot_json, report_facts, report_json};
use crate::inputs::Inputs;
use crate::later::{later_facts, later_json};
use crate::quote::{Measured, QuoteParts, hex_argument, quote_facts, quote_json};
use crate::report::{Output, Report};
use crate::snp_report::{Policy, appraise, beyond, note, policies};
use crate::vendor::Vendor;

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Evidence of Portcullis, a TSM report, a conceptual message wrapper around
    /// one, or JSON of Trustee (snp, az-snp-vtpm).
    evidence: PathBuf,
    /// COSE_Key of the required signer of the envelope.
    #[arg(long, value_name = "FILE")]
    signer: Option<PathBuf>,
    /// REPORT_DATA that the verifier asked for; for a service module's report, the nonce
    /// that was written to inblob.
    #[arg(long, value_name = "HEX")]
    report_data: Option<String>,
    #[command(flatten)]
    challenge: Challenge,
    /// The attestation key, if the envelope does not contain it: PEM, TPM2B_PUBLIC or
    /// TPMT_PUBLIC. On Azure the runtime data name it.
    #[arg(long, value_name = "FILE")]
    ak: Option<PathBuf>,
    #[command(flatten)]
    measured: Measured,
    #[command(flatten)]
    vendor: Vendor,
    #[command(flatten)]
    collateral: CollateralFiles,
    #[command(flatten)]
    policy: Policy,
    #[command(flatten)]
    output: Output,
}

const SCHEMA: &str = "portcullis/evidence/1";

pub(crate) fn run(arguments: &Arguments) -> Result<u8> {
    let mut inputs = Inputs::default();
    let bytes = inputs.read(&arguments.evidence, "evidence")?;
    let path = arguments.evidence.display();
    // An envelope of no known form is unreadable input, not failed evidence.
    let Envelope { evidence: imported, signed } = Envelope::open(&bytes).with_context(|| path.to_string())?;
    let signer = arguments.signer.as_ref().map(|path| signer(&inputs.read(path, "signer")?, path)).transpose()?;
    let title = format!("{} in {path}", imported.name());
    let mut report = match &imported {
        Imported::Azure { hcl, quote, certificates } => {
            let parts = QuoteParts {
                attest: quote.attest.clone(),
                signature: quote.signature.clone(),
                pcrs: Some(quote.pcrs.clone()),
                ..QuoteParts::default()
            };
            arguments.judge_azure(title, hcl, parts, &Brought { certificates, ..Brought::default() }, inputs)?
        }
        Imported::Snp { snp, certificates } => {
            arguments.judge(title, Some(Shown::Guest(snp)), None, certificates, inputs)?
        }
        Imported::Svsm(svsm) => arguments.judge(title, Some(Shown::Service(svsm)), None, &[], inputs)?,
        Imported::Portcullis(evidence) => match evidence.collected() {
            Collected::SnpTpm(snp, tpm) => arguments.judge(title, Some(Shown::Guest(snp)), Some(tpm), &[], inputs)?,
            Collected::Snp(snp) => arguments.judge(title, Some(Shown::Guest(snp)), None, &[], inputs)?,
            Collected::Tpm(tpm) => arguments.judge(title, None, Some(tpm), &[], inputs)?,
            Collected::SvsmVtpm(svsm, tpm) => {
                arguments.judge(title, Some(Shown::Service(svsm)), Some(tpm), &[], inputs)?
            }
            Collected::AzureVtpm(azure, tpm) => {
                let brought = Brought { table: &azure.certificates, ..Brought::default() };
                arguments.judge_azure(title, &azure.hcl, QuoteParts::of(tpm), &brought, inputs)?
            }
        },
    };
    check_signature(signed.as_ref(), signer.as_ref(), &mut report.checks);
    report.members.insert("envelope".into(), imported.name().into());
    report.give(&arguments.output)
}

/// An SNP report, and its requester.
#[derive(Clone, Copy)]
enum Shown<'a> {
    Guest(&'a SnpEvidence),
    Service(&'a SvsmEvidence),
}

impl<'a> Shown<'a> {
    const fn snp(self) -> &'a SnpEvidence {
        match self {
            Self::Guest(snp) => snp,
            Self::Service(svsm) => &svsm.snp,
        }
    }
}

impl Arguments {
    /// Refuses options for parts that the evidence does not have; otherwise they would be
    /// ignored silently.
    fn refuse_unused(&self, has_report: bool, has_quote: bool, is_azure: bool) -> Result<()> {
        let Challenge { nonce, user_data } = &self.challenge;
        let quote = nonce.is_some() || self.ak.is_some() || !self.measured.is_empty() || self.vendor.is_named();
        if quote && !has_quote {
            bail!(
                "the evidence has no quote: --nonce, --ak, --ak-cert, --pcrs, --expected-pcrs, --eventlog and --ima are about one"
            );
        }
        if self.report_data.is_some() && (is_azure || !has_report) {
            bail!("--report-data: the evidence has no report whose REPORT_DATA the guest chose; on Azure, --user-data");
        }
        if user_data.is_some() && !is_azure {
            bail!("--user-data: the evidence is not of Azure");
        }
        Ok(())
    }

    fn judge_azure(
        &self,
        title: String,
        hcl: &[u8],
        mut parts: QuoteParts,
        brought: &Brought<'_>,
        mut inputs: Inputs,
    ) -> Result<Report> {
        self.refuse_unused(true, true, true)?;
        let supplied = self.collateral.read(&mut inputs, report_in(hcl), brought)?;
        parts.complete_key(self.ak.as_ref(), &mut inputs)?;
        self.measured.complete(&mut parts, &mut inputs)?;
        let case = Case {
            schema: SCHEMA,
            title,
            hcl,
            parts: Some(&parts),
            challenge: &self.challenge,
            vendor: &self.vendor,
            policy: &self.policy,
            supplied: &supplied,
        };
        azure::judge(case, inputs)
    }

    fn judge(
        &self,
        title: String,
        shown: Option<Shown<'_>>,
        tpm: Option<&TpmEvidence>,
        beside: &[Vec<u8>],
        mut inputs: Inputs,
    ) -> Result<Report> {
        self.refuse_unused(shown.is_some(), tpm.is_some(), false)?;
        let snp = shown.map(Shown::snp);
        let (report, table) = snp.map(|snp| (snp.report.as_slice(), snp.certificates.as_slice())).unwrap_or_default();
        let supplied = self.collateral.read(&mut inputs, report, &Brought { table, certificates: beside })?;
        let bundle = self.policy.read(&mut inputs)?;
        let mut checks = Checks::all();
        let mut facts = Vec::new();
        let mut members = Map::new();
        let mut appraised = false;
        if let Some(shown) = shown {
            let verified = self.verify_report(shown, &supplied, &mut checks)?;
            let stated = SnpReport::parse(&shown.snp().report, &mut Checks::refusals());
            appraised = appraise(bundle.as_ref(), verified.as_ref(), supplied.at, &mut checks);
            members.insert("report".into(), stated.as_ref().map_or(Value::Null, report_json));
            members.insert("certificate_table".into(), supplied.table_json());
            facts.extend(stated.iter().map(report_facts).chain(supplied.table_facts()));
        }
        if let Some(tpm) = tpm {
            let verified = self.check_quote(tpm, supplied.at, &mut inputs, &mut checks)?;
            let stated = Quote::parse(&tpm.attest).ok();
            let claims = verified.as_ref().and_then(VerifiedQuote::event_log).map(|log| log.claims());
            members.insert("quote".into(), stated.as_ref().map_or(Value::Null, quote_json));
            let log = verified.as_ref().and_then(VerifiedQuote::event_log).map(VerifiedLog::log);
            members.insert("user_space".into(), log.map_or(Value::Null, later_json));
            facts.extend(log.and_then(later_facts));
            members.insert("boot".into(), claims.as_ref().map_or(Value::Null, boot_json));
            facts.extend(stated.iter().map(quote_facts));
            facts.extend(claims.iter().map(boot_facts));
        }
        members.insert("appraised".into(), appraised.into());
        members.insert("roots".into(), supplied.roots.into());
        Ok(Report {
            schema: SCHEMA,
            title,
            at: Some(supplied.at),
            inputs,
            checks,
            facts,
            beyond: beyond(bundle.is_some()),
            note: note(appraised, bundle.is_some()),
            policies: policies(bundle.as_ref()),
            members,
        })
    }

    /// Verifies the report and its binding.
    fn verify_report(
        &self,
        shown: Shown<'_>,
        supplied: &Supplied,
        checks: &mut Checks,
    ) -> Result<Option<VerifiedSnpReport>> {
        let asked = hex_argument("--report-data", self.report_data.as_ref())?;
        let Supplied { verifier, at, .. } = supplied;
        let verified = match shown {
            Shown::Guest(snp) => {
                let verified = verifier.verify(&snp.report, supplied.presented(), *at, checks);
                if let Some(stated) = SnpReport::parse(&snp.report, &mut Checks::refusals()) {
                    check_report_data(&stated, asked.as_deref(), checks);
                }
                verified
            }
            Shown::Service(svsm) => {
                let input = SvsmInput {
                    report: &svsm.snp.report,
                    manifest: &svsm.manifest,
                    certificates: supplied.presented(),
                    nonce: asked.as_deref(),
                };
                svsm::verify(&input, verifier, *at, checks).map(|module| VerifiedSvsm::into_parts(module).0)
            }
        };
        supplied.check_refused(checks);
        Ok(verified)
    }

    fn check_quote(
        &self,
        tpm: &TpmEvidence,
        at: u64,
        inputs: &mut Inputs,
        checks: &mut Checks,
    ) -> Result<Option<VerifiedQuote>> {
        let nonce = hex_argument("--nonce", self.challenge.nonce.as_ref())?;
        let mut parts = QuoteParts::of(tpm);
        parts.complete_key(self.ak.as_ref(), inputs)?;
        self.measured.complete(&mut parts, inputs)?;
        let verified = verify_quote(&parts.input(nonce.as_deref()), checks);
        let key = AttestationKey::parse(&tpm.ak).ok();
        self.vendor.check(key.as_ref().map(AttestationKey::key), at, inputs, checks)?;
        Ok(verified)
    }
}

fn check_report_data(stated: &SnpReport, asked: Option<&[u8]>, checks: &mut Checks) {
    const DETAIL: &str = "REPORT_DATA, which makes the report fresh";
    match asked {
        None => checks.missing("evidence.binding", "the REPORT_DATA that the verifier had asked for", DETAIL),
        Some(required) => {
            let found = &stated.report_data;
            checks.require("evidence.binding", found[..] == *required, || hex(found), || hex(required), DETAIL);
        }
    }
}

fn signer(bytes: &[u8], path: &Path) -> Result<PublicKey> {
    PublicKey::from_file(bytes).with_context(|| path.display().to_string())
}

/// A signature without a known key is a missing check. A signature that was required
/// and is absent is a failure.
fn check_signature(signed: Option<&Sign1>, signer: Option<&PublicKey>, checks: &mut Checks) {
    const ID: &str = "evidence.signature";
    const DETAIL: &str = "signature of the envelope";
    let Some(key) = signer else {
        if signed.is_some() {
            checks.missing(ID, "the key of whoever signed the envelope, with --signer", DETAIL);
        }
        return;
    };
    let good = signed.is_some_and(|signed| {
        key.suite().signs_as(signed.algorithm()) && key.verifies(&signed.to_be_signed(None), signed.signature())
    });
    checks.require(
        ID,
        good,
        || match signed {
            None => "none".into(),
            Some(signed) if good => format!("COSE algorithm {}, by that key", signed.algorithm()),
            Some(signed) => format!("COSE algorithm {}, not by that key", signed.algorithm()),
        },
        || format!("one by key {}", hex(key.thumbprint())),
        DETAIL,
    );
}
