//! Appraisal: verified evidence against the reference values of a role.
//!
//! ```text
//! class -> chip, floors, platform -> image -> guest, PCRs, boot, kernel image, files
//! ```
//!
//! Every check that can be made is made, even after one has failed.

mod events;
mod identify;
mod image;
mod measured;
mod platform;
mod warning;

use portcullis_attest::binding::Role;
use portcullis_attest::check::Checks;
use portcullis_attest::evidence::EvidenceClass;
use portcullis_attest::snp::generation::Generation;
use portcullis_attest::snp::verify::VerifiedSnpReport;
use portcullis_attest::verified::VerifiedEvidence;
use portcullis_wire::{Digest, Value, bstr, encode, map, or_null, sha256};

pub use identify::{Activation, Identity, identify};
pub use warning::Warning;

use crate::ear::{Ear, TrustVector, policy_id};
use crate::policy::{Policy, Reference};
use image::{appraise_image, appraise_launch};
use platform::appraise_platform;

/// The result of an appraisal. Only [`appraise`] makes one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttestationResult {
    name: String,
    class: EvidenceClass,
    reference: String,
    generation: Option<Generation>,
    vector: TrustVector,
    warnings: Vec<Warning>,
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

    /// Chip generation, in the classes that have a report.
    #[must_use]
    pub const fn generation(&self) -> Option<Generation> {
        self.generation
    }

    /// Trustworthiness in the terms of AR4SI.
    #[must_use]
    pub const fn vector(&self) -> TrustVector {
        self.vector
    }

    /// Conditions that will be denied from a date on.
    #[must_use]
    pub fn warnings(&self) -> &[Warning] {
        &self.warnings
    }

    /// The result as an EAR, appraised under a bundle at a time (Unix seconds).
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

/// The outcome of an appraisal: the image, and a result if every check passed.
#[derive(Debug)]
pub struct Appraisal<'p> {
    /// The image that the evidence names, whether or not it is admitted now.
    pub image: Option<&'p Reference>,
    /// The result.
    pub result: Option<AttestationResult>,
}

/// Appraises evidence of a machine at a time, and records every check.
pub fn appraise<'p>(
    evidence: &VerifiedEvidence,
    identity: &Identity<'_>,
    policy: &'p Policy,
    at: u64,
    checks: &mut Checks,
) -> Appraisal<'p> {
    let mut own = checks.another();
    check_class(evidence.class(), policy, &mut own);
    let warnings = evidence.snp().map(|snp| appraise_platform(snp, policy, at, &mut own)).unwrap_or_default();
    let image = appraise_image(evidence, identity, policy, at, &mut own);
    let passed = own.passed();
    checks.extend(&own);
    Appraisal { image, result: image.filter(|_| passed).map(|image| result(evidence, identity, image, warnings)) }
}

/// Appraises a report alone, for an auditor who has no other evidence: platform,
/// measurement, launch. Returns the name of the reference values that matched.
pub fn appraise_report(
    snp: &VerifiedSnpReport,
    role: Role,
    policy: &Policy,
    at: u64,
    checks: &mut Checks,
) -> Option<String> {
    appraise_platform(snp, policy, at, checks);
    let reference = appraise_launch(snp, role, policy, at, checks)?;
    checks.passed().then(|| reference.name.clone())
}

fn check_class(class: EvidenceClass, policy: &Policy, checks: &mut Checks) {
    checks.require(
        "evidence.admitted",
        policy.classes.contains(&class),
        || class.to_string(),
        || policy.classes.iter().map(|class| class.name()).collect::<Vec<_>>().join(" or "),
        "evidence class, against those that the bundle admits",
    );
}

fn result(
    evidence: &VerifiedEvidence,
    identity: &Identity<'_>,
    reference: &Reference,
    warnings: Vec<Warning>,
) -> AttestationResult {
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
        (11, Value::Array(warnings.iter().map(Warning::to_value).collect())),
    ]));
    AttestationResult {
        name: identity.name.to_owned(),
        class: evidence.class(),
        reference: reference.name.clone(),
        generation,
        vector,
        warnings,
        evidence: *evidence.digest(),
        bytes,
    }
}
