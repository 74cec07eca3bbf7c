//! Full tiles in memory.

use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use lru::LruCache;

use super::tile::Tile;
use crate::tiles::TILE_HEIGHT;

/// Number of tiles that are cached although they are on the disk: 16 KiB each.
const REMEMBERED: NonZeroUsize = NonZeroUsize::new(512).unwrap();

type Place = (usize, u64);

/// Tiles that exist only in memory, and a cache of others. All trees of one log share
/// them.
pub(super) struct Kept(Mutex<Tiles>);

struct Tiles {
    pinned: HashMap<Place, Arc<Tile>>,
    remembered: LruCache<Place, Arc<Tile>>,
}

impl Default for Kept {
    fn default() -> Self {
        Self(Mutex::new(Tiles { pinned: HashMap::new(), remembered: LruCache::new(REMEMBERED) }))
    }
}

impl Kept {
    /// Keeps a tile until it is on the disk.
    pub(super) fn pin(&self, level: usize, number: u64, tile: Arc<Tile>) {
        self.lock().pinned.insert((level, number), tile);
    }

    /// The tiles of a tree of this size are now on the disk.
    pub(super) fn unpin(&self, size: u64) {
        let Tiles { pinned, remembered } = &mut *self.lock();
        pinned.retain(|(level, number), tile| {
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
        let Tiles { pinned, remembered } = &mut *self.lock();
        pinned.get(&place).cloned().or_else(|| remembered.get(&place).cloned())
    }

    /// Caches a tile that was read from the disk.
    pub(super) fn remember(&self, level: usize, number: u64, tile: Arc<Tile>) {
        self.lock().remembered.put((level, number), tile);
    }

    fn lock(&self) -> MutexGuard<'_, Tiles> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
