//! Records that an authority logs about itself: payloads of the statements that are
//! neither decisions nor commands.

use std::collections::BTreeMap;

use portcullis_wire::{Digest, Error, Fields, Sign1, Value, bstr, decode, encode, map, sha256};

use crate::denial::Denial;
use crate::governance::Quorum;
use crate::permit::{Permit, PermitId};
use crate::statement::Kind;
use crate::succession::SuccessionRecord;

const MAX_RECORD: usize = 60 * 1024;

/// The first entry of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GenesisRecord {
    /// Unix seconds.
    pub time: u64,
    /// The identity that the governors are asked to endorse.
    pub endorsement: Vec<u8>,
    /// Digest of the governors' keys and threshold.
    pub governance: Digest,
    /// SHA-256 of the bundle.
    pub bundle: Digest,
    /// SHA-256 of the attestation result of the authority itself.
    pub result: Digest,
    /// SHA-256 of the evidence for that result.
    pub evidence: Digest,
}

/// The authority started, after it attested itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BootRecord {
    /// Unix seconds.
    pub time: u64,
    /// Version of the bundle that is active from here on.
    pub version: u64,
    /// SHA-256 of the bundle.
    pub bundle: Digest,
    /// SHA-256 of the attestation result of the authority itself.
    pub result: Digest,
    /// SHA-256 of the evidence for that result.
    pub evidence: Digest,
    /// SHA-256 of the governors' endorsement under which it serves.
    pub endorsement: Digest,
    /// Version of the program.
    pub software: String,
}

/// A bundle took effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyRecord {
    /// Unix seconds.
    pub time: u64,
    /// Its version.
    pub version: u64,
    /// SHA-256 of the bundle.
    pub bundle: Digest,
}

/// The authority stopped signing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TripRecord {
    /// Unix seconds.
    pub time: u64,
    /// The check that failed.
    pub check: String,
    /// The value found and the value required.
    pub why: String,
}

/// A summary of the state after the log so far, so that a start need not read the whole
/// log. Anyone with the log can compute the same summary.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotRecord {
    /// Unix seconds.
    pub time: u64,
    /// Number of entries that it covers.
    pub entries: u64,
    /// SHA-256 of the state, which is archived with it.
    pub state: Digest,
}

/// A count of denials of strangers, so that a flood of them does not fill the disk. An
/// authority sends such a denial only after its count is in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DenialCountRecord {
    /// Unix seconds of the first.
    pub since: u64,
    /// Unix seconds of the last.
    pub until: u64,
    /// Number of denials, by the first check that failed.
    pub counts: BTreeMap<String, u64>,
}

/// The retention time of some evidence has passed: it is removed from the archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetentionRecord {
    /// Unix seconds.
    pub time: u64,
    /// Decisions before this time, Unix seconds, ...
    pub cutoff: u64,
    /// ... that come before this place in the log.
    pub before: u64,
}

/// When an authority made an entry, Unix seconds. `None` for an entry that carries only
/// another party's time, or no readable time.
#[must_use]
pub fn recorded_time(object: &Sign1) -> Option<u64> {
    let payload = object.payload()?;
    match Kind::of(object)? {
        Kind::Permit => Permit::decode(payload).ok().map(|permit| permit.not_before),
        Kind::Denial => Denial::time_of(payload),
        Kind::Genesis => GenesisRecord::decode(payload).ok().map(|record| record.time),
        Kind::Boot => BootRecord::decode(payload).ok().map(|record| record.time),
        Kind::Policy => PolicyRecord::decode(payload).ok().map(|record| record.time),
        Kind::Trip => TripRecord::decode(payload).ok().map(|record| record.time),
        Kind::Snapshot => SnapshotRecord::decode(payload).ok().map(|record| record.time),
        Kind::DenialCount => DenialCountRecord::decode(payload).ok().map(|record| record.until),
        Kind::Retention => RetentionRecord::decode(payload).ok().map(|record| record.time),
        Kind::Rotation | Kind::Recovery => SuccessionRecord::decode(payload).ok().map(|record| record.time),
        Kind::Request
        | Kind::StatusList
        | Kind::Event
        | Kind::Instance
        | Kind::Revocation
        | Kind::Execution
        | Kind::ExecutionRecord => None,
    }
}

