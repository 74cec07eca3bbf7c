//! One tile: 256 hashes, and what follows from them.

use portcullis_wire::{Digest, merkle};

use crate::tiles::TILE_HEIGHT;

/// Hashes of one tile, with the roots of all complete subtrees within it: a
/// proof takes them from here instead of hashing half a tile for each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tile {
    /// `rows[r][n]` is the root over the hashes `n << r .. (n + 1) << r`.
    rows: [Vec<Digest>; TILE_HEIGHT],
}

impl Tile {
    /// A tile from its hashes, as a file holds them, with its root if it is full;
    /// `None` for another length than `width` hashes.
    pub(crate) fn read(bytes: &[u8], width: u64) -> Option<(Self, Option<Digest>)> {
        let (hashes, []) = bytes.as_chunks::<32>() else { return None };
        if hashes.len() as u64 != width {
            return None;
        }
        let mut tile = Self::default();
        let root = hashes.iter().map(|hash| tile.push(*hash)).last().flatten();
        Some((tile, root))
    }

    /// Appends a hash; the root of the tile once it is full.
    pub(crate) fn push(&mut self, hash: Digest) -> Option<Digest> {
        let mut hash = hash;
        for row in &mut self.rows {
            row.push(hash);
            let [.., left, right] = row.as_slice() else { return None };
            if row.len() % 2 == 1 {
                return None;
            }
            hash = merkle::node_hash(left, right);
        }
        Some(hash)
    }

    /// Number of hashes.
    pub(crate) const fn width(&self) -> u64 {
        let [bottom, ..] = &self.rows;
        bottom.len() as u64
    }

    /// The hashes, as a file holds them.
    pub(crate) fn hashes(&self) -> &[Digest] {
        let [bottom, ..] = &self.rows;
        bottom
    }

    /// Root over `n << row .. (n + 1) << row`; `None` where it is not complete.
    pub(crate) fn node(&self, row: usize, n: u64) -> Option<Digest> {
        self.rows.get(row)?.get(usize::try_from(n).ok()?).copied()
    }

    /// Roots of the complete subtrees that no larger one holds, the widest last.
    pub(crate) fn open(&self) -> impl Iterator<Item = Digest> {
        self.rows.iter().filter(|row| row.len() % 2 == 1).filter_map(|row| row.last().copied())
    }
}
