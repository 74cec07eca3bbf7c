//! Verifies the published files of a log, as an auditor gets them.

use std::fmt;
use std::io;

use portcullis_wire::{Digest, merkle};

use crate::checkpoint::{Checkpoint, CheckpointError, VerifyingKey};
use crate::tiles::{TILE, split_bundle, tile_path};
use crate::tree::{Edge, Tile};

/// Why a published log was refused.
#[derive(Debug)]
pub enum DirectoryError {
    /// A file that the checkpoint implies cannot be read.
    Missing {
        /// Path below the log's folder.
        path: String,
        /// What the system said.
        error: io::Error,
    },
    /// The checkpoint does not verify.
    Checkpoint(CheckpointError),
    /// An entry bundle with a wrong form or number of entries.
    Bundle {
        /// Path below the log's folder.
        path: String,
    },
    /// A hash tile that does not match the entries.
    Tile {
        /// Path below the log's folder.
        path: String,
    },
    /// A walk cannot continue from this position.
    Position {
        /// Entries that the earlier walk read.
        found: u64,
        /// Size of the log.
        size: u64,
    },
    /// The root over the entries differs from the checkpoint's.
    Root {
        /// Root of the entries.
        found: Digest,
        /// Root of the checkpoint.
        required: Digest,
    },
}

impl fmt::Display for DirectoryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing { path, error } => write!(f, "{path}: {error}"),
            Self::Checkpoint(error) => error.fmt(f),
            Self::Bundle { path } => write!(f, "{path}: not an entry bundle of the promised width"),
            Self::Tile { path } => write!(f, "{path}: not the hashes of the entries"),
            Self::Position { found, size } => write!(f, "a log of {size} entries, of which {found} were read before"),
            Self::Root { .. } => f.write_str("the entries do not lead to the root of the checkpoint"),
        }
    }
}

impl std::error::Error for DirectoryError {}

/// A log whose entries, tiles and checkpoint agree. Only [`DirectoryWalk::finish`]
/// makes one.
#[derive(Clone, Debug)]
pub struct VerifiedLog {
    checkpoint: Checkpoint,
}

impl VerifiedLog {
    /// The checkpoint.
    #[must_use]
    pub const fn checkpoint(&self) -> &Checkpoint {
        &self.checkpoint
    }
}

/// The position of a walk. A later walk continues from it, in the same log or after it
/// has grown. The position is not trusted: from a wrong one the walk does not reach the
/// root of the checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WalkPosition {
    /// Entries that were read, in full bundles.
    pub size: u64,
    /// Hashes of the tiles at the edge, the lowest level first.
    pub edge: Vec<Vec<u8>>,
}

/// Position of the first entry, and the entries.
pub type EntryBundle = (u64, Vec<Vec<u8>>);

/// A published log that is being verified, bundle by bundle. Results about its entries
/// count only after [`DirectoryWalk::finish`] has shown that all of them are sound.
/// Memory does not grow with the log.
pub struct DirectoryWalk<F> {
    directory: Directory<F>,
    checkpoint: Checkpoint,
    edge: Edge,
}

impl<F: FnMut(&str) -> io::Result<Vec<u8>>> DirectoryWalk<F> {
    /// Starts a walk, or continues from a position. `fetch` takes a path such as
    /// `tile/0/000` or `checkpoint`.
    ///
    /// # Errors
    /// [`DirectoryError`].
    pub fn open(key: &VerifyingKey, fetch: F, from: Option<&WalkPosition>) -> Result<Self, DirectoryError> {
        let mut directory = Directory { fetch };
        let (_, note) = directory.read("checkpoint".into())?;
        let note = String::from_utf8(note).map_err(|_| DirectoryError::Checkpoint(CheckpointError::Malformed))?;
        let checkpoint = Checkpoint::verify(&note, key).map_err(DirectoryError::Checkpoint)?;
        let edge = match from {
            None => Edge::default(),
            Some(from) => {
                let fits = from.size.is_multiple_of(TILE) && from.size <= checkpoint.size();
                let edge = Edge::read(from.size, &from.edge).filter(|_| fits);
                edge.ok_or(DirectoryError::Position { found: from.size, size: checkpoint.size() })?
            }
        };
        Ok(Self { directory, checkpoint, edge })
    }

