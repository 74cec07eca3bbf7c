//! `portcullis-audit fsck`: finds bit rot, missing files and orphans in the folder of a
//! log.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};
use portcullis_attest::check::Checks;
use portcullis_cli::progress;
use portcullis_lineage::{
    Archive, ArchiveError, ArchivedEntry, DirectoryWalk, FileStorage, LogReader, MAX_ENTRY, Part, Replay, ReplayError,
    Storage, WalkPosition,
};
use portcullis_permit::{Checkpoint, Kind, RetentionRecord, names};
use portcullis_wire::Sign1;
use portcullis_wire::hex::hex;
use rayon::prelude::*;
use serde_json::{Map, Value, json};

use super::keys::{self, OptionallyNamed};
use super::resume::{KEEP_EVERY, Memory, position, position_json};
use crate::endorsed::Authority;
use crate::inputs::Inputs;
use crate::report::{Facts, Output, Report};

const BAR: &str = "{msg} {wide_bar} {pos} entries {eta}";
/// Number of entries that are checked together, on all cores.
const TOGETHER: usize = 1024;

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Folder of a log, with its journal.
    folder: PathBuf,
    #[command(flatten)]
    authority: OptionallyNamed,
    /// File that stores the progress; a later run continues from there.
    #[arg(long, value_name = "FILE")]
    resume: Option<PathBuf>,
    #[command(flatten)]
    output: Output,
}

/// The findings and the progress.
#[derive(Default)]
struct Found {
    tiles: Option<WalkPosition>,
    /// The first journal entry that was not checked yet.
    next: u64,
    blobs: u64,
    pruned: u64,
    /// The last entry from which evidence was removed, and the position up to which the log
    /// records a removal.
    last_pruned: Option<u64>,
    retained_from: u64,
    /// Shared files that entries refer to.
    shared: HashSet<String>,
    /// The first blob that is unavailable.
    hole: Option<String>,
    orphans: Vec<String>,
}

pub(crate) fn run(arguments: &Arguments) -> Result<u8> {
    let mut inputs = Inputs::default();
    let authority = arguments.authority.read(&arguments.folder, &mut inputs)?;
    fs::metadata(&arguments.folder).with_context(|| arguments.folder.display().to_string())?;
    let mut checks = Checks::all();
    let found = examine(arguments, authority.as_ref(), &mut checks);
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
        note: if authority.is_some() { "" } else { "looked through with the keys that the log itself states" },
        policies: Vec::new(),
        members,
    };
    report.give(&arguments.output)
}

