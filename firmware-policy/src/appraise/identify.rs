//! The identity of the machine that the evidence comes from.

use portcullis_attest::binding::Role;
use portcullis_attest::check::Checks;
use portcullis_attest::evidence::EvidenceClass;
use portcullis_attest::snp::fields::SigningKey;
use portcullis_attest::verified::VerifiedEvidence;
use portcullis_wire::Digest;
use portcullis_wire::hex::hex;

/// A credential that was activated on the connection of the request: it proves that
/// both keys are in one TPM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Activation {
    /// SHA-256 of the `SubjectPublicKeyInfo` of the endorsement key.
    pub ek: Digest,
    /// Name of the attestation key.
    pub ak_name: Vec<u8>,
}

/// The machine that the evidence must come from.
#[derive(Clone, Copy, Debug)]
pub struct Identity<'a> {
    /// Name, for the result.
    pub name: &'a str,
    /// Role whose reference values apply.
    pub role: Role,
    /// Chip id that the report must carry; absent where only the attestation key identifies
    /// the machine.
    pub chip_id: Option<&'a [u8]>,
    /// Attestation key that must have signed the quote. If absent, a quote does not
    /// identify the machine, and only its PCRs count.
    pub ak_name: Option<&'a [u8]>,
    /// Endorsement key whose TPM must hold the quote's key.
    pub ek: Option<&'a Digest>,
    /// The credential activation that the channel has shown, if any.
    pub activation: Option<&'a Activation>,
    /// Weakest evidence that is admitted.
    pub minimum_class: EvidenceClass,
}

/// Whether evidence proves the identity of the machine: the identity names the chip of
/// its report and the key of its quote. Records `node.*` or `authority.*`.
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
        // A VLEK report without a chip id does not identify the machine.
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
    // For the enrolled endorsement key, and for one that a service module vouches for, an
    // activation must have shown that the quote's key is in the same TPM.
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
