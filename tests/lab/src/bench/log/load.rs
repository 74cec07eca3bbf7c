//! A log under load: every entry is answered with a receipt.

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use portcullis_lineage::{FileStorage, Log, NewEntry, ReceiptKey, TILE, Writer, tile_path, verify_receipts};
use tokio::sync::oneshot;

use super::answers::{Answers, closed_loop};
use super::keys;

/// How long full tiles may lag behind the last answer.
const PUBLISHED_WITHIN: Duration = Duration::from_secs(5);
/// Up to this many entries are published within a second, but not at once.
const LEFT_FOR_LATER: u64 = 1024;

/// A log that is appended to, and published.
pub(super) struct Load {
    folder: PathBuf,
    receipt_key: ReceiptKey,
    writer: Writer,
    thread: JoinHandle<()>,
    /// Entries in it.
    size: u64,
}

impl Load {
    pub(super) fn new(folder: &Path) -> Result<Self> {
        let (folder, keys) = (folder.join("log"), keys()?);
        let receipt_key = keys.receipt_key();
        let (mut log, publisher) = Log::open(Arc::new(FileStorage::open(&folder)?), keys)?;
        // A tree of one leaf has no receipt.
        log.append(vec![NewEntry { statement: vec![1], ..NewEntry::default() }])?;
        let (writer, thread) = Writer::start(log, publisher)?;
        Ok(Self { folder, receipt_key, writer, thread, size: 1 })
    }

    /// Runs a number of writers for a time, and until all entries are published.
    pub(super) fn turn(&mut self, load: (usize, usize), duration: Duration) -> Result<Answers> {
        // Verification is the client's work; a sample shows that receipts verify.
        let samples = RefCell::new(Vec::new());
        let (samples, writer) = (&samples, &self.writer);
        let answers = closed_loop(load, duration, |serial, statement| {
            let (reply, outcome) = oneshot::channel();
            let sample = (serial % 1024 == 0).then(|| statement.clone());
            let new = NewEntry { statement, ..NewEntry::default() };
            writer.append(new, move |done| drop(reply.send(done)));
            async move {
                let done = outcome.await.context("no answer")?.map_err(|stopped| anyhow!(stopped.reason))?;
                let receipts = done.receipts()?;
                samples.borrow_mut().extend(sample.map(|statement| (statement, receipts)));
                Ok(())
            }
        })?;
        let answers = answers.and_then(|appended| {
            self.size += appended as u64;
            self.wait_until_published()
        })?;
        for (statement, receipts) in samples.take() {
            verify_receipts(Some(&receipts), &statement, &self.receipt_key, None)?;
        }
        Ok(answers)
    }

    /// Waits until the tiles of this load are written.
    fn wait_until_published(&self) -> Result<()> {
        let Some(last) = (self.size.saturating_sub(LEFT_FOR_LATER) / TILE).checked_sub(1) else { return Ok(()) };
        let (started, path) = (Instant::now(), self.folder.join(tile_path("0", last, TILE)));
        while !path.exists() {
            ensure!(started.elapsed() < PUBLISHED_WITHIN, "{} is not published", path.display());
            thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    pub(super) fn end(self) -> Result<()> {
        self.writer.close();
        self.thread.join().map_err(|_| anyhow!("the log's threads failed"))
    }
}
