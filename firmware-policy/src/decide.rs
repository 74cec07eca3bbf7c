//! The decision: a pure function of archived bytes and recorded inputs.
//!
//! ```text
//! freshness -> evidence -> identity -> appraisal -> revocation, parent, workload -> Cedar
//! ```
//!
//! The same request, facts and bundle give the same permit or denial, byte for
//! byte, today and at any replay.

use portcullis_attest::binding::{Binding, Channel, Role};
use portcullis_attest::check::Checks;
use portcullis_attest::evidence::Evidence;
use portcullis_attest::tpm::attest::ClockInfo;
use portcullis_attest::tpm::verify::VerifiedQuote;
use portcullis_attest::verified::{Carriage, Challenge, VerifiedEvidence, verify};
use portcullis_authz::{Answer, Question};
use portcullis_permit::{
    BootCounters, Constraints, Denial, DynamicLinking, Permit, PermitId, PermitRequest, ReceivedRequest, Refusal,
    StatusReference,
};
use portcullis_wire::hex::hex;
use portcullis_wire::{Digest, Value, bstr, encode, or_null, sha256};

use crate::appraise::{AttestationResult, Identity, appraise, identify};
use crate::bundle::VerifiedBundle;
use crate::nonce::{LIFETIME, NoncePreimage};
use crate::policy::{FieldRule, KnownWorkload, Node};
use crate::remedy::remedy;
use crate::revocations::Revocations;

/// What the log knows of a parent permit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ParentState {
    /// The request names no parent.
    None,
    /// The request names a parent that the log does not have, or that ended.
    Unknown,
    /// The parent is in the log.
    Logged {
        /// Its subject.
        subject: String,
        /// Its confirmation key.
        confirmation: Digest,
        /// Its workload.
        workload: Digest,
        /// First permit of its line of renewals.
        origin: PermitId,
        /// Where the node's TPM stood.
        boot: Option<BootCounters>,
    },
}

/// A credential that was activated on the connection of the request: both keys
/// are of one TPM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Activation {
    /// SHA-256 of the `SubjectPublicKeyInfo` of the endorsement key.
    pub ek: Digest,
    /// Name of the attestation key.
    pub ak_name: Vec<u8>,
}

/// How the checkpoint that the node has seen relates to the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SeenState {
    /// The node has seen none.
    None,
    /// The log extends it.
    Extended,
    /// The log does not extend it, or it cannot be read.
    Contradicted,
}

/// Everything that a decision depends on, beside request and bundle.
#[derive(Clone, Debug)]
pub struct Facts<'a> {
    /// Unix seconds.
    pub time: u64,
    /// Origin of the authority's log.
    pub issuer: &'a str,
    /// Digest of the statement that the authority showed on this connection.
    pub statement: Digest,
    /// The nonce that the connection was given, consumed by this request;
    /// absent where it has none.
    pub nonce: Option<NoncePreimage>,
    /// The session as the node sees it.
    pub channel: Channel,
    /// The credential that was activated on it, if one was.
    pub activation: Option<Activation>,
    /// The checkpoint that the request names, against the log.
    pub seen: SeenState,
    /// What the log knows of the parent.
    pub parent: ParentState,
    /// What governors have withdrawn.
    pub revocations: &'a Revocations,
    /// Where the permit's status will be told.
    pub status: StatusReference,
}

impl Facts<'_> {
    /// The facts as archived; permits carry the digest.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let parent = match &self.parent {
            ParentState::None => Value::Null,
            ParentState::Unknown => Value::Bool(false),
            ParentState::Logged { subject, confirmation, workload, origin, boot } => Value::Array(vec![
                subject.as_str().into(),
                bstr(confirmation),
                bstr(workload),
                bstr(origin.bytes()),
                or_null(boot.map(|boot| boot.to_value())),
            ]),
        };
        let activation = |Activation { ek, ak_name }: &Activation| Value::Array(vec![bstr(ek), bstr(ak_name)]);
        encode(&Value::Array(vec![
            "portcullis/facts/1".into(),
            self.time.into(),
            self.issuer.into(),
            bstr(self.statement),
            or_null(self.nonce.map(NoncePreimage::to_value)),
            bstr(self.channel.exporter),
            bstr(self.channel.own_key),
            bstr(self.channel.peer_key),
            or_null(self.activation.as_ref().map(activation)),
            (self.seen as u64).into(),
            parent,
            bstr(self.revocations.digest()),
            self.status.index.into(),
        ]))
    }
}

