//! Records of the journal: one batch each, whole or not there.
//!
//! ```text
//! "PCJ1" | length of body, u32 big-endian | SHA-256(body) | body
//! body = det-CBOR [ first index, [entry, ...], [archived blob, ...], checkpoint ]
//! ```
//!
//! A crash while a record is written leaves a tail that is too short or whose
//! checksum fails; since nobody was answered for it, it is cut off. Damage
//! anywhere before the tail is not repaired: the log does not open.

use std::fmt;
use std::io::{self, Read};

use portcullis_wire::{Digest, Error, Value, encode, sha256};

const MAGIC: &[u8; 4] = b"PCJ1";
const HEADER: usize = 40;
/// Largest record, in bytes.
const MAX_RECORD: usize = 256 * 1024 * 1024;

/// Why a journal was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JournalError {
    /// A record in the middle is damaged: bit rot, or an edit.
    Damaged {
        /// Offset of the record in bytes.
        offset: usize,
    },
    /// A record with a sound checksum that is no batch.
    Malformed(Error),
}

impl fmt::Display for JournalError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Damaged { offset } => write!(f, "journal is damaged at byte {offset}"),
            Self::Malformed(error) => write!(f, "journal record is malformed: {error}"),
        }
    }
}

impl std::error::Error for JournalError {}

/// One batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) first: u64,
    pub(crate) entries: Vec<Vec<u8>>,
    pub(crate) blobs: Vec<Vec<u8>>,
    pub(crate) checkpoint: String,
}

impl Record {
    /// Consumes the record: its entries and blobs are moved, not copied.
    pub(crate) fn encode(self) -> Vec<u8> {
        let list = |items: Vec<Vec<u8>>| Value::Array(items.into_iter().map(Value::Bytes).collect());
        let body = encode(&Value::Array(vec![
            self.first.into(),
            list(self.entries),
            list(self.blobs),
            self.checkpoint.into(),
        ]));
        let mut record = Vec::with_capacity(body.len().saturating_add(HEADER));
        record.extend_from_slice(MAGIC);
        record.extend_from_slice(&u32::try_from(body.len()).unwrap_or(u32::MAX).to_be_bytes());
        record.extend_from_slice(&sha256(&[&body]));
        record.extend_from_slice(&body);
        record
    }

    /// Reads a body item by item: records are megabytes of byte strings, of which
    /// a general reader would make several copies.
    fn decode(body: &[u8]) -> Result<Self, Error> {
        let mut items = Items(body);
        items.head(ARRAY, Some(4))?;
        let record = Self {
            first: items.head(UNSIGNED, None)?,
            entries: items.strings()?,
            blobs: items.strings()?,
            checkpoint: String::from_utf8(items.string(TEXT)?).map_err(|_| malformed())?,
        };
        if items.0.is_empty() { Ok(record) } else { Err(malformed()) }
    }
}

/// Major types (RFC 8949, §3.1).
const UNSIGNED: u8 = 0;
const BYTES: u8 = 2;
const TEXT: u8 = 3;
const ARRAY: u8 = 4;

fn malformed() -> Error {
    Error::Shape("a journal record")
}

/// What is left of a record.
struct Items<'a>(&'a [u8]);

impl<'a> Items<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8], Error> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or_else(malformed)?;
        self.0 = rest;
        Ok(taken)
    }

    /// The head of an item of a type: its argument, in its shortest form.
    fn head(&mut self, major: u8, required: Option<u64>) -> Result<u64, Error> {
        let [initial] = *self.take(1)? else { return Err(malformed()) };
        let (additional, width) = match initial & 0x1f {
            small @ 0..24 => (u64::from(small), 0),
            24 => (0, 1),
            25 => (0, 2),
            26 => (0, 4),
            27 => (0, 8),
            _ => return Err(malformed()),
        };
        let bytes = self.take(width)?;
        let argument = bytes.iter().fold(additional, |value, byte| value << 8 | u64::from(*byte));
        let shortest = match width {
            0 => true,
            1 => argument >= 24,
            width => argument >> (width.saturating_mul(4)) != 0,
        };
        let fits = initial >> 5 == major && shortest && required.is_none_or(|required| required == argument);
        if fits { Ok(argument) } else { Err(malformed()) }
    }

    fn string(&mut self, major: u8) -> Result<Vec<u8>, Error> {
        let length = usize::try_from(self.head(major, None)?).map_err(|_| malformed())?;
        self.take(length).map(<[u8]>::to_vec)
    }

    fn strings(&mut self) -> Result<Vec<Vec<u8>>, Error> {
        let count = self.head(ARRAY, None)?;
        (0..count).map(|_| self.string(BYTES)).collect()
    }
}