fn examine(arguments: &Arguments, authority: Option<&Authority>, checks: &mut Checks) -> Option<Found> {
    let storage: Arc<dyn Storage> = Arc::new(FileStorage::reader(&arguments.folder));
    let endorsed = keys::keys(authority, &*storage, checks)?;
    let head = LogReader::open(Arc::clone(&storage), &endorsed.checkpoint_key, &endorsed.receipt_key);
    let head = checks.step("log.head", head, "checkpoint, signed root and the tiles to it", "head of the log")?;
    let memory = Memory { path: arguments.resume.as_deref(), key: &endorsed.checkpoint_key };
    let known = memory.known(Found::go_on).map_err(|error| format!("{error:#}"));
    let known = checks.step("log.resume", known, "what fsck has written", "where to go on from")?;
    let mut found = known.unwrap_or_default();

    let tiles = found.walk_tiles(&arguments.folder, &memory).map_err(|error| format!("{error:#}"));
    checks.step("log.tree", tiles, "entries and tiles that lead to the root of the checkpoint", "published files");
    let journal = found.walk_journal(&storage, head.checkpoint(), &memory);
    let id = journal.as_ref().map_or_else(ReplayError::check, |()| "log.root");
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

/// Contents of a retention entry.
fn retention(entry: &[u8]) -> Option<RetentionRecord> {
    let object = Sign1::parse(entry, MAX_ENTRY).ok()?;
    (Kind::of(&object) == Some(Kind::Retention)).then(|| RetentionRecord::decode(object.payload()?).ok()).flatten()
}

/// An entry with its archived blobs.
struct Archived {
    index: u64,
    statement: Vec<u8>,
    blobs: Vec<Result<Vec<u8>, ArchiveError>>,
}

impl Archived {
    /// Missing or wrong blobs, and whether some were pruned.
    fn judge(&self) -> (Option<String>, u64) {
        let (mut hole, mut pruned) = (None, 0_u64);
        let object = Sign1::parse(&self.statement, MAX_ENTRY).ok();
        for blob in &self.blobs {
            let why = match blob {
                Ok(bytes) if object.as_ref().is_some_and(|object| names(object, bytes)) => continue,
                Ok(_) => "a blob that it does not name".to_owned(),
                Err(ArchiveError::Pruned(_)) => {
                    pruned = pruned.saturating_add(1);
                    continue;
                }
                Err(error) => error.to_string(),
            };
            hole.get_or_insert_with(|| format!("entry {}: {why}", self.index));
        }
        (hole, pruned)
    }
}

impl Found {
    fn walk_tiles(&mut self, folder: &Path, memory: &Memory<'_>) -> Result<()> {
        let fetch = |path: &str| fs::read(folder.join(path));
        let mut walk = DirectoryWalk::open(memory.key, fetch, self.tiles.as_ref())?;
        let bar = progress(Some(walk.checkpoint().size()), BAR).with_message("tiles");
        let mut kept = self.tiles.as_ref().map_or(0, |position| position.size);
        loop {
            match walk.position() {
                Some(position) if position.size >= kept.saturating_add(KEEP_EVERY) || walk.is_at_last_full() => {
                    kept = position.size;
                    self.tiles = Some(position);
                    self.keep(memory);
                }
                _ => {}
            }
            let Some((first, _)) = walk.next_bundle()? else { break };
            bar.set_position(first);
        }
        bar.finish_and_clear();
        walk.finish()?;
        Ok(())
    }

    fn walk_journal(
        &mut self,
        storage: &Arc<dyn Storage>,
        head: &Checkpoint,
        memory: &Memory<'_>,
    ) -> Result<(), ReplayError> {
        let mut replay = Replay::open(Arc::clone(storage), self.next, memory.key.clone(), head.clone())?;
        let mut archive = Archive::new(Arc::clone(storage));
        let bar = progress(Some(head.size()), BAR).with_message("journal");
        let (mut gathered, mut kept) = (Vec::new(), self.next);
        while let Some(batch) = replay.next_batch()? {
            bar.set_position(batch.first);
            let new = (batch.first..).zip(batch.entries).filter(|(index, _)| *index >= self.next);
            for (index, ArchivedEntry { statement, blobs, .. }) in new {
                let parts = blobs.iter().flat_map(|blob| &blob.0);
                self.shared.extend(parts.filter_map(|part| match part {
                    Part::Shared { digest, .. } => Some(hex(digest)),
                    Part::Here(_) | Part::Pruned { .. } => None,
                }));
                let blobs = blobs.iter().map(|blob| archive.read(blob)).collect();
                gathered.push(Archived { index, statement, blobs });
            }
            if gathered.len() >= TOGETHER {
                self.judge(&mut gathered);
                if self.next >= kept.saturating_add(KEEP_EVERY) {
                    kept = self.next;
                    self.keep(memory);
                }
            }
        }
        self.judge(&mut gathered);
        bar.finish_and_clear();
        if let Some(index) = self.last_pruned.filter(|index| *index >= self.retained_from) {
            let why = || format!("entry {index}: pruned, and the log does not say so");
            self.hole.get_or_insert_with(why);
        }
        self.keep(memory);
        Ok(())
    }

    /// Stores the progress. A missing blob is checked again by the next run, because it may
    /// have been restored.
    fn keep(&self, memory: &Memory<'_>) {
        if self.hole.is_none() {
            memory.keep(|| self.state());
        }
    }

    /// Checks entries together, on all cores.
    fn judge(&mut self, gathered: &mut Vec<Archived>) {
        let judged: Vec<_> = gathered.par_iter().map(Archived::judge).collect();
        for (entry, (hole, pruned)) in gathered.drain(..).zip(judged) {
            self.next = entry.index.saturating_add(1);
            self.blobs = self.blobs.saturating_add(entry.blobs.len() as u64);
            if let Some(record) = retention(&entry.statement) {
                self.retained_from = self.retained_from.max(record.before);
            }
            if pruned > 0 {
                self.pruned = self.pruned.saturating_add(pruned);
                self.last_pruned = Some(entry.index);
            }
            self.hole = self.hole.take().or(hole);
        }
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
                ("entries", self.next.to_string()),
                ("blobs", self.blobs.to_string()),
                ("shared files", self.shared.len().to_string()),
                ("pruned", self.pruned.to_string()),
                ("orphans", self.orphans.len().to_string()),
            ],
        )
    }

    fn json(&self) -> Value {
        json!({
            "entries": self.next,
            "blobs": self.blobs,
            "shared": self.shared.len(),
            "pruned": self.pruned,
            "hole": self.hole,
            "orphans": self.orphans,
        })
    }

    /// The state from which a later run continues.
    fn state(&self) -> Value {
        json!({
            "tiles": self.tiles.as_ref().map(position_json),
            "next": self.next,
            "blobs": self.blobs,
            "pruned": self.pruned,
            "last_pruned": self.last_pruned,
            "retained_from": self.retained_from,
            "shared": self.shared,
        })
    }

    /// Continues from [`Self::state`].
    fn go_on(state: &Value) -> Option<Self> {
        let number = |name: &str| state.get(name)?.as_u64();
        let tiles = match state.get("tiles")? {
            Value::Null => None,
            at => Some(position(at)?),
        };
        let shared = state.get("shared")?.as_array()?.iter();
        Some(Self {
            tiles,
            next: number("next")?,
            blobs: number("blobs")?,
            pruned: number("pruned")?,
            last_pruned: number("last_pruned"),
            retained_from: number("retained_from")?,
            shared: shared.map(|name| name.as_str().map(str::to_owned)).collect::<Option<_>>()?,
            hole: None,
            orphans: Vec::new(),
        })
    }
}