/// The decision on a request.
#[derive(Clone, Debug)]
pub enum Decision {
    /// To be signed, logged, and only then handed out.
    Authorized {
        /// The permit.
        permit: Box<Permit>,
        /// The attestation result, to be archived.
        result: AttestationResult,
    },
    /// To be signed and logged too.
    Denied(Denial),
}

/// Decides.
#[must_use]
pub fn decide(received: &ReceivedRequest, facts: &Facts<'_>, bundle: &VerifiedBundle) -> Decision {
    let mut checks = Checks::refusals();
    let mut known = Acquaintance::Stranger;
    match judge(received, facts, bundle, &mut checks, &mut known) {
        Some(permission) if checks.passed() => authorized(received, facts, bundle, permission),
        _ => Decision::Denied(denied(received, facts, bundle, &checks, known)),
    }
}

/// Whether the evidence has proven who asks. Strangers learn one check id.
#[derive(Clone, Copy, PartialEq)]
enum Acquaintance {
    Stranger,
    Enrolled,
}

struct Permission<'p> {
    result: AttestationResult,
    workload: &'p KnownWorkload,
    boot: Option<BootCounters>,
}

fn judge<'p>(
    received: &ReceivedRequest,
    facts: &Facts<'_>,
    bundle: &'p VerifiedBundle,
    checks: &mut Checks,
    known: &mut Acquaintance,
) -> Option<Permission<'p>> {
    let request = received.request();
    let policy = bundle.policy();
    check_freshness(request, facts, bundle, checks);
    if !checks.passed() {
        return None;
    }
    let evidence = verify_evidence(received, facts, bundle, checks)?;
    let node = find_node(request, bundle, checks)?;
    let identity = Identity {
        name: &node.name,
        role: Role::Node,
        chip_id: node.chip_id.as_ref().map(<[u8; 64]>::as_slice),
        ak_name: node.ak_name.as_deref(),
        ek: node.ek.as_ref(),
        activation: facts.activation.as_ref(),
        minimum_class: node.minimum_class,
    };
    if identify(&evidence, &identity, checks) {
        *known = Acquaintance::Enrolled;
    }
    let result = appraise(&evidence, &identity, policy, checks);
    check_revocation(request, facts, checks);
    let boot = evidence.tpm().map(boot_counters);
    check_parent(request, facts, boot, checks);
    let workload = find_workload(request, bundle, checks);
    let (result, workload) = (result?, workload?);
    ask_cedar(node, &result, workload, request, bundle, checks);
    Some(Permission { result, workload, boot })
}

/// The request is for this authority, now, on this connection.
fn check_freshness(request: &PermitRequest, facts: &Facts<'_>, bundle: &VerifiedBundle, checks: &mut Checks) {
    checks.step("bundle.expired", bundle.check_time(facts.time), "a bundle that is valid", "validity of the bundle");
    let audience = facts.issuer.to_owned();
    checks.equal("request.audience", &request.audience, &audience, "authority that the request is for");
    checks.equal(
        "request.statement",
        &hex(&request.statement),
        &hex(&facts.statement),
        "statement that the node verified",
    );
    let nonce = facts.nonce.map(|preimage| preimage.nonce());
    checks.require(
        "request.nonce",
        nonce == Some(request.nonce),
        || hex(&request.nonce),
        || nonce.map_or_else(|| "a nonce that this connection was given".into(), |n| hex(&n)),
        "nonce of this connection, good for one request",
    );
    checks.require(
        "request.seen",
        facts.seen != SeenState::Contradicted,
        || "a checkpoint that the log does not extend".into(),
        || "a checkpoint that the log extends".into(),
        "largest checkpoint that the node has seen",
    );
    if let Some(preimage) = facts.nonce {
        let age = facts.time.checked_sub(preimage.issued);
        checks.require(
            "request.nonce.age",
            age.is_some_and(|age| age <= LIFETIME),
            || age.map_or_else(|| "issued in the future".into(), |age| format!("{age} s")),
            || format!("at most {LIFETIME} s"),
            "age of the nonce",
        );
    }
}

