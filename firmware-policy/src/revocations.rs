//! What governors have withdrawn, as far as decisions need it.

use std::collections::BTreeSet;

use portcullis_permit::{Permit, PermitId, Revocation, RevocationTarget};
use portcullis_wire::{Digest, Value, bstr, encode, sha256};

/// The effect of all revocation commands so far.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revocations {
    sequence: u64,
    last: Option<Digest>,
    nodes: BTreeSet<String>,
    workloads: BTreeSet<Digest>,
    permits: BTreeSet<PermitId>,
    /// Of all that: every decision records it, few commands change it.
    digest: Digest,
}

impl Default for Revocations {
    fn default() -> Self {
        let mut none = Self {
            sequence: 0,
            last: None,
            nodes: BTreeSet::new(),
            workloads: BTreeSet::new(),
            permits: BTreeSet::new(),
            digest: [0; 32],
        };
        none.digest = none.compute_digest();
        none
    }
}

impl Revocations {
    /// Number of the last command.
    #[must_use]
    pub const fn sequence(&self) -> u64 {
        self.sequence
    }

    /// Digest of the last command; none before the first.
    #[must_use]
    pub const fn last(&self) -> Option<&Digest> {
        self.last.as_ref()
    }

    /// Applies a command that was verified and logged.
    pub fn apply(&mut self, command: &Revocation) {
        self.sequence = command.sequence;
        self.last = Some(command.digest());
        match &command.target {
            RevocationTarget::Permit(id) => drop(self.permits.insert(*id)),
            RevocationTarget::Node(name) => drop(self.nodes.insert(name.clone())),
            RevocationTarget::Workload(digest) => drop(self.workloads.insert(*digest)),
        }
        self.digest = self.compute_digest();
    }

    /// Whether a node was revoked.
    #[must_use]
    pub fn has_node(&self, name: &str) -> bool {
        self.nodes.contains(name)
    }

    /// Whether a workload was revoked.
    #[must_use]
    pub fn has_workload(&self, digest: &Digest) -> bool {
        self.workloads.contains(digest)
    }

    /// Whether a permit was revoked.
    #[must_use]
    pub fn has_permit(&self, id: &PermitId) -> bool {
        self.permits.contains(id)
    }

    /// Whether a permit is withdrawn, by itself, by the permit that it goes back
    /// to, by its node or by its workload.
    #[must_use]
    pub fn covers(&self, permit: &Permit, origin: &PermitId) -> bool {
        self.has_node(&permit.subject)
            || self.has_workload(&permit.workload)
            || self.has_permit(&permit.id)
            || self.has_permit(origin)
            || permit.parent.is_some_and(|parent| self.has_permit(&parent))
    }

    /// Digest of the state, as an input of decisions.
    #[must_use]
    pub const fn digest(&self) -> &Digest {
        &self.digest
    }

    fn compute_digest(&self) -> Digest {
        sha256(&[&encode(&Value::Array(vec![
            self.sequence.into(),
            Value::Array(self.nodes.iter().map(|n| n.as_str().into()).collect()),
            Value::Array(self.workloads.iter().map(bstr).collect()),
            Value::Array(self.permits.iter().map(|id| bstr(id.bytes())).collect()),
        ]))])
    }
}
