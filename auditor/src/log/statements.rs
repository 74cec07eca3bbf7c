//! Checks over all statements of a log: signers, times, order, and the log that this
//! one succeeds.

use std::collections::BTreeMap;

use portcullis_attest::check::Checks;
use portcullis_cli::rfc3339;
use portcullis_lineage::MAX_ENTRY;
use portcullis_permit::{Endorsement, Kind, Passage, Predecessor, SuccessionRecord, recorded_time};
use portcullis_wire::Sign1;
use rayon::prelude::*;
use serde_json::{Value, json};

use super::source::signed_kind;

/// Statements, checked one after another.
pub(crate) struct Statements<'a> {
    endorsed: &'a Endorsement,
    /// How many of each kind.
    pub(crate) kinds: BTreeMap<&'static str, u64>,
    first: Option<Kind>,
    unsigned: Option<u64>,
    times: Times,
    succession: Option<Succession>,
}

/// What an entry says about the predecessor log.
#[derive(Clone)]
struct Succession {
    /// Whether the governors endorsed it.
    same: bool,
    found: String,
}

/// The result for one entry alone.
struct Examined {
    kind: Option<Kind>,
    time: Option<u64>,
    succession: Option<SuccessionRecord>,
}

fn examine(entry: &[u8], endorsed: &Endorsement) -> Examined {
    let kind = signed_kind(entry, endorsed);
    let object = Sign1::parse(entry, MAX_ENTRY).ok();
    let time = object.as_ref().and_then(recorded_time);
    let follows = matches!(kind, Some(Kind::Rotation | Kind::Recovery));
    let payload = object.as_ref().and_then(Sign1::payload).filter(|_| follows);
    Examined { kind, time, succession: payload.and_then(|payload| SuccessionRecord::decode(payload).ok()) }
}

impl<'a> Statements<'a> {
    /// For the log of an authority, with times until now.
    pub(crate) const fn new(endorsed: &'a Endorsement, at: u64) -> Self {
        let times = Times::until(at);
        Self { endorsed, kinds: BTreeMap::new(), first: None, unsigned: None, times, succession: None }
    }

    /// Takes the next entries, from a position on. Signatures are verified on all cores.
    pub(crate) fn take(&mut self, first: u64, entries: &[Vec<u8>]) {
        let endorsed = self.endorsed;
        let examined: Vec<Examined> = entries.par_iter().map(|entry| examine(entry, endorsed)).collect();
        (first..).zip(examined).for_each(|(index, examined)| self.fold(index, examined));
    }

    fn fold(&mut self, index: u64, Examined { kind, time, succession }: Examined) {
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
        self.times.take(index, time);
        let passage = match kind {
            Some(Kind::Rotation) => Passage::Rotation,
            Some(Kind::Recovery) => Passage::Recovery,
            _ => return,
        };
        // This entry must be the second; at any other position it is refused.
        let old = self.endorsed.predecessor.as_ref().filter(|_| index == 1);
        let named = old.zip(succession).and_then(|(old, record)| record.predecessor(passage, &old.checkpoint_key));
        let other = || Succession { same: false, found: format!("entry {index}, about another log") };
        self.succession =
            Some(named.map_or_else(other, |named| Succession { same: old == Some(&named), found: named.to_string() }));
    }

    /// The state from which a later run continues.
    pub(crate) fn to_json(&self) -> Value {
        json!({
            "kinds": self.kinds,
            "first": self.first.map(Kind::media_type),
            "unsigned": self.unsigned,
            "latest": self.times.latest,
            "wrong": self.times.wrong,
            "succession": self.succession.as_ref().map(|it| json!({ "same": it.same, "found": it.found })),
        })
    }

    /// Continues from [`Self::to_json`].
    pub(crate) fn go_on(&mut self, known: &Value) -> Option<()> {
        let kind = |name: &str| Kind::ALL.into_iter().find(|kind| kind.media_type() == name);
        for (name, count) in known.get("kinds")?.as_object()? {
            self.kinds.insert(kind(name)?.media_type(), count.as_u64()?);
        }
        let text = |value: &Value| value.as_str().map(str::to_owned);
        self.first = match known.get("first")? {
            Value::Null => None,
            name => Some(kind(name.as_str()?)?),
        };
        self.unsigned = known.get("unsigned")?.as_u64();
        self.times.latest = known.get("latest")?.as_u64()?;
        self.times.wrong = known.get("wrong").and_then(text);
        self.succession = match known.get("succession")? {
            Value::Null => None,
            it => Some(Succession { same: it.get("same")?.as_bool()?, found: it.get("found").and_then(text)? }),
        };
        Some(())
    }

    /// Checks all entries together.
    pub(crate) fn judge(&self, checks: &mut Checks) {
        judge_signatures(self.unsigned, checks);
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
            Some(Succession { same, found }) => (*same, found.clone()),
        };
        checks.require(
            "log.succession",
            same,
            || found,
            || endorsed.map_or_else(|| "no log before this one, as endorsed".into(), Predecessor::to_string),
            "the log before this one, against the endorsement",
        );
    }
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

/// Every entry is signed; else, the first that is not.
pub(crate) fn judge_signatures(unsigned: Option<u64>, checks: &mut Checks) {
    checks.require(
        "log.statements",
        unsigned.is_none(),
        || {
            unsigned
                .map_or_else(|| "all signed".into(), |index| format!("entry {index} is not signed by the authority"))
        },
        || "every entry is a statement by the endorsed permit key".into(),
        "signature of every entry",
    );
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::signature::Ed25519KeyPair;
    use portcullis_lineage::Keys;
    use portcullis_permit::{Checkpoint, SigningKey, Suite, statement};

    use super::*;

    /// The failed checks of a log.
    fn failed(statements: &Statements<'_>) -> Vec<String> {
        let mut checks = Checks::all();
        statements.judge(&mut checks);
        checks.refused().map(|check| check.id.to_string()).collect()
    }

    /// A log that succeeds another without the governors' endorsement, or from another
    /// tree, or in another way.
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
            // In two parts, with the state stored in between.
            let (head, tail) = entries.split_at(entries.len() / 2);
            statements.take(0, head);
            let known = serde_json::from_str(&statements.to_json().to_string()).unwrap();
            let mut statements = Statements::new(endorsed, 100);
            statements.go_on(&known).unwrap();
            statements.take(head.len() as u64, tail);
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

    /// THREATS 17, 42: an entry in the future, and clocks that went back.
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
        // Later entries also reveal an entry in the future.
        assert!(wrong(&[10, 900_000, 11]).is_some());
    }
}
