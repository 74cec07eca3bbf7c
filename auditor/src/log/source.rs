//! Where entries come from: an audit bundle, or the folder of a log. Whatever
//! comes out of here is in the log that the endorsed keys signed.

use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};
use indicatif::ProgressBar;
use portcullis_attest::check::Checks;
use portcullis_cli::progress;
use portcullis_lineage::{
    Archive, ArchiveError, ArchivedEntry, BundleReader, FileStorage, LogReader, MAX_ENTRY, Replay, Storage,
};
use portcullis_permit::{Checkpoint, Endorsement, Governance, Kind, Witnessed, statement};
use portcullis_wire::{Sign1, decode};

use crate::endorsed;
use crate::inputs::Inputs;

/// Largest cosigned checkpoint with its path, in bytes.
const MAX_WITNESSED: usize = 32 * 1024;
const BAR: &str = "{msg} {wide_bar} {percent} % {eta}";

/// What an auditor names.
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
    /// The checkpoint that witnesses have cosigned, with the path to the head.
    pub(crate) witnessed: Option<Witnessed>,
    /// Size of the tree.
    pub(crate) size: u64,
    /// What the bundle has of the log; all of it for a folder.
    pub(crate) selection: String,
    entries: Entries,
    length: u64,
}

enum Entries {
    Folder { replay: Box<Replay>, archive: Box<Archive>, batch: std::vec::IntoIter<(u64, ArchivedEntry)> },
    Bundle(Box<BundleReader<BufReader<File>>>),
}

impl Source {
    /// Opens what the auditor names.
    pub(crate) fn open(arguments: &Audited, inputs: &mut Inputs) -> Result<Self> {
        let path = &arguments.log;
        let authority = arguments.authority.read(path, inputs)?;
        let endorsed = authority.verify(&mut Checks::all()).context("authority.endorsement: required by governors")?;
        let governance = authority.governance().clone();
        if path.is_dir() { Self::folder(path, governance, endorsed) } else { Self::bundle(path, governance, endorsed) }
    }

    fn folder(path: &Path, governance: Governance, endorsed: Endorsement) -> Result<Self> {
        let storage: Arc<dyn Storage> = Arc::new(FileStorage::reader(path));
        let log = LogReader::open(Arc::clone(&storage), &endorsed.checkpoint_key, &endorsed.receipt_key)
            .with_context(|| path.display().to_string())?;
        let head = log.checkpoint().clone();
        let size = head.size();
        let replay = Replay::open(Arc::clone(&storage), 0, endorsed.checkpoint_key.clone(), head)?;
        let mut length = 0_u64;
        for segment in std::fs::read_dir(path.join("journal")).context("journal")? {
            length = length.saturating_add(segment?.metadata()?.len());
        }
        let note = storage.get("witnessed")?.and_then(|note| String::from_utf8(note).ok());
        let witnessed = note.and_then(|note| Witnessed::of(note, &log));
        let checkpoint = log.checkpoint().clone();
        let archive = Box::new(Archive::new(storage));
        let entries = Entries::Folder { replay: Box::new(replay), archive, batch: Vec::new().into_iter() };
        Ok(Self { governance, endorsed, checkpoint, witnessed, size, selection: "all".into(), entries, length })
    }

    /// An audit bundle.
    pub(crate) fn bundle(path: &Path, governance: Governance, endorsed: Endorsement) -> Result<Self> {
        let file = File::open(path)?;
        let length = file.metadata()?.len();
        let reader = BundleReader::open(BufReader::new(file), &endorsed.checkpoint_key, &endorsed.receipt_key)?;
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
            entries: Entries::Bundle(Box::new(reader)),
            length,
        })
    }

    /// A bar over the bytes that are read.
    pub(crate) fn bar(&self, what: &'static str) -> ProgressBar {
        progress(Some(self.length), BAR).with_message(what)
    }

    /// Bytes that were read.
    pub(crate) fn position(&self) -> u64 {
        match &self.entries {
            Entries::Folder { replay, .. } => replay.position(),
            Entries::Bundle(reader) => reader.position(),
        }
    }

    /// The next entry; `None` at the end. An error is a refusal of the log.
    pub(crate) fn next(&mut self) -> Result<Option<Item>> {
        match &mut self.entries {
            Entries::Folder { replay, archive, batch } => loop {
                if let Some((index, ArchivedEntry { statement, blobs })) = batch.next() {
                    let blobs = blobs.iter().map(|blob| archive.read(blob)).collect();
                    return Ok(Some(Item { index, statement, blobs }));
                }
                let Some(more) = replay.next_batch()? else { return Ok(None) };
                *batch = (more.first..).zip(more.entries).collect::<Vec<_>>().into_iter();
            },
            Entries::Bundle(reader) => {
                let Some((index, ArchivedEntry { statement, blobs })) = reader.next_entry()? else { return Ok(None) };
                let blobs = blobs.iter().map(|blob| reader.blob(blob)).collect();
                Ok(Some(Item { index, statement, blobs }))
            }
        }
    }
}

/// The kind of a statement by the endorsed key.
pub(crate) fn signed_kind(entry: &[u8], endorsed: &Endorsement) -> Option<Kind> {
    let object = Sign1::parse(entry, MAX_ENTRY).ok()?;
    let kind = Kind::of(&object)?;
    statement::verify_object(object, kind, &endorsed.permit_key).ok().map(|_| kind)
}
