//! Verifying the readers' view, as an auditor gets it: from files alone.

use std::fmt;
use std::io;

use portcullis_wire::{Digest, merkle};

use crate::checkpoint::{Checkpoint, CheckpointError, VerifyingKey};
use crate::tiles::{TILE, split_bundle, tile_path};
use crate::tree::{Edge, Tile};

/// Why a published log was refused.
#[derive(Debug)]
pub enum DirectoryError {
    /// A file that the checkpoint promises cannot be read.
    Missing {
        /// Path below the log's folder.
        path: String,
        /// What the system said.
        error: io::Error,
    },
    /// The checkpoint does not verify.
    Checkpoint(CheckpointError),
    /// An entry bundle of another form or number of entries.
    Bundle {
        /// Path below the log's folder.
        path: String,
    },
    /// A hash tile that is not that of the entries.
    Tile {
        /// Path below the log's folder.
        path: String,
    },
    /// The entries lead to another root than the checkpoint's.
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
            Self::Root { .. } => f.write_str("the entries do not lead to the root of the checkpoint"),
        }
    }
}

impl std::error::Error for DirectoryError {}

/// A log whose entries, tiles and checkpoint agree. Only [`verify_directory`]
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

/// Reads a published log through `fetch`, which takes a path such as
/// `tile/0/000` or `checkpoint`, and checks every byte of it. `visit` gets every
/// entry with its position, before it is known that all of them are sound: what
/// it makes of them counts once this returns a [`VerifiedLog`]. Memory does not
/// grow with the log.
///
/// # Errors
/// [`DirectoryError`].
pub fn verify_directory(
    key: &VerifyingKey,
    fetch: impl FnMut(&str) -> io::Result<Vec<u8>>,
    mut visit: impl FnMut(u64, &[u8]),
) -> Result<VerifiedLog, DirectoryError> {
    let mut directory = Directory { fetch };
    let (_, note) = directory.read("checkpoint".into())?;
    let note = String::from_utf8(note).map_err(|_| DirectoryError::Checkpoint(CheckpointError::Malformed))?;
    let checkpoint = Checkpoint::verify(&note, key).map_err(DirectoryError::Checkpoint)?;

    let mut edge = Edge::default();
    for n in 0..checkpoint.size().div_ceil(TILE) {
        let width = checkpoint.size().saturating_sub(n.saturating_mul(TILE)).min(TILE);
        let mut filled = Vec::new();
        for entry in directory.bundle(n, width)? {
            visit(edge.size(), &entry);
            edge.push(merkle::leaf_hash(&entry), |level, number, tile| filled.push((level, number, tile)));
        }
        filled.iter().try_for_each(|(level, number, tile)| directory.compare(*level, *number, tile))?;
    }
    for level in 0_u32.. {
        let Some(tile) = edge.tile(level as usize) else { break };
        let number = checkpoint.size().checked_shr(level.saturating_add(1).saturating_mul(8)).unwrap_or(0);
        if tile.width() > 0 {
            directory.compare(level as usize, number, tile)?;
        }
    }
    if edge.root() == *checkpoint.root() {
        Ok(VerifiedLog { checkpoint })
    } else {
        Err(DirectoryError::Root { found: edge.root(), required: *checkpoint.root() })
    }
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

    /// A tile of a width: a log that goes on growing replaces a partial tile by
    /// the full one, which begins in the same way.
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
