//! Reads segments record by record, with the memory of one record.

use std::io::{self, Read};
use std::sync::Arc;

use aws_lc_rs::hmac;
use portcullis_wire::{Digest, sha256};

use super::{ArchivedBatch, Header, JournalError};
use crate::archive::Archive;
use crate::storage::Storage;

const HEADER: &[u8; 4] = b"PCH2";
const BATCH: &[u8; 4] = b"PCB3";
/// Bytes before a body: magic, length, digest, MAC.
const FRAME: usize = 72;
/// Largest body, in bytes.
const MAX_BODY: usize = 256 * 1024 * 1024;

/// Marks records as written by this log.
pub(crate) struct Mac(hmac::Key);

impl Mac {
    pub(crate) fn new(secret: &[u8]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, secret))
    }

    pub(crate) fn header(&self, header: &Header) -> Vec<u8> {
        let (body, mut record) = (header.encode(), Vec::new());
        self.frame(&mut record, *HEADER, &sha256(&[&body]), |record| record.extend_from_slice(&body));
        record
    }

    /// Puts the record of a batch in place of what `record` had.
    pub(crate) fn batch(&self, batch: &ArchivedBatch, record: &mut Vec<u8>) {
        self.frame(record, *BATCH, &batch.sum(), |record| batch.encode(record));
    }

    fn frame(&self, record: &mut Vec<u8>, magic: [u8; 4], sum: &Digest, put_body: impl FnOnce(&mut Vec<u8>)) {
        record.clear();
        record.resize(FRAME, 0);
        put_body(record);
        let length = u32::try_from(record.len().saturating_sub(FRAME)).unwrap_or(u32::MAX);
        let mac = hmac::sign(&self.0, &marked(magic, sum));
        let frame = [&magic[..], &length.to_be_bytes(), sum, mac.as_ref()].concat();
        record.iter_mut().zip(frame).for_each(|(to, from)| *to = from);
    }

    fn is_own(&self, frame: &Frame) -> bool {
        hmac::verify(&self.0, &marked(frame.magic, &frame.sum), &frame.mac).is_ok()
    }
}

fn marked(magic: [u8; 4], sum: &Digest) -> Vec<u8> {
    [&magic[..], sum].concat()
}

struct Frame {
    magic: [u8; 4],
    length: usize,
    sum: Digest,
    mac: [u8; 32],
}

impl Frame {
    fn read(bytes: &[u8]) -> Option<Self> {
        let (magic, rest) = bytes.split_first_chunk::<4>()?;
        let (length, rest) = rest.split_first_chunk::<4>()?;
        let (sum, rest) = rest.split_first_chunk::<32>()?;
        let (mac, _) = rest.split_first_chunk::<32>()?;
        let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
        let known = magic == HEADER || magic == BATCH;
        (known && length <= MAX_BODY).then_some(Self { magic: *magic, length, sum: *sum, mac: *mac })
    }
}

/// The contents of a record.
enum Record {
    Header(Header),
    Batch(ArchivedBatch),
}

impl Record {
    /// Reads a body; `None` if its digest differs from the frame's, or if it is malformed.
    fn read(frame: &Frame, body: &[u8]) -> Option<Self> {
        match &frame.magic {
            HEADER if sha256(&[body]) == frame.sum => Header::decode(body).ok().map(Self::Header),
            BATCH => ArchivedBatch::decode(body).ok().filter(|batch| batch.sum() == frame.sum).map(Self::Batch),
            _ => None,
        }
    }
}

/// One segment. A torn tail ends the newest one; anything else that is not
/// sound is an error.
pub(crate) struct SegmentReader<'a> {
    reader: Box<dyn Read + Send>,
    first: u64,
    newest: bool,
    mac: Option<&'a Mac>,
    offset: u64,
}

impl<'a> SegmentReader<'a> {
    /// With the MAC, records that the log did not write are refused too.
    pub(crate) fn open(
        storage: &dyn Storage,
        first: u64,
        newest: bool,
        mac: Option<&'a Mac>,
    ) -> Result<(Self, Header), JournalError> {
        let reader = Box::new(io::BufReader::with_capacity(1 << 20, storage.open_segment(first)?));
        let mut segment = Self { reader, first, newest: false, mac, offset: 0 };
        // A segment is put in place whole: its header is never torn.
        let damaged = JournalError::Damaged { segment: first, offset: 0 };
        let Some(Record::Header(header)) = segment.record()? else { return Err(damaged) };
        segment.newest = newest;
        if header.first != first {
            return Err(JournalError::Gap { found: header.first, required: first });
        }
        Ok((segment, header))
    }

