//! Audit bundles: one file with everything that an offline check needs.
//!
//! ```text
//! CBOR sequence (RFC 8742) of byte strings, each with one of
//! header = [ "portcullis/audit-bundle/1", checkpoint, selection, { name => document } ]
//! item   = [ 0, shared file ]
//!        | [ 1, index, statement with its receipt (394), [ blob, ... ] ]
//! blob   = [ part, ... ]    part = bytes | [ SHA-256, length, 0 shared / 1 pruned ]
//! ```
//!
//! A shared file precedes the first entry that refers to it. Every entry has a receipt
//! (RFC 9942) for the checkpoint's tree, so each entry can be verified alone.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::io::{self, Read, Seek, SeekFrom, Write};

use portcullis_wire::{Digest, Error, Sign1, Value, bstr, decode, encode, sha256};

use crate::archive::{Archive, ArchiveError};
use crate::checkpoint::{Checkpoint, CheckpointError, VerifyingKey};
use crate::journal::{ArchivedEntry, Part, StoredBlob};
use crate::reader::LogReader;
use crate::receipt::{RECEIPTS_LABEL, ReceiptError, ReceiptKey, verify_receipts};
use crate::tree::TreeError;

const LABEL: &str = "portcullis/audit-bundle/1";
const FILE: u64 = 0;
const ENTRY: u64 = 1;
/// Largest item, in bytes.
const MAX_ITEM: usize = 160 * 1024 * 1024;
/// Largest entry with its receipt, in bytes.
const MAX_STATEMENT: usize = 80 * 1024;

/// Why an audit bundle is not written or not read.
#[derive(Debug)]
pub enum ExportError {
    /// I/O errors.
    Io(io::Error),
    /// Not an audit bundle.
    Malformed(Error),
    /// The checkpoint does not verify.
    Checkpoint(CheckpointError),
    /// An entry has no receipt for the checkpoint's tree.
    Receipt {
        /// Position that the bundle says it has.
        index: u64,
        /// What is wrong with it.
        error: ReceiptError,
    },
    /// An entry is at another position, or in another tree.
    Place {
        /// Position that the bundle says it has.
        index: u64,
    },
    /// No receipt can be made.
    Tree(TreeError),
    /// Something is missing from the archive.
    Archive {
        /// Position of the entry.
        index: u64,
        /// What is wrong.
        error: ArchiveError,
    },
}

impl fmt::Display for ExportError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => error.fmt(f),
            Self::Malformed(error) => write!(f, "not an audit bundle: {error}"),
            Self::Checkpoint(error) => error.fmt(f),
            Self::Receipt { index, error } => write!(f, "entry {index}: {error}"),
            Self::Place { index } => write!(f, "entry {index}: its receipt is for another place or tree"),
            Self::Tree(error) => error.fmt(f),
            Self::Archive { index, error } => write!(f, "entry {index}: {error}"),
        }
    }
}

impl std::error::Error for ExportError {}

impl From<io::Error> for ExportError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<Error> for ExportError {
    fn from(error: Error) -> Self {
        Self::Malformed(error)
    }
}

/// Writes an audit bundle.
pub struct BundleWriter<'a, W> {
    out: W,
    log: &'a LogReader,
    written: HashSet<Digest>,
}

impl<'a, W: Write> BundleWriter<'a, W> {
    /// Writes the header: the head of the log, what was selected, and documents
    /// such as the governors' keys.
    ///
    /// # Errors
    /// I/O errors.
    pub fn start(
        mut out: W,
        log: &'a LogReader,
        selection: &str,
        documents: &BTreeMap<String, Vec<u8>>,
    ) -> Result<Self, ExportError> {
        let documents = documents.iter().map(|(name, bytes)| (name.as_str().into(), bstr(bytes))).collect();
        let note = log.checkpoint().note();
        let header = Value::Array(vec![LABEL.into(), note.into(), selection.into(), Value::Map(documents)]);
        write_item(&mut out, &header)?;
        Ok(Self { out, log, written: HashSet::new() })
    }

    /// Writes an entry, after the shared files that it is the first to refer to.
    ///
    /// # Errors
    /// [`ExportError`].
    pub fn entry(&mut self, index: u64, entry: &ArchivedEntry, archive: &mut Archive) -> Result<(), ExportError> {
        for part in entry.blobs.iter().flat_map(|blob| &blob.0) {
            if let Part::Shared { digest, .. } = part
                && self.written.insert(*digest)
            {
                let bytes = archive.shared(digest).map_err(|error| ExportError::Archive { index, error })?;
                write_item(&mut self.out, &Value::Array(vec![FILE.into(), bstr(bytes.as_slice())]))?;
            }
        }
        let receipts = self.log.receipts(index).map_err(ExportError::Tree)?;
        let statement = Sign1::parse(&entry.statement, MAX_STATEMENT)?;
        let statement = statement.with_unprotected(vec![(RECEIPTS_LABEL, receipts)]);
        let blobs = entry.blobs.iter().map(|blob| Value::Array(blob.0.iter().map(part_value).collect())).collect();
        let item = Value::Array(vec![ENTRY.into(), index.into(), bstr(statement), Value::Array(blobs)]);
        Ok(write_item(&mut self.out, &item)?)
    }

