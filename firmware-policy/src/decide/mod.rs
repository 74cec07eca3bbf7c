//! The decision: a pure function of archived bytes and recorded inputs.
//!
//! ```text
//! freshness -> evidence -> identity -> appraisal -> revocation, parent, workload -> Cedar
//! ```
//!
//! The same request, facts and bundle give the same permit or denial, byte for byte,
//! now and in any replay. A denial is complete: after a failed check, later checks are
//! still made if their inputs are available. Only verified evidence is appraised, and
//! Cedar is asked only about a verified, enrolled node with a known image and workload.

mod authorization;
mod facts;
mod request;

use portcullis_attest::binding::{Binding, Role};
use portcullis_attest::check::Checks;
use portcullis_attest::evidence::Evidence;
use portcullis_attest::verified::{Carriage, Challenge, VerifiedEvidence, verify};
use portcullis_permit::{BootCounters, Constraints, Denial, Permit, PermitWarning, ReceivedRequest, Refusal};
use portcullis_wire::{Digest, sha256};

pub use facts::{Facts, ParentState, RecordedFacts, SeenState};

use crate::appraise::{AttestationResult, Identity, Warning, appraise, identify};
use crate::bundle::{Content, VerifiedBundle};
use crate::policy::{KnownWorkload, Node};
use crate::remedy::{Reader, remedy};
use authorization::{Asked, ask_cedar};
use request::{Boot, boot_counters, check_freshness, check_parent, check_revocation, find_node, find_workload};

/// The check id for refusals that do not fit into a denial.
const MORE: &str = "denial.more";

/// The decision on a request.
#[derive(Clone, Debug)]
pub enum Decision {
    /// To be signed and logged before it is sent.
    Authorized {
        /// The permit.
        permit: Box<Permit>,
        /// The attestation result, to be archived.
        result: AttestationResult,
    },
    /// Also to be signed and logged.
    Denied(Denial),
}

/// Decides on a request.
#[must_use]
pub fn decide(received: &ReceivedRequest, facts: &Facts<'_>, bundle: &VerifiedBundle) -> Decision {
    let mut checks = Checks::refusals();
    let Judged { known, evidence, permission } = judge(received, facts, facts.time, bundle.content(), &mut checks);
    match permission {
        Some(permission) if checks.passed() => authorized(received, facts, bundle, permission),
        _ => Decision::Denied(denied(received, facts, bundle, &checks, known, evidence)),
    }
}

/// Decides without effect, as if the request came at another time, under a bundle that
/// may not be signed yet. The result lists every check that does not pass; the list is
/// empty for a permit.
///
/// The times of the connection stay as recorded, so the nonce has the same age as in
/// the original request.
#[must_use]
pub fn rehearse(received: &ReceivedRequest, facts: &Facts<'_>, at: u64, bundle: &Content) -> Rehearsal {
    let mut checks = Checks::refusals();
    let Judged { permission, evidence, .. } = judge(received, facts, at, bundle, &mut checks);
    let warnings = permission.map(|permission| permission.result.warnings().to_vec()).unwrap_or_default();
    Rehearsal { checks, warnings, evidence }
}

/// The result of a rehearsal.
#[derive(Clone, Debug)]
pub struct Rehearsal {
    /// The checks that did not pass; empty for a permit.
    pub checks: Checks,
    /// Warnings that the decision would carry.
    pub warnings: Vec<Warning>,
    /// SHA-256 of the evidence.
    pub evidence: Digest,
}

/// Whether the evidence has proven the identity of the requester. A stranger gets only
/// one check id.
#[derive(Clone, Copy, PartialEq)]
enum Acquaintance {
    Stranger,
    Enrolled,
}

struct Judged<'p> {
    known: Acquaintance,
    evidence: Digest,
    permission: Option<Permission<'p>>,
}

struct Permission<'p> {
    result: AttestationResult,
    workload: &'p KnownWorkload,
    boot: Option<BootCounters>,
}

fn judge<'p>(
    received: &ReceivedRequest,
    facts: &Facts<'_>,
    at: u64,
    bundle: &'p Content,
    checks: &mut Checks,
) -> Judged<'p> {
    let (request, policy) = (received.request(), bundle.policy());
    check_freshness(request, facts, at, bundle, checks);
    let parsed = Evidence::parse(received.evidence());
    let parsed = checks.step("evidence.form", parsed, "a CMW collection of evidence", "form of the evidence");
    let evidence = parsed.as_ref().and_then(|evidence| verify_evidence(evidence, received, facts, at, bundle, checks));
    let node = find_node(request, policy, checks);
    let identity = node.map(|node| identity(node, facts));
    let (mut known, mut image, mut result) = (Acquaintance::Stranger, None, None);
    if let (Some(evidence), Some(identity)) = (&evidence, &identity) {
        if identify(evidence, identity, checks) {
            known = Acquaintance::Enrolled;
        }
        let appraisal = appraise(evidence, identity, policy, at, checks);
        (image, result) = (appraisal.image, appraisal.result);
    }
    check_revocation(request, facts, checks);
    let boot = evidence.as_ref().map(|evidence| evidence.tpm().map(boot_counters));
    check_parent(request, facts, policy, boot.map_or(Boot::Unknown, Boot::Shown), checks);
    let workload = find_workload(request, policy, checks);
    if let (Some(evidence), Some(node), Some(image), Some(workload)) = (&evidence, node, image, workload) {
        let asked = Asked { node, evidence, image, workload, request, facts, at };
        ask_cedar(&asked, bundle.authorizer(), checks);
    }
    let permission = match (result, workload, boot) {
        (Some(result), Some(workload), Some(boot)) => Some(Permission { result, workload, boot }),
        _ => None,
    };
    let evidence = parsed.map_or_else(|| sha256(&[received.evidence()]), |evidence| *evidence.digest());
    Judged { known, evidence, permission }
}

