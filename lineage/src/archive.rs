//! The archive: evidence, collateral and bundles, which statements name by digest.
//!
//! Blobs are stored with their entry in the journal. Parts that many blobs share
//! (certificates, event logs, bundles) are separate files under `archive/`, named by
//! their SHA-256: a certificate of a chip is stored once, however many permits depend
//! on it. Everything that is read back is checked against its digest.

use std::fmt;
use std::io;
use std::num::NonZeroUsize;
use std::ops::Range;
use std::sync::Arc;

use lru::LruCache;
use portcullis_wire::hex::hex;
use portcullis_wire::{Digest, sha256};

use crate::journal::{Part, StoredBlob};
use crate::storage::Storage;

/// Shared files that are known to exist without asking the storage.
const KNOWN: NonZeroUsize = NonZeroUsize::new(16_384).unwrap();
/// Shared files whose bytes are kept in memory by readers.
const CACHED: NonZeroUsize = NonZeroUsize::new(64).unwrap();
/// Shorter parts do not get a file of their own, in bytes.
const WORTH_SHARING: usize = 256;

/// Something to be archived.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Blob {
    bytes: Vec<u8>,
    shared: Vec<Range<usize>>,
}

impl From<Vec<u8>> for Blob {
    /// A blob that shares no part with others.
    fn from(bytes: Vec<u8>) -> Self {
        Self { bytes, shared: Vec::new() }
    }
}

impl Blob {
    /// A blob with shared parts: ascending ranges that do not overlap. Ranges that do not
    /// fit are not shared.
    #[must_use]
    pub const fn with_shared(bytes: Vec<u8>, shared: Vec<Range<usize>>) -> Self {
        Self { bytes, shared }
    }

    /// A blob that is shared as a whole.
    #[must_use]
    pub fn recurring(bytes: Vec<u8>) -> Self {
        let whole = 0..bytes.len();
        Self { bytes, shared: vec![whole] }
    }

    /// Its bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

/// Why a blob is unavailable.
#[derive(Debug)]
pub enum ArchiveError {
    /// It was removed when its retention time ended.
    Pruned(Digest),
    /// A file is missing.
    Missing(Digest),
    /// The contents of a file do not match its name: bit rot, or an edit.
    Altered(Digest),
    /// It cannot be read.
    Storage(io::Error),
}

impl fmt::Display for ArchiveError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pruned(digest) => write!(f, "{} was pruned", hex(digest)),
            Self::Missing(digest) => write!(f, "{} is missing", shared_path(digest)),
            Self::Altered(digest) => write!(f, "{} is not what its name says", shared_path(digest)),
            Self::Storage(error) => write!(f, "archive: {error}"),
        }
    }
}

impl std::error::Error for ArchiveError {}

/// The archive of a log.
pub struct Archive {
    storage: Arc<dyn Storage>,
    known: LruCache<Digest, ()>,
    cached: LruCache<Digest, Arc<Vec<u8>>>,
}

impl Archive {
    /// The archive beside a journal.
    #[must_use]
    pub fn new(storage: Arc<dyn Storage>) -> Self {
        Self { storage, known: LruCache::new(KNOWN), cached: LruCache::new(CACHED) }
    }

    /// Splits a blob; its shared parts are durable when this returns.
    pub(crate) fn store(&mut self, blob: Blob) -> io::Result<StoredBlob> {
        let Blob { bytes, shared } = blob;
        if shared.is_empty() {
            return Ok(StoredBlob(vec![Part::Here(bytes)]));
        }
        let (mut parts, mut done) = (Vec::new(), 0);
        for range in shared {
            let Some(part) = bytes.get(range.clone()).filter(|part| part.len() >= WORTH_SHARING) else { continue };
            let Some(before) = bytes.get(done..range.start) else { continue };
            if !before.is_empty() {
                parts.push(Part::Here(before.to_vec()));
            }
            parts.push(self.share(part)?);
            done = range.end;
        }
        let rest = bytes.get(done..).unwrap_or_default();
        if !rest.is_empty() || parts.is_empty() {
            parts.push(Part::Here(rest.to_vec()));
        }
        Ok(StoredBlob(parts))
    }