    /// The head that the walk must reach.
    pub const fn checkpoint(&self) -> &Checkpoint {
        &self.checkpoint
    }

    /// Whether the next bundle is the last and partial. A later walk reads it again.
    pub fn is_at_last_full(&self) -> bool {
        self.checkpoint.size().saturating_sub(self.edge.size()) < TILE
    }

    /// The position from which a later walk can continue; `None` inside a bundle.
    pub fn position(&self) -> Option<WalkPosition> {
        let size = self.edge.size();
        size.is_multiple_of(TILE).then(|| WalkPosition { size, edge: self.edge.rows() })
    }

    /// The next bundle; `None` at the end.
    ///
    /// # Errors
    /// [`DirectoryError`].
    pub fn next_bundle(&mut self) -> Result<Option<EntryBundle>, DirectoryError> {
        let first = self.edge.size();
        let width = self.checkpoint.size().saturating_sub(first).min(TILE);
        if width == 0 {
            return Ok(None);
        }
        let entries = self.directory.bundle(first / TILE, width)?;
        let mut filled = Vec::new();
        for entry in &entries {
            self.edge.push(merkle::leaf_hash(entry), |level, number, tile| filled.push((level, number, tile)));
        }
        filled.iter().try_for_each(|(level, number, tile)| self.directory.compare(*level, *number, tile))?;
        Ok(Some((first, entries)))
    }

    /// The tiles at the edge and the root, after the last bundle.
    ///
    /// # Errors
    /// [`DirectoryError`].
    pub fn finish(mut self) -> Result<VerifiedLog, DirectoryError> {
        for level in 0_u32.. {
            let Some(tile) = self.edge.tile(level as usize) else { break };
            let number = self.checkpoint.size().checked_shr(level.saturating_add(1).saturating_mul(8)).unwrap_or(0);
            if tile.width() > 0 {
                self.directory.compare(level as usize, number, tile)?;
            }
        }
        if self.edge.root() == *self.checkpoint.root() {
            Ok(VerifiedLog { checkpoint: self.checkpoint })
        } else {
            Err(DirectoryError::Root { found: self.edge.root(), required: *self.checkpoint.root() })
        }
    }
}

/// Verifies a published log from its first entry to its last. `visit` gets every entry
/// with its position.
///
/// # Errors
/// [`DirectoryError`].
pub fn verify_directory(
    key: &VerifyingKey,
    fetch: impl FnMut(&str) -> io::Result<Vec<u8>>,
    mut visit: impl FnMut(u64, &[u8]),
) -> Result<VerifiedLog, DirectoryError> {
    let mut walk = DirectoryWalk::open(key, fetch, None)?;
    while let Some((first, entries)) = walk.next_bundle()? {
        (first..).zip(&entries).for_each(|(index, entry)| visit(index, entry));
    }
    walk.finish()
}

struct Directory<F> {
    fetch: F,
}

impl<F: FnMut(&str) -> io::Result<Vec<u8>>> Directory<F> {
    fn read(&mut self, path: String) -> Result<(String, Vec<u8>), DirectoryError> {
        match (self.fetch)(&path) {
            Ok(bytes) => Ok((path, bytes)),
            Err(error) => Err(DirectoryError::Missing { path, error }),
        }
    }

    /// Reads a tile of this width. When the log grows, the full tile, which starts with the
    /// same hashes, replaces a partial one.
    fn tile(&mut self, level: &str, n: u64, width: u64) -> Result<(String, Vec<u8>, bool), DirectoryError> {
        match self.read(tile_path(level, n, width)) {
            Err(DirectoryError::Missing { error, .. }) if width < TILE && error.kind() == io::ErrorKind::NotFound => {
                self.read(tile_path(level, n, TILE)).map(|(path, bytes)| (path, bytes, true))
            }
            read => read.map(|(path, bytes)| (path, bytes, false)),
        }
    }

