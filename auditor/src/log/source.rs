//! The source of entries: an audit bundle, or the folder of a log. Every entry that it
//! returns is in the log that the endorsed keys signed.

use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};
use indicatif::ProgressBar;
use portcullis_attest::check::Checks;
use portcullis_cli::progress;
use portcullis_lineage::{
    Archive, ArchiveError, ArchivedEntry, BundleReader, FileStorage, LogReader, MAX_ENTRY, Replay, Storage, StoredBlob,
};
use portcullis_permit::{Checkpoint, Endorsement, Governance, Kind, Witnessed, names, statement};
use portcullis_wire::hex::hex;
use portcullis_wire::{Sign1, decode};
use serde_json::{Value, json};

use crate::endorsed;
use crate::inputs::Inputs;

/// Largest cosigned checkpoint with its path, in bytes.
const MAX_WITNESSED: usize = 32 * 1024;
const BAR: &str = "{msg} {wide_bar} {pos} of {len} entries {eta}";

/// The log that the auditor names on the command line.
#[derive(Debug, clap::Args)]
pub(crate) struct Audited {
    /// An audit bundle (`portcullis log export`), or the folder of a log.
    pub(crate) log: PathBuf,
    #[command(flatten)]
    pub(crate) authority: endorsed::Named,
}

/// An entry, with its archived blobs.
pub(crate) struct Item {
    pub(crate) index: u64,
    pub(crate) statement: Vec<u8>,
    pub(crate) blobs: Vec<Result<Vec<u8>, ArchiveError>>,
}

/// A log whose entries are being read.
pub(crate) struct Source {
    pub(crate) governance: Governance,
    pub(crate) endorsed: Endorsement,
    /// The head.
    pub(crate) checkpoint: Checkpoint,
    /// The checkpoint that witnesses cosigned, with the path to the head.
    pub(crate) witnessed: Option<Witnessed>,
    /// Size of the tree.
    pub(crate) size: u64,
    /// The part of the log in the bundle; all of it for a folder.
    pub(crate) selection: String,
    path: PathBuf,
    /// Entries before this one are skipped.
    first: u64,
    entries: Entries,
}

enum Entries {
    Folder(Box<Folder>),
    Bundle(Box<BundleReader<BufReader<File>>>),
}

struct Folder {
    storage: Arc<dyn Storage>,
    log: LogReader,
    replay: Replay,
    archive: Archive,
    batch: std::vec::IntoIter<(u64, ArchivedEntry)>,
}

impl Source {
    /// Opens the source.
    pub(crate) fn open(arguments: &Audited, inputs: &mut Inputs) -> Result<Self> {
        let path = &arguments.log;
        let authority = arguments.authority.read(path, inputs)?;
        let mut checks = Checks::all();
        let endorsed = authority.verify(&mut checks);
        let endorsed =
            endorsed.with_context(|| checks.refused().next().map(ToString::to_string).unwrap_or_default())?;
        let governance = authority.governance().clone();
        if path.is_dir() { Self::folder(path, governance, endorsed) } else { Self::bundle(path, governance, endorsed) }
    }

    fn folder(path: &Path, governance: Governance, endorsed: Endorsement) -> Result<Self> {
        let storage: Arc<dyn Storage> = Arc::new(FileStorage::reader(path));
        let log = LogReader::open(Arc::clone(&storage), &endorsed.checkpoint_key, &endorsed.receipt_key)
            .with_context(|| path.display().to_string())?;
        let checkpoint = log.checkpoint().clone();
        let replay = Replay::open(Arc::clone(&storage), 0, endorsed.checkpoint_key.clone(), checkpoint.clone())?;
        let note = storage.get("witnessed")?.and_then(|note| String::from_utf8(note).ok());
        let witnessed = note.and_then(|note| Witnessed::of(note, &log));
        let archive = Archive::new(Arc::clone(&storage));
        let folder = Folder { storage, log, replay, archive, batch: Vec::new().into_iter() };
        Ok(Self {
            governance,
            endorsed,
            size: checkpoint.size(),
            checkpoint,
            witnessed,
            selection: "all".into(),
            path: path.to_owned(),
            first: 0,
            entries: Entries::Folder(Box::new(folder)),
        })
    }

    /// An audit bundle.
    pub(crate) fn bundle(path: &Path, governance: Governance, endorsed: Endorsement) -> Result<Self> {
        let reader = open_bundle(path, &endorsed)?;
        let (size, selection) = (reader.checkpoint().size(), reader.selection().to_owned());
        let checkpoint = reader.checkpoint().clone();
        let witnessed = reader.documents().get("witnessed");
        let witnessed = witnessed.map(|bytes| Witnessed::from_value(&decode(bytes, MAX_WITNESSED)?)).transpose()?;
        Ok(Self {
            governance,
            endorsed,
            checkpoint,
            witnessed,
            size,
            selection,
            path: path.to_owned(),
            first: 0,
            entries: Entries::Bundle(Box::new(reader)),
        })
    }

