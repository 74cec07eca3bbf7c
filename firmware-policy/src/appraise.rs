//! Appraisal: verified evidence against the reference values of a role.

use portcullis_attest::binding::Role;
use portcullis_attest::check::Checks;
use portcullis_attest::evidence::EvidenceClass;
use portcullis_attest::snp::fields::SigningKey;
use portcullis_attest::snp::generation::Generation;
use portcullis_attest::snp::verify::VerifiedSnpReport;
use portcullis_attest::tpm::pcr::Bank;
use portcullis_attest::tpm::verify::VerifiedQuote;
use portcullis_attest::verified::VerifiedEvidence;
use portcullis_wire::hex::hex;
use portcullis_wire::{Digest, Value, bstr, encode, map, or_null, sha256};

use crate::decide::Activation;
use crate::ear::{Ear, TrustVector, policy_id};
use crate::policy::{FieldRule, Policy, Reference, satisfied};

/// Which machine the evidence must be of.
#[derive(Clone, Copy, Debug)]
pub struct Identity<'a> {
    /// Name, for the result.
    pub name: &'a str,
    /// Role whose reference values count.
    pub role: Role,
    /// Chip id that the report must carry; absent where the machine is known by
    /// its attestation key alone.
    pub chip_id: Option<&'a [u8]>,
    /// Attestation key that a quote must be signed by. Absent, a quote cannot
    /// say which machine it is of, and counts for its PCRs only.
    pub ak_name: Option<&'a [u8]>,
    /// Endorsement key beside which the quote's key must live.
    pub ek: Option<&'a Digest>,
    /// What the channel has shown of that.
    pub activation: Option<&'a Activation>,
    /// Weakest evidence that is admitted.
    pub minimum_class: EvidenceClass,
}

/// What an appraisal found. Only [`appraise`] makes one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttestationResult {
    name: String,
    class: EvidenceClass,
    reference: String,
    generation: Option<Generation>,
    vector: TrustVector,
    evidence: Digest,
    bytes: Vec<u8>,
}

impl AttestationResult {
    /// Name of the machine.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Evidence class.
    #[must_use]
    pub const fn class(&self) -> EvidenceClass {
        self.class
    }

    /// Name of the reference values that matched.
    #[must_use]
    pub fn reference(&self) -> &str {
        &self.reference
    }

    /// Chip generation, in the classes with a report.
    #[must_use]
    pub const fn generation(&self) -> Option<Generation> {
        self.generation
    }

    /// Trustworthiness in the terms of AR4SI.
    #[must_use]
    pub const fn vector(&self) -> TrustVector {
        self.vector
    }

    /// The result as an EAR by a bundle, made at a time (Unix seconds).
    #[must_use]
    pub fn ear(&self, bundle: &Digest, issued: u64) -> Ear {
        let policies = vec![policy_id(bundle)];
        Ear { issued, subject: self.name.clone(), vector: self.vector, policies }
    }

    /// SHA-256 of the evidence.
    #[must_use]
    pub const fn evidence(&self) -> &Digest {
        &self.evidence
    }

    /// The deterministic encoding, to be archived.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// SHA-256 of the encoding.
    #[must_use]
    pub fn digest(&self) -> Digest {
        sha256(&[&self.bytes])
    }
}

