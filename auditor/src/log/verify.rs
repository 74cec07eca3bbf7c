//! `portcullis-audit log verify`: a whole log from its published files, or the entries
//! of an audit bundle, each with its receipt.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use portcullis_attest::check::Checks;
use portcullis_cli::progress;
use portcullis_lineage::{DirectoryWalk, verify_directory};
use portcullis_permit::{Checkpoint, Endorsement, VerifyingKey};
use portcullis_wire::hex::hex;
use serde_json::{Map, Value, json};

use super::resume::{Memory, position, position_json};
use super::source::{self, Source};
use super::statements::Statements;
use crate::endorsed::Authority;
use crate::inputs::{Inputs, time};
use crate::report::{Facts, Output, Report};

const BAR: &str = "{spinner} {msg} {wide_bar} {pos} {eta}";
/// Number of entries that are checked together, on all cores, and their bytes.
const TOGETHER: usize = 16_384;
const TOGETHER_BYTES: usize = 64 * 1024 * 1024;

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    source: source::Audited,
    /// Folder of the predecessor log: it must end where this log says.
    #[arg(long, value_name = "FOLDER")]
    predecessor: Option<PathBuf>,
    /// File that stores the progress of verifying a folder; a later run continues from
    /// there, also after the log has grown.
    #[arg(long, value_name = "FILE")]
    resume: Option<PathBuf>,
    /// Time of the verification, RFC 3339; now if absent.
    #[arg(long, value_name = "RFC3339")]
    at: Option<String>,
    #[command(flatten)]
    output: Output,
}

pub(crate) fn run(arguments: &Arguments) -> Result<u8> {
    let mut inputs = Inputs::default();
    let log = &arguments.source.log;
    let authority = arguments.source.authority.read(log, &mut inputs)?;
    for folder in [Some(log), arguments.predecessor.as_ref()].into_iter().flatten().filter(|path| path.is_dir()) {
        fs::metadata(folder.join("checkpoint")).with_context(|| folder.display().to_string())?;
    }

    let mut checks = Checks::all();
    let at = time(arguments.at.as_deref())?;
    let summary = verify(arguments, &authority, at, &mut checks);
    let mut members = Map::new();
    members.insert("log".into(), summary.as_ref().map_or(Value::Null, Summary::json));
    let report = Report {
        schema: "portcullis/log-audit/1",
        title: format!("Transparency log {}", log.display()),
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
    /// The governors who signed the endorsement.
    endorsed_by: String,
    size: u64,
    root: String,
    /// The part of the log that was available.
    selection: String,
    kinds: BTreeMap<&'static str, u64>,
}

impl Summary {
    fn facts(&self) -> Facts {
        let head = [
            ("origin", self.origin.clone()),
            ("endorsed by", self.endorsed_by.clone()),
            ("entries", self.size.to_string()),
            ("root", self.root.clone()),
            ("selection", self.selection.clone()),
        ];
        let kinds = self.kinds.iter().map(|(kind, count)| (*kind, count.to_string()));
        Facts::new("What the log holds", head.into_iter().chain(kinds))
    }

    fn json(&self) -> Value {
        json!({
            "origin": self.origin,
            "endorsed_by": self.endorsed_by,
            "size": self.size,
            "root": self.root,
            "selection": self.selection,
            "kinds": self.kinds,
        })
    }
}

fn verify(arguments: &Arguments, authority: &Authority, at: u64, checks: &mut Checks) -> Option<Summary> {
    let endorsed = authority.verify(checks)?;
    let path = &arguments.source.log;
    let mut statements = Statements::new(&endorsed, at);
    let (read, selection) = if path.is_dir() {
        let resume = arguments.resume.as_deref();
        (Folder { path, key: &endorsed.checkpoint_key, resume }.verify(&mut statements), "all".to_owned())
    } else {
        match bundle(path, authority, &endorsed, &mut statements) {
            Ok((head, selection)) => (Ok(head), selection),
            Err(error) => (Err(error), String::new()),
        }
    };
    let required = "entries that lead to the root of a checkpoint by the endorsed key";
    let read = read.map_err(|error| format!("{error:#}"));
    let head = checks.step("log.tree", read, required, "checkpoint, hash tiles or receipts, and entries")?;
    statements.judge(checks);
    if let Some(folder) = &arguments.predecessor {
        check_predecessor(folder, &endorsed, checks);
    }
    Some(Summary {
        origin: endorsed.origin().to_owned(),
        endorsed_by: authority.signers(),
        size: head.size(),
        root: hex(head.root()),
        selection,
        kinds: statements.kinds,
    })
}

/// The published files of a whole log.
struct Folder<'a> {
    path: &'a Path,
    key: &'a VerifyingKey,
    resume: Option<&'a Path>,
}

