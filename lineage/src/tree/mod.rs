//! The hashes of the tree, and the proofs made from them.
//!
//! Memory holds the right edge, the tiles that are not on the disk yet, and a bounded
//! cache. So memory does not grow with the log, and a proof reads at most three tiles a
//! level. A tile from the disk is used only if its root matches the tile above it, up
//! to the edge: an altered tile proves nothing.

mod edge;
mod kept;
mod tile;

use std::fmt;
use std::io;
use std::sync::{Arc, OnceLock};

use portcullis_wire::{Digest, merkle};

pub(crate) use edge::Edge;
use kept::Kept;
pub(crate) use tile::Tile;

use crate::storage::Storage;
use crate::tiles::{TILE_HEIGHT, tile_path};

/// Why a hash of the tree is unavailable.
#[derive(Debug)]
pub enum TreeError {
    /// The tree has no such leaf or size.
    Beyond,
    /// A tile cannot be read.
    Tile {
        /// Path below the log's folder.
        path: String,
        /// The system's error; `None` if the file has a wrong length.
        error: Option<io::Error>,
    },
    /// Tiles on the disk do not lead to the root: they were altered.
    Altered,
}

impl fmt::Display for TreeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Beyond => f.write_str("beyond the size of the tree"),
            Self::Tile { path, error: Some(error) } => write!(f, "{path}: {error}"),
            Self::Tile { path, error: None } => write!(f, "{path}: missing, or not a full tile"),
            Self::Altered => f.write_str("hash tiles do not lead to the root of the tree"),
        }
    }
}

impl std::error::Error for TreeError {}

/// The Merkle tree of a log.
#[derive(Default)]
pub struct Tree {
    edge: Edge,
    /// Its roots from each position at the edge, computed on first use.
    ends: OnceLock<Vec<(u64, Digest)>>,
    kept: Arc<Kept>,
    /// Source of the tiles that are not in memory; without one, the tree keeps all of them.
    storage: Option<Arc<dyn Storage>>,
}

impl fmt::Debug for Tree {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tree").field("size", &self.size()).finish_non_exhaustive()
    }
}

impl Tree {
    /// A tree that continues from an edge, with the tiles of a log.
    pub(crate) fn of(edge: Edge, storage: Arc<dyn Storage>) -> Self {
        Self { edge, storage: Some(storage), ..Self::default() }
    }

    /// A snapshot of the tree. It costs a copy of the edge tiles once this tree grows.
    pub(crate) fn snapshot(&self) -> Arc<Self> {
        let (edge, ends) = (self.edge.clone(), self.ends.clone());
        Arc::new(Self { edge, ends, kept: Arc::clone(&self.kept), storage: self.storage.clone() })
    }

