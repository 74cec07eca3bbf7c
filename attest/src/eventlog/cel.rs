//! Canonical event logs (TCG Canonical Event Log Format 1.0): TLV, as verifiers' agents
//! write it, and JSON, as systemd writes it for user space.

use portcullis_wire::hex::unhex;
use serde::Deserialize;

use super::parse::{Event, EventLog, EventLogError, Format, MAX_EVENTS, MAX_LENGTH};
use crate::bytes::{Reader, Truncated};
use crate::tpm::pcr::{Bank, PCR_COUNT};

/// Types of the outer TLVs (§5.1, table 2).
const RECORD: u8 = 0;
const PCR: u8 = 1;
const NV_INDEX: u8 = 2;
const DIGESTS: u8 = 3;
/// Content type of a firmware event, and its fields: type and data (§5.1.5).
const PCCLIENT_STD: u8 = 5;
const EVENT_TYPE: u8 = 0;
const EVENT_CONTENT: u8 = 1;
/// Largest number of digests in one record.
const MAX_DIGESTS: usize = 8;
/// Record separator of JSON text sequences (RFC 7464).
const RS: u8 = 0x1e;

/// A measurement into an NV index that is extended like a PCR (systemd 258 and later:
/// "NvPCR"). A quote of PCRs does not cover it: it is listed, and proves nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NvRecord {
    /// Handle of the index, such as 0x01D10201.
    pub index: u32,
    /// Digests of known algorithms.
    pub digests: Vec<(Bank, Vec<u8>)>,
    /// The measured data, as the log claims.
    pub data: Vec<u8>,
}

/// The register that a record extended, as the record claims.
enum Measured {
    Pcr(Event),
    Nv(NvRecord),
}

/// Records in the order of the log.
#[derive(Default)]
struct Records {
    events: Vec<Event>,
    nv: Vec<NvRecord>,
}

impl Records {
    const fn count(&self) -> usize {
        self.events.len().saturating_add(self.nv.len())
    }

    fn push(&mut self, record: Measured) -> Result<(), EventLogError> {
        if self.count() >= MAX_EVENTS {
            return Err(EventLogError::TooLarge);
        }
        match record {
            Measured::Pcr(event) => self.events.push(event),
            Measured::Nv(record) => self.nv.push(record),
        }
        Ok(())
    }

    fn into_log(self) -> EventLog {
        EventLog { nv_records: self.nv, ..EventLog::of(Format::Canonical, self.events) }
    }
}

impl EventLog {
    /// Parses a canonical event log in TLV form.
    ///
    /// # Errors
    /// [`EventLogError`].
    pub fn parse_cel_tlv(bytes: &[u8]) -> Result<Self, EventLogError> {
        bounded(bytes)?;
        let mut r = Reader::new(bytes);
        let (mut records, mut of_pcr) = (Records::default(), vec![0_usize; usize::from(PCR_COUNT)]);
        while !r.rest().is_empty() {
            let number = tlv(&mut r, RECORD)?;
            if number.len() > 8 {
                return Err(EventLogError::Order);
            }
            let (number, at) = (big_endian(number), records.count() as u64);
            let record = tlv_record(&mut r)?;
            // Some writers number the records of the whole log, others number those of each
            // PCR.
            let slot = match &record {
                Measured::Pcr(event) => event.pcr.and_then(|pcr| of_pcr.get_mut(usize::from(pcr))),
                Measured::Nv(_) => None,
            };
            if number != at && slot.as_ref().is_none_or(|slot| number != **slot as u64) {
                return Err(EventLogError::Order);
            }
            if let Some(slot) = slot {
                *slot = slot.saturating_add(1);
            }
            records.push(record)?;
        }
        Ok(records.into_log())
    }

    /// Parses a canonical event log in JSON form: one array, or a text sequence
    /// (RFC 7464) of records as in systemd's `tpm2-measure.log`.
    ///
    /// # Errors
    /// [`EventLogError`].
    pub fn parse_cel_json(bytes: &[u8]) -> Result<Self, EventLogError> {
        bounded(bytes)?;
        let parsed: Vec<Record> = if bytes.trim_ascii_start().starts_with(b"[") {
            serde_json::from_slice(bytes).map_err(|_| EventLogError::Truncated)?
        } else {
            let texts = bytes.split(|byte| *byte == RS).map(<[u8]>::trim_ascii).filter(|text| !text.is_empty());
            let read = |(at, text)| serde_json::from_slice(text).map_err(|_| EventLogError::Record(at));
            texts.enumerate().map(read).collect::<Result<_, _>>()?
        };
        if parsed.is_empty() {
            return Err(EventLogError::Empty);
        }
        let mut records = Records::default();
        for (at, record) in parsed.into_iter().enumerate() {
            records.push(record.read(at)?)?;
        }
        Ok(records.into_log())
    }

    /// Adds the measurements of user space after firmware and boot loader: the text of
    /// `tpm2-measure.log`. An empty file adds nothing.
    ///
    /// # Errors
    /// [`EventLogError`].
    pub fn with_user_space(self, text: &[u8]) -> Result<Self, EventLogError> {
        if text.trim_ascii().is_empty() {
            return Ok(self);
        }
        Ok(self.followed_by(Self::parse_cel_json(text)?))
    }

    /// Appends the log of user space to that of firmware.
    #[must_use]
    pub fn followed_by(mut self, later: Self) -> Self {
        self.user_space = self.events.len();
        self.events.extend(later.events);
        self.nv_records.extend(later.nv_records);
        self
    }
}