    fn share(&mut self, part: &[u8]) -> io::Result<Part> {
        let digest = sha256(&[part]);
        if self.known.get(&digest).is_none() {
            let path = shared_path(&digest);
            // A damaged file is replaced by the next intact copy.
            if self.storage.get(&path)?.as_deref() != Some(part) {
                self.storage.put_durable(&path, part)?;
            }
            self.known.put(digest, ());
        }
        Ok(Part::Shared { digest, length: part.len() as u64 })
    }

    /// Joins the parts of a blob. The caller compares its digest with the signed statement.
    ///
    /// # Errors
    /// [`ArchiveError`].
    pub fn read(&mut self, blob: &StoredBlob) -> Result<Vec<u8>, ArchiveError> {
        if let [Part::Here(bytes)] = blob.0.as_slice() {
            return Ok(bytes.clone());
        }
        let length = |part: &Part| if let Part::Here(bytes) = part { bytes.len() } else { WORTH_SHARING };
        let mut whole = Vec::with_capacity(blob.0.iter().map(length).sum());
        for part in &blob.0 {
            match part {
                Part::Here(bytes) => whole.extend_from_slice(bytes),
                Part::Shared { digest, .. } => whole.extend_from_slice(&self.shared(digest)?),
                Part::Pruned { digest, .. } => return Err(ArchiveError::Pruned(*digest)),
            }
        }
        Ok(whole)
    }

    /// A shared file, checked against its name.
    ///
    /// # Errors
    /// [`ArchiveError`].
    pub fn shared(&mut self, digest: &Digest) -> Result<Arc<Vec<u8>>, ArchiveError> {
        if let Some(bytes) = self.cached.get(digest) {
            return Ok(Arc::clone(bytes));
        }
        let bytes = self.storage.get(&shared_path(digest)).map_err(ArchiveError::Storage)?;
        let bytes = bytes.ok_or(ArchiveError::Missing(*digest))?;
        if sha256(&[&bytes]) != *digest {
            return Err(ArchiveError::Altered(*digest));
        }
        let bytes = Arc::new(bytes);
        self.cached.put(*digest, Arc::clone(&bytes));
        Ok(bytes)
    }
}

/// Path of a shared file: `archive/ab/abcd…`.
#[must_use]
pub fn shared_path(digest: &Digest) -> String {
    let name = hex(digest);
    format!("{ARCHIVE}/{}/{name}", name.get(..2).unwrap_or_default())
}

/// Folder of shared files.
pub(crate) const ARCHIVE: &str = "archive";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::MemoryStorage;

    #[test]
    fn parts_are_stored_once_and_checked_when_read() {
        let disk = MemoryStorage::new();
        let mut archive = Archive::new(Arc::new(disk.clone()));
        let whole = |n: u8| [vec![n; 10], vec![9; 300], vec![n; 20], vec![8; 400], vec![n; 3]].concat();
        let blob = |n| Blob::with_shared(whole(n), vec![10..310, 330..730]);
        let stored: Vec<_> = (0..5).map(|n| archive.store(blob(n)).unwrap()).collect();
        assert_eq!(disk.list(ARCHIVE).unwrap().len(), 2);
        for (n, stored) in (0..5).zip(&stored) {
            assert_eq!(stored.0.len(), 5);
            assert_eq!(archive.read(stored).unwrap(), whole(n));
        }
        // Ranges that do not fit: the blob is stored whole.
        for bad in [(700, 900), (0, 20), (10, 10)] {
            let ranges = Vec::from([bad.0..bad.1, 5..9]);
            let stored = archive.store(Blob::with_shared(whole(1), ranges)).unwrap();
            assert_eq!(archive.read(&stored).unwrap(), whole(1));
        }
        disk.tamper(|_, bytes| bytes[0] ^= 1);
        let mut fresh = Archive::new(Arc::new(disk.clone()));
        assert!(matches!(fresh.read(&stored[0]), Err(ArchiveError::Altered(_))));
        assert_eq!(fresh.store(blob(7)).unwrap().0.len(), 5);
        assert_eq!(fresh.read(&stored[0]).unwrap(), whole(0), "put right by the next that comes");
        let mut empty = Archive::new(Arc::new(MemoryStorage::new()));
        assert!(matches!(empty.read(&stored[0]), Err(ArchiveError::Missing(_))));
        let pruned = StoredBlob(vec![Part::Pruned { digest: [1; 32], length: 5 }]);
        assert!(matches!(empty.read(&pruned), Err(ArchiveError::Pruned(_))));
    }
}
