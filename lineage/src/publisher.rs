//! What readers see: C2SP tiles, entry bundles and the checkpoint, written from
//! what the journal has.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use crate::reader::{LogReader, SIGNED_ROOT};
use crate::storage::{Storage, get_number, put_number};
use crate::tiles::{TILE, TILE_HEIGHT, bundle, tile_path};
use crate::tree::{Tree, TreeError};
use crate::view::Head;

/// How long readers may lag behind the log.
const PUBLISH_EVERY: Duration = Duration::from_secs(1);
/// Entries of which full bundles and tiles are written, however soon.
const MANY: usize = 1024;
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
    pub(crate) head: Arc<Head>,
}

/// Writes what readers see. It lags behind the log and never blocks it.
pub struct Publisher {
    storage: Arc<dyn Storage>,
    inbox: Receiver<Fresh>,
    /// Entries of the last, partial bundle and everything after it.
    pending: Vec<Vec<u8>>,
    /// Number of the first pending bundle.
    bundle: u64,
    head: Option<Arc<Head>>,
    /// Entries in full bundles that were written, for the log to see.
    full: Arc<AtomicU64>,
    /// Size of the tree that readers see.
    published: u64,
    durable: u64,
}

/// Up to where readers' files are durable, a multiple of the size of a bundle.
pub(crate) fn mark(storage: &dyn Storage) -> io::Result<u64> {
    let size = get_number(storage, MARK)?.unwrap_or(0);
    Ok(size.saturating_sub(size % TILE))
}

impl Publisher {
    /// Publishes from a size on, a multiple of the size of a bundle.
    pub(crate) fn new(storage: Arc<dyn Storage>, inbox: Receiver<Fresh>, full: Arc<AtomicU64>, from: u64) -> Self {
        full.store(from, Ordering::Relaxed);
        let (pending, bundle) = (Vec::new(), from / TILE);
        Self { storage, inbox, pending, bundle, head: None, full, published: 0, durable: from }
    }

    /// Takes entries of a tree while a log is being opened: what is full is
    /// written, so that memory does not hold all of it.
    pub(crate) fn recover(&mut self, entries: Vec<Vec<u8>>, tree: &Tree) -> io::Result<()> {
        self.pending.extend(entries);
        if self.pending.len() >= MANY { self.publish_full(tree) } else { Ok(()) }
    }

    /// The log has been opened: this is its head.
    pub(crate) fn recovered(&mut self, head: Option<Arc<Head>>) {
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
        let Some(newest) = self.head.clone() else { return Ok(()) };
        let Head { checkpoint: head, root, tree } = &*newest;
        self.publish_full(tree)?;
        let width = self.pending.len() as u64;
        if width > 0 {
            self.storage.put(&tile_path("entries", self.bundle, width), &bundle(&self.pending))?;
        }
        let mut level = 0_usize;
        while let Some(count) = hashes_at(level, head.size()) {
            if !count.is_multiple_of(TILE) {
                self.publish_tile(tree, level, count / TILE, count % TILE)?;
            }
            level = level.saturating_add(1);
        }
        self.storage.put(SIGNED_ROOT, &LogReader::file(head, root))?;
        self.storage.put(CHECKPOINT, head.note().as_bytes())?;
        self.published = head.size();
        Ok(())
    }

    /// Writes the bundles and tiles that are full, which nothing will replace.
    fn publish_full(&mut self, tree: &Tree) -> io::Result<()> {
        self.publish_full_bundles()?;
        let (had, has) = (self.full.load(Ordering::Relaxed), self.bundle.saturating_mul(TILE));
        let mut level = 0_usize;
        while let Some(count) = hashes_at(level, has) {
            for n in hashes_at(level, had).unwrap_or(0) / TILE..count / TILE {
                self.publish_tile(tree, level, n, TILE)?;
                remove_partials(&*self.storage, &level.to_string(), n)?;
            }
            level = level.saturating_add(1);
        }
        self.full.store(has, Ordering::Relaxed);
        tree.published(has);
        Ok(())
    }

    /// Publishes, and makes it durable: the next start goes on from here.
    ///
    /// # Errors
    /// I/O errors.
    pub fn sync(&mut self) -> io::Result<()> {
        self.publish()?;
        if self.published > self.durable {
            self.storage.sync_files()?;
            put_number(&*self.storage, MARK, self.published)?;
            self.durable = self.published;
        }
        Ok(())
    }

    /// Publishes as batches come, until the log is gone.
    pub(crate) fn run(mut self) {
        // Whoever waits for an answer goes first. Where the system does not let it,
        // it takes turns.
        let _as_before = rustix::process::setpriority_process(Some(rustix::thread::gettid()), 10);
        let (mut published, mut synced) = (Instant::now(), Instant::now());
        loop {
            match self.inbox.recv_timeout(PUBLISH_EVERY) {
                Ok(fresh) => self.take(fresh),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            // What fails is tried again; readers lag, the log itself is whole.
            if self.is_behind() && published.elapsed() >= PUBLISH_EVERY {
                let _lagging = self.publish();
                published = Instant::now();
            } else if let Some(head) = self.head.clone().filter(|_| self.pending.len() >= MANY) {
                let _lagging = self.publish_full(&head.tree);
            }
            if synced.elapsed() >= SYNC_EVERY {
                let _lagging = self.sync();
                synced = Instant::now();
            }
        }
        let _lagging = self.sync();
    }

    fn is_behind(&self) -> bool {
        self.head.as_ref().is_some_and(|head| head.checkpoint.size() > self.published)
    }

    fn publish_full_bundles(&mut self) -> io::Result<()> {
        let first = self.bundle;
        let mut bundles = self.pending.chunks_exact(TILE as usize);
        let outcome = bundles.try_for_each(|entries| {
            self.storage.put(&tile_path("entries", self.bundle, TILE), &bundle(entries))?;
            remove_partials(&*self.storage, "entries", self.bundle)?;
            self.bundle = self.bundle.saturating_add(1);
            Ok(())
        });
        // Number and entries go together, also where a later one failed.
        let written = self.bundle.saturating_sub(first).saturating_mul(TILE);
        let written = usize::try_from(written).unwrap_or(usize::MAX).min(self.pending.len());
        drop(self.pending.drain(..written));
        outcome
    }

    fn publish_tile(&self, tree: &Tree, level: usize, n: u64, width: u64) -> io::Result<()> {
        match tree.tile_hashes(level, n, width) {
            Ok(hashes) => self.storage.put(&tile_path(&level.to_string(), n, width), &hashes),
            Err(TreeError::Tile { error: Some(error), .. }) => Err(error),
            Err(error) => Err(io::Error::other(error)),
        }
    }
}

/// Number of hashes at a level of tiles in a tree of so many leaves; `None` where
/// the tree is not as high.
fn hashes_at(level: usize, size: u64) -> Option<u64> {
    let shift = u32::try_from(level.saturating_mul(TILE_HEIGHT)).unwrap_or(u32::MAX);
    size.checked_shr(shift).filter(|count| *count > 0)
}

/// A full tile takes the place of its partial ones (C2SP tlog-tiles, "Partial
/// Tiles").
fn remove_partials(storage: &dyn Storage, level: &str, n: u64) -> io::Result<()> {
    for path in storage.list(&format!("{}.p", tile_path(level, n, TILE)))? {
        storage.remove(&path)?;
    }
    Ok(())
}