    /// Returns the inner writer.
    ///
    /// # Errors
    /// I/O errors.
    pub fn finish(mut self) -> Result<W, ExportError> {
        self.out.flush()?;
        Ok(self.out)
    }
}

/// One item of the sequence, in a byte string.
fn write_item(out: &mut impl Write, item: &Value) -> io::Result<()> {
    out.write_all(&encode(&bstr(encode(item))))
}

/// The next item with its length in the sequence; `None` at the end.
fn read_item(input: &mut impl Read) -> Result<Option<(Value, usize)>, ExportError> {
    let mut initial = [0];
    if input.read(&mut initial)? == 0 {
        return Ok(None);
    }
    let [initial] = initial;
    let width = match initial {
        // Byte strings of up to 23 bytes, and with 1, 2, 4, 8 bytes of length.
        0x40..=0x57 => 0,
        0x58..=0x5b => 1_usize << (initial & 3),
        _ => return Err(Error::Shape("a byte string with an item").into()),
    };
    let mut bytes = [0; 8];
    let (_, used) = bytes.split_at_mut(8_usize.saturating_sub(width));
    input.read_exact(used)?;
    let length = if width == 0 { u64::from(initial & 0x1f) } else { u64::from_be_bytes(bytes) };
    let length = usize::try_from(length).ok().filter(|length| *length <= MAX_ITEM);
    let length = length.ok_or(Error::TooLong { found: usize::MAX, limit: MAX_ITEM })?;
    let mut item = Vec::new();
    input.take(length as u64).read_to_end(&mut item)?;
    if item.len() < length {
        return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
    }
    let total = length.saturating_add(width).saturating_add(1);
    Ok(Some((decode(&item, MAX_ITEM)?, total)))
}

fn part_value(part: &Part) -> Value {
    match part {
        Part::Here(bytes) => bstr(bytes),
        Part::Shared { digest, length } => Value::Array(vec![bstr(digest), (*length).into(), 0.into()]),
        Part::Pruned { digest, length } => Value::Array(vec![bstr(digest), (*length).into(), 1.into()]),
    }
}

fn read_part(value: Value) -> Result<Part, Error> {
    let wrong = || Error::Shape("a part of a blob");
    if let Value::Bytes(bytes) = value {
        return Ok(Part::Here(bytes));
    }
    let items = value.into_array().ok().and_then(|items| <[Value; 3]>::try_from(items).ok());
    let Some([Value::Bytes(digest), Value::Integer(length), kind]) = items else { return Err(wrong()) };
    let digest = digest.try_into().map_err(|_| wrong())?;
    let length = u64::try_from(length).map_err(|_| wrong())?;
    match kind.into_integer().ok().and_then(|kind| u64::try_from(kind).ok()) {
        Some(0) => Ok(Part::Shared { digest, length }),
        Some(1) => Ok(Part::Pruned { digest, length }),
        _ => Err(wrong()),
    }
}

/// Reads an audit bundle. Every entry that it returns is in the log.
pub struct BundleReader<R> {
    input: R,
    checkpoint: Checkpoint,
    selection: String,
    documents: BTreeMap<String, Vec<u8>>,
    receipt_key: ReceiptKey,
    /// Where shared files are in the bundle.
    files: HashMap<Digest, (u64, usize)>,
    position: u64,
}

/// The documents of a bundle, without verification: they name the keys to verify it
/// with.
///
/// # Errors
/// [`ExportError`].
pub fn bundle_documents(input: &mut impl Read) -> Result<BTreeMap<String, Vec<u8>>, ExportError> {
    Ok(header(input)?.0.2)
}

type Header = (String, String, BTreeMap<String, Vec<u8>>);

fn header(input: &mut impl Read) -> Result<(Header, usize), ExportError> {
    let wrong = || Error::Shape("the header of an audit bundle");
    let (value, length) = read_item(input)?.ok_or_else(wrong)?;
    let items = value.into_array().ok().and_then(|items| <[Value; 4]>::try_from(items).ok());
    let Some([label, Value::Text(note), Value::Text(selection), Value::Map(entries)]) = items else {
        return Err(wrong().into());
    };
    if label != LABEL.into() {
        return Err(wrong().into());
    }
    let mut documents = BTreeMap::new();
    for (name, bytes) in entries {
        let (Value::Text(name), Value::Bytes(bytes)) = (name, bytes) else { return Err(wrong().into()) };
        documents.insert(name, bytes);
    }
    Ok(((note, selection, documents), length))
}

