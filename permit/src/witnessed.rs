//! A checkpoint that witnesses have cosigned, beside a receipt: proof that others
//! have seen the log from which the permit comes.

use portcullis_lineage::{Checkpoint, LogReader, VerifiedInclusion, VerifyingKey, WitnessKey};
use portcullis_wire::{Digest, Error, Value, bstr, merkle};

use crate::error::PermitError;

/// Header label of a cosigned checkpoint: `[ note, [ hash, ... ] ]`, the hashes
/// being the consistency path to the tree of the receipt.
pub const WITNESSED_LABEL: i64 = -70_020;
/// Seconds by which a witness's clock may be ahead.
const SKEW: u64 = 30;

/// What a gate demands of witnesses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WitnessQuorum {
    /// How many cosignatures.
    pub threshold: usize,
    /// Seconds for which one counts.
    pub max_age: u64,
    /// By which keys.
    pub keys: Vec<WitnessKey>,
}

impl WitnessQuorum {
    /// When the quorum was reached, Unix seconds: the time of the cosignature
    /// that completes it, counted from the newest. `None` where there are too few.
    #[must_use]
    pub fn reached(&self, checkpoint: &Checkpoint) -> Option<u64> {
        let mut times: Vec<u64> = self.keys.iter().filter_map(|key| key.cosigned(checkpoint)).collect();
        times.sort_unstable_by(|a, b| b.cmp(a));
        times.get(self.threshold.checked_sub(1)?).copied()
    }

    /// Whether a quorum has vouched for a checkpoint not too long ago.
    ///
    /// # Errors
    /// `permit.witness.quorum`, `permit.witness.age`.
    pub fn check(&self, checkpoint: &Checkpoint, now: u64) -> Result<(), PermitError> {
        let Some(reached) = self.reached(checkpoint) else {
            let count = self.keys.iter().filter(|key| key.cosigned(checkpoint).is_some()).count();
            let required = format!("{} of {} witnesses", self.threshold, self.keys.len());
            return Err(claim("permit.witness.quorum", count.to_string(), required));
        };
        let (oldest, newest) = (now.saturating_sub(self.max_age), now.saturating_add(SKEW));
        if (oldest..=newest).contains(&reached) {
            Ok(())
        } else {
            Err(claim("permit.witness.age", reached.to_string(), format!("{oldest} to {newest}")))
        }
    }
}

fn claim(check: &'static str, found: String, required: String) -> PermitError {
    PermitError::Claim { check, found, required }
}

/// A cosigned checkpoint with the path from it, not yet verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Witnessed {
    /// The note, with the lines of witnesses.
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

    /// A cosigned checkpoint with the path from it to the head of a published log.
    /// `None` where it is none, or where witnesses have seen more than this log has.
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

    /// A quorum has seen this log, and the tree of the receipt extends what it saw.
    ///
    /// # Errors
    /// [`PermitError::Claim`] with the first check that fails.
    pub fn check(
        &self,
        quorum: &WitnessQuorum,
        key: &VerifyingKey,
        inclusion: &VerifiedInclusion,
        now: u64,
    ) -> Result<(), PermitError> {
        let checkpoint = Checkpoint::verify(&self.note, key)
            .map_err(|error| claim("permit.witness.checkpoint", error.to_string(), "a checkpoint of the log".into()))?;
        quorum.check(&checkpoint, now)?;
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

    use portcullis_lineage::{Keys, Log, MemoryStorage, NewEntry};

    use super::*;

    /// What witnesses have seen of one log says nothing of another, though the
    /// same key signed both.
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
}
