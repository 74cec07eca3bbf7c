//! `portcullis-audit fsck`: is everything there that the log promises, and
//! nothing else? Bit rot, holes, orphans, in the folder of a log.

use std::collections::HashSet;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result};
use portcullis_attest::check::Checks;
use portcullis_cli::progress;
use portcullis_lineage::{
    Archive, ArchiveError, FileStorage, LogReader, MAX_ENTRY, Part, Replay, Storage, verify_directory,
};
use portcullis_permit::{Kind, RetentionRecord, names};
use portcullis_wire::Sign1;
use portcullis_wire::hex::hex;
use serde_json::{Map, Value, json};

use crate::endorsed::{self, Authority};
use crate::inputs::Inputs;
use crate::report::{Facts, Output, Report};

const BAR: &str = "{msg} {wide_bar} {pos} entries {eta}";

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Folder of a log, with its journal.
    folder: PathBuf,
    #[command(flatten)]
    authority: endorsed::Named,
    #[command(flatten)]
    output: Output,
}

/// What was found.
#[derive(Default)]
struct Found {
    entries: u64,
    blobs: u64,
    pruned: u64,
    /// The last entry that something was taken out of, and up to where the log
    /// says that this is so.
    last_pruned: Option<u64>,
    retained_from: u64,
    /// Shared files that entries refer to.
    shared: HashSet<String>,
    /// The first blob that is not to be had.
    hole: Option<String>,
    orphans: Vec<String>,
}

pub(crate) fn run(arguments: &Arguments) -> Result<u8> {
    let mut inputs = Inputs::default();
    let authority = arguments.authority.read(&arguments.folder, &mut inputs)?;
    fs::metadata(&arguments.folder).with_context(|| arguments.folder.display().to_string())?;
    let mut checks = Checks::all();
    let found = examine(arguments, &authority, &mut checks);
    let mut members = Map::new();
    members.insert("fsck".into(), found.as_ref().map_or(Value::Null, Found::json));
    let report = Report {
        schema: "portcullis/fsck/1",
        title: format!("Log {}", arguments.folder.display()),
        at: None,
        inputs,
        checks,
        facts: found.iter().map(Found::facts).collect(),
        beyond: vec!["Whether this is the newest state of the log: compare its head with what others have seen."],
        note: "",
        policies: Vec::new(),
        members,
    };
    report.give(&arguments.output)
}

fn examine(arguments: &Arguments, authority: &Authority, checks: &mut Checks) -> Option<Found> {
    let endorsed = authority.verify(checks)?;
    let storage: Arc<dyn Storage> = Arc::new(FileStorage::reader(&arguments.folder));
    let head = LogReader::open(Arc::clone(&storage), &endorsed.checkpoint_key, &endorsed.receipt_key);
    let head = checks.step("log.head", head, "checkpoint, signed root and the tiles to it", "head of the log")?;
    let size = head.checkpoint().size();

    let bar = progress(Some(size), BAR).with_message("tiles");
    let fetch = |path: &str| fs::read(arguments.folder.join(path));
    let tiles = verify_directory(&endorsed.checkpoint_key, fetch, |index, _| bar.set_position(index));
    bar.finish_and_clear();
    checks.step("log.tree", tiles, "entries and tiles that lead to the root of the checkpoint", "published files");

    let (key, checkpoint) = (endorsed.checkpoint_key.clone(), head.checkpoint().clone());
    let mut found = Found::default();
    let journal = Replay::open(Arc::clone(&storage), 0, key, checkpoint);
    let journal = journal.and_then(|replay| found.journal(replay, &storage, size));
    let id = journal.as_ref().map_or_else(portcullis_lineage::ReplayError::check, |()| "log.root");
    checks.step(id, journal, "every batch under a checkpoint that the log signed", "journal")?;
    checks.require(
        "archive.hole",
        found.hole.is_none(),
        || found.hole.clone().unwrap_or_else(|| "none".into()),
        || "every blob that an entry was archived with".into(),
        "archived blobs",
    );
    found.look_for_orphans(&*storage).ok()?;
    checks.require(
        "archive.orphan",
        found.orphans.is_empty(),
        || found.orphans.first().cloned().unwrap_or_else(|| "none".into()),
        || "files that an entry refers to".into(),
        "files of the archive",
    );
    Some(found)
}

/// What a retention entry says.
fn retention(entry: &[u8]) -> Option<RetentionRecord> {
    let object = Sign1::parse(entry, MAX_ENTRY).ok()?;
    (Kind::of(&object) == Some(Kind::Retention)).then(|| RetentionRecord::decode(object.payload()?).ok()).flatten()
}

impl Found {
    fn journal(
        &mut self,
        mut replay: Replay,
        storage: &Arc<dyn Storage>,
        size: u64,
    ) -> Result<(), portcullis_lineage::ReplayError> {
        let mut archive = Archive::new(Arc::clone(storage));
        let bar = progress(Some(size), BAR).with_message("journal");
        while let Some(batch) = replay.next_batch()? {
            bar.set_position(batch.first);
            for (index, entry) in (batch.first..).zip(batch.entries) {
                self.entries = self.entries.saturating_add(1);
                if let Some(record) = retention(&entry.statement) {
                    self.retained_from = self.retained_from.max(record.before);
                }
                for blob in &entry.blobs {
                    self.blobs = self.blobs.saturating_add(1);
                    for part in &blob.0 {
                        if let Part::Shared { digest, .. } = part {
                            self.shared.insert(hex(digest));
                        }
                    }
                    match archive.read(blob) {
                        Ok(bytes) => {
                            let object = Sign1::parse(&entry.statement, MAX_ENTRY);
                            if !object.is_ok_and(|object| names(&object, &bytes)) {
                                let why = || format!("entry {index}: a blob that it does not name");
                                self.hole.get_or_insert_with(why);
                            }
                        }
                        Err(ArchiveError::Pruned(_)) => {
                            self.pruned = self.pruned.saturating_add(1);
                            self.last_pruned = Some(index);
                        }
                        Err(error) => {
                            self.hole.get_or_insert_with(|| format!("entry {index}: {error}"));
                        }
                    }
                }
            }
        }
        bar.finish_and_clear();
        if let Some(index) = self.last_pruned.filter(|index| *index >= self.retained_from) {
            let why = || format!("entry {index}: pruned, and the log does not say so");
            self.hole.get_or_insert_with(why);
        }
        Ok(())
    }

    fn look_for_orphans(&mut self, storage: &dyn Storage) -> std::io::Result<()> {
        for path in storage.list("archive")? {
            let name = path.rsplit('/').next().unwrap_or_default();
            if !self.shared.contains(name) {
                self.orphans.push(path);
            }
        }
        Ok(())
    }

    fn facts(&self) -> Facts {
        Facts::new(
            "What is there",
            [
                ("entries", self.entries.to_string()),
                ("blobs", self.blobs.to_string()),
                ("shared files", self.shared.len().to_string()),
                ("pruned", self.pruned.to_string()),
                ("orphans", self.orphans.len().to_string()),
            ],
        )
    }

    fn json(&self) -> Value {
        json!({
            "entries": self.entries,
            "blobs": self.blobs,
            "shared": self.shared.len(),
            "pruned": self.pruned,
            "hole": self.hole,
            "orphans": self.orphans,
        })
    }
}
