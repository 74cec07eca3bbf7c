//! The measurements into one PCR, event by event, for rules on text.
//!
//! A quote proves the digests. The text beside a digest was measured only if it hashes
//! to the digest. The log in which an event occurs proves nothing, because the holder
//! of both logs can move it from one to the other.

use super::parse::{EventLog, NO_ACTION};
use crate::tpm::pcr::Bank;

/// One measurement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Measurement<'a> {
    /// The digest with which the PCR was extended.
    pub digest: &'a [u8],
    /// The text that hashes to it, if the log has it.
    pub text: Option<&'a str>,
    /// Whether the event is in the log of user space.
    pub user_space: bool,
}

pub(super) fn measurements(log: &EventLog, bank: Bank, pcr: u8) -> Vec<Measurement<'_>> {
    let of_pcr = log.events.iter().enumerate().filter(|(_, event)| event.pcr == Some(pcr) && event.kind != NO_ACTION);
    let measured = of_pcr.filter_map(|(at, event)| {
        let digest = event.digest(bank)?;
        let proven = bank.hash(&[&event.data]) == digest;
        let text = std::str::from_utf8(&event.data).ok().filter(|text| proven && !text.is_empty());
        Some(Measurement { digest, text, user_space: at >= log.user_space })
    });
    measured.collect()
}
