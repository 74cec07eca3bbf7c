//! The hashes of the tree, and the proofs made from them.

use portcullis_wire::{Digest, merkle};

/// A Merkle tree that keeps the hash of every complete subtree: 64 bytes an entry.
#[derive(Clone, Debug, Default)]
pub struct Tree {
    /// `levels[l][n]` is the root over leaves `n << l .. (n + 1) << l`.
    levels: Vec<Vec<Digest>>,
}

impl Tree {
    /// Number of leaves.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.levels.first().map_or(0, |leaves| leaves.len() as u64)
    }

    /// Appends a leaf.
    pub fn push(&mut self, leaf: Digest) {
        let mut hash = leaf;
        let mut level = 0;
        loop {
            if self.levels.len() == level {
                self.levels.push(Vec::new());
            }
            let Some(row) = self.levels.get_mut(level) else { return };
            row.push(hash);
            let [.., left, right] = row.as_slice() else { return };
            if row.len() % 2 == 1 {
                return;
            }
            hash = merkle::node_hash(left, right);
            level = level.saturating_add(1);
        }
    }

    /// A tree of the same size that can grow and tell its root, with one hash a
    /// level: what signing the next head needs.
    pub(crate) fn frontier(&self) -> Frontier {
        let last = |row: &Vec<Digest>| if row.len() % 2 == 1 { row.last().copied() } else { None };
        Frontier { size: self.size(), open: self.levels.iter().map(last).collect() }
    }

    /// Root of the current tree.
    #[must_use]
    pub fn root(&self) -> Digest {
        self.root_at(self.size()).unwrap_or_else(merkle::empty_root)
    }

    /// Root of the tree of the first `size` leaves; `None` beyond the current size.
    #[must_use]
    pub fn root_at(&self, size: u64) -> Option<Digest> {
        match size {
            0 => Some(merkle::empty_root()),
            _ if size > self.size() => None,
            _ => self.range(0, size),
        }
    }

    /// Inclusion path of a leaf in the tree of the first `size` leaves.
    #[must_use]
    pub fn inclusion(&self, index: u64, size: u64) -> Option<Vec<Digest>> {
        if index >= size || size > self.size() {
            return None;
        }
        let (mut low, mut high, mut path) = (0_u64, size, Vec::new());
        while high.checked_sub(low)? > 1 {
            let middle = low.checked_add(split(high.checked_sub(low)?))?;
            if index < middle {
                path.push(self.range(middle, high)?);
                high = middle;
            } else {
                path.push(self.range(low, middle)?);
                low = middle;
            }
        }
        path.reverse();
        Some(path)
    }

    /// Consistency path from `old` to `new` leaves (RFC 9162 §2.1.4.1).
    #[must_use]
    pub fn consistency(&self, old: u64, new: u64) -> Option<Vec<Digest>> {
        if old > new || new > self.size() {
            return None;
        }
        if old == 0 || old == new {
            return Some(Vec::new());
        }
        let (mut low, mut high, mut path, mut whole) = (0_u64, new, Vec::new(), true);
        while old != high {
            let middle = low.checked_add(split(high.checked_sub(low)?))?;
            if old <= middle {
                path.push(self.range(middle, high)?);
                high = middle;
            } else {
                path.push(self.range(low, middle)?);
                low = middle;
                whole = false;
            }
        }
        if !whole {
            path.push(self.range(low, high)?);
        }
        path.reverse();
        Some(path)
    }

    /// Hashes `from..to` of a level, as tiles hold them.
    #[must_use]
    pub fn row(&self, level: usize, from: u64, to: u64) -> Option<&[Digest]> {
        self.levels.get(level)?.get(usize::try_from(from).ok()?..usize::try_from(to).ok()?)
    }

    /// Root over the leaves `low..high`, where `low` is a multiple of the
    /// largest power of two that fits.
    fn range(&self, low: u64, high: u64) -> Option<Digest> {
        let count = high.checked_sub(low)?;
        if count.is_power_of_two() {
            let level = count.trailing_zeros();
            let at = usize::try_from(low.checked_shr(level)?).ok()?;
            return self.levels.get(usize::try_from(level).ok()?)?.get(at).copied();
        }
        let middle = low.checked_add(split(count))?;
        Some(merkle::node_hash(&self.range(low, middle)?, &self.range(middle, high)?))
    }
}

/// The right edge of a tree: the roots of its complete subtrees, one a level.
#[derive(Debug)]
pub(crate) struct Frontier {
    size: u64,
    open: Vec<Option<Digest>>,
}

impl Frontier {
    pub(crate) const fn size(&self) -> u64 {
        self.size
    }

    pub(crate) fn push(&mut self, leaf: Digest) {
        let mut hash = leaf;
        self.size = self.size.saturating_add(1);
        for slot in &mut self.open {
            match slot.take() {
                None => {
                    *slot = Some(hash);
                    return;
                }
                Some(left) => hash = merkle::node_hash(&left, &hash),
            }
        }
        self.open.push(Some(hash));
    }

    pub(crate) fn root(&self) -> Digest {
        let hashes = self.open.iter().flatten().copied();
        hashes.reduce(|right, left| merkle::node_hash(&left, &right)).unwrap_or_else(merkle::empty_root)
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
        let (tree, leaves) = grown(70);
        let mut frontier = Tree::default().frontier();
        for (size, leaf) in (1..).zip(&leaves) {
            frontier.push(*leaf);
            assert_eq!((frontier.size(), Some(frontier.root())), (size, tree.root_at(size)));
            assert_eq!(grown(size).0.frontier().root(), frontier.root());
        }
        for size in 0..=70_u64 {
            let prefix = &leaves[..usize::try_from(size).unwrap()];
            assert_eq!(tree.root_at(size), Some(merkle::root(prefix)));
            for index in 0..size {
                let path = tree.inclusion(index, size).unwrap();
                assert_eq!(Some(&path), merkle::inclusion_path(prefix, usize::try_from(index).unwrap()).as_ref());
            }
            for old in 0..=size {
                let path = tree.consistency(old, size).unwrap();
                let (before, after) = (tree.root_at(old).unwrap(), tree.root_at(size).unwrap());
                assert!(merkle::is_consistent(old, &before, size, &after, &path), "{old} to {size}");
            }
        }
        assert_eq!(tree.root_at(71), None);
        assert_eq!(tree.inclusion(70, 70), None);
        assert_eq!(tree.consistency(1, 71), None);
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
}
