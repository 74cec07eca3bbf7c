//! Publishes what readers see: C2SP tiles, entry bundles and the checkpoint, written
//! from the contents of the journal.

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
/// Number of entries after which full bundles and tiles are written at once.
const MANY: usize = 1024;
/// How often published files are made durable. A start continues from there.
const SYNC_EVERY: Duration = Duration::from_secs(30);
/// The file that says up to where published files are durable. A lower number makes the
/// next start longer, a higher one makes proofs fail.
const MARK: &str = "published";
/// The file with the checkpoint that readers see.
pub(crate) const CHECKPOINT: &str = "checkpoint";

/// A batch that is durable in the journal.
pub(crate) struct Fresh {
    pub(crate) entries: Vec<Vec<u8>>,
    pub(crate) head: Arc<Head>,
}

/// Writes published files. It lags behind the log and never blocks it.
pub struct Publisher {
    storage: Arc<dyn Storage>,
    inbox: Receiver<Fresh>,
    /// Entries of the last, partial bundle and all later ones.
    pending: Vec<Vec<u8>>,
    /// Number of the first pending bundle.
    bundle: u64,
    head: Option<Arc<Head>>,
    /// Number of entries in full bundles that were written, shared with the log.
    full: Arc<AtomicU64>,
    /// Size of the tree that readers see.
    published: u64,
    durable: u64,
}

/// Up to where published files are durable, a multiple of the bundle size.
pub(crate) fn mark(storage: &dyn Storage) -> io::Result<u64> {
    let size = get_number(storage, MARK)?.unwrap_or(0);
    Ok(size.saturating_sub(size % TILE))
}

impl Publisher {
    /// Publishes from a size on, which is a multiple of the bundle size.
    pub(crate) fn new(storage: Arc<dyn Storage>, inbox: Receiver<Fresh>, full: Arc<AtomicU64>, from: u64) -> Self {
        full.store(from, Ordering::Relaxed);
        let (pending, bundle) = (Vec::new(), from / TILE);
        Self { storage, inbox, pending, bundle, head: None, full, published: 0, durable: from }
    }

    /// Takes entries while a log is being opened. Full bundles are written at once, so that
    /// memory does not hold all of them.
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

    /// Writes what readers do not have yet: entries, tiles, then the checkpoint, so that a
    /// checkpoint never refers to files that are missing.
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

    /// Writes the full bundles and tiles, which nothing will replace.
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

    /// Publishes and makes it durable: the next start continues from here.
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

    /// Publishes as batches arrive, until the log is closed.
    pub(crate) fn run(mut self) {
        // Waiting writers have priority. If the system refuses the lower priority, the
        // publisher competes with them.
        let _as_before = rustix::process::setpriority_process(Some(rustix::thread::gettid()), 10);
        let (mut published, mut synced) = (Instant::now(), Instant::now());
        loop {
            match self.inbox.recv_timeout(PUBLISH_EVERY) {
                Ok(fresh) => self.take(fresh),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            // A failure is retried: readers lag, the log itself is intact.
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
        // Number and entries change together, even if a later step failed.
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

/// Number of hashes at a level of tiles in a tree with this many leaves; `None` if the
/// tree is not that high.
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