fn verify_evidence(
    evidence: &Evidence,
    received: &ReceivedRequest,
    facts: &Facts<'_>,
    at: u64,
    bundle: &Content,
    checks: &mut Checks,
) -> Option<VerifiedEvidence> {
    let binding = Binding {
        role: Role::Node,
        nonce: &received.request().nonce,
        channel: facts.channel,
        context: &received.digest(),
    };
    let challenge = Challenge { binding, carriage: Carriage::Direct, selection: bundle.policy().selection(Role::Node) };
    // Evidence is judged by its own checks alone: it may be valid in an invalid request.
    let mut own = checks.another();
    let verified = verify(evidence, &challenge, bundle.verifier(), at, &mut own);
    checks.extend(&own);
    verified
}

fn identity<'a>(node: &'a Node, facts: &'a Facts<'_>) -> Identity<'a> {
    Identity {
        name: &node.name,
        role: Role::Node,
        chip_id: node.chip_id.as_ref().map(<[u8; 64]>::as_slice),
        ak_name: node.ak_name.as_deref(),
        ek: node.ek.as_ref(),
        activation: facts.activation.as_ref(),
        minimum_class: node.minimum_class,
    }
}

fn authorized(
    received: &ReceivedRequest,
    facts: &Facts<'_>,
    bundle: &VerifiedBundle,
    permission: Permission<'_>,
) -> Decision {
    let request = received.request();
    let Permission { result, workload, boot } = permission;
    let warnings = result.warnings().iter();
    let permit = Permit {
        issuer: facts.issuer.to_owned(),
        subject: request.node.clone(),
        audience: Permit::gate_audience(&request.node),
        not_before: facts.time,
        expires: facts.time.saturating_add(bundle.policy().lease_seconds),
        id: received.permit_id(),
        confirmation: *request.confirmation.thumbprint(),
        workload: request.workload.digest,
        constraints: Constraints {
            arguments: workload.arguments.required(),
            environment: workload.environment.required(),
            linking: workload.linking,
        },
        status: facts.status.clone(),
        evidence: *result.evidence(),
        bundle: *bundle.digest(),
        result: result.digest(),
        channel: sha256(&[&facts.encode(received)]),
        boot,
        parent: request.parent,
        warnings: warnings.map(|w| PermitWarning { check: w.check.clone(), deny_from: w.deny_from }).collect(),
    };
    Decision::Authorized { permit: Box::new(permit), result }
}

fn denied(
    received: &ReceivedRequest,
    facts: &Facts<'_>,
    bundle: &VerifiedBundle,
    checks: &Checks,
    known: Acquaintance,
    evidence: Digest,
) -> Denial {
    let all = checks.refused().map(|check| Refusal {
        check: check.id.to_string(),
        found: check.found.clone(),
        required: check.required.clone(),
        remedy: Some(remedy(&check.id, Reader::Node).to_owned()),
    });
    let refusals = match known {
        Acquaintance::Enrolled => complete(all.collect()),
        Acquaintance::Stranger => all.take(1).map(|refusal| Refusal::id_only(&refusal.check)).collect(),
    };
    Denial {
        issuer: facts.issuer.to_owned(),
        subject: received.request().node.clone(),
        id: received.permit_id(),
        time: facts.time,
        refusals,
        evidence,
        bundle: *bundle.digest(),
        facts: sha256(&[&facts.encode(received)]),
    }
}

/// The refusals that fit into a denial; the rest are counted.
fn complete(mut all: Vec<Refusal>) -> Vec<Refusal> {
    if all.len() > Denial::MAX_REFUSALS {
        let kept = Denial::MAX_REFUSALS.saturating_sub(1);
        let more = all.len().saturating_sub(kept);
        all.truncate(kept);
        all.push(Refusal {
            check: MORE.to_owned(),
            found: Some(format!("{more} more checks that failed")),
            required: Some(format!("{} at most", Denial::MAX_REFUSALS)),
            remedy: Some(remedy(MORE, Reader::Node).to_owned()),
        });
    }
    all
}
