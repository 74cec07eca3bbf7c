//! Checks of a request: that it is fresh and for this authority, the permit that it
//! renews, and the workload that it names.

use portcullis_attest::check::Checks;
use portcullis_attest::tpm::attest::ClockInfo;
use portcullis_attest::tpm::verify::VerifiedQuote;
use portcullis_permit::{BootCounters, DynamicLinking, PermitRequest};
use portcullis_wire::hex::hex;

use super::facts::{Facts, ParentState, SeenState};
use crate::bundle::Content;
use crate::policy::{KnownWorkload, Node, Policy};

/// The request is fresh, and for this authority and this connection.
pub(super) fn check_freshness(
    request: &PermitRequest,
    facts: &Facts<'_>,
    at: u64,
    bundle: &Content,
    checks: &mut Checks,
) {
    bundle.judge_time(at, "validity of the bundle", checks);
    let authority = bundle.check_authority(facts.issuer);
    checks.step("bundle.authority", authority, "a bundle for this authority", "authority that the bundle is for");
    let audience = facts.issuer.to_owned();
    checks.equal("request.audience", &request.audience, &audience, "authority that the request is for");
    checks.require(
        "request.statement",
        request.statement == facts.statement,
        || hex(&request.statement),
        || hex(&facts.statement),
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
        let (age, most) = (facts.time.checked_sub(preimage.issued), bundle.policy().evidence_seconds);
        checks.require(
            "request.nonce.age",
            age.is_some_and(|age| age <= most),
            || age.map_or_else(|| "issued in the future".into(), |age| format!("{age} s")),
            || format!("at most {most} s"),
            "age of the nonce",
        );
    }
}

pub(super) fn find_node<'p>(request: &PermitRequest, policy: &'p Policy, checks: &mut Checks) -> Option<&'p Node> {
    let node = policy.nodes.get(&request.node);
    checks.require(
        "node.enrolled",
        node.is_some(),
        || request.node.clone(),
        || "a node enrolled in the bundle".into(),
        "enrolment of the node",
    );
    node
}

pub(super) fn check_revocation(request: &PermitRequest, facts: &Facts<'_>, checks: &mut Checks) {
    let digest = &request.workload.digest;
    let node = facts.revocations.has_node(&request.node);
    let detail = "revocation by governors";
    let required = || "not revoked".to_owned();
    checks.require("node.revoked", !node, || format!("{} is revoked", request.node), required, detail);
    let workload = facts.revocations.has_workload(digest);
    checks.require("workload.revoked", !workload, || format!("{} is revoked", hex(digest)), required, detail);
}

/// The boot counters and the clock of a quote's TPM.
pub(super) fn boot_counters(quote: &VerifiedQuote) -> BootCounters {
    let ClockInfo { clock, reset_count, restart_count, .. } = quote.clock();
    BootCounters { reset_count, restart_count, clock }
}

/// Whether the evidence has shown the boot counters of the node's TPM.
#[derive(Clone, Copy)]
pub(super) enum Boot {
    /// Unknown, because the evidence was not verified.
    Unknown,
    /// The counters in the evidence; `None` without a TPM.
    Shown(Option<BootCounters>),
}

/// A renewal continues a permit of the same node, key, workload and boot, and
/// not for longer than the bundle allows.
pub(super) fn check_parent(
    request: &PermitRequest,
    facts: &Facts<'_>,
    policy: &Policy,
    boot: Boot,
    checks: &mut Checks,
) {
    let Some(parent) = request.parent else { return };
    checks.require(
        "parent.logged",
        matches!(facts.parent, ParentState::Logged { .. }),
        || parent.to_string(),
        || "a permit of this log that has not ended".into(),
        "permit to be renewed",
    );
    let ParentState::Logged { subject, confirmation, workload, origin, since, boot: before } = &facts.parent else {
        return;
    };
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
    if let Boot::Shown(boot) = boot {
        check_boot(boot, *before, checks);
    }
    let (age, most) = (facts.time.saturating_sub(*since), policy.renewal_seconds);
    checks.require(
        "parent.age",
        age <= most,
        || format!("{age} s since the first permit of the line"),
        || format!("at most {most} s"),
        "age of the line of renewals",
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

/// After a reboot, the program that the parent permitted no longer runs.
fn check_boot(boot: Option<BootCounters>, before: Option<BootCounters>, checks: &mut Checks) {
    let continued = match (boot, before) {
        (Some(now), Some(before)) => now.continues(&before),
        (None, None) => true,
        _ => false,
    };
    let counters = |boot: Option<BootCounters>| boot.map_or_else(|| "no TPM".into(), |boot| boot.to_string());
    checks.require(
        "parent.boot",
        continued,
        || counters(boot),
        || format!("the boot of the parent, not before {}", counters(before)),
        "boot counters of the node's TPM",
    );
}

pub(super) fn find_workload<'p>(
    request: &PermitRequest,
    policy: &'p Policy,
    checks: &mut Checks,
) -> Option<&'p KnownWorkload> {
    let asked = &request.workload;
    let known = policy.workloads.get(&asked.digest);
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
