//! Verifying the readers' view, as an auditor gets it: from files alone.

use std::fmt;
use std::io;

use portcullis_wire::{Digest, merkle};

use crate::checkpoint::{Checkpoint, CheckpointError, VerifyingKey};
use crate::tiles::{TILE, TILE_HEIGHT, tile_path};
use crate::tree::Tree;

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
    entries: Vec<Vec<u8>>,
    tree: Tree,
}

impl VerifiedLog {
    /// The checkpoint.
    #[must_use]
    pub const fn checkpoint(&self) -> &Checkpoint {
        &self.checkpoint
    }

    /// All entries, in order.
    #[must_use]
    pub fn entries(&self) -> &[Vec<u8>] {
        &self.entries
    }

    /// The tree.
    #[must_use]
    pub const fn tree(&self) -> &Tree {
        &self.tree
    }
}

/// Reads a published log through `fetch`, which takes a path such as
/// `tile/0/000` or `checkpoint`, and checks every byte of it.
///
/// # Errors
/// [`DirectoryError`].
pub fn verify_directory(
    key: &VerifyingKey,
    mut fetch: impl FnMut(&str) -> io::Result<Vec<u8>>,
) -> Result<VerifiedLog, DirectoryError> {
    let mut read = |path: String| match fetch(&path) {
        Ok(bytes) => Ok((path, bytes)),
        Err(error) => Err(DirectoryError::Missing { path, error }),
    };
    let (_, note) = read("checkpoint".into())?;
    let note = String::from_utf8(note).map_err(|_| DirectoryError::Checkpoint(CheckpointError::Malformed))?;
    let checkpoint = Checkpoint::verify(&note, key).map_err(DirectoryError::Checkpoint)?;

    let (mut entries, mut tree) = (Vec::new(), Tree::default());
    for n in 0..checkpoint.size().div_ceil(TILE) {
        let width = checkpoint.size().saturating_sub(n.saturating_mul(TILE)).min(TILE);
        let (path, bytes) = read(tile_path("entries", n, width))?;
        let bundle = split_bundle(&bytes).filter(|b| b.len() as u64 == width).ok_or(DirectoryError::Bundle { path })?;
        bundle.iter().for_each(|entry| tree.push(merkle::leaf_hash(entry)));
        entries.extend(bundle);
    }
    let mut level = 0_usize;
    loop {
        let shift = u32::try_from(level.saturating_mul(TILE_HEIGHT)).unwrap_or(u32::MAX);
        let count = checkpoint.size().checked_shr(shift).unwrap_or(0);
        if count == 0 {
            break;
        }
        for n in 0..count.div_ceil(TILE) {
            let from = n.saturating_mul(TILE);
            let to = from.saturating_add(TILE).min(count);
            let (path, bytes) = read(tile_path(&level.to_string(), n, to.saturating_sub(from)))?;
            let expected = tree.row(level.saturating_mul(TILE_HEIGHT), from, to).map(<[Digest]>::as_flattened);
            if expected != Some(bytes.as_slice()) {
                return Err(DirectoryError::Tile { path });
            }
        }
        level = level.saturating_add(1);
    }
    if tree.root() == *checkpoint.root() {
        Ok(VerifiedLog { checkpoint, entries, tree })
    } else {
        Err(DirectoryError::Root { found: tree.root(), required: *checkpoint.root() })
    }
}

fn split_bundle(mut bytes: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut entries = Vec::new();
    while let Some((length, rest)) = bytes.split_first_chunk() {
        let (entry, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))?;
        entries.push(entry.to_vec());
        bytes = rest;
    }
    bytes.is_empty().then_some(entries)
}