impl Folder<'_> {
    fn verify(&self, statements: &mut Statements<'_>) -> Result<Checkpoint> {
        let memory = Memory { path: self.resume, key: self.key };
        let from = memory.known(|state| {
            statements.go_on(state.get("statements")?)?;
            position(state.get("position")?)
        })?;
        let fetch = |path: &str| fs::read(self.path.join(path));
        let mut walk = DirectoryWalk::open(self.key, fetch, from.as_ref())?;
        let bar = progress(Some(walk.checkpoint().size()), BAR).with_message("entries");
        let mut gathered = Gathered::default();
        loop {
            // A run cannot continue inside a bundle, so the last, partial bundle is not stored.
            match walk.position() {
                Some(at) if gathered.is_enough() || walk.is_at_last_full() => {
                    gathered.hand_to(statements);
                    memory.keep(|| json!({ "position": position_json(&at), "statements": statements.to_json() }));
                }
                _ => {}
            }
            let Some((first, entries)) = walk.next_bundle()? else { break };
            bar.set_position(first);
            gathered.add(first, entries);
        }
        gathered.hand_to(statements);
        bar.finish_and_clear();
        Ok(walk.finish()?.checkpoint().clone())
    }
}

/// Entries that are checked together.
#[derive(Default)]
struct Gathered {
    first: u64,
    entries: Vec<Vec<u8>>,
    bytes: usize,
}

impl Gathered {
    fn add(&mut self, first: u64, entries: Vec<Vec<u8>>) {
        if self.entries.is_empty() {
            self.first = first;
        }
        self.bytes = self.bytes.saturating_add(entries.iter().map(Vec::len).sum());
        self.entries.extend(entries);
    }

    const fn is_enough(&self) -> bool {
        self.entries.len() >= TOGETHER || self.bytes >= TOGETHER_BYTES
    }

    fn hand_to(&mut self, statements: &mut Statements<'_>) {
        statements.take(self.first, &self.entries);
        *self = Self::default();
    }
}

/// The entries of an audit bundle. The bundle says which part of the log it has.
fn bundle(
    path: &Path,
    authority: &Authority,
    endorsed: &Endorsement,
    statements: &mut Statements<'_>,
) -> Result<(Checkpoint, String)> {
    let mut source = Source::bundle(path, authority.governance().clone(), endorsed.clone())?;
    let bar = source.bar("entries");
    let mut gathered = Gathered::default();
    let mut next = 0;
    while let Some((index, entry)) = source.next_entry()? {
        bar.set_position(index);
        // Consecutive entries are checked together.
        if gathered.is_enough() || index != next {
            gathered.hand_to(statements);
        }
        next = index.saturating_add(1);
        gathered.add(index, vec![entry.statement]);
    }
    gathered.hand_to(statements);
    bar.finish_and_clear();
    Ok((source.checkpoint, source.selection))
}

