//! Canonical event logs (TCG Canonical Event Log Format 1.0): TLV, as written by
//! verifiers' agents, and JSON, as systemd keeps for user space.

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
/// Content that is an event of firmware, and its fields: type and data (§5.1.5).
const PCCLIENT_STD: u8 = 5;
const EVENT_TYPE: u8 = 0;
const EVENT_CONTENT: u8 = 1;
/// Most digests of one record.
const MAX_DIGESTS: usize = 8;
/// Record separator of JSON text sequences (RFC 7464).
const RS: u8 = 0x1e;

impl EventLog {
    /// Parses a canonical event log in TLV form. Records of NV indices are
    /// refused: they are in no quote.
    ///
    /// # Errors
    /// [`EventLogError`].
    pub fn parse_cel_tlv(bytes: &[u8]) -> Result<Self, EventLogError> {
        bounded(bytes)?;
        let mut r = Reader::new(bytes);
        let (mut events, mut of_pcr) = (Vec::new(), vec![0_usize; usize::from(PCR_COUNT)]);
        while !r.rest().is_empty() {
            if events.len() >= MAX_EVENTS {
                return Err(EventLogError::TooLarge);
            }
            let number = tlv(&mut r, RECORD)?;
            if number.len() > 8 {
                return Err(EventLogError::Order);
            }
            let number = number.iter().fold(0_u64, |n, byte| n << 8 | u64::from(*byte));
            let event = tlv_record(&mut r)?;
            let slot = event.pcr.and_then(|pcr| of_pcr.get_mut(usize::from(pcr))).ok_or(EventLogError::Order)?;
            // Some writers number the records of the log, others those of each PCR.
            if number != events.len() as u64 && number != *slot as u64 {
                return Err(EventLogError::Order);
            }
            *slot = slot.saturating_add(1);
            events.push(event);
        }
        Ok(Self { format: Format::Canonical, events })
    }

    /// Parses a canonical event log in JSON form: one array, or a text sequence
    /// of records as in systemd's `tpm2-measure.log`.
    ///
    /// # Errors
    /// [`EventLogError`].
    pub fn parse_cel_json(bytes: &[u8]) -> Result<Self, EventLogError> {
        bounded(bytes)?;
        let records: Vec<Record> = if bytes.trim_ascii_start().starts_with(b"[") {
            serde_json::from_slice(bytes).map_err(|_| EventLogError::Truncated)?
        } else {
            let texts = bytes.split(|byte| *byte == RS).map(<[u8]>::trim_ascii).filter(|text| !text.is_empty());
            let read = |text| serde_json::from_slice(text).map_err(|_| EventLogError::Truncated);
            texts.map(read).collect::<Result<_, _>>()?
        };
        if records.is_empty() {
            return Err(EventLogError::Empty);
        }
        if records.len() > MAX_EVENTS {
            return Err(EventLogError::TooLarge);
        }
        let events = records.iter().map(Record::event).collect::<Result<_, _>>()?;
        Ok(Self { format: Format::Canonical, events })
    }

    /// The log of user space after that of firmware.
    #[must_use]
    pub fn followed_by(mut self, later: Self) -> Self {
        self.events.extend(later.events);
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

fn tlv_record(r: &mut Reader<'_>) -> Result<Event, EventLogError> {
    let (kind, index) = any_tlv(r)?;
    let pcr = match (kind, index) {
        (PCR, [pcr]) => pcr_number(u64::from(*pcr))?,
        (PCR, bytes) if bytes.len() <= 8 => pcr_number(bytes.iter().fold(0, |n, byte| n << 8 | u64::from(*byte)))?,
        (NV_INDEX, _) => return Err(EventLogError::NotATpmLog),
        _ => return Err(EventLogError::Truncated),
    };
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
    let (kind, data) = match content {
        PCCLIENT_STD => firmware_event(value)?,
        // Kinds of content have numbers that are types of TCG events too.
        _ => (OTHER_CONTENT, value.to_vec()),
    };
    Ok(Event { pcr: Some(pcr), kind, digests, data })
}

/// Type and data of an event as firmware logged it.
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

/// A record in JSON (§5.3).
#[derive(Deserialize)]
struct Record {
    pcr: u64,
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
    fn event(&self) -> Result<Event, EventLogError> {
        let mut digests = Vec::new();
        for Digest { algorithm, digest } in &self.digests {
            let Some(bank) = Bank::from_name(algorithm) else { continue };
            let digest = unhex(&digest.to_lowercase()).ok_or(EventLogError::Digests)?;
            add_digest(&mut digests, bank, digest)?;
        }
        if digests.is_empty() {
            return Err(EventLogError::Digests);
        }
        // systemd hashes the string that it logs; any other content stays unread.
        let string = self.content.as_ref().and_then(|content| content.get("string")).and_then(|s| s.as_str());
        let data = string.unwrap_or_default().as_bytes().to_vec();
        Ok(Event { pcr: Some(pcr_number(self.pcr)?), kind: OTHER_CONTENT, digests, data })
    }
}

/// The type of an event whose content is none of firmware's: no type of TCG events,
/// and not `EV_NO_ACTION`, which is never extended.
const OTHER_CONTENT: u32 = u32::MAX;