    /// Number of leaves.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.edge.size()
    }

    /// Appends a leaf.
    pub fn push(&mut self, leaf: Digest) {
        self.ends = OnceLock::new();
        let kept = &self.kept;
        self.edge.push(leaf, |level, number, tile| kept.pin(level, number, tile));
    }

    /// The right edge.
    pub(crate) const fn edge(&self) -> &Edge {
        &self.edge
    }

    /// The full tiles of a tree of this size are on the disk: memory may drop them.
    pub(crate) fn published(&self, size: u64) {
        self.kept.unpin(size);
    }

    /// Root of the current tree.
    #[must_use]
    pub fn root(&self) -> Digest {
        self.ends().last().map_or_else(merkle::empty_root, |(_, root)| *root)
    }

    fn ends(&self) -> &[(u64, Digest)] {
        self.ends.get_or_init(|| self.edge.ends())
    }

    /// Root of the tree of the first `size` leaves.
    ///
    /// # Errors
    /// [`TreeError`].
    pub fn root_at(&self, size: u64) -> Result<Digest, TreeError> {
        match size {
            0 => Ok(merkle::empty_root()),
            _ if size > self.size() => Err(TreeError::Beyond),
            _ if size == self.size() => Ok(self.root()),
            _ => self.range(0, size, &mut Near::default()),
        }
    }

    /// Inclusion path of a leaf in the tree of the first `size` leaves
    /// (RFC 9162 §2.1.3.1).
    ///
    /// # Errors
    /// [`TreeError`].
    pub fn inclusion(&self, index: u64, size: u64) -> Result<Vec<Digest>, TreeError> {
        if index >= size || size > self.size() {
            return Err(TreeError::Beyond);
        }
        let mut near = Near::default();
        let levels = u64::BITS.saturating_sub(size.saturating_sub(1).leading_zeros()) as usize;
        let mut path = Vec::with_capacity(levels);
        for height in 0..levels {
            // The sibling of the subtree that holds the leaf: complete, cut off by the end of
            // the tree, or beyond it.
            let beside = index >> height ^ 1;
            let begin = beside << height;
            if begin >= size {
                continue;
            }
            path.push(match (beside.saturating_add(1)) << height {
                end if end <= size => self.node(height, beside, &mut near)?,
                _ => self.range(begin, size, &mut near)?,
            });
        }
        Ok(path)
    }

    /// Consistency path from `old` to `new` leaves (RFC 9162 §2.1.4.1).
    ///
    /// # Errors
    /// [`TreeError`].
    pub fn consistency(&self, old: u64, new: u64) -> Result<Vec<Digest>, TreeError> {
        if old > new || new > self.size() {
            return Err(TreeError::Beyond);
        }
        if old == 0 || old == new {
            return Ok(Vec::new());
        }
        let (mut low, mut high, mut path, mut whole) = (0_u64, new, Vec::new(), true);
        let mut near = Near::default();
        while old != high {
            let middle = low.saturating_add(split(high.saturating_sub(low)));
            if old <= middle {
                path.push(self.range(middle, high, &mut near)?);
                high = middle;
            } else {
                path.push(self.range(low, middle, &mut near)?);
                low = middle;
                whole = false;
            }
        }
        if !whole {
            path.push(self.range(low, high, &mut near)?);
        }
        path.reverse();
        Ok(path)
    }

    /// The hashes of tile `number`, as its file holds them: `width` of them.
    pub(crate) fn tile_hashes(&self, level: usize, number: u64, width: u64) -> Result<Vec<u8>, TreeError> {
        let partial = self.edge.tile(level).filter(|_| number == self.open_tile(level));
        let hashes = |tile: &Tile| {
            let hashes = tile.hashes().get(..usize::try_from(width).ok()?)?;
            Some(hashes.as_flattened().to_vec())
        };
        let bytes = match partial {
            Some(tile) => hashes(tile),
            None => hashes(&*self.full_tile(level, number)?),
        };
        bytes.ok_or(TreeError::Beyond)
    }

    /// Number of the partial tile of a level.
    const fn open_tile(&self, level: usize) -> u64 {
        let bits = TILE_HEIGHT.saturating_mul(level.saturating_add(1));
        if bits < u64::BITS as usize { self.size() >> bits } else { 0 }
    }

    /// Root over the leaves `low..high`, where `low` is a multiple of the
    /// largest power of two that fits.
    fn range(&self, low: u64, high: u64, near: &mut Near) -> Result<Digest, TreeError> {
        let count = high.checked_sub(low).ok_or(TreeError::Beyond)?;
        if count.is_power_of_two() {
            return self.node(count.trailing_zeros() as usize, low >> count.trailing_zeros(), near);
        }
        // Every proof of a batch needs these.
        if high == self.size()
            && let Some((_, root)) = self.ends().iter().find(|(begin, _)| *begin == low)
        {
            return Ok(*root);
        }
        let middle = low.saturating_add(split(count));
        Ok(merkle::node_hash(&self.range(low, middle, near)?, &self.range(middle, high, near)?))
    }

    /// Root of the complete subtree `n` of a height.
    fn node(&self, height: usize, n: u64, near: &mut Near) -> Result<Digest, TreeError> {
        let (level, row) = (height / TILE_HEIGHT, height % TILE_HEIGHT);
        // A tile has 256 >> row nodes in a row.
        let in_row = TILE_HEIGHT.saturating_sub(row);
        let (number, within) = (n >> in_row, n & !(u64::MAX << in_row));
        let found = if number == self.open_tile(level) {
            self.edge.tile(level).and_then(|tile| tile.node(row, within))
        } else {
            near.tile(self, level, number)?.node(row, within)
        };
        match found {
            Some(node) => Ok(*node),
            None => Err(TreeError::Beyond),
        }
    }

    /// A full tile. One that comes from the disk is used only after the tile above has
    /// shown that it belongs to this tree.
    fn full_tile(&self, level: usize, number: u64) -> Result<Arc<Tile>, TreeError> {
        if let Some(tile) = self.kept.get(level, number) {
            return Ok(tile);
        }
        let path = tile_path(&level.to_string(), number, crate::tiles::TILE);
        let bytes = match self.storage.as_ref().map(|storage| storage.get(&path)) {
            Some(Ok(bytes)) => bytes,
            Some(Err(error)) => return Err(TreeError::Tile { path, error: Some(error) }),
            None => return Err(TreeError::Beyond),
        };
        let tile = bytes.and_then(|bytes| Tile::read(&bytes, crate::tiles::TILE));
        let (tile, root) = tile.ok_or(TreeError::Tile { path, error: None })?;
        if root != Some(self.node(TILE_HEIGHT.saturating_mul(level.saturating_add(1)), number, &mut Near::default())?) {
            return Err(TreeError::Altered);
        }
        let tile = Arc::new(tile);
        self.kept.remember(level, number, Arc::clone(&tile));
        Ok(tile)
    }
}

