//! Full tiles in memory.

use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, PoisonError};

use lru::LruCache;

use super::tile::Tile;
use crate::tiles::TILE_HEIGHT;

/// Tiles that are remembered though they are on the disk: 16 KiB each.
const REMEMBERED: NonZeroUsize = NonZeroUsize::new(512).unwrap();

type Place = (usize, u64);

/// Tiles that are nowhere else, and some that are.
pub(super) struct Kept {
    pinned: HashMap<Place, Arc<Tile>>,
    remembered: Mutex<LruCache<Place, Arc<Tile>>>,
}

impl Default for Kept {
    fn default() -> Self {
        Self { pinned: HashMap::new(), remembered: Mutex::new(LruCache::new(REMEMBERED)) }
    }
}

impl Kept {
    /// Keeps a tile until it is on the disk.
    pub(super) fn pin(&mut self, level: usize, number: u64, tile: Tile) {
        self.pinned.insert((level, number), Arc::new(tile));
    }

    /// The tiles of a tree of this size are on the disk.
    pub(super) fn unpin(&mut self, size: u64) {
        let mut remembered = self.remembered.lock().unwrap_or_else(PoisonError::into_inner);
        self.pinned.retain(|(level, number), tile| {
            let bits = TILE_HEIGHT.saturating_mul(level.saturating_add(1));
            let full = u32::try_from(bits).ok().and_then(|bits| size.checked_shr(bits)).unwrap_or(0);
            let is_missing = *number >= full;
            if !is_missing {
                remembered.put((*level, *number), Arc::clone(tile));
            }
            is_missing
        });
    }

    pub(super) fn get(&self, level: usize, number: u64) -> Option<Arc<Tile>> {
        let place = (level, number);
        let pinned = self.pinned.get(&place).cloned();
        pinned.or_else(|| self.remembered.lock().unwrap_or_else(PoisonError::into_inner).get(&place).cloned())
    }

    /// Remembers a tile that was read from the disk.
    pub(super) fn remember(&self, level: usize, number: u64, tile: Arc<Tile>) {
        self.remembered.lock().unwrap_or_else(PoisonError::into_inner).put((level, number), tile);
    }
}
