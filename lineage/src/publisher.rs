//! What readers see: C2SP tiles, entry bundles and the checkpoint, written from
//! what the journal has.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use crate::checkpoint::Checkpoint;
use crate::storage::Storage;
use crate::tiles::{TILE, TILE_HEIGHT, bundle, tile_path};
use crate::tree::{Tree, TreeError};

/// How long readers may lag behind the log.
const PUBLISH_EVERY: Duration = Duration::from_millis(250);
/// Entries that are published at once, however soon.
const MANY: usize = 4096;
/// How often what was published is made durable. A start goes on from there.
const SYNC_EVERY: Duration = Duration::from_secs(30);
/// The file that says up to where readers' files are durable. Whoever lowers the
/// number makes the next start longer, whoever raises it makes proofs fail.
const MARK: &str = "published";
/// The file with the checkpoint that readers see.
pub(crate) const CHECKPOINT: &str = "checkpoint";

/// A batch that is durable in the journal.
pub(crate) struct Fresh {
    pub(crate) entries: Vec<Vec<u8>>,
    pub(crate) head: Arc<Checkpoint>,
}

/// Writes what readers see. It lags behind the log and never blocks it.
pub struct Publisher {
    storage: Arc<dyn Storage>,
    tree: Arc<RwLock<Tree>>,
    inbox: Receiver<Fresh>,
    /// Entries of the last, partial bundle and everything after it.
    pending: Vec<Vec<u8>>,
    /// Number of the first pending bundle.
    bundle: u64,
    head: Option<Arc<Checkpoint>>,
    /// Size of the tree that was published last, for the log to see.
    published: Arc<AtomicU64>,
    durable: u64,
}

/// Up to where readers' files are durable, a multiple of the size of a bundle.
pub(crate) fn mark(storage: &dyn Storage) -> io::Result<u64> {
    let text = storage.get(MARK)?.and_then(|bytes| String::from_utf8(bytes).ok());
    let size = text.and_then(|text| text.trim().parse::<u64>().ok()).unwrap_or(0);
    Ok(size.saturating_sub(size % TILE))
}

impl Publisher {
    /// Publishes from a size on, a multiple of the size of a bundle.
    pub(crate) fn new(
        storage: Arc<dyn Storage>,
        tree: Arc<RwLock<Tree>>,
        inbox: Receiver<Fresh>,
        published: Arc<AtomicU64>,
        from: u64,
    ) -> Self {
        published.store(from, Ordering::Relaxed);
        Self { storage, tree, inbox, pending: Vec::new(), bundle: from / TILE, head: None, published, durable: from }
    }

    /// Takes entries while a log is being opened: full bundles are written, so
    /// that memory holds one.
    pub(crate) fn recover(&mut self, entries: Vec<Vec<u8>>) -> io::Result<()> {
        self.pending.extend(entries);
        self.publish_full_bundles()
    }

    /// The log has been opened: this is its head.
    pub(crate) fn recovered(&mut self, head: Option<Arc<Checkpoint>>) {
        self.head = head;
    }

    fn take(&mut self, fresh: Fresh) {
        self.pending.extend(fresh.entries);
        self.head = Some(fresh.head);
    }

    /// Writes what readers have not got yet: entries, tiles, then the
    /// checkpoint, so that a checkpoint never promises what cannot be read.
    ///
    /// # Errors
    /// I/O errors. The log itself is not harmed.
    pub fn publish(&mut self) -> io::Result<()> {
        while let Ok(fresh) = self.inbox.try_recv() {
            self.take(fresh);
        }
        let Some(head) = self.head.clone() else { return Ok(()) };
        let (had, has) = (self.published.load(Ordering::Relaxed), head.size());
        self.publish_full_bundles()?;
        let width = self.pending.len() as u64;
        if width > 0 {
            self.storage.put(&tile_path("entries", self.bundle, width), &bundle(&self.pending))?;
        }
        let mut level = 0_usize;
        while self.publish_hashes(level, had, has)? {
            level = level.saturating_add(1);
        }
        self.storage.put(CHECKPOINT, head.note().as_bytes())?;
        self.published.store(has, Ordering::Relaxed);
        self.tree.write().unwrap_or_else(PoisonError::into_inner).published(has);
        Ok(())
    }

    /// Publishes, and makes it durable: the next start goes on from here.
    ///
    /// # Errors
    /// I/O errors.
    pub fn sync(&mut self) -> io::Result<()> {
        self.publish()?;
        let published = self.published.load(Ordering::Relaxed);
        if published > self.durable {
            self.storage.sync_files()?;
            self.storage.put(MARK, format!("{published}\n").as_bytes())?;
            self.durable = published;
        }
        Ok(())
    }

    /// Publishes as batches come, until the log is gone.
    pub(crate) fn run(mut self) {
        let (mut published, mut synced) = (Instant::now(), Instant::now());
        loop {
            match self.inbox.recv_timeout(PUBLISH_EVERY) {
                Ok(fresh) => self.take(fresh),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            if self.is_behind() && (published.elapsed() >= PUBLISH_EVERY || self.pending.len() >= MANY) {
                // Readers lag until the next attempt; the log itself is whole.
                let _lagging = self.publish();
                published = Instant::now();
            }
            if synced.elapsed() >= SYNC_EVERY {
                let _lagging = self.sync();
                synced = Instant::now();
            }
        }
        let _lagging = self.sync();
    }

    fn is_behind(&self) -> bool {
        self.head.as_ref().is_some_and(|head| head.size() > self.published.load(Ordering::Relaxed))
    }

    fn publish_full_bundles(&mut self) -> io::Result<()> {
        let full = TILE as usize;
        let mut written = 0_usize;
        for entries in self.pending.chunks_exact(full) {
            self.storage.put(&tile_path("entries", self.bundle, TILE), &bundle(entries))?;
            remove_partials(&*self.storage, "entries", self.bundle)?;
            self.bundle = self.bundle.saturating_add(1);
            written = written.saturating_add(full);
        }
        drop(self.pending.drain(..written));
        Ok(())
    }

    /// Writes the tiles of one level that changed; `false` where the level is empty.
    fn publish_hashes(&self, level: usize, had: u64, has: u64) -> io::Result<bool> {
        let shift = u32::try_from(level.saturating_mul(TILE_HEIGHT)).unwrap_or(u32::MAX);
        let (had, has) = (had.checked_shr(shift).unwrap_or(0), has.checked_shr(shift).unwrap_or(0));
        let name = level.to_string();
        for n in had / TILE..has.div_ceil(TILE) {
            let width = has.saturating_sub(n.saturating_mul(TILE)).min(TILE);
            let hashes = {
                let tree = self.tree.read().unwrap_or_else(PoisonError::into_inner);
                tree.tile_hashes(level, n, width)
            };
            let hashes = match hashes {
                Ok(hashes) => hashes,
                Err(TreeError::Tile { error: Some(error), .. }) => return Err(error),
                Err(error) => return Err(io::Error::other(error)),
            };
            self.storage.put(&tile_path(&name, n, width), &hashes)?;
            if width == TILE {
                remove_partials(&*self.storage, &name, n)?;
            }
        }
        Ok(has > 0)
    }
}

/// A full tile takes the place of its partial ones (C2SP tlog-tiles, "Partial
/// Tiles").
fn remove_partials(storage: &dyn Storage, level: &str, n: u64) -> io::Result<()> {
    for path in storage.list(&format!("{}.p", tile_path(level, n, TILE)))? {
        storage.remove(&path)?;
    }
    Ok(())
}