    fn bundle(&mut self, n: u64, width: u64) -> Result<Vec<Vec<u8>>, DirectoryError> {
        let (path, bytes, longer) = self.tile("entries", n, width)?;
        let bundle = split_bundle(&bytes).filter(|b| b.len() as u64 == if longer { TILE } else { width });
        let mut bundle = bundle.ok_or(DirectoryError::Bundle { path })?;
        bundle.truncate(usize::try_from(width).unwrap_or(usize::MAX));
        Ok(bundle)
    }

    fn compare(&mut self, level: usize, number: u64, tile: &Tile) -> Result<(), DirectoryError> {
        let (path, mut bytes, longer) = self.tile(&level.to_string(), number, tile.width())?;
        let expected = tile.hashes().as_flattened();
        if longer {
            bytes.truncate(expected.len());
        }
        if bytes == expected { Ok(()) } else { Err(DirectoryError::Tile { path }) }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::keys::Keys;
    use crate::log::{Log, NewEntry};
    use crate::storage::{MemoryStorage, Storage};

    fn keys() -> Keys {
        Keys::from_seeds("log.test/walk", &[1; 32], &[2; 32]).unwrap()
    }

    fn entry(n: u64) -> NewEntry {
        NewEntry { statement: n.to_be_bytes().to_vec(), ..NewEntry::default() }
    }

    /// A stopped walk continues in the log after it has grown; from an altered position it
    /// fails.
    #[test]
    fn a_walk_goes_on_from_where_it_was() {
        let disk = MemoryStorage::new();
        let (mut log, mut publisher) = Log::open(Arc::new(disk.clone()), keys()).unwrap();
        let fetch = |path: &str| disk.get(path)?.ok_or_else(|| io::ErrorKind::NotFound.into());
        let walk = |from: Option<&WalkPosition>| DirectoryWalk::open(keys().checkpoint_key(), fetch, from);
        log.append((0..700).map(entry).collect()).unwrap();
        publisher.sync().unwrap();
        let mut first = walk(None).unwrap();
        assert_eq!(first.position().unwrap().size, 0);
        first.next_bundle().unwrap();
        let kept = first.position().unwrap();
        assert_eq!(kept.size, 256);
        while first.next_bundle().unwrap().is_some() {}
        assert_eq!(first.position(), None, "within a bundle");
        first.finish().unwrap();

        log.append((700..1500).map(entry).collect()).unwrap();
        publisher.sync().unwrap();
        let mut second = walk(Some(&kept)).unwrap();
        let mut next = 256_u64;
        while let Some((at, entries)) = second.next_bundle().unwrap() {
            assert_eq!((at, &entries[0]), (next, &next.to_be_bytes().to_vec()));
            next += entries.len() as u64;
        }
        assert_eq!(next, 1500);
        second.finish().unwrap();

        let mut altered = kept.clone();
        altered.edge[1][0] ^= 1;
        let mut astray = walk(Some(&altered)).unwrap();
        let outcome = loop {
            match astray.next_bundle() {
                Ok(Some(_)) => {}
                Ok(None) => break astray.finish().map(|_| ()),
                Err(error) => break Err(error),
            }
        };
        assert!(matches!(outcome, Err(DirectoryError::Tile { .. } | DirectoryError::Root { .. })), "{outcome:?}");
        for (size, edge) in [(512, kept.edge.clone()), (255, kept.edge.clone()), (2560, kept.edge)] {
            let refused = walk(Some(&WalkPosition { size, edge })).map(|_| ());
            assert!(matches!(refused, Err(DirectoryError::Position { size: 1500, .. })), "{size}: {refused:?}");
        }
    }
}
