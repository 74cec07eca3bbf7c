//! The readers' view: C2SP tlog-tiles v0.1.0.

use std::io;

use crate::checkpoint::Checkpoint;
use crate::storage::Storage;
use crate::tree::Tree;

/// Hashes in a full tile, and entries in a full bundle.
pub(crate) const TILE: u64 = 256;
/// Levels of the tree that one level of tiles spans.
pub(crate) const TILE_HEIGHT: usize = 8;

/// `x001/x234/067` (C2SP tlog-tiles, "Merkle tree").
pub(crate) fn tile_number(n: u64) -> String {
    let mut text = format!("{:03}", n % 1000);
    let mut rest = n / 1000;
    while rest > 0 {
        text = format!("x{:03}/{text}", rest % 1000);
        rest /= 1000;
    }
    text
}

/// Path of a tile; `level` is a number or `entries`, `width` below 256 is partial.
pub(crate) fn tile_path(level: &str, n: u64, width: u64) -> String {
    let number = tile_number(n);
    if width == TILE { format!("tile/{level}/{number}") } else { format!("tile/{level}/{number}.p/{width}") }
}

/// An entry bundle: each entry after its 16-bit big-endian length.
pub(crate) fn bundle(entries: &[Vec<u8>]) -> Vec<u8> {
    let mut out = Vec::new();
    for entry in entries {
        out.extend_from_slice(&u16::try_from(entry.len()).unwrap_or(u16::MAX).to_be_bytes());
        out.extend_from_slice(entry);
    }
    out
}

/// Keeps the entries that readers have not got in full bundles yet.
#[derive(Debug, Default)]
pub(crate) struct Publisher {
    /// Entries of the last, partial bundle and everything after it.
    pending: Vec<Vec<u8>>,
    /// Number of the first pending bundle.
    bundle: u64,
    /// Size of the tree that was published last.
    published: u64,
    behind: bool,
}

impl Publisher {
    pub(crate) fn queue(&mut self, entries: Vec<Vec<u8>>) {
        self.pending.extend(entries);
        self.behind = true;
    }

    pub(crate) const fn is_behind(&self) -> bool {
        self.behind
    }

    pub(crate) fn publish(&mut self, tree: &Tree, head: &Checkpoint, storage: &mut impl Storage) -> io::Result<()> {
        self.publish_bundles(storage)?;
        let mut level = 0_usize;
        while self.publish_hashes(tree, head.size(), level, storage)? {
            level = level.saturating_add(1);
        }
        storage.publish("checkpoint", head.note().as_bytes())?;
        self.published = head.size();
        self.behind = false;
        Ok(())
    }

    fn publish_bundles(&mut self, storage: &mut impl Storage) -> io::Result<()> {
        let full = TILE as usize;
        while self.pending.len() >= full {
            let rest = self.pending.split_off(full);
            storage.publish(&tile_path("entries", self.bundle, TILE), &bundle(&self.pending))?;
            self.pending = rest;
            self.bundle = self.bundle.saturating_add(1);
        }
        if self.pending.is_empty() {
            return Ok(());
        }
        let width = self.pending.len() as u64;
        storage.publish(&tile_path("entries", self.bundle, width), &bundle(&self.pending))
    }

    /// Writes the tiles of one level that changed; `false` where the level is empty.
    fn publish_hashes(&self, tree: &Tree, size: u64, level: usize, storage: &mut impl Storage) -> io::Result<bool> {
        let shift = u32::try_from(level.saturating_mul(TILE_HEIGHT)).unwrap_or(u32::MAX);
        let (had, has) = (self.published.checked_shr(shift).unwrap_or(0), size.checked_shr(shift).unwrap_or(0));
        if has == 0 {
            return Ok(false);
        }
        for n in had / TILE..has.div_ceil(TILE) {
            let from = n.saturating_mul(TILE);
            let to = from.saturating_add(TILE).min(has);
            let Some(row) = tree.row(level.saturating_mul(TILE_HEIGHT), from, to) else { break };
            storage.publish(&tile_path(&level.to_string(), n, to.saturating_sub(from)), row.as_flattened())?;
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_those_of_the_specification() {
        assert_eq!(tile_path("0", 1_234_067, 256), "tile/0/x001/x234/067");
        assert_eq!(tile_path("entries", 0, 5), "tile/entries/000.p/5");
    }
}
