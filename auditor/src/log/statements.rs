//! What the statements of a log say together: who signed them, when, what came
//! first, and which log this one follows on.

use std::collections::BTreeMap;

use portcullis_attest::check::Checks;
use portcullis_cli::rfc3339;
use portcullis_lineage::MAX_ENTRY;
use portcullis_permit::{Endorsement, Kind, Passage, Predecessor, SuccessionRecord, recorded_time};
use portcullis_wire::Sign1;

use super::source::signed_kind;

/// Statements, taken one after another.
pub(crate) struct Statements<'a> {
    endorsed: &'a Endorsement,
    /// How many of each kind.
    pub(crate) kinds: BTreeMap<&'static str, u64>,
    first: Option<Kind>,
    unsigned: Option<u64>,
    times: Times,
    succession: Option<Succession>,
}

/// The entry about the log before this one.
enum Succession {
    /// Where it belongs, with what governors should have endorsed.
    Named(Box<Predecessor>),
    /// At another place, or of another head than it says.
    Wrong(u64),
}

impl<'a> Statements<'a> {
    /// Of an authority, with times until now.
    pub(crate) const fn new(endorsed: &'a Endorsement, at: u64) -> Self {
        let times = Times::until(at);
        Self { endorsed, kinds: BTreeMap::new(), first: None, unsigned: None, times, succession: None }
    }

    /// Takes the next one.
    pub(crate) fn take(&mut self, index: u64, entry: &[u8]) {
        let kind = signed_kind(entry, self.endorsed);
        match kind {
            None => self.unsigned = self.unsigned.or(Some(index)),
            Some(kind) => {
                let counted = self.kinds.entry(kind.media_type()).or_insert(0);
                *counted = counted.saturating_add(1);
            }
        }
        if index == 0 {
            self.first = kind;
        }
        let object = Sign1::parse(entry, MAX_ENTRY).ok();
        self.times.take(index, object.as_ref().and_then(recorded_time));
        let passage = match kind {
            Some(Kind::Rotation) => Passage::Rotation,
            Some(Kind::Recovery) => Passage::Recovery,
            _ => return,
        };
        let key = self.endorsed.predecessor.as_ref().map(|old| &old.checkpoint_key).filter(|_| index == 1);
        let record = object.as_ref().and_then(Sign1::payload).and_then(|p| SuccessionRecord::decode(p).ok());
        let named = key.zip(record).and_then(|(key, record)| record.predecessor(passage, key));
        self.succession = Some(named.map_or(Succession::Wrong(index), |named| Succession::Named(Box::new(named))));
    }

    /// Judges all of them together.
    pub(crate) fn judge(&self, checks: &mut Checks) {
        checks.require(
            "log.statements",
            self.unsigned.is_none(),
            || {
                self.unsigned
                    .map_or_else(|| "all signed".into(), |i| format!("entry {i} is not signed by the authority"))
            },
            || "every entry is a statement by the endorsed permit key".into(),
            "signature of every entry",
        );
        checks.require(
            "log.time",
            self.times.wrong.is_none(),
            || self.times.wrong.clone().unwrap_or_else(|| "in order".into()),
            || format!("times that do not go back, and none after {}", rfc3339(self.times.now())),
            "recorded times",
        );
        checks.require(
            "log.genesis",
            self.first == Some(Kind::Genesis),
            || self.first.map_or_else(|| "nothing".into(), |kind| kind.to_string()),
            || Kind::Genesis.to_string(),
            "first entry",
        );
        let endorsed = self.endorsed.predecessor.as_ref();
        let (same, found) = match &self.succession {
            None => (endorsed.is_none(), "no log before this one".to_owned()),
            Some(Succession::Wrong(index)) => (false, format!("entry {index}, about another log")),
            Some(Succession::Named(named)) => (endorsed == Some(&**named), describe(named)),
        };
        checks.require(
            "log.succession",
            same,
            || found,
            || endorsed.map_or_else(|| "no log before this one, as endorsed".into(), describe),
            "the log before this one, against the endorsement",
        );
    }
}

fn describe(old: &Predecessor) -> String {
    format!("{} of {} at {} entries", old.passage, old.checkpoint_key.origin(), old.size)
}

/// Recorded times: batches are ordered by the log, not by the second, so a few
/// seconds back are no contradiction.
struct Times {
    latest: u64,
    until: u64,
    wrong: Option<String>,
}

/// Seconds by which an entry may seem older than one before it.
const SLACK: u64 = 30;

impl Times {
    const fn until(at: u64) -> Self {
        Self { latest: 0, until: at.saturating_add(SLACK), wrong: None }
    }