    /// Reads again, from an entry on.
    ///
    /// # Errors
    /// The log is refused, or cannot be read.
    pub(crate) fn start_at(&mut self, first: u64) -> Result<()> {
        self.first = first;
        match &mut self.entries {
            Entries::Folder(folder) => {
                let key = self.endorsed.checkpoint_key.clone();
                folder.batch = Vec::new().into_iter();
                folder.replay = Replay::open(Arc::clone(&folder.storage), first, key, self.checkpoint.clone())?;
            }
            Entries::Bundle(reader) => **reader = open_bundle(&self.path, &self.endorsed)?,
        }
        Ok(())
    }

    /// Identity of the source, stored with the progress.
    pub(crate) fn head_json(&self) -> Value {
        json!({ "size": self.size, "root": hex(self.checkpoint.root()), "selection": self.selection })
    }

    /// Whether the source is the one of [`Self::head_json`], or for a folder, the same log
    /// after it has grown.
    pub(crate) fn goes_on_from(&self, head: &Value) -> Option<()> {
        let (size, root) = (head.get("size")?.as_u64()?, head.get("root")?.as_str()?);
        let now = match &self.entries {
            Entries::Folder(folder) => folder.log.tree().root_at(size).ok()?,
            Entries::Bundle(_) => (size == self.size).then_some(*self.checkpoint.root())?,
        };
        (hex(&now) == root && head.get("selection")?.as_str()? == self.selection).then_some(())
    }

    /// A progress bar over the entries.
    pub(crate) fn bar(&self, what: &'static str) -> ProgressBar {
        progress(Some(self.size), BAR).with_message(what)
    }

    /// The next entry; `None` at the end. An error is a refusal of the log.
    pub(crate) fn next_entry(&mut self) -> Result<Option<(u64, ArchivedEntry)>> {
        loop {
            let next = match &mut self.entries {
                Entries::Folder(folder) => folder.next()?,
                Entries::Bundle(reader) => reader.next_entry()?,
            };
            match next {
                Some((index, _)) if index < self.first => {}
                next => return Ok(next),
            }
        }
    }

    /// As [`Self::next_entry`], with all archived blobs.
    pub(crate) fn next(&mut self) -> Result<Option<Item>> {
        let Some((index, ArchivedEntry { statement, blobs, .. })) = self.next_entry()? else { return Ok(None) };
        let blobs = blobs.iter().map(|blob| self.blob(blob)).collect();
        Ok(Some(Item { index, statement, blobs }))
    }

    /// An archived blob by its position in the entry, checked against the entry; `None` if
    /// it was pruned.
    ///
    /// # Errors
    /// Why it is unavailable.
    pub(crate) fn archived(&mut self, entry: &ArchivedEntry, place: usize) -> Result<Option<Vec<u8>>, String> {
        let blob = entry.blobs.get(place).ok_or("the archive lacks what it names")?;
        match self.blob(blob) {
            Err(ArchiveError::Pruned(_)) => Ok(None),
            Err(error) => Err(error.to_string()),
            Ok(bytes) => {
                let object = Sign1::parse(&entry.statement, MAX_ENTRY).map_err(|error| error.to_string())?;
                if names(&object, &bytes) { Ok(Some(bytes)) } else { Err("a blob that it does not name".into()) }
            }
        }
    }

    fn blob(&mut self, blob: &StoredBlob) -> Result<Vec<u8>, ArchiveError> {
        match &mut self.entries {
            Entries::Folder(folder) => folder.archive.read(blob),
            Entries::Bundle(reader) => reader.blob(blob),
        }
    }
}

impl Folder {
    fn next(&mut self) -> Result<Option<(u64, ArchivedEntry)>> {
        loop {
            if let Some(entry) = self.batch.next() {
                return Ok(Some(entry));
            }
            let Some(more) = self.replay.next_batch()? else { return Ok(None) };
            self.batch = (more.first..).zip(more.entries).collect::<Vec<_>>().into_iter();
        }
    }
}

fn open_bundle(path: &Path, endorsed: &Endorsement) -> Result<BundleReader<BufReader<File>>> {
    let file = BufReader::new(File::open(path)?);
    Ok(BundleReader::open(file, &endorsed.checkpoint_key, &endorsed.receipt_key)?)
}

/// The kind of a statement by the endorsed key.
pub(crate) fn signed_kind(entry: &[u8], endorsed: &Endorsement) -> Option<Kind> {
    let object = Sign1::parse(entry, MAX_ENTRY).ok()?;
    let kind = Kind::of(&object)?;
    statement::verify_object(object, kind, &endorsed.permit_key).ok().map(|_| kind)
}