/// Length and SHA-256 of the body that follows; `None` for what is no header.
fn split_header(header: &[u8; HEADER]) -> Option<(usize, Digest)> {
    let [m0, m1, m2, m3, l0, l1, l2, l3, sum @ ..] = *header;
    let length = u32::from_be_bytes([l0, l1, l2, l3]) as usize;
    ([m0, m1, m2, m3] == *MAGIC).then_some((length, sum))
}

/// The records of a journal, and the length up to which it is sound.
pub(crate) fn read(bytes: &[u8]) -> Result<(Vec<Record>, usize), JournalError> {
    let (mut records, mut offset) = (Vec::new(), 0_usize);
    while let Some((header, rest)) = bytes.get(offset..).unwrap_or_default().split_first_chunk::<HEADER>() {
        let Some((length, sum)) = split_header(header) else {
            return torn_or_damaged(records, bytes, offset);
        };
        let Some((body, after)) = rest.split_at_checked(length) else {
            return torn_or_damaged(records, bytes, offset);
        };
        if sha256(&[body]) != sum {
            // A bad checksum with sound records behind it is damage, not a crash.
            return if after.is_empty() { Ok((records, offset)) } else { Err(JournalError::Damaged { offset }) };
        }
        records.push(Record::decode(body).map_err(JournalError::Malformed)?);
        offset = bytes.len().saturating_sub(after.len());
    }
    Ok((records, offset))
}

/// A record that cannot be delimited is a torn tail, unless another record's
/// magic follows: then something before it was damaged.
fn torn_or_damaged(records: Vec<Record>, bytes: &[u8], offset: usize) -> Result<(Vec<Record>, usize), JournalError> {
    let tail = bytes.get(offset.saturating_add(1)..).unwrap_or_default();
    let sound_record_follows = tail.windows(HEADER).enumerate().any(|(at, window)| {
        let header = window.first_chunk().and_then(split_header);
        header.is_some_and(|(length, sum)| {
            let from = offset.saturating_add(1).saturating_add(at);
            let rest = bytes.get(from.saturating_add(HEADER)..).unwrap_or_default();
            rest.get(..length).is_some_and(|body| sha256(&[body]) == sum)
        })
    });
    if sound_record_follows { Err(JournalError::Damaged { offset }) } else { Ok((records, offset)) }
}

/// A batch as an archive has it: its entries, in order, and the blobs that they
/// refer to, in the order of the entries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArchivedBatch {
    /// Position of the first entry in the log.
    pub first: u64,
    /// The statements.
    pub entries: Vec<Vec<u8>>,
    /// What they refer to by digest.
    pub blobs: Vec<Vec<u8>>,
}

/// Reads a journal batch by batch, with the memory of one. Checksums are
/// verified, signatures are not; a torn tail ends it.
pub struct ArchiveReader<R> {
    reader: R,
    offset: u64,
}

impl<R: Read> ArchiveReader<R> {
    /// Reads from the beginning of a journal.
    pub const fn new(reader: R) -> Self {
        Self { reader, offset: 0 }
    }

    /// Bytes that were read.
    #[must_use]
    pub const fn position(&self) -> u64 {
        self.offset
    }

    /// The next batch; `None` at the end, or before a record that was never
    /// finished.
    ///
    /// # Errors
    /// I/O errors; a damaged record is `InvalidData`.
    pub fn next_batch(&mut self) -> io::Result<Option<ArchivedBatch>> {
        let damaged = |error: JournalError| io::Error::new(io::ErrorKind::InvalidData, error);
        let mut header = [0; HEADER];
        if !fill(&mut self.reader, &mut header)? {
            return Ok(None);
        }
        let offset = usize::try_from(self.offset).unwrap_or(usize::MAX);
        let header = split_header(&header).filter(|(length, _)| *length <= MAX_RECORD);
        let (length, sum) = header.ok_or_else(|| damaged(JournalError::Damaged { offset }))?;
        let mut body = Vec::new();
        self.reader.by_ref().take(length as u64).read_to_end(&mut body)?;
        if body.len() < length {
            return Ok(None);
        }
        if sha256(&[&body]) != sum {
            return Err(damaged(JournalError::Damaged { offset }));
        }
        let Record { first, entries, blobs, .. } =
            Record::decode(&body).map_err(|error| damaged(JournalError::Malformed(error)))?;
        self.offset = self.offset.saturating_add(HEADER.saturating_add(length) as u64);
        Ok(Some(ArchivedBatch { first, entries, blobs }))
    }
}