/// Whether an entry names, by its digest, a blob that was archived with it. A blob that
/// no signed entry names does not belong to the log.
#[must_use]
pub fn names(entry: &Sign1, blob: &[u8]) -> bool {
    let payload = entry.payload().unwrap_or_default();
    let digest = sha256(&[blob]);
    let bundle = |named: Digest| Quorum::decode(blob, blob.len()).is_ok_and(|quorum| quorum.digest() == named);
    match Kind::of(entry) {
        Some(Kind::Permit) => Permit::decode(payload).is_ok_and(|permit| {
            [permit.evidence, permit.result, permit.channel].contains(&digest)
                || PermitId::of_request(blob) == permit.id
        }),
        Some(Kind::Denial) => Denial::read(entry).is_ok_and(|denial| {
            [denial.evidence, denial.facts].contains(&digest) || PermitId::of_request(blob) == denial.id
        }),
        Some(Kind::Genesis) => GenesisRecord::decode(payload)
            .is_ok_and(|genesis| [genesis.result, genesis.evidence].contains(&digest) || bundle(genesis.bundle)),
        Some(Kind::Boot) => BootRecord::decode(payload)
            .is_ok_and(|boot| [boot.result, boot.evidence, boot.endorsement].contains(&digest) || bundle(boot.bundle)),
        Some(Kind::Policy) => PolicyRecord::decode(payload).is_ok_and(|policy| bundle(policy.bundle)),
        Some(Kind::Snapshot) => SnapshotRecord::decode(payload).is_ok_and(|snapshot| snapshot.state == digest),
        Some(Kind::Rotation | Kind::Recovery) => {
            SuccessionRecord::decode(payload).is_ok_and(|record| record.endorsement == digest)
        }
        _ => false,
    }
}

fn fields(payload: &[u8]) -> Result<Fields, Error> {
    Fields::of(decode(payload, MAX_RECORD)?)
}

impl GenesisRecord {
    /// The payload.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        encode(&map([
            (1, self.time.into()),
            (2, bstr(&self.endorsement)),
            (3, bstr(self.governance)),
            (4, bstr(self.bundle)),
            (5, bstr(self.result)),
            (6, bstr(self.evidence)),
        ]))
    }

    /// Reads a payload.
    ///
    /// # Errors
    /// Any [`Error`] of the encoding.
    pub fn decode(payload: &[u8]) -> Result<Self, Error> {
        let mut fields = fields(payload)?;
        let record = Self {
            time: fields.uint(1)?,
            endorsement: fields.bytes(2)?,
            governance: fields.array(3)?,
            bundle: fields.array(4)?,
            result: fields.array(5)?,
            evidence: fields.array(6)?,
        };
        fields.finish().map(|()| record)
    }
}

impl BootRecord {
    /// The payload.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        encode(&map([
            (1, self.version.into()),
            (2, bstr(self.bundle)),
            (3, self.time.into()),
            (4, bstr(self.result)),
            (5, self.software.as_str().into()),
            (6, bstr(self.evidence)),
            (7, bstr(self.endorsement)),
        ]))
    }

    /// Reads a payload.
    ///
    /// # Errors
    /// Any [`Error`] of the encoding.
    pub fn decode(payload: &[u8]) -> Result<Self, Error> {
        let mut fields = fields(payload)?;
        let record = Self {
            version: fields.uint(1)?,
            bundle: fields.array(2)?,
            time: fields.uint(3)?,
            result: fields.array(4)?,
            software: fields.text(5)?,
            evidence: fields.array(6)?,
            endorsement: fields.array(7)?,
        };
        fields.finish().map(|()| record)
    }
}

impl PolicyRecord {
    /// The payload.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        encode(&map([(1, self.version.into()), (2, bstr(self.bundle)), (3, self.time.into())]))
    }

    /// Reads a payload.
    ///
    /// # Errors
    /// Any [`Error`] of the encoding.
    pub fn decode(payload: &[u8]) -> Result<Self, Error> {
        let mut fields = fields(payload)?;
        let record = Self { version: fields.uint(1)?, bundle: fields.array(2)?, time: fields.uint(3)? };
        fields.finish().map(|()| record)
    }
}

impl TripRecord {
    /// The payload.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        encode(&map([(1, self.time.into()), (2, self.check.as_str().into()), (3, self.why.as_str().into())]))
    }

    /// Reads a payload.
    ///
    /// # Errors
    /// Any [`Error`] of the encoding.
    pub fn decode(payload: &[u8]) -> Result<Self, Error> {
        let mut fields = fields(payload)?;
        let record = Self { time: fields.uint(1)?, check: fields.text(2)?, why: fields.text(3)? };
        fields.finish().map(|()| record)
    }
}

