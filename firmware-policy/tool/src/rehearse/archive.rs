//! Reads decisions from an authority's journal, in order, with the revocations at the
//! time of each.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};
use portcullis_firmware_policy::{History, PastDecision};
use portcullis_lineage::{ArchiveError, ArchiveReader, FileStorage, MAX_ENTRY};
use portcullis_wire::Sign1;

/// A decision with its position in the log.
pub(super) struct Archived {
    pub(super) index: u64,
    pub(super) decision: PastDecision,
}

/// An archive that is being read.
pub(super) struct Archive {
    reader: ArchiveReader,
    length: u64,
    history: History,
    pruned: u64,
}

impl Archive {
    pub(super) fn open(folder: &Path) -> Result<Self> {
        let journal = folder.join("journal");
        let what = || format!("{}: the journal of an authority", journal.display());
        let mut length = 0_u64;
        for segment in fs::read_dir(&journal).with_context(what)? {
            length = length.saturating_add(segment?.metadata()?.len());
        }
        let reader = ArchiveReader::open(Arc::new(FileStorage::reader(folder)), 0).with_context(what)?;
        Ok(Self { reader, length, history: History::default(), pruned: 0 })
    }

    /// Length in bytes.
    pub(super) const fn length(&self) -> u64 {
        self.length
    }

    /// Bytes read.
    pub(super) fn position(&self) -> u64 {
        self.reader.position()
    }

    /// Number of decisions whose evidence was removed when its retention time ended.
    pub(super) const fn pruned(&self) -> u64 {
        self.pruned
    }

    /// The decisions of the next batch; `None` at the end.
    pub(super) fn next_batch(&mut self) -> Result<Option<Vec<Archived>>> {
        let Some(batch) = self.reader.next_batch()? else { return Ok(None) };
        let mut decisions = Vec::new();
        let archive = self.reader.archive();
        for (index, entry) in (batch.first..).zip(batch.entries) {
            let blobs = || entry.blobs.iter().map(|blob| Ok(archive.read(blob)?)).collect();
            let statement = Sign1::parse(&entry.statement, MAX_ENTRY).with_context(|| format!("entry {index}"))?;
            match self.history.take::<anyhow::Error>(&statement, blobs) {
                Ok(decision) => decisions.extend(decision.map(|decision| Archived { index, decision })),
                Err(error) if matches!(error.downcast_ref(), Some(ArchiveError::Pruned(_))) => {
                    self.pruned = self.pruned.saturating_add(1);
                }
                Err(error) => return Err(error.context(format!("entry {index}"))),
            }
        }
        Ok(Some(decisions))
    }
}
