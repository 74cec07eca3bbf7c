//! `portcullis-audit snp-report` checks that a report is authentic and, with a policy,
//! that the machine meets it.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use portcullis_attest::binding::Role;
use portcullis_attest::check::Checks;
use portcullis_attest::snp::report::Report as SnpReport;
use portcullis_attest::snp::verify::VerifiedSnpReport;
use portcullis_firmware_policy::ear::policy_id;
use portcullis_firmware_policy::{VerifiedBundle, appraise_report};
use portcullis_permit::Governance;
use serde_json::{Map, Value};

use crate::collateral::{Brought, CollateralFiles};
use crate::facts::{report_facts, report_json};
use crate::inputs::Inputs;
use crate::report::{Output, Report};

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The report, 1184 bytes.
    report: PathBuf,
    #[command(flatten)]
    collateral: CollateralFiles,
    #[command(flatten)]
    policy: Policy,
    #[command(flatten)]
    output: Output,
}

/// A bundle to appraise against.
#[derive(Debug, clap::Args)]
pub(crate) struct Policy {
    /// Also appraise against this bundle's reference values for nodes.
    #[arg(long, requires = "governance_root")]
    policy: Option<PathBuf>,
    /// The governors' keys and threshold; they must have signed the bundle.
    #[arg(long, requires = "policy")]
    governance_root: Option<PathBuf>,
}

pub(crate) fn run(arguments: &Arguments) -> Result<u8> {
    let mut inputs = Inputs::default();
    let bytes = inputs.read(&arguments.report, "report")?;
    let supplied = arguments.collateral.read(&mut inputs, &bytes, &Brought::default())?;
    let bundle = arguments.policy.read(&mut inputs)?;

    let mut checks = Checks::all();
    let verified = supplied.verifier.verify(&bytes, supplied.presented(), supplied.at, &mut checks);
    supplied.check_refused(&mut checks);
    let appraised = appraise(bundle.as_ref(), verified.as_ref(), supplied.at, &mut checks);
    let fields = SnpReport::parse(&bytes, &mut Checks::refusals());
    let mut members = Map::new();
    members.insert("appraised".into(), appraised.into());
    members.insert("roots".into(), supplied.roots.into());
    members.insert("certificate_table".into(), supplied.table_json());
    members.insert("report".into(), fields.as_ref().map_or(Value::Null, report_json));
    let report = Report {
        schema: "portcullis/snp-report/1",
        title: format!("SEV-SNP attestation report {}", arguments.report.display()),
        at: Some(supplied.at),
        inputs,
        checks,
        facts: fields.iter().map(report_facts).chain(supplied.table_facts()).collect(),
        beyond: beyond(bundle.is_some()),
        note: note(appraised, bundle.is_some()),
        policies: policies(bundle.as_ref()),
        members,
    };
    report.give(&arguments.output)
}

/// The limits of a verified report.
pub(crate) fn beyond(asked: bool) -> Vec<&'static str> {
    let mut beyond = vec![
        "Freshness: a report shows when it was made only through its report data, which mean something to whoever asked for it.",
        "What the guest has done since it was launched.",
    ];
    if !asked {
        beyond.push("Whether this image, patch level and chip are ones to trust: name a bundle with --policy.");
    }
    beyond
}

/// Names of a bundle in results.
pub(crate) fn policies(bundle: Option<&VerifiedBundle>) -> Vec<String> {
    bundle.map(|bundle| policy_id(bundle.digest())).into_iter().collect()
}

pub(crate) const fn note(appraised: bool, asked: bool) -> &'static str {
    match (appraised, asked) {
        (true, _) => "the report was appraised against the policy",
        (false, true) => "NOT appraised: no authentic report",
        (false, false) => "authenticity only: nothing was appraised against a policy",
    }
}

/// Appraises a report only if it is authentic.
pub(crate) fn appraise(
    bundle: Option<&VerifiedBundle>,
    verified: Option<&VerifiedSnpReport>,
    at: u64,
    checks: &mut Checks,
) -> bool {
    let (Some(bundle), Some(verified)) = (bundle, verified) else { return false };
    bundle.content().judge_time(at, "validity of the bundle", checks);
    appraise_report(verified, Role::Node, bundle.policy(), at, checks);
    true
}

impl Policy {
    /// Reads and verifies the named bundle.
    pub(crate) fn read(&self, inputs: &mut Inputs) -> Result<Option<VerifiedBundle>> {
        let (Some(policy), Some(governance)) = (&self.policy, &self.governance_root) else { return Ok(None) };
        let describe = |path: &Path| path.display().to_string();
        let governors = Governance::from_file(&inputs.read(governance, "governance-root")?)
            .with_context(|| describe(governance))?;
        let bundle = VerifiedBundle::verify(&inputs.read(policy, "policy")?, &governors);
        Ok(Some(bundle.with_context(|| describe(policy))?))
    }
}
