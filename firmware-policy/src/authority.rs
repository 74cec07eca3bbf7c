//! Requirements for an authority. A node checks them before it sends any request, and
//! an authority checks itself with the same code before it serves.

use portcullis_attest::binding::{BatchProof, Binding, Role};
use portcullis_attest::check::Checks;
use portcullis_attest::evidence::{Evidence, EvidenceClass};
use portcullis_attest::verified::{Carriage, Challenge, verify};
use portcullis_permit::{AuthorityStatement, Checkpoint, Endorsement, Governance};
use portcullis_wire::hex::hex;
use portcullis_wire::{Digest, merkle, rfc3339};

use crate::appraise::{AttestationResult, Identity, appraise, identify};
use crate::bundle::VerifiedBundle;

/// Largest checkpoint that a node has accepted. The authority's own checkpoint must
/// extend it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Origin of the log.
    pub origin: String,
    /// Size of the tree.
    pub size: u64,
    /// Its root.
    pub root: Digest,
}

/// An authority's answer to a challenge.
#[derive(Clone, Debug)]
pub struct AuthorityAnswer {
    /// Encoded [`AuthorityStatement`].
    pub statement: Vec<u8>,
    /// Encoded evidence.
    pub evidence: Vec<u8>,
    /// Path of this session's binder in the batch.
    pub batch: BatchProof,
    /// Path from the checkpoint that the node has seen to the statement's.
    pub consistency: Vec<Digest>,
}

/// An authority that proved its identity. Only [`verify_authority`] makes one.
#[derive(Clone, Debug)]
pub struct VerifiedAuthority {
    endorsement: Endorsement,
    statement: Digest,
    checkpoint: Checkpoint,
    result: AttestationResult,
    bundle_version: u64,
}

impl VerifiedAuthority {
    /// The governors' endorsement.
    #[must_use]
    pub const fn endorsement(&self) -> &Endorsement {
        &self.endorsement
    }

    /// Digest of its statement.
    #[must_use]
    pub const fn statement(&self) -> &Digest {
        &self.statement
    }

    /// Its latest checkpoint.
    #[must_use]
    pub const fn checkpoint(&self) -> &Checkpoint {
        &self.checkpoint
    }

    /// The attestation result.
    #[must_use]
    pub const fn result(&self) -> &AttestationResult {
        &self.result
    }

    /// Version of its active bundle.
    #[must_use]
    pub const fn bundle_version(&self) -> u64 {
        self.bundle_version
    }
}

/// Verifies an authority against the node's own bundle and governance root.
///
/// `binding.context` is ignored: the context is the digest of the statement.
pub fn verify_authority(
    answer: &AuthorityAnswer,
    binding: &Binding<'_>,
    governance: &Governance,
    bundle: &VerifiedBundle,
    seen: Option<&Seen>,
    at: u64,
    checks: &mut Checks,
) -> Option<VerifiedAuthority> {
    bundle.content().judge_time(at, "validity of the node's own bundle", checks)?;
    let decoded = AuthorityStatement::decode(&answer.statement);
    let statement = checks.step("authority.statement", decoded, "an authority statement", "form of the statement")?;
    let endorsement = verify_endorsement(&statement, governance, at, checks)?;
    let named = bundle.check_authority(endorsement.origin());
    let required = "a bundle for the endorsed authority";
    checks.step("bundle.authority", named, required, "authority that the node's own bundle is for");
    let checkpoint = verify_checkpoint(&statement, &endorsement, seen, &answer.consistency, checks)?;
    check_bundle(&statement, &endorsement, bundle, checks);

    let parsed = Evidence::parse(&answer.evidence);
    let evidence = checks.step("evidence.form", parsed, "a CMW collection of evidence", "form of the evidence")?;
    let digest = AuthorityStatement::digest(&answer.statement);
    let challenge = Challenge {
        binding: Binding { role: Role::Authority, context: &digest, ..*binding },
        carriage: Carriage::Batch(&answer.batch),
        selection: bundle.policy().selection(Role::Authority),
    };
    let verified = verify(&evidence, &challenge, bundle.content().verifier(), at, checks)?;
    let identity = Identity {
        name: endorsement.origin(),
        role: Role::Authority,
        chip_id: Some(&endorsement.chip_id),
        ak_name: None,
        ek: None,
        activation: None,
        minimum_class: EvidenceClass::SnpTpm,
    };
    identify(&verified, &identity, checks);
    if let Some(snp) = verified.snp() {
        let found = hex(&snp.report().measurement);
        checks.equal(
            "authority.measurement",
            &found,
            &hex(&endorsement.measurement),
            "measurement, against the endorsement",
        );
    }
    let result = appraise(&verified, &identity, bundle.policy(), at, checks).result?;
    checks.passed().then_some(VerifiedAuthority {
        statement: digest,
        bundle_version: statement.bundle_version,
        endorsement,
        checkpoint,
        result,
    })
}

