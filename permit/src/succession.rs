//! Succession of authorities: the new authority's log names the head of the old log,
//! and the governors endorse the new authority with that name.
//!
//! Keys are never restored. An authority whose image changes, or whose keys are lost,
//! is succeeded by another with its own keys and its own log. So nothing of the old
//! authority can be continued unnoticed.

use std::collections::BTreeSet;
use std::fmt;

use portcullis_lineage::{Checkpoint, VerifyingKey};
use portcullis_wire::{Digest, Error, Fields, Value, bstr, decode, encode, hex, map, or_null, sha256};

use crate::statement::Kind;
use crate::witnessed::Witnessed;

/// Largest payload, in bytes: it must fit into a log entry.
const MAX_RECORD: usize = 60 * 1024;

/// How one authority came to succeed another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Passage {
    /// The governors retired the old authority in favour of this one, as the end of its log
    /// says.
    Rotation,
    /// The old authority was not retired: its keys, machine or log were lost.
    Recovery,
}

impl Passage {
    /// The kind of log entry that records it.
    #[must_use]
    pub const fn kind(self) -> Kind {
        match self {
            Self::Rotation => Kind::Rotation,
            Self::Recovery => Kind::Recovery,
        }
    }

    fn number(self) -> u64 {
        match self {
            Self::Rotation => 1,
            Self::Recovery => 2,
        }
    }
}

impl fmt::Display for Passage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Rotation => "rotation",
            Self::Recovery => "recovery",
        })
    }
}

/// The predecessor of an endorsed authority.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Predecessor {
    /// How the succession came about.
    pub passage: Passage,
    /// Checkpoint key of the old log, with its origin.
    pub checkpoint_key: VerifyingKey,
    /// Size of the old log; entries beyond it do not count.
    pub size: u64,
    /// Root of the old log at that size.
    pub root: Digest,
    /// SHA-256 of the [`SuccessionRecord`] in the new log.
    pub record: Digest,
}

impl fmt::Display for Predecessor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (origin, root) = (self.checkpoint_key.origin(), hex::hex(&self.root));
        write!(f, "{origin} ({}), {} entries, root {root}", self.passage, self.size)
    }
}

impl Predecessor {
    /// `[passage, checkpoint key, size, root, record]`.
    pub(crate) fn to_value(&self) -> Value {
        Value::Array(vec![
            self.passage.number().into(),
            self.checkpoint_key.to_string().into(),
            self.size.into(),
            bstr(self.root),
            bstr(self.record),
        ])
    }

    /// Reads the value of [`Self::to_value`] at a key.
    pub(crate) fn from_fields(fields: &mut Fields, key: i64) -> Result<Self, Error> {
        let wrong = || Error::WrongType(key);
        let items = <[Value; 5]>::try_from(fields.items(key)?).map_err(|_| wrong())?;
        let [
            Value::Integer(passage),
            Value::Text(vkey),
            Value::Integer(size),
            Value::Bytes(root),
            Value::Bytes(record),
        ] = items
        else {
            return Err(wrong());
        };
        let passage = [Passage::Rotation, Passage::Recovery].into_iter().find(|p| passage == p.number().into());
        Ok(Self {
            passage: passage.ok_or_else(wrong)?,
            checkpoint_key: VerifyingKey::parse(&vkey).map_err(|_| wrong())?,
            size: size.try_into().map_err(|_| wrong())?,
            root: root.try_into().map_err(|_| wrong())?,
            record: record.try_into().map_err(|_| wrong())?,
        })
    }
}

/// The revocations that apply under a new authority too.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inherited {
    /// Nodes, by name.
    pub nodes: BTreeSet<String>,
    /// Workloads, by SHA-256.
    pub workloads: BTreeSet<Digest>,
}

/// The second entry in the log of a succeeding authority.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SuccessionRecord {
    /// Unix seconds.
    pub time: u64,
    /// SHA-256 of the old authority's endorsement, which is archived with it.
    pub endorsement: Digest,
    /// The old log's head, signed by its own key.
    pub checkpoint: String,
    /// The old log's cosigned checkpoint, with the path to that head.
    pub witnessed: Option<Witnessed>,
    /// The revocations in the old log; `None` if the log is lost and they are unknown.
    pub inherited: Option<Inherited>,
}

