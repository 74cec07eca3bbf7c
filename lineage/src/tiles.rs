//! Paths and entry bundles of C2SP tlog-tiles v0.1.0.

/// Hashes in a full tile, and entries in a full bundle.
pub const TILE: u64 = 256;
/// Levels of the tree that one level of tiles spans.
pub(crate) const TILE_HEIGHT: usize = 8;

/// `x001/x234/067` (C2SP tlog-tiles, "Merkle tree").
fn tile_number(n: u64) -> String {
    let mut text = format!("{:03}", n % 1000);
    let mut rest = n / 1000;
    while rest > 0 {
        text = format!("x{:03}/{text}", rest % 1000);
        rest /= 1000;
    }
    text
}

/// Path of a tile; `level` is a number or `entries`, `width` below 256 is partial.
#[must_use]
pub fn tile_path(level: &str, n: u64, width: u64) -> String {
    let number = tile_number(n);
    if width == TILE { format!("tile/{level}/{number}") } else { format!("tile/{level}/{number}.p/{width}") }
}

/// A file of a published log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TilePath {
    /// Path below the log's folder.
    pub path: String,
    /// For a partial tile: the full tile, which replaces it as the log grows and starts
    /// with the same hashes.
    pub grown: Option<String>,
}

/// Every hash tile and entry bundle of a log of this size.
pub fn tile_paths(size: u64) -> impl Iterator<Item = TilePath> {
    let levels = (0_u32..).map(move |level| size.checked_shr(level.saturating_mul(8)).unwrap_or(0));
    let levels = levels.take_while(|count| *count > 0).zip(0_u32..);
    let rows = levels.flat_map(|(count, level)| {
        let hashes = (level.to_string(), count);
        [(level == 0).then(|| ("entries".to_owned(), count)), Some(hashes)].into_iter().flatten()
    });
    rows.flat_map(|(level, count)| {
        let (full, width) = (count / TILE, count % TILE);
        let tiles = (0..full).map(|n| (n, TILE)).chain((width > 0).then_some((full, width)));
        let tiles: Vec<TilePath> = tiles
            .map(|(n, width)| TilePath {
                path: tile_path(&level, n, width),
                grown: (width < TILE).then(|| tile_path(&level, n, TILE)),
            })
            .collect();
        tiles
    })
}

/// An entry bundle: each entry after its 16-bit big-endian length.
pub(crate) fn bundle(entries: &[Vec<u8>]) -> Vec<u8> {
    let length: usize = entries.iter().map(|entry| entry.len().saturating_add(2)).sum();
    let mut out = Vec::with_capacity(length);
    for entry in entries {
        out.extend_from_slice(&u16::try_from(entry.len()).unwrap_or(u16::MAX).to_be_bytes());
        out.extend_from_slice(entry);
    }
    out
}

/// The entries of a bundle; `None` if it is malformed.
pub(crate) fn split_bundle(mut bytes: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut entries = Vec::new();
    while let Some((length, rest)) = bytes.split_first_chunk() {
        let (entry, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))?;
        entries.push(entry.to_vec());
        bytes = rest;
    }
    bytes.is_empty().then_some(entries)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_those_of_the_specification() {
        assert_eq!(tile_path("0", 1_234_067, 256), "tile/0/x001/x234/067");
        assert_eq!(tile_path("entries", 0, 5), "tile/entries/000.p/5");
    }

    #[test]
    fn a_size_says_which_tiles_there_are() {
        let paths = |size| tile_paths(size).map(|tile| tile.path).collect::<Vec<_>>();
        assert_eq!(paths(0), Vec::<String>::new());
        assert_eq!(paths(3), ["tile/entries/000.p/3", "tile/0/000.p/3"]);
        assert_eq!(paths(256), ["tile/entries/000", "tile/0/000", "tile/1/000.p/1"]);
        let large = paths(65_537);
        assert_eq!(large.len(), 257 + 257 + 1 + 1);
        assert_eq!(large.last().unwrap(), "tile/2/000.p/1");
        assert_eq!(tile_paths(257).last().unwrap().grown.as_deref(), Some("tile/1/000"));
    }

    #[test]
    fn bundles_come_back() {
        let entries = vec![vec![1; 3], vec![2; 65_535], vec![3]];
        assert_eq!(split_bundle(&bundle(&entries)), Some(entries));
        assert_eq!(split_bundle(&[0]), None);
        assert_eq!(split_bundle(&[0, 2, 7]), None);
    }
}