fn verify_endorsement(
    statement: &AuthorityStatement,
    governance: &Governance,
    at: u64,
    checks: &mut Checks,
) -> Option<Endorsement> {
    let (found, required) = (hex(&statement.governance_root), governance.root_hex());
    checks.equal("authority.governance_root", &found, &required, "governors that the authority answers to");
    let verified = Endorsement::verify(&statement.endorsement, governance);
    let required = format!("an endorsement by {} governors", governance.threshold());
    let endorsement = checks.step("authority.endorsement", verified, &required, "endorsement of this instance")?;
    checks.require(
        "authority.endorsement.expired",
        at < endorsement.expires,
        || rfc3339(endorsement.expires),
        || format!("later than {}", rfc3339(at)),
        "validity of the endorsement",
    );
    Some(endorsement)
}

fn verify_checkpoint(
    statement: &AuthorityStatement,
    endorsement: &Endorsement,
    seen: Option<&Seen>,
    path: &[Digest],
    checks: &mut Checks,
) -> Option<Checkpoint> {
    let verified = Checkpoint::verify(&statement.checkpoint, &endorsement.checkpoint_key);
    let detail = "latest checkpoint of the authority's log";
    let checkpoint = checks.step("authority.checkpoint", verified, "a checkpoint by the endorsed key", detail)?;
    // Another authority has another log: compare only with checkpoints of the same log.
    if let Some(seen) = seen.filter(|seen| seen.origin == endorsement.origin()) {
        let extends = merkle::is_consistent(seen.size, &seen.root, checkpoint.size(), checkpoint.root(), path);
        checks.require(
            "authority.checkpoint.consistency",
            extends,
            || format!("a tree of {}", checkpoint.size()),
            || format!("an extension of the tree of {} with root {}", seen.size, hex(&seen.root)),
            "the log extends what this node has seen of it",
        );
    }
    if let Some((old, seen)) = endorsement.predecessor.as_ref().zip(seen)
        && seen.origin == old.checkpoint_key.origin()
    {
        // The new authority continues only the part of the old log that its endorsement names.
        // At the same size, the trees must be the same.
        let follows = seen.size < old.size || (seen.size == old.size && seen.root == old.root);
        checks.require(
            "authority.succession",
            follows,
            || format!("a successor of the tree of {} of {}", old.size, seen.origin),
            || format!("of one that extends the tree of {} with root {}", seen.size, hex(&seen.root)),
            "the authority that this one follows on, against what this node has seen of it",
        );
    }
    Some(checkpoint)
}

/// Checks that the authority's bundle is not older than the endorsement and the node
/// demand, and is not a different bundle with the same version.
fn check_bundle(
    statement: &AuthorityStatement,
    endorsement: &Endorsement,
    bundle: &VerifiedBundle,
    checks: &mut Checks,
) {
    let own = bundle.policy().version;
    let floor = own.max(endorsement.bundle_version);
    checks.require(
        "authority.bundle.version",
        statement.bundle_version >= floor,
        || statement.bundle_version.to_string(),
        || format!("at least {floor}"),
        "version of the authority's bundle",
    );
    if statement.bundle_version == own {
        checks.equal("authority.bundle", &hex(&statement.bundle), &hex(bundle.digest()), "bundle of the same version");
    }
}
