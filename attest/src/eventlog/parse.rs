//! Reads both forms of the log, with a limit on every count and length.

use std::fmt;

use super::cel::NvRecord;
use crate::bytes::{Reader, Truncated};
use crate::tpm::pcr::{Bank, PCR_COUNT};

/// Largest log accepted, in bytes. Firmware reserves 64 KiB to 256 KiB.
pub const MAX_LENGTH: usize = 1 << 20;
/// Largest number of events accepted; real logs have a few hundred.
pub(super) const MAX_EVENTS: usize = 16 * 1024;
/// Largest number of digest algorithms accepted in a crypto-agile log.
const MAX_ALGORITHMS: u32 = 8;
/// `EV_NO_ACTION`: information, never extended.
pub(super) const NO_ACTION: u32 = 3;
const SPEC_ID_03: &[u8; 16] = b"Spec ID Event03\0";

/// Why a log was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventLogError {
    /// Longer than [`MAX_LENGTH`] or with more than 16384 events.
    TooLarge,
    /// No event at all.
    Empty,
    /// A length or count does not fit.
    Truncated,
    /// The first event is not for a PCR of a TPM: a CC (TDX) log, or not a log.
    NotATpmLog,
    /// The header lists no algorithm, too many, or one of them twice.
    Algorithms,
    /// An event in a PCR that does not exist.
    Pcr(u32),
    /// An event with other digests than the header lists.
    Digests,
    /// A record with a handle that is not an NV index.
    NvIndex(u64),
    /// The records are not numbered consecutively from zero.
    Order,
    /// A JSON record, counted from zero, that is not an object of a canonical event log.
    Record(usize),
    /// A record, counted from zero, for neither a PCR nor an NV index, or for both.
    Target(usize),
}

impl fmt::Display for EventLogError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLarge => f.write_str("event log too large"),
            Self::Empty => f.write_str("event log is empty"),
            Self::Truncated => f.write_str("event log is truncated"),
            Self::NotATpmLog => f.write_str("not the event log of a TPM"),
            Self::Algorithms => f.write_str("event log header lists unusable algorithms"),
            Self::Pcr(pcr) => write!(f, "event log names PCR {pcr}"),
            Self::Digests => f.write_str("an event has other digests than the header lists"),
            Self::NvIndex(handle) => write!(f, "{handle:#x} is the handle of no NV index"),
            Self::Order => f.write_str("records are not numbered from zero on"),
            Self::Record(at) => write!(f, "record {at} is not a JSON record of a canonical event log"),
            Self::Target(at) => write!(f, "record {at} names neither one PCR nor one NV index"),
        }
    }
}

impl std::error::Error for EventLogError {}

impl From<Truncated> for EventLogError {
    fn from(_: Truncated) -> Self {
        Self::Truncated
    }
}

/// The two forms of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// `TCG_PCR_EVENT`, SHA-1 only.
    Sha1,
    /// `TCG_PCR_EVENT2` after a `Spec ID Event03` header.
    CryptoAgile,
    /// TCG canonical event log.
    Canonical,
}

/// One event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// PCR, below 24; `None` for information under another number, such as
    /// 0xFFFFFFFF: it is never extended.
    pub pcr: Option<u8>,
    /// Event type.
    pub kind: u32,
    /// Digests of known algorithms.
    pub digests: Vec<(Bank, Vec<u8>)>,
    /// Event data: an unproven claim.
    pub data: Vec<u8>,
}

impl Event {
    /// Its digest in a bank.
    #[must_use]
    pub fn digest(&self, bank: Bank) -> Option<&[u8]> {
        self.digests.iter().find(|(other, _)| *other == bank).map(|(_, digest)| digest.as_slice())
    }
}

/// A parsed log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventLog {
    /// Its form.
    pub format: Format,
    /// Its events, without the header.
    pub events: Vec<Event>,
    /// Position in `events` of the first event of user space; the number of events if there
    /// is none.
    pub user_space: usize,
    /// Measurements into NV indices, which no quote of PCRs covers.
    pub nv_records: Vec<NvRecord>,
}

impl EventLog {
    /// A log of PCR events alone.
    pub(super) const fn of(format: Format, events: Vec<Event>) -> Self {
        Self { format, user_space: events.len(), events, nv_records: Vec::new() }
    }

