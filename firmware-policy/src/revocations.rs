//! The revocations by governors, as far as decisions need them.

use std::collections::BTreeSet;

use portcullis_permit::{Inherited, PermitId, Revocation, RevocationTarget};
use portcullis_wire::{Digest, Error, Value, bstr, encode, or_null, sha256};

/// The effect of all revocation commands so far.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revocations {
    sequence: u64,
    last: Option<Digest>,
    nodes: BTreeSet<String>,
    workloads: BTreeSet<Digest>,
    permits: BTreeSet<PermitId>,
    /// Set if the authority itself is retired. It then decides nothing more, so no decision
    /// depends on this field.
    retired: Option<Retired>,
    /// Digest of the fields above. It is cached, because every decision records it and only
    /// commands change it.
    digest: Digest,
}

/// An authority that its governors have retired.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retired {
    /// Origin of its successor, if one is planned.
    pub successor: Option<String>,
}

impl Default for Revocations {
    fn default() -> Self {
        let mut none = Self {
            sequence: 0,
            last: None,
            nodes: BTreeSet::new(),
            workloads: BTreeSet::new(),
            permits: BTreeSet::new(),
            retired: None,
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

    /// Digest of the last command; `None` before the first.
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
            RevocationTarget::Authority(successor) => self.retired = Some(Retired { successor: successor.clone() }),
            RevocationTarget::NodeLifted(name) => drop(self.nodes.remove(name)),
            RevocationTarget::WorkloadLifted(digest) => drop(self.workloads.remove(digest)),
        }
        self.digest = self.compute_digest();
    }

    /// Adds the revocations of the previous authority. Nodes and workloads stay revoked.
    /// Permits are left out: they end with the authority that issued them.
    pub fn inherit(&mut self, inherited: Inherited) {
        self.nodes.extend(inherited.nodes);
        self.workloads.extend(inherited.workloads);
        self.digest = self.compute_digest();
    }

    /// The revocations that the next authority inherits.
    #[must_use]
    pub fn to_inherit(&self) -> Inherited {
        Inherited { nodes: self.nodes.clone(), workloads: self.workloads.clone() }
    }

    /// The retirement of the authority itself, if it was retired.
    #[must_use]
    pub const fn retired(&self) -> Option<&Retired> {
        self.retired.as_ref()
    }

    /// Whether a lifting command has a revocation to lift; `true` for other commands.
    #[must_use]
    pub fn can_apply(&self, target: &RevocationTarget) -> bool {
        match target {
            RevocationTarget::NodeLifted(name) => self.has_node(name),
            RevocationTarget::WorkloadLifted(digest) => self.has_workload(digest),
            RevocationTarget::Permit(_)
            | RevocationTarget::Node(_)
            | RevocationTarget::Workload(_)
            | RevocationTarget::Authority(_) => true,
        }
    }

    /// Whether a node is revoked.
    #[must_use]
    pub fn has_node(&self, name: &str) -> bool {
        self.nodes.contains(name)
    }

    /// Whether a workload is revoked.
    #[must_use]
    pub fn has_workload(&self, digest: &Digest) -> bool {
        self.workloads.contains(digest)
    }

    /// Whether a permit was revoked.
    #[must_use]
    pub fn has_permit(&self, id: &PermitId) -> bool {
        self.permits.contains(id)
    }

    /// Digest of the state, as an input of decisions.
    #[must_use]
    pub const fn digest(&self) -> &Digest {
        &self.digest
    }

    /// The state as a value: `[sequence, last, nodes, workloads, permits, retired]`,
    /// the last being null or `[successor]`.
    #[must_use]
    pub fn to_value(&self) -> Value {
        let [sequence, nodes, workloads, permits] = self.parts();
        let retired = self.retired.as_ref();
        let retired = retired.map(|it| Value::Array(vec![or_null(it.successor.as_deref().map(Value::from))]));
        Value::Array(vec![sequence, or_null(self.last.map(bstr)), nodes, workloads, permits, or_null(retired)])
    }

    /// Reads the value that [`Revocations::to_value`] returns.
    ///
    /// # Errors
    /// Another shape.
    pub fn from_value(value: Value) -> Result<Self, Error> {
        let wrong = || Error::Shape("revocations");
        let items = value.into_array().ok().and_then(|items| <[Value; 6]>::try_from(items).ok());
        let [sequence, last, nodes, workloads, permits, retired] = items.ok_or_else(wrong)?;
        let list = |value: Value| value.into_array().map_err(|_| wrong());
        let digest = |value: Value| value.into_bytes().ok().and_then(|bytes| Digest::try_from(bytes).ok());
        let id = |value: Value| value.into_bytes().ok().and_then(|bytes| bytes.try_into().ok());
        let mut state = Self {
            sequence: sequence.into_integer().ok().and_then(|n| u64::try_from(n).ok()).ok_or_else(wrong)?,
            last: if last.is_null() { None } else { Some(digest(last).ok_or_else(wrong)?) },
            nodes: list(nodes)?.into_iter().map(|n| n.into_text().map_err(|_| wrong())).collect::<Result<_, _>>()?,
            workloads: list(workloads)?.into_iter().map(|w| digest(w).ok_or_else(wrong)).collect::<Result<_, _>>()?,
            permits: list(permits)?
                .into_iter()
                .map(|p| id(p).map(PermitId::from_bytes).ok_or_else(wrong))
                .collect::<Result<_, _>>()?,
            retired: match retired {
                Value::Null => None,
                Value::Array(items) => match <[Value; 1]>::try_from(items) {
                    Ok([Value::Null]) => Some(Retired { successor: None }),
                    Ok([Value::Text(successor)]) => Some(Retired { successor: Some(successor) }),
                    _ => return Err(wrong()),
                },
                _ => return Err(wrong()),
            },
            digest: [0; 32],
        };
        state.digest = state.compute_digest();
        Ok(state)
    }

    fn parts(&self) -> [Value; 4] {
        [
            self.sequence.into(),
            Value::Array(self.nodes.iter().map(|n| n.as_str().into()).collect()),
            Value::Array(self.workloads.iter().map(bstr).collect()),
            Value::Array(self.permits.iter().map(|id| bstr(id.bytes())).collect()),
        ]
    }

    fn compute_digest(&self) -> Digest {
        sha256(&[&encode(&Value::Array(self.parts().into()))])
    }
}
