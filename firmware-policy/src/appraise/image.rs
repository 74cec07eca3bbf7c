//! Finds the admitted image of a machine, and checks the evidence against its rules.

use portcullis_attest::binding::Role;
use portcullis_attest::check::Checks;
use portcullis_attest::evidence::EvidenceClass;
use portcullis_attest::snp::verify::VerifiedSnpReport;
use portcullis_attest::tpm::pcr::Bank;
use portcullis_attest::verified::VerifiedEvidence;
use portcullis_permit::Clock;
use portcullis_wire::hex::hex;
use portcullis_wire::rfc3339;

use super::identify::Identity;
use super::measured::appraise_measured;
use crate::document::Coverage;
use crate::policy::{FieldRule, Policy, Reference};

/// Number of reference values that a denial names; it counts the rest.
const NAMED: usize = 3;

/// Finds the image of a machine from its evidence, and judges the rest of the evidence
/// by that image's rules.
///
/// Several images may share a measurement, such as the same firmware with different
/// kernels. The first match is taken. If no image matches, the refusals are those of
/// the closest one.
pub(super) fn appraise_image<'p>(
    evidence: &VerifiedEvidence,
    identity: &Identity<'_>,
    policy: &'p Policy,
    at: u64,
    checks: &mut Checks,
) -> Option<&'p Reference> {
    let candidates = candidates(evidence, identity.role, policy, checks);
    choose(candidates, checks, |reference, checks| {
        check_validity(reference, policy.clock(at), checks);
        check_coverage(evidence, identity, reference, checks);
        if let Some(snp) = evidence.snp() {
            appraise_guest(snp, reference, checks);
        }
        if let Some(tpm) = evidence.tpm() {
            appraise_measured(tpm, reference, checks);
        } else if !reference.needed_pcrs().is_empty() && reference.covers == Coverage::FirmwareAndUki {
            checks.missing("tpm.reference", "a quote", "PCRs that the image is admitted by");
        }
    })
}

/// As [`appraise_image`], for a report alone.
pub(super) fn appraise_launch<'p>(
    snp: &VerifiedSnpReport,
    role: Role,
    policy: &'p Policy,
    at: u64,
    checks: &mut Checks,
) -> Option<&'p Reference> {
    let candidates = by_measurement(snp, role, policy, checks);
    choose(candidates, checks, |reference, checks| {
        check_validity(reference, policy.clock(at), checks);
        appraise_guest(snp, reference, checks);
    })
}

fn choose<'p>(
    candidates: Vec<&'p Reference>,
    checks: &mut Checks,
    mut judge: impl FnMut(&Reference, &mut Checks),
) -> Option<&'p Reference> {
    let mut closest: Option<(&Reference, Checks)> = None;
    for reference in candidates {
        let mut own = checks.another();
        judge(reference, &mut own);
        let refusals = |checks: &Checks| checks.refused().count();
        if closest.as_ref().is_none_or(|(_, best)| refusals(&own) < refusals(best)) {
            closest = Some((reference, own));
        }
        if closest.as_ref().is_some_and(|(_, best)| best.passed()) {
            break;
        }
    }
    let (reference, own) = closest?;
    checks.extend(&own);
    Some(reference)
}

fn candidates<'p>(
    evidence: &VerifiedEvidence,
    role: Role,
    policy: &'p Policy,
    checks: &mut Checks,
) -> Vec<&'p Reference> {
    if let Some(snp) = evidence.snp() {
        return by_measurement(snp, role, policy, checks);
    }
    let value = |pcr| evidence.tpm().and_then(|tpm| tpm.pcrs().value(Bank::Sha256, pcr)?.try_into().ok());
    let found: Vec<&Reference> = policy.by_pcr(role, value).collect();
    checks.require(
        "tpm.reference",
        !found.is_empty(),
        || if found.is_empty() { "PCRs of no known image".into() } else { "PCRs of a known image".into() },
        || "the PCRs of a reference value of the role".into(),
        "PCRs, against the reference values of the role",
    );
    found
}

