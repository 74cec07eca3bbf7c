//! One tile: 256 hashes and the nodes computed from them.

use portcullis_wire::{Digest, merkle};

use crate::tiles::{TILE, TILE_HEIGHT};

/// Hashes of one tile with the roots of all complete subtrees inside it, so that a
/// proof need not hash half a tile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Tile {
    width: usize,
    /// Row by row: node `n` of row `r` is the root over the hashes `n << r .. (n + 1) <<
    /// r`. Incomplete nodes are zero.
    nodes: Box<[Digest; NODES]>,
}

/// Rows of 256, 128, ... 2 nodes.
const NODES: usize = 510;

/// First index of a row.
const fn begin(row: usize) -> usize {
    512_usize.saturating_sub(512 >> row)
}

impl Default for Tile {
    fn default() -> Self {
        Self { width: 0, nodes: Box::new([[0; 32]; NODES]) }
    }
}

impl Tile {
    /// A tile from its hashes, as a file holds them, with its root if it is full; `None` if
    /// there are not `width` hashes.
    pub(crate) fn read(bytes: &[u8], width: u64) -> Option<(Self, Option<Digest>)> {
        let (hashes, []) = bytes.as_chunks::<32>() else { return None };
        if hashes.len() as u64 != width || width > TILE {
            return None;
        }
        let mut tile = Self::default();
        let root = hashes.iter().map(|hash| tile.push(*hash)).last().flatten();
        Some((tile, root))
    }

    /// Appends a hash to a tile that is not full; the root of the tile once it is.
    pub(crate) fn push(&mut self, hash: Digest) -> Option<Digest> {
        let (mut hash, mut n) = (hash, self.width);
        if n as u64 >= TILE {
            return None;
        }
        self.width = n.saturating_add(1);
        for row in 0..TILE_HEIGHT {
            let at = begin(row).saturating_add(n);
            *self.nodes.get_mut(at)? = hash;
            if n.is_multiple_of(2) {
                return None;
            }
            hash = merkle::node_hash(self.nodes.get(at.saturating_sub(1))?, &hash);
            n >>= 1;
        }
        Some(hash)
    }

    /// Number of hashes.
    pub(crate) const fn width(&self) -> u64 {
        self.width as u64
    }

    /// The hashes, as a file holds them.
    pub(crate) fn hashes(&self) -> &[Digest] {
        self.nodes.get(..self.width).unwrap_or_default()
    }

    /// Root over `n << row .. (n + 1) << row`; `None` if it is not complete.
    pub(crate) fn node(&self, row: usize, n: u64) -> Option<&Digest> {
        let n = usize::try_from(n).ok().filter(|n| row < TILE_HEIGHT && *n < self.width >> row)?;
        self.nodes.get(begin(row).saturating_add(n))
    }

    /// Roots of the complete subtrees that are not inside a larger one, the widest last.
    pub(crate) fn open(&self) -> impl Iterator<Item = &Digest> {
        let odd = (0..TILE_HEIGHT).map(|row| (row, self.width >> row)).filter(|(_, count)| count % 2 == 1);
        odd.filter_map(|(row, count)| self.node(row, count.saturating_sub(1) as u64))
    }
}
