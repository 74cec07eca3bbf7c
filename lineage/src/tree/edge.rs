//! The right edge of a tree: its partial tiles. A log needs nothing else of its past to
//! grow, whatever its size.

use std::sync::Arc;

use portcullis_wire::{Digest, merkle};

use super::tile::Tile;

/// The last, partial tile of every level. Clones share tiles until one of them changes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Edge {
    size: u64,
    tiles: Vec<Arc<Tile>>,
}

impl Edge {
    /// An edge from the hashes of its tiles, the lowest level first; `None` if they do not
    /// match the size.
    pub(crate) fn read(size: u64, rows: &[Vec<u8>]) -> Option<Self> {
        let mut tiles = Vec::new();
        let mut count = size;
        for row in rows {
            tiles.push(Arc::new(Tile::read(row, count & 0xff)?.0));
            count >>= 8;
        }
        // Exactly as many levels as the size needs.
        (count == 0 && tiles.len() == levels(size)).then_some(Self { size, tiles })
    }

    /// The hashes of its tiles, the lowest level first.
    pub(crate) fn rows(&self) -> Vec<Vec<u8>> {
        self.tiles.iter().take(levels(self.size)).map(|tile| tile.hashes().as_flattened().to_vec()).collect()
    }

    /// Number of leaves.
    pub(crate) const fn size(&self) -> u64 {
        self.size
    }

    /// The partial tile of a level.
    pub(crate) fn tile(&self, level: usize) -> Option<&Tile> {
        self.tiles.get(level).map(|tile| &**tile)
    }

    /// Appends a leaf; `filled` gets every tile that becomes full, with its
    /// level and number.
    pub(crate) fn push(&mut self, leaf: Digest, mut filled: impl FnMut(usize, u64, Arc<Tile>)) {
        self.size = self.size.saturating_add(1);
        let (mut hash, mut level, mut count) = (leaf, 0_usize, self.size);
        loop {
            if self.tiles.len() == level {
                self.tiles.push(Arc::default());
            }
            let Some(tile) = self.tiles.get_mut(level) else { return };
            let Some(root) = Arc::make_mut(tile).push(hash) else { return };
            count >>= 8;
            filled(level, count.saturating_sub(1), std::mem::take(tile));
            hash = root;
            level = level.saturating_add(1);
        }
    }

    /// Root of the tree: over its complete subtrees, the smallest first.
    pub(crate) fn root(&self) -> Digest {
        self.ends().last().map_or_else(merkle::empty_root, |(_, root)| *root)
    }

    /// For each complete subtree that is not inside a larger one, the smallest first: its
    /// first leaf, and the root over all leaves from there on.
    pub(crate) fn ends(&self) -> Vec<(u64, Digest)> {
        let bits = (0..u64::BITS).filter(|bit| self.size >> bit & 1 == 1);
        let mut ends: Vec<(u64, Digest)> = Vec::new();
        for (bit, root) in bits.zip(self.tiles.iter().flat_map(|tile| tile.open())) {
            let below = u64::MAX.checked_shr(u64::BITS.saturating_sub(bit).saturating_sub(1)).unwrap_or(u64::MAX);
            let root = ends.last().map_or(*root, |(_, right)| merkle::node_hash(root, right));
            ends.push((self.size & !below, root));
        }
        ends
    }
}

/// Levels of tiles in a tree of so many leaves.
const fn levels(size: u64) -> usize {
    (u64::BITS.saturating_sub(size.leading_zeros())).div_ceil(8) as usize
}