fn by_measurement<'p>(
    snp: &VerifiedSnpReport,
    role: Role,
    policy: &'p Policy,
    checks: &mut Checks,
) -> Vec<&'p Reference> {
    let measurement = &snp.report().measurement;
    let found: Vec<&Reference> = policy.by_measurement(role, measurement).collect();
    checks.require(
        "snp.measurement",
        !found.is_empty(),
        || hex(measurement),
        || admitted(role, policy),
        "launch measurement, against the reference values of the role",
    );
    found
}

/// The admitted measurements of a role: a few of them, and the number of the rest.
fn admitted(role: Role, policy: &Policy) -> String {
    let of_role = || {
        let references = policy.references().iter().filter(move |r| r.role == role);
        references.flat_map(|r| r.measurements.values().map(move |value| (r, value)))
    };
    let named: Vec<String> = of_role().take(NAMED).map(|(r, value)| format!("{} ({})", hex(value), r.name)).collect();
    match of_role().count().saturating_sub(named.len()) {
        _ if named.is_empty() => "no image is admitted in this role".into(),
        0 => named.join(" or "),
        more => format!("{} or one of {more} more", named.join(" or ")),
    }
}

fn check_validity(reference: &Reference, clock: Clock, checks: &mut Checks) {
    let (from, until) = (reference.valid.from, reference.valid.until);
    checks.require(
        "reference.validity",
        reference.valid.contains(clock),
        || rfc3339(clock.now),
        || format!("{} (less {} s of tolerance) or later, and before {}", rfc3339(from), clock.skew, rfc3339(until)),
        "time in which the reference values are valid",
    );
}

/// Where the launch measurement covers firmware only, the vTPM reports everything else.
/// That vTPM must be vouched for by the same chip, or come from a known vendor.
fn check_coverage(evidence: &VerifiedEvidence, identity: &Identity<'_>, reference: &Reference, checks: &mut Checks) {
    if reference.covers == Coverage::BootChain {
        return;
    }
    let vouched = match evidence.class() {
        EvidenceClass::SnpSvsmVtpm | EvidenceClass::SnpAzureVtpm => true,
        // The identification of the machine checks the activation of the credential.
        EvidenceClass::SnpTpm | EvidenceClass::Tpm => identity.ek.is_some(),
        EvidenceClass::Snp => false,
    };
    checks.require(
        "reference.vtpm",
        vouched,
        || format!("{}, and no enrolled endorsement key", evidence.class()),
        || "a vTPM that the chip vouches for, or an enrolled endorsement key".into(),
        "who says what came after the firmware",
    );
}

/// The launch parameters of the guest.
fn appraise_guest(snp: &VerifiedSnpReport, reference: &Reference, checks: &mut Checks) {
    let report = snp.report();
    checks.equal("snp.vmpl", &report.vmpl, &reference.vmpl, "privilege level of the report");
    checks.require(
        "snp.guest_svn",
        report.guest_svn >= reference.guest_svn,
        || report.guest_svn.to_string(),
        || format!("at least {}", reference.guest_svn),
        "security version of the guest",
    );
    field("snp.host_data", &report.host_data, &reference.host_data, "host data", checks);
    field("snp.id_key_digest", &report.id_key_digest, &reference.id_key_digest, "digest of the ID key", checks);
    let author = "digest of the author key";
    field("snp.author_key_digest", &report.author_key_digest, &reference.author_key_digest, author, checks);
}

fn field<const N: usize>(
    id: &'static str,
    found: &[u8; N],
    rule: &FieldRule<N>,
    detail: &'static str,
    checks: &mut Checks,
) {
    let required = || rule.required().map_or_else(|| "any".into(), |value| hex(&value));
    checks.require(id, rule.admits(found), || hex(found), required, detail);
}
