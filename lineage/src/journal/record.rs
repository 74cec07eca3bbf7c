//! The contents of records.

use portcullis_wire::{Digest, Error, merkle, sha256};

use super::items::{Items, malformed};
use crate::put::{ARRAY, BYTES, UNSIGNED, put_head, put_string, put_text_or_null};

/// The first record of a segment: the signed state from which the tree continues.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    /// Size of the tree before the segment.
    pub(crate) first: u64,
    /// Its checkpoint; none before the first entry.
    pub(crate) checkpoint: Option<String>,
    /// Its edge: hashes of the partial tile of each level.
    pub(crate) edge: Vec<Vec<u8>>,
}

/// A batch as a journal has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArchivedBatch {
    /// Position of the first entry in the log: size of the tree before the batch.
    pub first: u64,
    /// The signed checkpoint of the tree before it; none before the first entry.
    pub checkpoint: Option<String>,
    /// The entries, in order.
    pub entries: Vec<ArchivedEntry>,
}

/// A statement with the blobs that it names by digest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArchivedEntry {
    /// The signed statement.
    pub statement: Vec<u8>,
    /// The blobs, in the order in which they were archived.
    pub blobs: Vec<StoredBlob>,
    /// Hash of the statement in the tree.
    pub(crate) leaf: Digest,
}

/// A blob as the journal stores it: in parts, some of which are in other files.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoredBlob(pub Vec<Part>);

/// A part of a blob.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// Its bytes.
    Here(Vec<u8>),
    /// A file of the archive, which other blobs share.
    Shared {
        /// SHA-256 of the file.
        digest: Digest,
        /// Its length in bytes.
        length: u64,
    },
    /// Removed when its retention time ended.
    Pruned {
        /// SHA-256 of the removed bytes.
        digest: Digest,
        /// Its length in bytes.
        length: u64,
    },
}

const SHARED: u64 = 0;
const PRUNED: u64 = 1;

impl Header {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        put_head(&mut out, ARRAY, 3);
        put_head(&mut out, UNSIGNED, self.first);
        put_text_or_null(&mut out, self.checkpoint.as_deref());
        put_head(&mut out, ARRAY, self.edge.len() as u64);
        self.edge.iter().for_each(|tile| put_string(&mut out, BYTES, tile));
        out
    }

    pub(crate) fn decode(body: &[u8]) -> Result<Self, Error> {
        let mut items = Items(body);
        items.head(ARRAY, Some(3))?;
        let header = Self {
            first: items.head(UNSIGNED, None)?,
            checkpoint: items.text_or_null()?,
            edge: items.array(|items| items.string(BYTES))?,
        };
        items.finish().map(|()| header)
    }
}

impl ArchivedBatch {
    /// Appends the body of the record.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        self.put(out, |entry| &entry.statement);
    }

    /// SHA-256 over the body with the hash of every statement in its place: a statement is
    /// hashed once for tree and journal.
    pub(crate) fn sum(&self) -> Digest {
        let mut summary = Vec::new();
        self.put(&mut summary, |entry| &entry.leaf);
        sha256(&[&summary])
    }

    fn put(&self, out: &mut Vec<u8>, statement: impl Fn(&ArchivedEntry) -> &[u8]) {
        let here = |part: &Part| if let Part::Here(bytes) = part { bytes.len() } else { 48 };
        let length = |entry: &ArchivedEntry| {
            let blobs: usize = entry.blobs.iter().flat_map(|blob| &blob.0).map(here).sum();
            statement(entry).len().saturating_add(blobs).saturating_add(64)
        };
        out.reserve(self.entries.iter().map(length).sum::<usize>().saturating_add(1024));
        put_head(out, ARRAY, 3);
        put_head(out, UNSIGNED, self.first);
        put_text_or_null(out, self.checkpoint.as_deref());
        put_head(out, ARRAY, self.entries.len() as u64);
        for entry in &self.entries {
            put_head(out, ARRAY, 2);
            put_string(out, BYTES, statement(entry));
            put_head(out, ARRAY, entry.blobs.len() as u64);
            for StoredBlob(parts) in &entry.blobs {
                put_head(out, ARRAY, parts.len() as u64);
                parts.iter().for_each(|part| part.put(out));
            }
        }
    }

    pub(crate) fn decode(body: &[u8]) -> Result<Self, Error> {
        let mut items = Items(body);
        items.head(ARRAY, Some(3))?;
        let batch = Self {
            first: items.head(UNSIGNED, None)?,
            checkpoint: items.text_or_null()?,
            entries: items.array(|items| {
                items.head(ARRAY, Some(2))?;
                let statement = items.string(BYTES)?;
                let blobs = items.array(|items| items.array(Part::take).map(StoredBlob))?;
                Ok(ArchivedEntry::new(statement, blobs))
            })?,
        };
        items.finish()?;
        if batch.entries.is_empty() { Err(malformed()) } else { Ok(batch) }
    }
}