    /// Bytes of sound records that were read.
    pub(crate) const fn position(&self) -> u64 {
        self.offset
    }

    pub(crate) fn next_batch(&mut self) -> Result<Option<ArchivedBatch>, JournalError> {
        match self.record()? {
            None => Ok(None),
            Some(Record::Batch(batch)) => Ok(Some(batch)),
            Some(Record::Header(_)) => Err(self.damaged()),
        }
    }

    const fn damaged(&self) -> JournalError {
        JournalError::Damaged { segment: self.first, offset: self.offset }
    }

    fn record(&mut self) -> Result<Option<Record>, JournalError> {
        let mut head = Vec::with_capacity(FRAME);
        self.reader.by_ref().take(FRAME as u64).read_to_end(&mut head)?;
        if head.is_empty() {
            return Ok(None);
        }
        let mut body = Vec::new();
        let frame = Frame::read(&head);
        if let Some(frame) = &frame {
            body.reserve_exact(frame.length.min(1 << 24));
            self.reader.by_ref().take(frame.length as u64).read_to_end(&mut body)?;
        }
        let whole = frame.filter(|frame| body.len() == frame.length);
        let Some((record, frame)) = whole.and_then(|frame| Some((Record::read(&frame, &body)?, frame))) else {
            return if self.newest && !self.sound_record_follows(head, body)? { Ok(None) } else { Err(self.damaged()) };
        };
        if self.mac.is_some_and(|mac| !mac.is_own(&frame)) {
            return Err(JournalError::Foreign { segment: self.first, offset: self.offset });
        }
        self.offset = self.offset.saturating_add(FRAME.saturating_add(frame.length) as u64);
        Ok(Some(record))
    }

    /// A torn record has nothing sound behind it. If something sound follows, the record is
    /// damaged.
    fn sound_record_follows(&mut self, head: Vec<u8>, body: Vec<u8>) -> io::Result<bool> {
        let mut tail = [head, body].concat();
        self.reader.by_ref().take(MAX_BODY as u64).read_to_end(&mut tail)?;
        let starts = tail.windows(4).enumerate().skip(1).filter(|(_, magic)| *magic == BATCH);
        Ok(starts.into_iter().any(|(at, _)| {
            let rest = tail.get(at..).unwrap_or_default();
            let (frame, body) = (Frame::read(rest), rest.get(FRAME..).unwrap_or_default());
            frame.is_some_and(|frame| body.get(..frame.length).is_some_and(|body| Record::read(&frame, body).is_some()))
        }))
    }
}

/// The segments of a journal from a position on, in order.
pub(crate) struct Segments<'a> {
    storage: Arc<dyn Storage>,
    mac: Option<&'a Mac>,
    ahead: std::vec::IntoIter<u64>,
    current: Option<SegmentReader<'a>>,
    /// Bytes of the segments that were read to their end, and of the last of them.
    read: u64,
    last: u64,
}

/// The next part of a journal.
pub(crate) enum Step {
    /// Another segment begins.
    Segment(Header),
    /// A batch.
    Batch(ArchivedBatch),
}

impl<'a> Segments<'a> {
    /// Starts at the segment that holds `entry`; its first batch may start before the
    /// entry.
    pub(crate) fn from(storage: Arc<dyn Storage>, entry: u64, mac: Option<&'a Mac>) -> Result<Self, JournalError> {
        let mut all = storage.segments()?;
        drop(all.drain(..all.partition_point(|first| *first <= entry).saturating_sub(1)));
        Ok(Self { storage, mac, ahead: all.into_iter(), current: None, read: 0, last: 0 })
    }

    /// Bytes read.
    pub(crate) fn position(&self) -> u64 {
        self.read.saturating_add(self.current.as_ref().map_or(0, SegmentReader::position))
    }

    /// Bytes of sound records in the last segment read.
    pub(crate) const fn last(&self) -> u64 {
        self.last
    }

    pub(crate) fn next(&mut self) -> Result<Option<Step>, JournalError> {
        if let Some(segment) = &mut self.current {
            if let Some(batch) = segment.next_batch()? {
                return Ok(Some(Step::Batch(batch)));
            }
            self.last = segment.position();
            self.read = self.read.saturating_add(self.last);
            self.current = None;
        }
        let Some(first) = self.ahead.next() else { return Ok(None) };
        let newest = self.ahead.as_slice().is_empty();
        let (segment, header) = SegmentReader::open(&*self.storage, first, newest, self.mac)?;
        self.current = Some(segment);
        Ok(Some(Step::Segment(header)))
    }
}

