//! `portcullis-audit permit` checks that an endorsed authority granted a permit, and
//! that the permit is in its log.

use std::path::PathBuf;

use anyhow::Result;
use portcullis_attest::check::Checks;
use portcullis_cli::rfc3339;
use portcullis_permit::{PermitError, TransparentPermit};
use portcullis_wire::hex::hex;
use serde_json::{Map, Value, json};

use crate::endorsed::{self, Authority};
use crate::inputs::{Inputs, time};
use crate::report::{Facts, Output, Report};

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The permit with its receipt.
    permit: PathBuf,
    #[command(flatten)]
    authority: endorsed::Named,
    /// Time of the verification, RFC 3339; now if absent.
    #[arg(long, value_name = "RFC3339")]
    at: Option<String>,
    #[command(flatten)]
    output: Output,
}

pub(crate) fn run(arguments: &Arguments) -> Result<u8> {
    let mut inputs = Inputs::default();
    let at = time(arguments.at.as_deref())?;
    let permit = inputs.read(&arguments.permit, "permit")?;
    let authority = arguments.authority.read(&arguments.permit, &mut inputs)?;

    let mut checks = Checks::all();
    let transparent = verify(&permit, &authority, at, &mut checks);
    let mut members = Map::new();
    members.insert("permit".into(), transparent.as_ref().map_or(Value::Null, permit_json));
    let report = Report {
        schema: "portcullis/permit-audit/1",
        title: format!("Permit {}", arguments.permit.display()),
        at: Some(at),
        inputs,
        checks,
        facts: transparent.iter().map(permit_facts).collect(),
        beyond: vec![
            "Revocation: a permit does not say whether it was withdrawn later.",
            "Whether the decision was right: that takes the archived evidence and bundle.",
        ],
        note: "",
        policies: Vec::new(),
        members,
    };
    report.give(&arguments.output)
}

fn permit_facts(transparent: &TransparentPermit) -> Facts {
    let (permit, place) = (transparent.permit(), transparent.inclusion());
    Facts::new(
        "What the permit says",
        [
            ("id", permit.id.to_string()),
            ("node", permit.subject.clone()),
            ("workload", hex(&permit.workload)),
            ("valid", format!("{} to {}", rfc3339(permit.not_before), rfc3339(permit.expires))),
            ("log entry", format!("{} of {}", place.index(), place.size())),
        ],
    )
}

fn verify(permit: &[u8], authority: &Authority, at: u64, checks: &mut Checks) -> Option<TransparentPermit> {
    let endorsed = authority.verify(checks)?;
    let verified = TransparentPermit::verify(permit, &endorsed.permit_key, &endorsed.receipt_key, None);
    let id = verified.as_ref().map_or_else(PermitError::check, |_| "permit.receipt.proof");
    let detail = "signature of the permit, and its place in the log";
    let transparent = checks.step(id, verified, "a permit by the endorsed keys, in the log", detail)?;
    let (permit, origin) = (transparent.permit(), endorsed.origin().to_owned());
    checks.equal("permit.issuer", &permit.issuer, &origin, "authority that granted it");
    checks.require(
        "permit.not_before",
        permit.not_before <= at,
        || rfc3339(permit.not_before),
        || format!("at most {}", rfc3339(at)),
        "start of validity",
    );
    checks.require(
        "permit.expired",
        at < permit.expires,
        || rfc3339(permit.expires),
        || format!("later than {}", rfc3339(at)),
        "end of validity",
    );
    Some(transparent)
}

fn permit_json(transparent: &TransparentPermit) -> Value {
    let permit = transparent.permit();
    json!({
        "id": permit.id.to_string(),
        "issuer": permit.issuer,
        "subject": permit.subject,
        "audience": permit.audience,
        "not_before": rfc3339(permit.not_before),
        "expires": rfc3339(permit.expires),
        "confirmation": hex(&permit.confirmation),
        "workload": hex(&permit.workload),
        "evidence": hex(&permit.evidence),
        "bundle": hex(&permit.bundle),
        "result": hex(&permit.result),
        "parent": permit.parent.map(|id| id.to_string()),
        "warnings": permit.warnings.iter().map(|warning| {
            json!({ "check": warning.check, "deny_from": rfc3339(warning.deny_from) })
        }).collect::<Vec<_>>(),
        "log_index": transparent.inclusion().index(),
        "log_size": transparent.inclusion().size(),
    })
}
