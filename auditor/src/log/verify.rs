//! `portcullis-audit log verify`: a whole log, from its published files.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::PathBuf;

use anyhow::{Context, Result};
use portcullis_attest::check::Checks;
use portcullis_cli::{progress, rfc3339};
use portcullis_lineage::{MAX_ENTRY, VerifyingKey, verify_directory};
use portcullis_permit::{Kind, recorded_time};
use portcullis_wire::Sign1;
use portcullis_wire::hex::hex;
use serde_json::{Map, Value, json};

use super::source::signed_kind;
use crate::endorsed::{self, Authority};
use crate::inputs::{Inputs, time};
use crate::report::{Facts, Output, Report};

const BAR: &str = "{spinner} {msg} {wide_bar} {pos} {eta}";

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Folder with `checkpoint` and `tile/`.
    folder: PathBuf,
    #[command(flatten)]
    authority: endorsed::Named,
    /// Time of the verification, RFC 3339; now if absent.
    #[arg(long, value_name = "RFC3339")]
    at: Option<String>,
    #[command(flatten)]
    output: Output,
}

pub(crate) fn run(arguments: &Arguments) -> Result<u8> {
    let mut inputs = Inputs::default();
    let authority = arguments.authority.read(&mut inputs)?;
    fs::metadata(arguments.folder.join("checkpoint")).with_context(|| arguments.folder.display().to_string())?;

    let mut checks = Checks::all();
    let at = time(arguments.at.as_deref())?;
    let summary = verify(arguments, &authority, at, &mut checks);
    let mut members = Map::new();
    members.insert("log".into(), summary.as_ref().map_or(Value::Null, Summary::json));
    let report = Report {
        schema: "portcullis/log-audit/1",
        title: format!("Transparency log {}", arguments.folder.display()),
        at: Some(at),
        inputs,
        checks,
        facts: summary.iter().map(Summary::facts).collect(),
        beyond: vec![
            "Whether others were shown another log: compare the root with what nodes have seen.",
            "Whether the decisions were right: that takes the archived evidence and bundles.",
        ],
        note: "",
        policies: Vec::new(),
        members,
    };
    report.give(&arguments.output)
}

struct Summary {
    origin: String,
    size: u64,
    root: String,
    kinds: BTreeMap<&'static str, u64>,
}

impl Summary {
    fn facts(&self) -> Facts {
        let head = [("origin", self.origin.clone()), ("entries", self.size.to_string()), ("root", self.root.clone())];
        let kinds = self.kinds.iter().map(|(kind, count)| (*kind, count.to_string()));
        Facts::new("What the log holds", head.into_iter().chain(kinds))
    }

    fn json(&self) -> Value {
        json!({ "origin": self.origin, "size": self.size, "root": self.root, "kinds": self.kinds })
    }
}

fn verify(arguments: &Arguments, authority: &Authority, at: u64, checks: &mut Checks) -> Option<Summary> {
    let endorsed = authority.verify(checks)?;
    let key: &VerifyingKey = &endorsed.checkpoint_key;
    let bar = progress(None, BAR).with_message("files");
    let fetch = |path: &str| -> io::Result<Vec<u8>> {
        bar.inc(1);
        fs::read(arguments.folder.join(path))
    };
    let mut kinds = BTreeMap::new();
    let (mut first, mut refused) = (None, None);
    let mut times = Times::until(at);
    let read = verify_directory(key, fetch, |index, entry| {
        let kind = signed_kind(entry, &endorsed);
        match kind {
            Some(kind) => count(&mut kinds, kind),
            None => refused = refused.or(Some(index)),
        }
        if index == 0 {
            first = kind;
        }
        times.take(index, Sign1::parse(entry, MAX_ENTRY).ok().and_then(|object| recorded_time(&object)));
    });
    bar.finish_and_clear();
    let required = "entries and tiles that lead to the root of a checkpoint by the endorsed key";
    let log = checks.step("log.tree", read, required, "checkpoint, hash tiles and entries")?;
    checks.require(
        "log.statements",
        refused.is_none(),
        || refused.map_or_else(|| "all signed".into(), |index| format!("entry {index} is not signed by the authority")),
        || "every entry is a statement by the endorsed permit key".into(),
        "signature of every entry",
    );
    checks.require(
        "log.time",
        times.wrong.is_none(),
        || times.wrong.clone().unwrap_or_else(|| "in order".into()),
        || format!("times that do not go back, and none after {}", rfc3339(at)),
        "recorded times",
    );
    checks.require(
        "log.genesis",
        first == Some(Kind::Genesis),
        || first.map_or_else(|| "nothing".into(), |kind| kind.to_string()),
        || Kind::Genesis.to_string(),
        "first entry",
    );
    Some(Summary {
        origin: key.origin().to_owned(),
        size: log.checkpoint().size(),
        root: hex(log.checkpoint().root()),
        kinds,
    })
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

fn count(kinds: &mut BTreeMap<&'static str, u64>, kind: Kind) {
    let counted = kinds.entry(kind.media_type()).or_insert(0);
    *counted = counted.saturating_add(1);
}

#[cfg(test)]
mod tests {
    use super::*;

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