/// Whether evidence proves who the machine is: its report is of the chip, its
/// quote of the key, that the identity names. Records `node.*` or `authority.*`.
pub fn identify(evidence: &VerifiedEvidence, identity: &Identity<'_>, checks: &mut Checks) -> bool {
    let prefix = match identity.role {
        Role::Authority => "authority",
        Role::Node => "node",
    };
    let class = checks.require(
        "evidence.class",
        evidence.class().satisfies(identity.minimum_class),
        || evidence.class().to_string(),
        || format!("at least {}", identity.minimum_class),
        "evidence class, against the minimum of the enrolment",
    );
    let mut known = class;
    if let (Some(snp), Some(chip_id)) = (evidence.snp(), identity.chip_id) {
        let found = &snp.report().chip_id;
        // A VLEK report without a chip id says nothing about the machine.
        let named = snp.signing_key() == SigningKey::Vcek || *found != [0; 64];
        known &= checks.require(
            format!("{prefix}.chip_id"),
            named && found == chip_id,
            || hex(found),
            || hex(chip_id),
            "chip id, against the enrolment",
        );
    }
    if let (Some(tpm), Some(ak_name)) = (evidence.tpm(), identity.ak_name) {
        known &= checks.require(
            format!("{prefix}.ak"),
            tpm.ak_name() == ak_name,
            || hex(tpm.ak_name()),
            || hex(ak_name),
            "attestation key, against the enrolment",
        );
    }
    // An enrolled endorsement key, and one that a service module vouches for: the
    // quote's key must have been shown to live beside each of them.
    for (tpm, ek) in evidence
        .tpm()
        .into_iter()
        .flat_map(|tpm| identity.ek.into_iter().chain(evidence.vouched_ek()).map(move |ek| (tpm, ek)))
    {
        let describe = |ek: &Digest, ak: &[u8]| format!("attestation key {} under EK {}", hex(ak), hex(ek));
        known &= checks.require(
            format!("{prefix}.activation"),
            identity.activation.is_some_and(|shown| shown.ek == *ek && shown.ak_name == tpm.ak_name()),
            || identity.activation.map_or_else(|| "none on this connection".into(), |a| describe(&a.ek, &a.ak_name)),
            || describe(ek, tpm.ak_name()),
            "activated credential, against the quote and the enrolment",
        );
    }
    known
}

/// Appraises evidence of an identified machine, recording every check.
pub fn appraise(
    evidence: &VerifiedEvidence,
    identity: &Identity<'_>,
    policy: &Policy,
    checks: &mut Checks,
) -> Option<AttestationResult> {
    if let Some(snp) = evidence.snp() {
        appraise_platform(snp, policy, checks);
    }
    let reference = find_reference(evidence, identity.role, policy, checks)?;
    if let Some(snp) = evidence.snp() {
        appraise_guest(snp, reference, checks);
    }
    if let Some(tpm) = evidence.tpm() {
        appraise_pcrs(tpm, reference, checks);
    }
    checks.passed().then(|| result(evidence, identity, reference))
}

/// Appraises a report alone, as an auditor does who has no more: platform,
/// measurement, launch. Returns the name of the reference values that matched.
pub fn appraise_report(snp: &VerifiedSnpReport, role: Role, policy: &Policy, checks: &mut Checks) -> Option<String> {
    appraise_platform(snp, policy, checks);
    let reference = find_measurement(snp, role, policy, checks)?;
    appraise_guest(snp, reference, checks);
    checks.passed().then(|| reference.name.clone())
}

/// The chip and its firmware, whatever runs on it.
fn appraise_platform(snp: &VerifiedSnpReport, policy: &Policy, checks: &mut Checks) {
    let report = snp.report();
    let generation = snp.generation();
    let trusted = |what: bool| if what { "trusted".to_owned() } else { "distrusted".to_owned() };
    let required = || "trusted".to_owned();
    let ok = !policy.distrusted_generations.contains(&generation);
    checks.require("chip.generation", ok, || format!("{generation} {}", trusted(ok)), required, "chip generation");
    let ok = !policy.distrusted_veks.contains(snp.vek_key_digest());
    checks.require(
        "chip.vek",
        ok,
        || format!("{} {}", hex(snp.vek_key_digest()), trusted(ok)),
        required,
        "endorsement key",
    );
    let ok = !policy.distrusted_chips.contains(&report.chip_id);
    checks.require("chip.id", ok, || format!("{} {}", report.chip_id_hex(), trusted(ok)), required, "chip");

    match policy.floors.get(&generation) {
        None => {
            checks.require(
                "snp.tcb.floor",
                false,
                || "no floor".into(),
                || format!("a floor for {generation}"),
                "TCB floor",
            );
        }
        Some(floor) => {
            for (name, tcb) in snp.tcbs() {
                checks.require(
                    format!("snp.tcb.floor.{name}"),
                    tcb.at_least(floor),
                    || tcb.to_string(),
                    || format!("at least {floor}"),
                    "TCB version, against the floor of the generation",
                );
            }
        }
    }

    let info = report.platform_info;
    let wanted = policy.platform;
    for (id, requirement, holds) in [
        ("snp.platform.alias_check", wanted.alias_check, info.alias_check_complete()),
        ("snp.platform.ciphertext_hiding", wanted.ciphertext_hiding, info.ciphertext_hiding()),
        ("snp.platform.ecc", wanted.ecc, info.ecc_enabled()),
        ("snp.platform.smt_disabled", wanted.smt_disabled, !info.smt_enabled()),
    ] {
        checks.require(
            id,
            satisfied(requirement, holds),
            || holds.to_string(),
            || "true".into(),
            "platform property that the bundle requires",
        );
    }
    let (launch, current) = report.mitigations.map_or((0, 0), |vectors| (vectors.launch, vectors.current));
    checks.require(
        "snp.mitigations",
        launch & current & wanted.mitigations == wanted.mitigations,
        || format!("launch {launch:#x}, current {current:#x}"),
        || format!("{:#x} in both", wanted.mitigations),
        "mitigation vectors, against the bits that the bundle requires",
    );
    for (id, set, what) in [
        ("snp.policy.debug", report.policy.debug_allowed(), "debugging by the host is off"),
        ("snp.policy.migration", report.policy.migration_agent_allowed(), "no migration agent"),
    ] {
        checks.require(
            id,
            !set,
            || if set { "allowed".into() } else { "not allowed".into() },
            || "not allowed".into(),
            what,
        );
    }
}

