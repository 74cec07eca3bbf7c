//! Whose evidence it is.

use portcullis_attest::binding::Role;
use portcullis_attest::check::Checks;
use portcullis_attest::evidence::EvidenceClass;
use portcullis_attest::snp::fields::SigningKey;
use portcullis_attest::verified::VerifiedEvidence;
use portcullis_wire::Digest;
use portcullis_wire::hex::hex;

/// A credential that was activated on the connection of the request: both keys
/// are of one TPM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Activation {
    /// SHA-256 of the `SubjectPublicKeyInfo` of the endorsement key.
    pub ek: Digest,
    /// Name of the attestation key.
    pub ak_name: Vec<u8>,
}

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
            tpm.ak_name() == Some(ak_name),
            || hex(tpm.ak_name().unwrap_or_default()),
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
            identity.activation.is_some_and(|shown| shown.ek == *ek && tpm.ak_name() == Some(shown.ak_name.as_slice())),
            || identity.activation.map_or_else(|| "none on this connection".into(), |a| describe(&a.ek, &a.ak_name)),
            || describe(ek, tpm.ak_name().unwrap_or_default()),
            "activated credential, against the quote and the enrolment",
        );
    }
    known
}