impl<R: Read + Seek> BundleReader<R> {
    /// Reads the header and verifies the checkpoint.
    ///
    /// # Errors
    /// [`ExportError`].
    pub fn open(mut input: R, checkpoint_key: &VerifyingKey, receipt_key: &ReceiptKey) -> Result<Self, ExportError> {
        let ((note, selection, documents), length) = header(&mut input)?;
        let checkpoint = Checkpoint::verify(&note, checkpoint_key).map_err(ExportError::Checkpoint)?;
        let (receipt_key, files, position) = (receipt_key.clone(), HashMap::new(), length as u64);
        Ok(Self { input, checkpoint, selection, documents, receipt_key, files, position })
    }

    /// The head of the log when it was exported.
    pub const fn checkpoint(&self) -> &Checkpoint {
        &self.checkpoint
    }

    /// What was selected.
    pub fn selection(&self) -> &str {
        &self.selection
    }

    /// The documents in the bundle.
    pub const fn documents(&self) -> &BTreeMap<String, Vec<u8>> {
        &self.documents
    }

    /// The next entry with its position; `None` at the end.
    ///
    /// # Errors
    /// [`ExportError`].
    pub fn next_entry(&mut self) -> Result<Option<(u64, ArchivedEntry)>, ExportError> {
        loop {
            let Some((value, length)) = read_item(&mut self.input)? else { return Ok(None) };
            let start = self.position;
            self.position = start.saturating_add(length as u64);
            let mut items = value.into_array().map_err(|_| Error::Shape("an item of an audit bundle"))?.into_iter();
            let parts = [items.next(), items.next(), items.next(), items.next(), items.next()];
            match parts {
                [Some(kind), Some(Value::Bytes(file)), None, None, None] if kind == FILE.into() => {
                    self.files.insert(sha256(&[&file]), (start, length));
                }
                [
                    Some(kind),
                    Some(Value::Integer(index)),
                    Some(Value::Bytes(statement)),
                    Some(Value::Array(blobs)),
                    None,
                ] if kind == ENTRY.into() => {
                    let index = u64::try_from(index).map_err(|_| Error::Shape("a position"))?;
                    return self.entry(index, &statement, blobs).map(Some);
                }
                _ => return Err(Error::Shape("an item of an audit bundle").into()),
            }
        }
    }

    fn entry(&self, index: u64, statement: &[u8], blobs: Vec<Value>) -> Result<(u64, ArchivedEntry), ExportError> {
        let object = Sign1::parse(statement, MAX_STATEMENT)?;
        let statement = object.signed_part();
        let place = verify_receipts(object.unprotected(RECEIPTS_LABEL), &statement, &self.receipt_key, None)
            .map_err(|error| ExportError::Receipt { index, error })?;
        let head = (self.checkpoint.size(), self.checkpoint.root());
        if place.index() != index || (place.size(), place.root()) != head {
            return Err(ExportError::Place { index });
        }
        let mut stored = Vec::new();
        for blob in blobs {
            let parts = blob.into_array().map_err(|_| Error::Shape("a blob"))?;
            stored.push(StoredBlob(parts.into_iter().map(read_part).collect::<Result<_, _>>()?));
        }
        Ok((index, ArchivedEntry::new(statement, stored)))
    }

    /// Joins the parts of a blob. The caller compares its digest with the signed statement.
    ///
    /// # Errors
    /// [`ArchiveError`].
    pub fn blob(&mut self, blob: &StoredBlob) -> Result<Vec<u8>, ArchiveError> {
        let mut whole = Vec::new();
        for part in &blob.0 {
            match part {
                Part::Here(bytes) => whole.extend_from_slice(bytes),
                Part::Shared { digest, .. } => whole.extend_from_slice(&self.file(digest)?),
                Part::Pruned { digest, .. } => return Err(ArchiveError::Pruned(*digest)),
            }
        }
        Ok(whole)
    }

    fn file(&mut self, digest: &Digest) -> Result<Vec<u8>, ArchiveError> {
        let (start, _) = *self.files.get(digest).ok_or(ArchiveError::Missing(*digest))?;
        let back = self.input.stream_position().map_err(ArchiveError::Storage)?;
        self.input.seek(SeekFrom::Start(start)).map_err(ArchiveError::Storage)?;
        let read = read_item(&mut self.input).map_err(|_| ArchiveError::Altered(*digest))?;
        self.input.seek(SeekFrom::Start(back)).map_err(ArchiveError::Storage)?;
        let items = read.and_then(|(value, _)| value.into_array().ok()).unwrap_or_default();
        match items.into_iter().nth(1) {
            Some(Value::Bytes(bytes)) if sha256(&[&bytes]) == *digest => Ok(bytes),
            _ => Err(ArchiveError::Altered(*digest)),
        }
    }
}