impl SuccessionRecord {
    /// The payload.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let inherited = self.inherited.as_ref().map(|inherited| {
            let nodes = inherited.nodes.iter().map(|node| node.as_str().into()).collect();
            let workloads = inherited.workloads.iter().map(bstr).collect();
            Value::Array(vec![Value::Array(nodes), Value::Array(workloads)])
        });
        encode(&map([
            (1, self.time.into()),
            (2, bstr(self.endorsement)),
            (3, self.checkpoint.as_str().into()),
            (4, or_null(inherited)),
            (5, or_null(self.witnessed.as_ref().map(Witnessed::to_value))),
        ]))
    }

    /// Reads a payload.
    ///
    /// # Errors
    /// Any [`Error`] of the encoding.
    pub fn decode(payload: &[u8]) -> Result<Self, Error> {
        let mut fields = Fields::of(decode(payload, MAX_RECORD)?)?;
        let record = Self {
            time: fields.uint(1)?,
            endorsement: fields.array(2)?,
            checkpoint: fields.text(3)?,
            inherited: fields.maybe(4, inherited)?,
            witnessed: fields.maybe(5, |fields, key| Witnessed::from_value(&Value::Array(fields.items(key)?)))?,
        };
        fields.finish().map(|()| record)
    }

    /// Whether it fits into a log entry.
    #[must_use]
    pub fn fits(&self) -> bool {
        self.encode().len() <= MAX_RECORD
    }

    /// The succession that governors endorse; `None` if another key signed the checkpoint.
    #[must_use]
    pub fn predecessor(&self, passage: Passage, key: &VerifyingKey) -> Option<Predecessor> {
        let head = Checkpoint::verify(&self.checkpoint, key).ok()?;
        let record = sha256(&[&self.encode()]);
        Some(Predecessor { passage, checkpoint_key: key.clone(), size: head.size(), root: *head.root(), record })
    }
}

fn inherited(fields: &mut Fields, key: i64) -> Result<Inherited, Error> {
    let wrong = || Error::WrongType(key);
    let lists = <[Value; 2]>::try_from(fields.items(key)?).map_err(|_| wrong())?;
    let [Value::Array(nodes), Value::Array(workloads)] = lists else { return Err(wrong()) };
    let node = |value: Value| value.into_text().map_err(|_| wrong());
    let workload = |value: Value| value.into_bytes().ok().and_then(|bytes| bytes.try_into().ok()).ok_or_else(wrong);
    Ok(Inherited {
        nodes: nodes.into_iter().map(node).collect::<Result<_, _>>()?,
        workloads: workloads.into_iter().map(workload).collect::<Result<_, _>>()?,
    })
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::signature::Ed25519KeyPair;
    use portcullis_lineage::Keys;

    use super::*;

    #[test]
    fn a_record_comes_back_and_its_head_is_that_of_the_key() {
        let keys = |origin: &str| Keys::from_seeds(origin, &[1; 32], &[2; 32]).unwrap();
        let (old, other) = (keys("log.test/old"), keys("log.test/other"));
        let signer = Ed25519KeyPair::from_seed_unchecked(&[1; 32]).unwrap();
        let record = SuccessionRecord {
            time: 7,
            endorsement: [3; 32],
            checkpoint: Checkpoint::sign(&signer, old.checkpoint_key(), 9, [4; 32]).note().to_owned(),
            witnessed: Some(Witnessed { note: "note".into(), path: vec![[6; 32]] }),
            inherited: Some(Inherited { nodes: ["b".into(), "a".into()].into(), workloads: [[5; 32]].into() }),
        };
        assert_eq!(SuccessionRecord::decode(&record.encode()), Ok(record.clone()));
        let lost = SuccessionRecord { inherited: None, ..record.clone() };
        assert_eq!(SuccessionRecord::decode(&lost.encode()), Ok(lost));
        let found = record.predecessor(Passage::Rotation, old.checkpoint_key()).unwrap();
        assert_eq!((found.size, found.root), (9, [4; 32]));
        assert_eq!(record.predecessor(Passage::Rotation, other.checkpoint_key()), None);
        let mut fields = Fields::of(map([(8, found.to_value())])).unwrap();
        assert_eq!(Predecessor::from_fields(&mut fields, 8), Ok(found));
    }

    #[test]
    fn what_does_not_fit_into_an_entry_says_so() {
        let record = |count: u32| SuccessionRecord {
            time: 7,
            endorsement: [3; 32],
            checkpoint: String::new(),
            witnessed: None,
            inherited: Some(Inherited {
                nodes: (0..count).map(|n| format!("node-{n:08}")).collect(),
                ..Inherited::default()
            }),
        };
        assert!(record(1000).fits());
        assert!(!record(10_000).fits());
        assert!(SuccessionRecord::decode(&record(10_000).encode()).is_err());
    }
}