/// The predecessor log ends where the governors endorsed it: it was neither truncated
/// nor continued.
fn check_predecessor(folder: &Path, endorsed: &Endorsement, checks: &mut Checks) {
    let old = endorsed.predecessor.as_ref();
    let required = old.map_or_else(
        || "no log before this one".to_owned(),
        |old| format!("{} with {} entries and root {}", old.checkpoint_key.origin(), old.size, hex(&old.root)),
    );
    let read = old.ok_or_else(|| "a log before this one".to_owned()).and_then(|old| {
        let head = whole(folder, &old.checkpoint_key).map_err(|error| format!("{error:#}"))?;
        let same = (head.size(), *head.root()) == (old.size, old.root);
        if same { Ok(()) } else { Err(format!("{} entries with root {}", head.size(), hex(head.root()))) }
    });
    checks.step("log.predecessor", read, &required, "the log that this one follows on");
}

/// The head of a log to which all its files lead.
fn whole(folder: &Path, key: &VerifyingKey) -> Result<Checkpoint> {
    let bar = progress(None, BAR).with_message("entries of the old log");
    let fetch = |path: &str| fs::read(folder.join(path));
    let log = verify_directory(key, fetch, |index, _| bar.set_position(index));
    bar.finish_and_clear();
    Ok(log?.checkpoint().clone())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use portcullis_lineage::{FileStorage, Keys, Log, NewEntry};
    use portcullis_permit::{Kind, SigningKey, Suite, statement};

    use super::*;

    /// A resumed verification gives the same result as one from the beginning, also after
    /// the log has grown. It refuses an altered state and the state of another log.
    #[test]
    fn a_verification_goes_on_in_a_log_that_has_grown() {
        let folder = tempfile::tempdir().unwrap();
        let state = folder.path().join("state.json");
        let keys = Keys::from_seeds("log.test/resume", &[1; 32], &[2; 32]).unwrap();
        let permit = SigningKey::generate(Suite::Classic).unwrap();
        let endorsed = Endorsement {
            checkpoint_key: keys.checkpoint_key().clone(),
            permit_key: permit.public().clone(),
            receipt_key: keys.receipt_key(),
            chip_id: Vec::new(),
            measurement: Vec::new(),
            bundle_version: 1,
            expires: 100,
            predecessor: None,
        };
        let entry = |kind| {
            let statement = statement::sign(kind, &permit, "log.test/resume", "test", b"payload").unwrap();
            NewEntry { statement, ..NewEntry::default() }
        };
        let path = folder.path().join("log");
        let (mut log, mut publisher) = Log::open(Arc::new(FileStorage::open(&path).unwrap()), keys).unwrap();
        let mut grow = |count: usize| {
            let first = log.head().is_none().then(|| entry(Kind::Genesis));
            let entries: Vec<NewEntry> = first.into_iter().chain((0..count).map(|_| entry(Kind::Boot))).collect();
            log.append(entries).unwrap();
            publisher.sync().unwrap();
        };
        let verify = |resume: Option<&Path>| {
            let mut statements = Statements::new(&endorsed, 100);
            let key = &endorsed.checkpoint_key;
            let head = Folder { path: &path, key, resume }.verify(&mut statements).map_err(|e| format!("{e:#}"))?;
            let mut checks = Checks::all();
            statements.judge(&mut checks);
            assert!(checks.passed());
            Ok::<_, String>((head.size(), statements.to_json()))
        };
        grow(599);
        assert_eq!(verify(Some(&state)), verify(None));
        let kept: Value = serde_json::from_slice(&fs::read(&state).unwrap()).unwrap();
        assert_eq!(kept["state"]["position"]["size"], 512, "the last full bundle");
        grow(300);
        let (size, known) = verify(Some(&state)).unwrap();
        assert_eq!(Ok((size, known.clone())), verify(None));
        assert_eq!((size, &known["kinds"][Kind::Boot.media_type()]), (900, &899.into()));

        let mut altered: Value = serde_json::from_slice(&fs::read(&state).unwrap()).unwrap();
        altered["state"]["position"]["edge"][1] = "00".repeat(32 * 3).into();
        fs::write(&state, altered.to_string()).unwrap();
        assert!(verify(Some(&state)).unwrap_err().contains("not the hashes of the entries"));
        altered["key"] = "another+log".into();
        fs::write(&state, altered.to_string()).unwrap();
        assert!(verify(Some(&state)).unwrap_err().ends_with("not of this log"));
    }
}