fn verify_evidence(
    received: &ReceivedRequest,
    facts: &Facts<'_>,
    bundle: &VerifiedBundle,
    checks: &mut Checks,
) -> Option<VerifiedEvidence> {
    let parsed = Evidence::parse(received.evidence());
    let evidence = checks.step("evidence.form", parsed, "a CMW collection of evidence", "form of the evidence")?;
    let binding = Binding {
        role: Role::Node,
        nonce: &received.request().nonce,
        channel: facts.channel,
        context: &received.digest(),
    };
    let challenge = Challenge { binding, carriage: Carriage::Direct, selection: bundle.policy().selection(Role::Node) };
    verify(&evidence, &challenge, bundle.content().verifier(), facts.time, checks)
}

fn find_node<'p>(request: &PermitRequest, bundle: &'p VerifiedBundle, checks: &mut Checks) -> Option<&'p Node> {
    let node = bundle.policy().nodes.get(&request.node);
    checks.require(
        "node.enrolled",
        node.is_some(),
        || request.node.clone(),
        || "a node enrolled in the bundle".into(),
        "enrolment of the node",
    );
    node
}

fn check_revocation(request: &PermitRequest, facts: &Facts<'_>, checks: &mut Checks) {
    let digest = &request.workload.digest;
    for (id, revoked, what) in [
        ("node.revoked", facts.revocations.has_node(&request.node), request.node.clone()),
        ("workload.revoked", facts.revocations.has_workload(digest), hex(digest)),
    ] {
        checks.require(
            id,
            !revoked,
            || format!("{what} is revoked"),
            || "not revoked".into(),
            "revocation by governors",
        );
    }
}

fn boot_counters(quote: &VerifiedQuote) -> BootCounters {
    let ClockInfo { clock, reset_count, restart_count, .. } = quote.clock();
    BootCounters { reset_count, restart_count, clock }
}

/// A renewal continues a permit of the same node, key, workload and boot.
fn check_parent(request: &PermitRequest, facts: &Facts<'_>, boot: Option<BootCounters>, checks: &mut Checks) {
    let Some(parent) = request.parent else { return };
    let logged = match &facts.parent {
        ParentState::Logged { subject, confirmation, workload, origin, boot } => {
            Some((subject, confirmation, workload, origin, boot))
        }
        ParentState::None | ParentState::Unknown => None,
    };
    checks.require(
        "parent.logged",
        logged.is_some(),
        || parent.to_string(),
        || "a permit of this log that has not ended".into(),
        "permit to be renewed",
    );
    let Some((subject, confirmation, workload, origin, before)) = logged else { return };
    let same = *subject == request.node
        && confirmation == request.confirmation.thumbprint()
        && *workload == request.workload.digest;
    checks.require(
        "parent.same",
        same,
        || format!("{subject}, key {}, workload {}", hex(confirmation), hex(workload)),
        || "the node, key and workload of the request".into(),
        "what the parent was granted for",
    );
    // A machine that rebooted no longer runs what the parent permitted.
    let continued = match (boot, before) {
        (Some(now), Some(before)) => now.continues(before),
        (None, None) => true,
        _ => false,
    };
    let counters = |boot: Option<BootCounters>| boot.map_or_else(|| "no TPM".into(), |boot| boot.to_string());
    checks.require(
        "parent.boot",
        continued,
        || counters(boot),
        || format!("the boot of the parent, not before {}", counters(*before)),
        "boot counters of the node's TPM",
    );
    let revoked = facts.revocations.has_permit(&parent) || facts.revocations.has_permit(origin);
    checks.require(
        "parent.revoked",
        !revoked,
        || if revoked { "revoked".into() } else { "valid".into() },
        || "valid".into(),
        "revocation of the parent or of the permit that it goes back to",
    );
}