/// The full tile that a proof used last at each level: the nodes of a proof are close
/// together.
#[derive(Default)]
struct Near(Vec<Option<(u64, Arc<Tile>)>>);

impl Near {
    fn tile(&mut self, tree: &Tree, level: usize, number: u64) -> Result<&Tile, TreeError> {
        if self.0.len() <= level {
            self.0.resize(level.saturating_add(1), None);
        }
        let Some(place) = self.0.get_mut(level) else { return Err(TreeError::Beyond) };
        let known = place.take().filter(|(at, _)| *at == number);
        let (_, tile) = place.insert(match known {
            Some(known) => known,
            None => (number, tree.full_tile(level, number)?),
        });
        Ok(tile)
    }
}

/// The largest power of two below `count`, which is at least two.
const fn split(count: u64) -> u64 {
    count.next_power_of_two() >> 1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grown(count: u64) -> (Tree, Vec<Digest>) {
        let leaves: Vec<Digest> = (0..count).map(|n| merkle::leaf_hash(&n.to_be_bytes())).collect();
        let mut tree = Tree::default();
        leaves.iter().for_each(|leaf| tree.push(*leaf));
        (tree, leaves)
    }

    #[test]
    fn agrees_with_the_definition_at_every_size() {
        let (tree, leaves) = grown(700);
        let count = leaves.len() as u64;
        for size in (0..=70_u64).chain([255, 256, 257, 511, 512, 513, count]) {
            let prefix = &leaves[..usize::try_from(size).unwrap()];
            assert_eq!(tree.root_at(size).unwrap(), merkle::root(prefix));
            for index in (0..size).step_by(if size > 70 { 17 } else { 1 }) {
                let path = tree.inclusion(index, size).unwrap();
                assert_eq!(Some(&path), merkle::inclusion_path(prefix, usize::try_from(index).unwrap()).as_ref());
            }
            for old in (0..=size).step_by(if size > 70 { 13 } else { 1 }) {
                let path = tree.consistency(old, size).unwrap();
                let (before, after) = (tree.root_at(old).unwrap(), tree.root_at(size).unwrap());
                assert!(merkle::is_consistent(old, &before, size, &after, &path), "{old} to {size}");
            }
        }
        assert!(matches!(tree.root_at(701), Err(TreeError::Beyond)));
        assert!(matches!(tree.inclusion(700, 700), Err(TreeError::Beyond)));
        assert!(matches!(tree.consistency(1, 701), Err(TreeError::Beyond)));
    }

    #[test]
    fn agrees_with_another_implementation() {
        use tlog_tiles::tlog;
        struct Stored(Vec<tlog::Hash>);
        impl tlog::HashReader for Stored {
            fn read_hashes(&self, indexes: &[u64]) -> Result<Vec<tlog::Hash>, tlog::Error> {
                Ok(indexes.iter().map(|at| self.0[usize::try_from(*at).unwrap()]).collect())
            }
        }
        let mut theirs = Stored(Vec::new());
        let mut ours = Tree::default();
        for n in 0..300_u64 {
            let entry = n.to_be_bytes();
            let hashes = tlog::stored_hashes(n, &entry, &theirs).unwrap();
            theirs.0.extend(hashes);
            ours.push(merkle::leaf_hash(&entry));
            assert_eq!(tlog::tree_hash(n + 1, &theirs).unwrap().0, ours.root());
        }
        let proof = tlog::prove_tree(300, 123, &theirs).unwrap();
        let path: Vec<Digest> = proof.iter().map(|hash| hash.0).collect();
        assert_eq!(path, ours.consistency(123, 300).unwrap());
        let proof: Vec<Digest> = tlog::prove_record(300, 257, &theirs).unwrap().iter().map(|hash| hash.0).collect();
        assert_eq!(proof, ours.inclusion(257, 300).unwrap());
    }

    /// A tree that continues from its edge equals a tree that never stopped, whatever the
    /// size.
    #[test]
    fn a_tree_goes_on_from_its_edge() {
        let (_, leaves) = grown(66_000);
        let mut edge = Edge::default();
        let mut whole = Tree::default();
        let sizes = [0_usize, 1, 255, 256, 257, 300, 65_535, 65_536, 65_537, 66_000];
        for (size, leaf) in leaves.iter().enumerate() {
            if sizes.contains(&size) {
                let read = Edge::read(edge.size(), &edge.rows()).unwrap();
                assert_eq!(read.root(), whole.root(), "{size}");
                edge = read;
                let mut rows = edge.rows();
                rows.push(Vec::new());
                assert_eq!(Edge::read(edge.size(), &rows), None, "{size}");
                assert_eq!(Edge::read(edge.size() + 1, &edge.rows()), None, "{size}");
            }
            edge.push(*leaf, |_, _, tile| assert_eq!(tile.width(), 256));
            whole.push(*leaf);
        }
        assert_eq!(edge.root(), whole.root());
    }
}