/// Reads a journal batch by batch, with the memory of one. Digests of records
/// are verified, signatures are not; a torn tail ends it.
pub struct ArchiveReader {
    segments: Segments<'static>,
    archive: Archive,
    /// Where the next batch must start; `None` before the first.
    next: Option<u64>,
}

impl ArchiveReader {
    /// Reads from the segment that holds an entry: the first batch may start
    /// before it.
    ///
    /// # Errors
    /// [`JournalError::Storage`].
    pub fn open(storage: Arc<dyn Storage>, entry: u64) -> Result<Self, JournalError> {
        let archive = Archive::new(Arc::clone(&storage));
        Ok(Self { segments: Segments::from(storage, entry, None)?, archive, next: None })
    }

    /// Bytes read.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.segments.position()
    }

    /// The blobs of the archive.
    pub const fn archive(&mut self) -> &mut Archive {
        &mut self.archive
    }

    /// The next batch; `None` at the end, or before an unfinished record.
    ///
    /// # Errors
    /// [`JournalError`].
    pub fn next_batch(&mut self) -> Result<Option<ArchivedBatch>, JournalError> {
        loop {
            let step = self.segments.next()?;
            let found = match &step {
                None => return Ok(None),
                Some(Step::Segment(header)) => header.first,
                Some(Step::Batch(batch)) => batch.first,
            };
            let required = *self.next.get_or_insert(found);
            if found != required {
                return Err(JournalError::Gap { found, required });
            }
            if let Some(Step::Batch(batch)) = step {
                self.next = Some(found.saturating_add(batch.entries.len() as u64));
                return Ok(Some(batch));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::{ArchivedEntry, Part, StoredBlob};
    use crate::storage::MemoryStorage;

    fn batch(first: u64) -> ArchivedBatch {
        let blob = StoredBlob(vec![Part::Here(vec![1; 5])]);
        let entry = ArchivedEntry::new(vec![7; 9], vec![blob]);
        ArchivedBatch { first, checkpoint: None, entries: vec![entry] }
    }

    fn read(bytes: &[u8], mac: Option<&Mac>) -> Result<(Vec<u64>, u64), String> {
        let storage = MemoryStorage::new();
        storage.put_segment(0, bytes).unwrap();
        let open = SegmentReader::open(&storage, 0, true, mac).map_err(|error| error.to_string())?;
        let mut segment = open.0;
        let mut found = Vec::new();
        while let Some(batch) = segment.next_batch().map_err(|error| error.to_string())? {
            found.push(batch.first);
        }
        Ok((found, segment.position()))
    }

    #[test]
    fn a_torn_tail_is_cut_and_damage_is_not() {
        let mac = Mac::new(&[1; 32]);
        let header = mac.header(&Header { first: 0, checkpoint: None, edge: Vec::new() });
        let record = |mac: &Mac, first| {
            let mut record = Vec::new();
            mac.batch(&batch(first), &mut record);
            record
        };
        let (one, two) = (record(&mac, 0), record(&mac, 1));
        let sound = header.len() + one.len();
        let whole = [header.clone(), one, two].concat();
        assert_eq!(read(&whole, Some(&mac)), Ok((vec![0, 1], whole.len() as u64)));
        for cut in sound..whole.len() {
            assert_eq!(read(&whole[..cut], Some(&mac)), Ok((vec![0], sound as u64)), "cut at {cut}");
        }
        for at in 0..sound {
            let mut bad = whole.clone();
            bad[at] ^= 1;
            let place = if at < header.len() { 0 } else { header.len() };
            let damaged = format!("journal is damaged: segment 0, byte {place}");
            let in_mac = |from: usize| (from + 40..from + 72).contains(&at);
            let foreign = format!("journal has a record that this log did not write: segment 0, byte {place}");
            let expected = if in_mac(0) || in_mac(header.len()) { foreign } else { damaged };
            assert_eq!(read(&bad, Some(&mac)), Err(expected), "flip at {at}");
        }
        // Without the key nobody can add a record, even with knowledge of the format.
        let forged = [whole, record(&Mac::new(&[2; 32]), 2)].concat();
        assert_eq!(read(&forged, None).unwrap().0, [0, 1, 2]);
        assert!(read(&forged, Some(&mac)).unwrap_err().contains("did not write"));
    }
}