fn find_workload<'p>(
    request: &PermitRequest,
    bundle: &'p VerifiedBundle,
    checks: &mut Checks,
) -> Option<&'p KnownWorkload> {
    let asked = &request.workload;
    let known = bundle.policy().workloads.get(&asked.digest);
    checks.require(
        "workload.known",
        known.is_some(),
        || hex(&asked.digest),
        || "the digest of a workload in the bundle".into(),
        "executable",
    );
    let known = known?;
    for (id, rule, found, what) in [
        ("workload.arguments", &known.arguments, &asked.arguments, "arguments"),
        ("workload.environment", &known.environment, &asked.environment, "environment"),
    ] {
        let required = || rule.required().map_or_else(|| "any".into(), |value| hex(&value));
        checks.require(id, rule.admits(found), || hex(found), required, what);
    }
    let dynamic = asked.linking == DynamicLinking::Dynamic && known.linking == DynamicLinking::Static;
    checks.require(
        "workload.linking",
        !dynamic,
        || asked.linking.as_str().into(),
        || known.linking.as_str().into(),
        "whether shared libraries may take part",
    );
    Some(known)
}

fn ask_cedar(
    node: &Node,
    result: &AttestationResult,
    workload: &KnownWorkload,
    request: &PermitRequest,
    bundle: &VerifiedBundle,
    checks: &mut Checks,
) {
    let digest = hex(&workload.digest);
    let answer = bundle.content().authorizer().ask(&Question {
        node: &node.name,
        class: result.class().name(),
        generation: result.generation().map_or("none", |g| g.name()),
        tags: &node.tags,
        workload: &digest,
        workload_name: &workload.name,
        dynamic: request.workload.linking == DynamicLinking::Dynamic,
        renewal: request.parent.is_some(),
    });
    let (id, found) = match answer {
        Answer::Permitted => return,
        Answer::Forbidden(policies) => ("authz.forbid", format!("forbidden by {}", policies.join(", "))),
        Answer::NotPermitted => ("authz.permit", "no policy permits".into()),
        Answer::Erred(error) => ("authz.error", error),
    };
    checks.require(id, false, || found, || "permitted by policy, without an error".into(), "Cedar policies");
}

fn authorized(
    received: &ReceivedRequest,
    facts: &Facts<'_>,
    bundle: &VerifiedBundle,
    permission: Permission<'_>,
) -> Decision {
    let request = received.request();
    let Permission { result, workload, boot } = permission;
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
            arguments: bound(&workload.arguments),
            environment: bound(&workload.environment),
            linking: workload.linking,
        },
        status: facts.status.clone(),
        evidence: *result.evidence(),
        bundle: *bundle.digest(),
        result: result.digest(),
        channel: sha256(&[&facts.encode()]),
        boot,
        parent: request.parent,
    };
    Decision::Authorized { permit: Box::new(permit), result }
}

const fn bound(rule: &FieldRule<32>) -> Option<Digest> {
    rule.required()
}

fn denied(
    received: &ReceivedRequest,
    facts: &Facts<'_>,
    bundle: &VerifiedBundle,
    checks: &Checks,
    known: Acquaintance,
) -> Denial {
    let all = checks.refused().map(|check| Refusal {
        check: check.id.to_string(),
        found: check.found.clone(),
        required: check.required.clone(),
        remedy: Some(remedy(&check.id).to_owned()),
    });
    let refusals = match known {
        Acquaintance::Enrolled => all.collect(),
        Acquaintance::Stranger => all.take(1).map(|refusal| Refusal::id_only(&refusal.check)).collect(),
    };
    Denial {
        issuer: facts.issuer.to_owned(),
        subject: received.request().node.clone(),
        id: received.permit_id(),
        time: facts.time,
        refusals,
        evidence: sha256(&[received.evidence()]),
        bundle: *bundle.digest(),
    }
}
