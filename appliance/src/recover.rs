//! Restores the ledger at a start from the newest snapshot and the entries after it.
//!
//! The location of a file proves nothing. Every entry is verified to be in the log that
//! this authority signs, and a snapshot must match the digest in such an entry. A
//! removed or outdated hint only makes the start longer.

use std::sync::Arc;

use anyhow::Result;
use portcullis_lineage::{Archive, ArchivedBatch, Checkpoint, Replay, Storage, VerifyingKey, get_number};
use portcullis_permit::{Kind, PublicKey, SnapshotRecord, statement};
use portcullis_wire::sha256;

use crate::instance::Refused;
use crate::ledger::Ledger;

/// The file with the position of the newest snapshot.
pub(crate) const HINT: &str = "snapshot";

/// An opened log, for reading.
pub(crate) struct Source<'a> {
    pub(crate) storage: Arc<dyn Storage>,
    pub(crate) checkpoint_key: &'a VerifyingKey,
    pub(crate) permit_key: &'a PublicKey,
    pub(crate) head: &'a Checkpoint,
}

impl Source<'_> {
    /// The state that follows from the log.
    pub(crate) fn ledger(&self) -> Result<Ledger> {
        let mut ledger = self.snapshot()?.unwrap_or_else(Ledger::new);
        let mut replay = self.replay(ledger.entries())?;
        while let Some(batch) = replay.next_batch().map_err(refused)? {
            for (index, entry) in (batch.first..).zip(batch.entries) {
                if index >= ledger.entries() {
                    ledger.apply(&entry.statement);
                }
            }
        }
        Ok(ledger)
    }

    fn replay(&self, from: u64) -> Result<Replay> {
        let (key, head) = (self.checkpoint_key.clone(), self.head.clone());
        Ok(Replay::open(Arc::clone(&self.storage), from, key, head).map_err(refused)?)
    }

    fn snapshot(&self) -> Result<Option<Ledger>> {
        let Some(index) = get_number(&*self.storage, HINT)? else { return Ok(None) };
        if index >= self.head.size() {
            return Ok(None);
        }
        let mut replay = self.replay(index)?;
        while let Some(batch) = replay.next_batch().map_err(refused)? {
            if batch.first.saturating_add(batch.entries.len() as u64) > index {
                return Ok(self.read(&batch, index));
            }
        }
        Ok(None)
    }

    /// The snapshot at a position; `None` if another entry is there or the archive has lost
    /// the snapshot.
    fn read(&self, batch: &ArchivedBatch, index: u64) -> Option<Ledger> {
        let entry = batch.entries.get(usize::try_from(index.checked_sub(batch.first)?).ok()?)?;
        let statement = statement::verify(&entry.statement, Kind::Snapshot, self.permit_key).ok()?;
        let record = SnapshotRecord::decode(statement.payload()).ok()?;
        let state = Archive::new(Arc::clone(&self.storage)).read(entry.blobs.first()?).ok()?;
        let ledger = Ledger::restore(&state).ok()?;
        (sha256(&[&state]) == record.state && ledger.entries() == record.entries && record.entries <= index)
            .then_some(ledger)
    }
}

fn refused(error: portcullis_lineage::ReplayError) -> Refused {
    Refused::new(error.check(), error)
}
