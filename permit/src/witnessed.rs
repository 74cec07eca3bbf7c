//! A checkpoint that witnesses have cosigned, with a receipt: proof that others have
//! seen the permit's log.

use portcullis_lineage::{Checkpoint, LogReader, VerifiedInclusion, VerifyingKey, WitnessKey};
use portcullis_wire::{Digest, Error, Value, bstr, merkle, rfc3339};

use crate::clock::Clock;
use crate::error::PermitError;

/// Header label of a cosigned checkpoint: `[ note, [ hash, ... ] ]`. The hashes are the
/// consistency path to the tree of the receipt.
pub const WITNESSED_LABEL: i64 = -70_020;

/// A gate's requirements for witnesses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WitnessQuorum {
    /// Required number of cosignatures.
    pub threshold: usize,
    /// Seconds for which a cosignature is valid.
    pub max_age: u64,
    /// Keys whose cosignatures count.
    pub keys: Vec<WitnessKey>,
}

impl WitnessQuorum {
    /// When the quorum was reached, Unix seconds. Counted from the newest cosignature, this
    /// is the time of the one that completes the quorum. `None` if there are too few.
    #[must_use]
    pub fn reached(&self, checkpoint: &Checkpoint) -> Option<u64> {
        let mut times: Vec<u64> = self.keys.iter().filter_map(|key| key.cosigned(checkpoint)).collect();
        times.sort_unstable_by(|a, b| b.cmp(a));
        times.get(self.threshold.checked_sub(1)?).copied()
    }

    /// Whether a quorum has vouched recently enough for a checkpoint. The clock of each
    /// witness may differ from this one by the tolerance. A witness whose clock differs
    /// more does not count, and does not affect the others.
    ///
    /// # Errors
    /// `permit.witness.quorum`, `permit.witness.age`.
    pub fn check(&self, checkpoint: &Checkpoint, clock: Clock) -> Result<(), PermitError> {
        let times: Vec<u64> = self.keys.iter().filter_map(|key| key.cosigned(checkpoint)).collect();
        if times.len() < self.threshold {
            let required = format!("{} of {} witnesses", self.threshold, self.keys.len());
            return Err(claim("permit.witness.quorum", times.len().to_string(), required));
        }
        let oldest = clock.now.saturating_sub(self.max_age).saturating_sub(clock.skew);
        let fresh = times.iter().filter(|time| **time >= oldest && clock.has_reached(**time)).count();
        if fresh >= self.threshold {
            return Ok(());
        }
        let cosigned: Vec<String> = times.into_iter().map(rfc3339).collect();
        let newest = rfc3339(clock.now.saturating_add(clock.skew));
        let required = format!("{} from {} to {newest}", self.threshold, rfc3339(oldest));
        Err(claim("permit.witness.age", cosigned.join(", "), required))
    }
}

fn claim(check: &'static str, found: String, required: String) -> PermitError {
    PermitError::Claim { check, found, required }
}

/// A cosigned checkpoint with the path from it, not yet verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Witnessed {
    /// The note, with the witnesses' lines.
    pub note: String,
    /// Consistency path to the tree of the receipt.
    pub path: Vec<Digest>,
}

impl Witnessed {
    /// The value of the header.
    #[must_use]
    pub fn to_value(&self) -> Value {
        let path = self.path.iter().map(bstr).collect();
        Value::Array(vec![self.note.as_str().into(), Value::Array(path)])
    }

    /// Reads the value of the header.
    ///
    /// # Errors
    /// Another shape.
    pub fn from_value(value: &Value) -> Result<Self, Error> {
        let wrong = || Error::Shape("a cosigned checkpoint and a path");
        let items = value.as_array().map(Vec::as_slice);
        let Some([Value::Text(note), Value::Array(path)]) = items else { return Err(wrong()) };
        let hash = |value: &Value| value.as_bytes().and_then(|bytes| Digest::try_from(bytes.as_slice()).ok());
        let path = path.iter().map(hash).collect::<Option<_>>().ok_or_else(wrong)?;
        Ok(Self { note: note.clone(), path })
    }

    /// A cosigned checkpoint with the path from it to the head of a published log. `None`
    /// if it is not a checkpoint, or if witnesses have seen a larger tree than this log
    /// has.
    #[must_use]
    pub fn of(note: String, log: &LogReader) -> Option<Self> {
        let (size, _) = Checkpoint::unverified(&note)?;
        let path = log.tree().consistency(size, log.checkpoint().size()).ok()?;
        Some(Self { note, path })
    }

    /// The cosigned checkpoint, if the log's key signed it and a head extends it.
    #[must_use]
    pub fn leading_to(&self, head: &Checkpoint, key: &VerifyingKey) -> Option<Checkpoint> {
        let seen = Checkpoint::verify(&self.note, key).ok()?;
        merkle::is_consistent(seen.size(), seen.root(), head.size(), head.root(), &self.path).then_some(seen)
    }