/// Fills a buffer; `false` where the input ends first.
fn fill(reader: &mut impl Read, buffer: &mut [u8]) -> io::Result<bool> {
    match reader.read_exact(buffer) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}

/// The archive in a journal: every blob that a statement refers to by digest.
///
/// # Errors
/// [`JournalError`].
pub fn archived(journal: &[u8]) -> Result<Vec<Vec<u8>>, JournalError> {
    Ok(read(journal)?.0.into_iter().flat_map(|record| record.blobs).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(n: u8) -> Record {
        Record { first: u64::from(n), entries: vec![vec![n; 9]], blobs: vec![vec![n; 5]], checkpoint: "c".into() }
    }

    /// The reader above takes what the general one takes of the same shape, and
    /// no other encoding of it.
    #[test]
    fn records_have_one_encoding() {
        for length in [0, 1, 23, 24, 255, 256, 65_535, 65_536] {
            let record = Record {
                first: length as u64,
                entries: vec![vec![1; length]; 3],
                blobs: vec![vec![2; length]; 30],
                checkpoint: "c".repeat(length),
            };
            let encoded = record.clone().encode();
            let body = &encoded[HEADER..];
            assert!(portcullis_wire::decode(body, MAX_RECORD).is_ok());
            assert_eq!(Record::decode(body), Ok(record));
        }
        let sound = record(7).encode()[HEADER..].to_vec();
        // The first index in two bytes where one does, a tag, an item too many,
        // and an array without a length.
        let long = [&sound[..1], &[0x18, 7], &sound[2..]].concat();
        let tagged = [&[0xc1][..], &sound].concat();
        let more = [&sound[..], &[0]].concat();
        let indefinite = [&[0x9f][..], &sound[1..], &[0xff]].concat();
        for bad in [long, tagged, more, indefinite, Vec::new(), vec![0x9b; 9], vec![0x84, 0, 0x9b, 255, 255, 255]] {
            assert_eq!(Record::decode(&bad), Err(malformed()), "{bad:02x?}");
        }
        for cut in 0..sound.len() {
            assert_eq!(Record::decode(&sound[..cut]), Err(malformed()), "cut at {cut}");
        }
    }

    #[test]
    fn a_torn_tail_is_cut_and_damage_is_not() {
        let (one, two) = (record(1).encode(), record(2).encode());
        let whole = [one.clone(), two.clone()].concat();
        for cut in one.len()..whole.len() {
            assert_eq!(read(&whole[..cut]), Ok((vec![record(1)], one.len())), "cut at {cut}");
        }
        assert_eq!(read(&whole), Ok((vec![record(1), record(2)], whole.len())));
        for at in 0..one.len() {
            let mut bad = whole.clone();
            bad[at] ^= 1;
            assert_eq!(read(&bad), Err(JournalError::Damaged { offset: 0 }), "flip at {at}");
        }
        assert_eq!(archived(&whole).unwrap().len(), 2);

        let read_all = |bytes: &[u8]| {
            let mut reader = ArchiveReader::new(bytes);
            let mut batches = Vec::new();
            while let Some(batch) = reader.next_batch().map_err(|error| error.kind())? {
                batches.push(batch.first);
            }
            Ok::<_, io::ErrorKind>((batches, reader.position()))
        };
        assert_eq!(read_all(&whole), Ok((vec![1, 2], whole.len() as u64)));
        assert_eq!(read_all(&whole[..whole.len() - 1]), Ok((vec![1], one.len() as u64)));
        let mut bad = whole.clone();
        bad[one.len() - 1] ^= 1;
        assert_eq!(read_all(&bad), Err(io::ErrorKind::InvalidData));
    }
}