/// The reference values of the image that the measurement names, for this role.
/// Without a report, the PCRs name the image.
fn find_reference<'p>(
    evidence: &VerifiedEvidence,
    role: Role,
    policy: &'p Policy,
    checks: &mut Checks,
) -> Option<&'p Reference> {
    if let Some(snp) = evidence.snp() {
        return find_measurement(snp, role, policy, checks);
    }
    let mut of_role = policy.references.iter().filter(|r| r.role == role);
    let tpm = evidence.tpm()?;
    let matches = |r: &&Reference| {
        !r.pcrs.is_empty() && r.pcrs.iter().all(|(pcr, value)| tpm.pcrs().value(Bank::Sha256, *pcr) == Some(value))
    };
    let reference = of_role.find(matches);
    checks.require(
        "tpm.reference",
        reference.is_some(),
        || "PCRs of no known image".into(),
        || "the PCRs of a reference value of the role".into(),
        "PCRs, against the reference values of the role",
    );
    reference
}

fn find_measurement<'p>(
    snp: &VerifiedSnpReport,
    role: Role,
    policy: &'p Policy,
    checks: &mut Checks,
) -> Option<&'p Reference> {
    let found = &snp.report().measurement;
    let of_role = || policy.references.iter().filter(|r| r.role == role);
    let reference = of_role().find(|r| r.measurement == *found);
    checks.require(
        "snp.measurement",
        reference.is_some(),
        || hex(found),
        || {
            let known: Vec<String> = of_role().map(|r| hex(&r.measurement)).collect();
            if known.is_empty() { "no image is admitted in this role".into() } else { known.join(" or ") }
        },
        "launch measurement, against the reference values of the role",
    );
    reference
}

/// What the guest was launched with.
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

/// The selection was checked to be the reference's own, so none is left out.
fn appraise_pcrs(tpm: &VerifiedQuote, reference: &Reference, checks: &mut Checks) {
    for (pcr, required) in &reference.pcrs {
        let found = tpm.pcrs().value(Bank::Sha256, *pcr).unwrap_or_default();
        checks.require(
            format!("tpm.reference.{pcr}"),
            found == required,
            || hex(found),
            || hex(required),
            "PCR, against the reference value",
        );
    }
}

fn result(evidence: &VerifiedEvidence, identity: &Identity<'_>, reference: &Reference) -> AttestationResult {
    let generation = evidence.snp().map(VerifiedSnpReport::generation);
    let tcb = evidence.snp().map(|snp| bstr(snp.report().reported_tcb.0));
    let vector = TrustVector::affirmed(evidence);
    let bytes = encode(&map([
        (1, "portcullis/result/1".into()),
        (2, identity.name.into()),
        (3, evidence.class().name().into()),
        (4, reference.name.as_str().into()),
        (5, or_null(generation.map(|g| g.name().into()))),
        (6, or_null(tcb)),
        (7, bstr(evidence.digest())),
        (8, or_null(evidence.tpm().map(|tpm| Value::from(tpm.clock().reset_count)))),
        (9, or_null(evidence.tpm().and(identity.ek).map(bstr))),
        (10, vector.to_value()),
    ]));
    AttestationResult {
        name: identity.name.to_owned(),
        class: evidence.class(),
        reference: reference.name.clone(),
        generation,
        vector,
        evidence: *evidence.digest(),
        bytes,
    }
}