impl SnapshotRecord {
    /// The payload.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        encode(&map([(1, self.time.into()), (2, self.entries.into()), (3, bstr(self.state))]))
    }

    /// Reads a payload.
    ///
    /// # Errors
    /// Any [`Error`] of the encoding.
    pub fn decode(payload: &[u8]) -> Result<Self, Error> {
        let mut fields = fields(payload)?;
        let record = Self { time: fields.uint(1)?, entries: fields.uint(2)?, state: fields.array(3)? };
        fields.finish().map(|()| record)
    }
}

impl RetentionRecord {
    /// The payload.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        encode(&map([(1, self.time.into()), (2, self.cutoff.into()), (3, self.before.into())]))
    }

    /// Reads a payload.
    ///
    /// # Errors
    /// Any [`Error`] of the encoding.
    pub fn decode(payload: &[u8]) -> Result<Self, Error> {
        let mut fields = fields(payload)?;
        let record = Self { time: fields.uint(1)?, cutoff: fields.uint(2)?, before: fields.uint(3)? };
        fields.finish().map(|()| record)
    }
}

impl DenialCountRecord {
    /// All of them together.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.counts.values().fold(0, |sum, count| sum.saturating_add(*count))
    }

    /// The payload.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let counts = self.counts.iter();
        let counts = counts.map(|(check, count)| Value::Array(vec![check.as_str().into(), (*count).into()]));
        encode(&map([(1, self.since.into()), (2, self.until.into()), (3, Value::Array(counts.collect()))]))
    }

    /// Reads a payload.
    ///
    /// # Errors
    /// Any [`Error`] of the encoding; the same check twice.
    pub fn decode(payload: &[u8]) -> Result<Self, Error> {
        let mut fields = fields(payload)?;
        let (since, until) = (fields.uint(1)?, fields.uint(2)?);
        let mut counts = BTreeMap::new();
        for item in fields.items(3)? {
            let pair = item.into_array().ok().and_then(|pair| <[Value; 2]>::try_from(pair).ok());
            let Some([Value::Text(check), Value::Integer(count)]) = pair else { return Err(Error::WrongType(3)) };
            let count = u64::try_from(count).map_err(|_| Error::WrongType(3))?;
            if counts.insert(check, count).is_some() {
                return Err(Error::Shape("a check counted once"));
            }
        }
        fields.finish().map(|()| Self { since, until, counts })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_come_back() {
        let genesis = GenesisRecord {
            time: 1,
            endorsement: vec![2; 40],
            governance: [3; 32],
            bundle: [4; 32],
            result: [5; 32],
            evidence: [6; 32],
        };
        assert_eq!(GenesisRecord::decode(&genesis.encode()), Ok(genesis));
        let boot = BootRecord {
            time: 1,
            version: 2,
            bundle: [3; 32],
            result: [4; 32],
            evidence: [5; 32],
            endorsement: [6; 32],
            software: "0.1.0".into(),
        };
        assert_eq!(BootRecord::decode(&boot.encode()), Ok(boot));
        let policy = PolicyRecord { time: 1, version: 2, bundle: [3; 32] };
        assert_eq!(PolicyRecord::decode(&policy.encode()), Ok(policy));
        let trip = TripRecord { time: 1, check: "watch.pcr".into(), why: "it changed".into() };
        assert_eq!(TripRecord::decode(&trip.encode()), Ok(trip));
        let snapshot = SnapshotRecord { time: 1, entries: 9, state: [7; 32] };
        assert_eq!(SnapshotRecord::decode(&snapshot.encode()), Ok(snapshot));
        let retention = RetentionRecord { time: 9, cutoff: 5, before: 7 };
        assert_eq!(RetentionRecord::decode(&retention.encode()), Ok(retention));
        let counts = BTreeMap::from([("node.enrolled".to_owned(), 3), ("request.nonce".to_owned(), 4)]);
        let count = DenialCountRecord { since: 1, until: 2, counts };
        assert_eq!(count.total(), 7);
        assert_eq!(DenialCountRecord::decode(&count.encode()), Ok(count));
    }

    #[test]
    fn what_is_counted_twice_is_refused() {
        let pair = || Value::Array(vec!["a".into(), 1.into()]);
        let twice = encode(&map([(1, 0.into()), (2, 0.into()), (3, Value::Array(vec![pair(), pair()]))]));
        assert_eq!(DenialCountRecord::decode(&twice), Err(Error::Shape("a check counted once")));
    }
}