    /// Parses a whole log.
    ///
    /// # Errors
    /// [`EventLogError`].
    pub fn parse(bytes: &[u8]) -> Result<Self, EventLogError> {
        if bytes.len() > MAX_LENGTH {
            return Err(EventLogError::TooLarge);
        }
        if bytes.is_empty() {
            return Err(EventLogError::Empty);
        }
        let mut r = Reader::new(bytes);
        let first = read_sha1_event(&mut r)?;
        let mut events = Vec::new();
        if first.kind != NO_ACTION || !first.data.starts_with(SPEC_ID_03) {
            events.push(first);
            read_all(&mut r, &mut events, read_sha1_event)?;
            return Ok(Self::of(Format::Sha1, events));
        }
        // A confidential-computing log numbers its registers from one.
        if first.pcr != Some(0) {
            return Err(EventLogError::NotATpmLog);
        }
        let algorithms = read_spec_id(&first.data)?;
        read_all(&mut r, &mut events, |r| read_agile_event(r, &algorithms))?;
        Ok(Self::of(Format::CryptoAgile, events))
    }
}

fn read_all(
    r: &mut Reader<'_>,
    events: &mut Vec<Event>,
    mut read: impl FnMut(&mut Reader<'_>) -> Result<Event, EventLogError>,
) -> Result<(), EventLogError> {
    while !r.rest().is_empty() {
        if events.len() >= MAX_EVENTS {
            return Err(EventLogError::TooLarge);
        }
        events.push(read(r)?);
    }
    Ok(())
}

fn pcr_number(value: u32, kind: u32) -> Result<Option<u8>, EventLogError> {
    match u8::try_from(value) {
        Ok(pcr) if pcr < PCR_COUNT => Ok(Some(pcr)),
        _ if kind == NO_ACTION => Ok(None),
        _ => Err(EventLogError::Pcr(value)),
    }
}

fn read_sha1_event(r: &mut Reader<'_>) -> Result<Event, EventLogError> {
    let (number, kind) = (r.u32_le()?, r.u32_le()?);
    let pcr = pcr_number(number, kind)?;
    let digest: [u8; 20] = r.array()?;
    let length = r.u32_le()?;
    let data = r.take(length as usize)?.to_vec();
    Ok(Event { pcr, kind, digests: vec![(Bank::Sha1, digest.to_vec())], data })
}

/// `TCG_EfiSpecIDEvent`: the algorithms of the log and their digest lengths.
fn read_spec_id(data: &[u8]) -> Result<Vec<(u16, u16)>, EventLogError> {
    let mut r = Reader::new(data);
    let _signature = r.take(SPEC_ID_03.len())?;
    let _class = r.u32_le()?;
    let _versions_and_uintn = r.take(4)?;
    let count = r.u32_le()?;
    if count == 0 || count > MAX_ALGORITHMS {
        return Err(EventLogError::Algorithms);
    }
    let mut algorithms: Vec<(u16, u16)> = Vec::new();
    for _ in 0..count {
        let (id, length) = (r.u16_le()?, r.u16_le()?);
        let known_length = Bank::from_id(id).map(Bank::length);
        let repeated = algorithms.iter().any(|(other, _)| *other == id);
        if repeated || known_length.is_some_and(|known| known != usize::from(length)) {
            return Err(EventLogError::Algorithms);
        }
        algorithms.push((id, length));
    }
    let vendor = r.u8()?;
    r.take(usize::from(vendor))?;
    r.finish()?;
    Ok(algorithms)
}

fn read_agile_event(r: &mut Reader<'_>, algorithms: &[(u16, u16)]) -> Result<Event, EventLogError> {
    let (number, kind) = (r.u32_le()?, r.u32_le()?);
    let pcr = pcr_number(number, kind)?;
    let count = r.u32_le()? as usize;
    // Windows logs its events with fewer digests than firmware does; a bank without a
    // digest cannot be replayed then.
    if count == 0 || count > algorithms.len() {
        return Err(EventLogError::Digests);
    }
    let mut seen = Vec::with_capacity(count);
    let mut digests = Vec::with_capacity(count);
    for _ in 0..count {
        let id = r.u16_le()?;
        let listed = algorithms.iter().find(|(other, _)| *other == id);
        let Some((_, length)) = listed.filter(|_| !seen.contains(&id)) else { return Err(EventLogError::Digests) };
        let digest = r.take(usize::from(*length))?;
        seen.push(id);
        if let Some(bank) = Bank::from_id(id) {
            digests.push((bank, digest.to_vec()));
        }
    }
    let length = r.u32_le()?;
    let data = r.take(length as usize)?.to_vec();
    Ok(Event { pcr, kind, digests, data })
}