    const fn now(&self) -> u64 {
        self.until.saturating_sub(SLACK)
    }

    fn take(&mut self, index: u64, time: Option<u64>) {
        let Some(time) = time else { return };
        let behind = time.saturating_add(SLACK) < self.latest;
        if (behind || time > self.until) && self.wrong.is_none() {
            let than =
                if behind { format!("after one of {}", rfc3339(self.latest)) } else { "which is to come".into() };
            self.wrong = Some(format!("entry {index} of {}, {than}", rfc3339(time)));
        }
        self.latest = self.latest.max(time);
    }
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::signature::Ed25519KeyPair;
    use portcullis_lineage::Keys;
    use portcullis_permit::{Checkpoint, SigningKey, Suite, statement};

    use super::*;

    /// The checks of a log that fail.
    fn failed(statements: &Statements<'_>) -> Vec<String> {
        let mut checks = Checks::all();
        statements.judge(&mut checks);
        checks.refused().map(|check| check.id.to_string()).collect()
    }

    /// A log that follows on another where the governors did not endorse it, or
    /// on another tree, or in another way.
    #[test]
    fn a_log_follows_on_the_one_that_was_endorsed_and_no_other() {
        let key = SigningKey::generate(Suite::Classic).unwrap();
        let signer = Ed25519KeyPair::from_seed_unchecked(&[1; 32]).unwrap();
        let keys = Keys::from_seeds("log.test/old", &[1; 32], &[2; 32]).unwrap();
        let record = |size| SuccessionRecord {
            time: 10,
            endorsement: [0; 32],
            checkpoint: Checkpoint::sign(&signer, keys.checkpoint_key(), size, [4; 32]).note().to_owned(),
            witnessed: None,
            inherited: None,
        };
        let old = record(9).predecessor(Passage::Recovery, keys.checkpoint_key());
        let endorsed = |predecessor| Endorsement {
            checkpoint_key: keys.checkpoint_key().clone(),
            permit_key: key.public().clone(),
            receipt_key: keys.receipt_key(),
            chip_id: Vec::new(),
            measurement: Vec::new(),
            bundle_version: 1,
            expires: 100,
            predecessor,
        };
        let (first, next) = (endorsed(None), endorsed(old));
        let sign = |kind, payload: &[u8]| statement::sign(kind, &key, "log.test/new", "test", payload).unwrap();
        let genesis = sign(Kind::Genesis, b"genesis");
        let second = |kind, size| sign(kind, &record(size).encode());
        let judge = |endorsed: &Endorsement, entries: &[Vec<u8>]| {
            let mut statements = Statements::new(endorsed, 100);
            (0..).zip(entries).for_each(|(index, entry)| statements.take(index, entry));
            failed(&statements)
        };
        let refused = vec!["log.succession".to_owned()];
        assert_eq!(judge(&first, std::slice::from_ref(&genesis)), Vec::<String>::new());
        assert_eq!(judge(&next, &[genesis.clone(), second(Kind::Recovery, 9)]), Vec::<String>::new());
        assert_eq!(judge(&next, std::slice::from_ref(&genesis)), refused, "it does not say so");
        assert_eq!(judge(&first, &[genesis.clone(), second(Kind::Recovery, 9)]), refused, "nobody endorsed that");
        assert_eq!(judge(&next, &[genesis.clone(), second(Kind::Recovery, 8)]), refused, "another head");
        assert_eq!(judge(&next, &[genesis.clone(), second(Kind::Rotation, 9)]), refused, "another passage");
        let late = [genesis.clone(), second(Kind::Recovery, 9), second(Kind::Recovery, 9)];
        assert_eq!(judge(&next, &late), refused, "a second time");
    }

    /// THREATS 17, 42: an entry of the future, and clocks that went back.
    #[test]
    fn times_that_contradict_each_other_are_named() {
        let wrong = |times: &[u64]| {
            let mut all = Times::until(1_000_000);
            (0..).zip(times).for_each(|(index, time)| all.take(index, Some(*time)));
            all.take(99, None);
            all.wrong
        };
        assert_eq!(wrong(&[10, 10, 12, 11, 500, 471, 1_000_000]), None);
        let back = wrong(&[10, 500, 10, 9]).unwrap();
        assert!(back.starts_with("entry 2 of 1970-01-01T00:00:10Z, after one of"), "{back}");
        let future = wrong(&[10, 1_000_031]).unwrap();
        assert!(future.ends_with("which is to come"), "{future}");
        // One of the future is found out by those after it, too.
        assert!(wrong(&[10, 900_000, 11]).is_some());
    }
}