const fn bounded(bytes: &[u8]) -> Result<(), EventLogError> {
    match bytes.len() {
        0 => Err(EventLogError::Empty),
        length if length > MAX_LENGTH => Err(EventLogError::TooLarge),
        _ => Ok(()),
    }
}

/// The value of a TLV of this type: a byte, a big-endian length, the value.
fn tlv<'a>(r: &mut Reader<'a>, kind: u8) -> Result<&'a [u8], Truncated> {
    let (found, value) = any_tlv(r)?;
    if found == kind { Ok(value) } else { Err(Truncated) }
}

fn any_tlv<'a>(r: &mut Reader<'a>) -> Result<(u8, &'a [u8]), Truncated> {
    let (kind, length) = (r.u8()?, r.u32_be()?);
    Ok((kind, r.take(length as usize)?))
}

fn big_endian(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

fn tlv_record(r: &mut Reader<'_>) -> Result<Measured, EventLogError> {
    let (kind, target) = any_tlv(r)?;
    if target.len() > 8 {
        return Err(EventLogError::Truncated);
    }
    let mut list = Reader::new(tlv(r, DIGESTS)?);
    let mut digests: Vec<(Bank, Vec<u8>)> = Vec::new();
    while !list.rest().is_empty() {
        let (algorithm, digest) = any_tlv(&mut list)?;
        let Some(bank) = Bank::from_id(u16::from(algorithm)) else { continue };
        add_digest(&mut digests, bank, digest.to_vec())?;
    }
    if digests.is_empty() {
        return Err(EventLogError::Digests);
    }
    let (content, value) = any_tlv(r)?;
    let (event, data) = match content {
        PCCLIENT_STD => firmware_event(value)?,
        // Numbers of content types are also types of TCG events, so they are not used.
        _ => (OTHER_CONTENT, value.to_vec()),
    };
    match kind {
        PCR => Ok(Measured::Pcr(Event { pcr: Some(pcr_number(big_endian(target))?), kind: event, digests, data })),
        NV_INDEX => Ok(Measured::Nv(NvRecord { index: nv_index(big_endian(target))?, digests, data })),
        _ => Err(EventLogError::Truncated),
    }
}

/// Type and data of an event, as firmware logged them.
fn firmware_event(value: &[u8]) -> Result<(u32, Vec<u8>), EventLogError> {
    let mut r = Reader::new(value);
    let kind: [u8; 4] = tlv(&mut r, EVENT_TYPE)?.try_into().map_err(|_| EventLogError::Truncated)?;
    let data = tlv(&mut r, EVENT_CONTENT)?.to_vec();
    r.finish()?;
    Ok((u32::from_be_bytes(kind), data))
}

fn add_digest(digests: &mut Vec<(Bank, Vec<u8>)>, bank: Bank, digest: Vec<u8>) -> Result<(), EventLogError> {
    let repeated = digests.iter().any(|(other, _)| *other == bank);
    if repeated || digest.len() != bank.length() || digests.len() >= MAX_DIGESTS {
        return Err(EventLogError::Digests);
    }
    digests.push((bank, digest));
    Ok(())
}

fn pcr_number(number: u64) -> Result<u8, EventLogError> {
    let refused = || EventLogError::Pcr(u32::try_from(number).unwrap_or(u32::MAX));
    u8::try_from(number).ok().filter(|pcr| *pcr < PCR_COUNT).ok_or_else(refused)
}

/// The handle of an NV index: the first byte is 0x01 (TPM 2.0 Part 2, §7.2).
fn nv_index(number: u64) -> Result<u32, EventLogError> {
    u32::try_from(number).ok().filter(|index| index >> 24 == 1).ok_or(EventLogError::NvIndex(number))
}

/// A record in JSON (§5.3).
#[derive(Deserialize)]
struct Record {
    pcr: Option<u64>,
    nv_index: Option<u64>,
    digests: Vec<Digest>,
    content: Option<serde_json::Value>,
}

#[derive(Deserialize)]
struct Digest {
    #[serde(rename = "hashAlg")]
    algorithm: String,
    digest: String,
}

impl Record {
    /// Reads the record at this position.
    fn read(&self, at: usize) -> Result<Measured, EventLogError> {
        let mut digests = Vec::new();
        for Digest { algorithm, digest } in &self.digests {
            let Some(bank) = Bank::from_name(&algorithm.to_ascii_lowercase()) else { continue };
            let digest = unhex(&digest.to_ascii_lowercase()).ok_or(EventLogError::Digests)?;
            add_digest(&mut digests, bank, digest)?;
        }
        if digests.is_empty() {
            return Err(EventLogError::Digests);
        }
        // systemd logs the string that it hashes, except for secrets; any other content is
        // ignored.
        let string = self.content.as_ref().and_then(|content| content.get("string")).and_then(|s| s.as_str());
        let data = string.unwrap_or_default().as_bytes().to_vec();
        match (self.pcr, self.nv_index) {
            (Some(pcr), None) => {
                Ok(Measured::Pcr(Event { pcr: Some(pcr_number(pcr)?), kind: OTHER_CONTENT, digests, data }))
            }
            (None, Some(index)) => Ok(Measured::Nv(NvRecord { index: nv_index(index)?, digests, data })),
            _ => Err(EventLogError::Target(at)),
        }
    }
}

/// The type of an event whose content is not from firmware: not a type of TCG events,
/// and not `EV_NO_ACTION`, which is never extended.
const OTHER_CONTENT: u32 = u32::MAX;