    /// Checks that a quorum has seen this log, and that the tree of the receipt extends the
    /// tree that the quorum saw.
    ///
    /// # Errors
    /// [`PermitError::Claim`] with the first check that fails.
    pub fn check(
        &self,
        quorum: &WitnessQuorum,
        key: &VerifyingKey,
        inclusion: &VerifiedInclusion,
        clock: Clock,
    ) -> Result<(), PermitError> {
        let checkpoint = Checkpoint::verify(&self.note, key)
            .map_err(|error| claim("permit.witness.checkpoint", error.to_string(), "a checkpoint of the log".into()))?;
        quorum.check(&checkpoint, clock)?;
        let (old, new) = (checkpoint.size(), inclusion.size());
        if merkle::is_consistent(old, checkpoint.root(), new, inclusion.root(), &self.path) {
            Ok(())
        } else {
            let required = format!("a path from {old} to the {new} entries of the receipt");
            Err(claim("permit.witness.consistency", "a path that leads elsewhere".into(), required))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use portcullis_lineage::{Cosigner, Keys, Log, MemoryStorage, NewEntry};

    use super::*;

    /// A quorum that has seen one log proves nothing about another log, even if the same
    /// key signed both.
    #[test]
    fn a_checkpoint_leads_to_the_heads_that_extend_it_and_no_other() {
        let keys = || Keys::from_seeds("log.test/witnessed", &[1; 32], &[2; 32]).unwrap();
        let key = keys().checkpoint_key().clone();
        let log = |entries: &[u8]| {
            let (mut log, _) = Log::open(Arc::new(MemoryStorage::new()), keys()).unwrap();
            let heads = entries.iter().map(|n| {
                let entry = NewEntry { statement: vec![*n], ..NewEntry::default() };
                log.append(vec![entry]).unwrap().remove(0).checkpoint().clone()
            });
            let heads: Vec<_> = heads.collect();
            let path = log.view().with_tree(|tree| tree.consistency(2, 3)).unwrap();
            (heads, path)
        };
        let ((own, path), (forked, _)) = (log(&[1, 2, 3]), log(&[1, 9, 3]));
        let witnessed = |note: &Checkpoint| Witnessed { note: note.note().to_owned(), path: path.clone() };
        assert_eq!(witnessed(&own[1]).leading_to(&own[2], &key).as_ref(), Some(&*own[1]));
        assert_eq!(witnessed(&forked[1]).leading_to(&own[2], &key), None, "of another tree");
        assert_eq!(witnessed(&own[1]).leading_to(&forked[2], &key), None);
        let other = Keys::from_seeds("log.test/other", &[1; 32], &[2; 32]).unwrap();
        assert_eq!(witnessed(&own[1]).leading_to(&own[2], other.checkpoint_key()), None, "of another log");
    }

    /// A witness whose clock is ahead or behind counts within the tolerance. One that
    /// differs more does not count, and does not affect the others. Earlier, the newest
    /// cosignatures counted whatever their times.
    #[test]
    fn witnesses_count_within_the_tolerance() {
        let keys = Keys::from_seeds("log.test/quorum", &[1; 32], &[2; 32]).unwrap();
        let (mut log, _) = Log::open(Arc::new(MemoryStorage::new()), keys).unwrap();
        let entry = NewEntry { statement: vec![1], ..NewEntry::default() };
        let head = log.append(vec![entry]).unwrap().remove(0).checkpoint().clone();
        let witnesses = [1, 2, 3].map(|n| Cosigner::from_seed(&format!("witness.test/{n}"), &[n; 32]).unwrap());
        let quorum = |threshold| WitnessQuorum {
            threshold,
            max_age: 60,
            keys: witnesses.iter().map(|witness| witness.public().clone()).collect(),
        };
        let check = |threshold, times: &[u64]| {
            let cosigned = witnesses.iter().zip(times).fold((*head).clone(), |note, (witness, time)| {
                witness.public().attach(&note, &witness.cosign(&head, *time)).unwrap()
            });
            let clock = Clock { now: 1_000, skew: 5 };
            quorum(threshold).check(&cosigned, clock).map_err(|error| error.to_string())
        };
        assert_eq!(check(2, &[1_005, 935]), Ok(()));
        assert!(check(2, &[1_006, 1_000]).unwrap_err().starts_with("permit.witness.age: found 1970-01-01T00:16:46Z"));
        assert!(check(2, &[1_000, 934]).unwrap_err().starts_with("permit.witness.age"));
        assert_eq!(check(1, &[9_000, 1_000]), Ok(()), "one is years ahead");
        assert_eq!(check(2, &[9_000, 1_000, 990]), Ok(()));
        assert!(check(3, &[1_000, 1_000]).unwrap_err().starts_with("permit.witness.quorum: found 2"));
    }
}
