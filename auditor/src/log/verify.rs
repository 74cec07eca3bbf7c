//! `portcullis-audit log verify`: a whole log from its published files, or the
//! entries of an audit bundle, each with its receipt.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use portcullis_attest::check::Checks;
use portcullis_cli::progress;
use portcullis_lineage::verify_directory;
use portcullis_permit::{Checkpoint, Endorsement, VerifyingKey};
use portcullis_wire::hex::hex;
use serde_json::{Map, Value, json};

use super::source::{self, Source};
use super::statements::Statements;
use crate::endorsed::Authority;
use crate::inputs::{Inputs, time};
use crate::report::{Facts, Output, Report};

const BAR: &str = "{spinner} {msg} {wide_bar} {pos} {eta}";

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    source: source::Audited,
    /// Folder of the log that this one follows on: it must end where this one
    /// says.
    #[arg(long, value_name = "FOLDER")]
    predecessor: Option<PathBuf>,
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
    size: u64,
    root: String,
    /// What of the log was at hand.
    selection: String,
    kinds: BTreeMap<&'static str, u64>,
}

impl Summary {
    fn facts(&self) -> Facts {
        let head = [
            ("origin", self.origin.clone()),
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
        let visit = |index, entry: &[u8]| statements.take(index, entry);
        (directory(path, &endorsed.checkpoint_key, visit), "all".to_owned())
    } else {
        let visit = |index, entry: &[u8]| statements.take(index, entry);
        match bundle(path, authority, &endorsed, visit) {
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
        size: head.size(),
        root: hex(head.root()),
        selection,
        kinds: statements.kinds,
    })
}

/// The published files of a whole log.
fn directory(folder: &Path, key: &VerifyingKey, visit: impl FnMut(u64, &[u8])) -> Result<Checkpoint> {
    let bar = progress(None, BAR).with_message("files");
    let fetch = |path: &str| -> io::Result<Vec<u8>> {
        bar.inc(1);
        fs::read(folder.join(path))
    };
    let read = verify_directory(key, fetch, visit);
    bar.finish_and_clear();
    Ok(read?.checkpoint().clone())
}

/// The entries of an audit bundle: which of the log it has, it says itself.
fn bundle(
    path: &Path,
    authority: &Authority,
    endorsed: &Endorsement,
    mut visit: impl FnMut(u64, &[u8]),
) -> Result<(Checkpoint, String)> {
    let mut source = Source::bundle(path, authority.governance().clone(), endorsed.clone())?;
    let bar = source.bar("entries");
    while let Some(item) = source.next()? {
        bar.set_position(source.position());
        visit(item.index, &item.statement);
    }
    bar.finish_and_clear();
    Ok((source.checkpoint, source.selection))
}

/// The log before this one ends where the governors endorsed that it does: it
/// was neither cut short nor continued.
fn check_predecessor(folder: &Path, endorsed: &Endorsement, checks: &mut Checks) {
    let old = endorsed.predecessor.as_ref();
    let required = old.map_or_else(
        || "no log before this one".to_owned(),
        |old| format!("{} with {} entries and root {}", old.checkpoint_key.origin(), old.size, hex(&old.root)),
    );
    let read = old.ok_or_else(|| "a log before this one".to_owned()).and_then(|old| {
        let head = directory(folder, &old.checkpoint_key, |_, _| ()).map_err(|error| format!("{error:#}"))?;
        let same = (head.size(), *head.root()) == (old.size, old.root);
        if same { Ok(()) } else { Err(format!("{} entries with root {}", head.size(), hex(head.root()))) }
    });
    checks.step("log.predecessor", read, &required, "the log that this one follows on");
}