impl ArchivedEntry {
    pub(crate) fn new(statement: Vec<u8>, blobs: Vec<StoredBlob>) -> Self {
        Self { leaf: merkle::leaf_hash(&statement), statement, blobs }
    }
}

impl Part {
    fn put(&self, out: &mut Vec<u8>) {
        let (digest, length, what) = match self {
            Self::Here(bytes) => return put_string(out, BYTES, bytes),
            Self::Shared { digest, length } => (digest, *length, SHARED),
            Self::Pruned { digest, length } => (digest, *length, PRUNED),
        };
        put_head(out, ARRAY, 3);
        put_string(out, BYTES, digest);
        put_head(out, UNSIGNED, length);
        put_head(out, UNSIGNED, what);
    }

    fn take(items: &mut Items<'_>) -> Result<Self, Error> {
        if items.peek() == Some(BYTES) {
            return items.string(BYTES).map(Self::Here);
        }
        items.head(ARRAY, Some(3))?;
        let digest = items.string(BYTES)?.try_into().map_err(|_| malformed())?;
        let length = items.head(UNSIGNED, None)?;
        match items.head(UNSIGNED, None)? {
            SHARED => Ok(Self::Shared { digest, length }),
            PRUNED => Ok(Self::Pruned { digest, length }),
            _ => Err(malformed()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(length: usize) -> ArchivedBatch {
        let part = Part::Here(vec![2; length]);
        let shared = Part::Shared { digest: [3; 32], length: length as u64 };
        let pruned = Part::Pruned { digest: [4; 32], length: 1 };
        let blobs = vec![StoredBlob(vec![part, shared]), StoredBlob(vec![pruned]), StoredBlob::default()];
        let entry = ArchivedEntry::new(vec![1; length], blobs);
        ArchivedBatch { first: length as u64, checkpoint: Some("c".repeat(length)), entries: vec![entry; 3] }
    }

    fn encoded(length: usize) -> Vec<u8> {
        let mut body = Vec::new();
        batch(length).encode(&mut body);
        body
    }

    /// This reader accepts what the general one accepts of the same shape, and no other
    /// encoding.
    #[test]
    fn records_have_one_encoding() {
        for length in [0, 1, 23, 24, 255, 256, 65_535, 65_536] {
            let body = encoded(length);
            assert!(portcullis_wire::decode(&body, 1 << 24).is_ok());
            assert_eq!(ArchivedBatch::decode(&body), Ok(batch(length)));
        }
        let header = Header { first: 300, checkpoint: None, edge: vec![vec![1; 64], Vec::new()] };
        assert!(portcullis_wire::decode(&header.encode(), 1 << 24).is_ok());
        assert_eq!(Header::decode(&header.encode()), Ok(header));

        let sound = encoded(7);
        // The first index in two bytes where one does, a tag, an item too many,
        // and an array without a length.
        let long = [&sound[..1], &[0x18, 7], &sound[2..]].concat();
        let tagged = [&[0xc1][..], &sound].concat();
        let more = [&sound[..], &[0]].concat();
        let indefinite = [&[0x9f][..], &sound[1..], &[0xff]].concat();
        for bad in [long, tagged, more, indefinite, Vec::new(), vec![0x9b; 9], vec![0x83, 0, 0xf6, 0x9b, 255, 255]] {
            assert_eq!(ArchivedBatch::decode(&bad), Err(malformed()), "{bad:02x?}");
        }
        for cut in 0..sound.len() {
            assert_eq!(ArchivedBatch::decode(&sound[..cut]), Err(malformed()), "cut at {cut}");
        }
    }
}
