//! Governors withdraw what was granted, and lift what they withdrew.

use std::fmt;

use portcullis_wire::hex::hex;
use portcullis_wire::{Error, Fields, Value, bstr, decode, encode, map, or_null, sha256};

use crate::governance::{Governance, GovernanceError, Quorum};
use crate::permit::PermitId;

const MAX_COMMAND: usize = 64 * 1024;

/// What is withdrawn, or admitted again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RevocationTarget {
    /// One permit, and its renewals.
    Permit(PermitId),
    /// Every permit of a node, now and later.
    Node(String),
    /// Every permit for a workload, now and later.
    Workload([u8; 32]),
    /// The authority itself, which then signs nothing more; with the origin of its
    /// successor, if one is planned.
    Authority(Option<String>),
    /// A node that was revoked gets permits again. Permits that were revoked stay revoked.
    NodeLifted(String),
    /// A workload that was revoked gets permits again. Permits that were revoked stay
    /// revoked.
    WorkloadLifted([u8; 32]),
}

impl RevocationTarget {
    /// Whether it takes a revocation back.
    #[must_use]
    pub const fn is_lifted(&self) -> bool {
        matches!(self, Self::NodeLifted(_) | Self::WorkloadLifted(_))
    }
}

impl fmt::Display for RevocationTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Permit(id) => write!(f, "permit {id}"),
            Self::Node(name) | Self::NodeLifted(name) => write!(f, "node {name}"),
            Self::Workload(digest) | Self::WorkloadLifted(digest) => write!(f, "workload {}", hex(digest)),
            Self::Authority(None) => f.write_str("this authority"),
            Self::Authority(Some(successor)) => write!(f, "this authority, in favour of {successor}"),
        }
    }
}

/// A governors' command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revocation {
    /// Origin of the authority that it is for.
    pub authority: String,
    /// Number: one more than the command before.
    pub sequence: u64,
    /// SHA-256 of the previous command; absent in the first.
    pub predecessor: Option<[u8; 32]>,
    /// The command is refused from here on, Unix seconds.
    pub expires: u64,
    /// What is withdrawn.
    pub target: RevocationTarget,
    /// Why, for the log.
    pub reason: String,
}

impl Revocation {
    /// Type of the document that governors sign.
    pub const CONTENT_TYPE: &'static str = "application/vnd.portcullis.revocation+cbor";

    /// The document.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let (kind, value) = match &self.target {
            RevocationTarget::Permit(id) => (1, bstr(id.bytes())),
            RevocationTarget::Node(name) => (2, Value::from(name.as_str())),
            RevocationTarget::Workload(digest) => (3, bstr(digest)),
            RevocationTarget::Authority(successor) => (4, or_null(successor.as_deref().map(Value::from))),
            RevocationTarget::NodeLifted(name) => (5, Value::from(name.as_str())),
            RevocationTarget::WorkloadLifted(digest) => (6, bstr(digest)),
        };
        encode(&map([
            (1, self.authority.as_str().into()),
            (2, self.sequence.into()),
            (3, self.expires.into()),
            (4, Value::Array(vec![kind.into(), value])),
            (5, self.reason.as_str().into()),
            (6, or_null(self.predecessor.map(bstr))),
        ]))
    }

    /// SHA-256 of the document: the predecessor of the next.
    #[must_use]
    pub fn digest(&self) -> [u8; 32] {
        sha256(&[&self.encode()])
    }

    /// Reads a document without verifying a signature.
    ///
    /// # Errors
    /// [`GovernanceError::Malformed`].
    pub fn decode(bytes: &[u8]) -> Result<Self, GovernanceError> {
        let mut fields = Fields::of(decode(bytes, MAX_COMMAND)?)?;
        let target = <[Value; 2]>::try_from(fields.items(4)?).ok();
        let target = match target {
            Some([kind, Value::Bytes(id)]) if kind == 1.into() => {
                RevocationTarget::Permit(PermitId::from_bytes(id.try_into().map_err(|_| Error::WrongType(4))?))
            }
            Some([kind, Value::Text(name)]) if kind == 2.into() => RevocationTarget::Node(name),
            Some([kind, Value::Bytes(digest)]) if kind == 3.into() => {
                RevocationTarget::Workload(digest.try_into().map_err(|_| Error::WrongType(4))?)
            }
            Some([kind, Value::Text(origin)]) if kind == 4.into() => RevocationTarget::Authority(Some(origin)),
            Some([kind, Value::Null]) if kind == 4.into() => RevocationTarget::Authority(None),
            Some([kind, Value::Text(name)]) if kind == 5.into() => RevocationTarget::NodeLifted(name),
            Some([kind, Value::Bytes(digest)]) if kind == 6.into() => {
                RevocationTarget::WorkloadLifted(digest.try_into().map_err(|_| Error::WrongType(4))?)
            }
            _ => return Err(Error::WrongType(4).into()),
        };
        let command = Self {
            authority: fields.text(1)?,
            sequence: fields.uint(2)?,
            predecessor: fields.maybe(6, Fields::array)?,
            expires: fields.uint(3)?,
            target,
            reason: fields.text(5)?,
        };
        fields.finish()?;
        Ok(command)
    }

    /// The command, if enough governors signed it.
    ///
    /// # Errors
    /// [`GovernanceError`].
    pub fn verify(signed: &[u8], governance: &Governance) -> Result<Self, GovernanceError> {
        let quorum = Quorum::decode(signed, MAX_COMMAND)?;
        Self::decode(quorum.verify(Self::CONTENT_TYPE, governance)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each target comes back as it was, and no two have one encoding.
    #[test]
    fn commands_come_back() {
        let targets = [
            RevocationTarget::Permit(PermitId::from_bytes([1; 16])),
            RevocationTarget::Node("node-1".into()),
            RevocationTarget::Workload([2; 32]),
            RevocationTarget::Authority(None),
            RevocationTarget::Authority(Some("log.test/2".into())),
            RevocationTarget::NodeLifted("node-1".into()),
            RevocationTarget::WorkloadLifted([2; 32]),
        ];
        let mut seen = Vec::new();
        for target in targets {
            let command = Revocation {
                authority: "log.test/1".into(),
                sequence: 3,
                predecessor: Some([4; 32]),
                expires: 5,
                target,
                reason: "test".into(),
            };
            let bytes = command.encode();
            assert_eq!(Revocation::decode(&bytes).unwrap(), command);
            assert!(!seen.contains(&bytes));
            seen.push(bytes);
        }
    }
}
