//! Computes PCR values from events.

use std::collections::BTreeMap;
use std::fmt;

use super::parse::{Event, EventLog, NO_ACTION};
use crate::tpm::pcr::Bank;

/// `TCG_EfiStartupLocalityEvent`: PCR 0 starts at the locality's number.
const STARTUP_LOCALITY: &[u8; 16] = b"StartupLocality\0";

/// An event without a digest for the bank: its PCR cannot be computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReplayError {
    /// Position of the event in the log, from zero.
    pub event: usize,
    /// The bank.
    pub bank: Bank,
}

impl fmt::Display for ReplayError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "event {} has no {} digest", self.event, self.bank)
    }
}

impl std::error::Error for ReplayError {}

/// PCR values that a log leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replayed {
    bank: Bank,
    values: BTreeMap<u8, Vec<u8>>,
}

impl Replayed {
    /// PCRs that no log extended.
    #[must_use]
    pub const fn nothing(bank: Bank) -> Self {
        Self { bank, values: BTreeMap::new() }
    }

    /// The bank.
    #[must_use]
    pub const fn bank(&self) -> Bank {
        self.bank
    }

    /// The value of a PCR: its reset value if no event extended it.
    #[must_use]
    pub fn value(&self, pcr: u8) -> Vec<u8> {
        self.values.get(&pcr).cloned().unwrap_or_else(|| self.bank.initial(pcr))
    }

    /// Whether the log has an event for a PCR.
    #[must_use]
    pub fn covers(&self, pcr: u8) -> bool {
        self.values.contains_key(&pcr)
    }

    /// The PCRs that the log extended.
    pub fn extended(&self) -> impl Iterator<Item = (u8, &[u8])> {
        self.values.iter().map(|(pcr, value)| (*pcr, value.as_slice()))
    }
}

impl EventLog {
    /// Replays one bank.
    ///
    /// # Errors
    /// [`ReplayError`] at the first event without a digest for the bank.
    pub fn replay(&self, bank: Bank) -> Result<Replayed, ReplayError> {
        let mut values: BTreeMap<u8, Vec<u8>> = BTreeMap::new();
        for (at, event) in self.events.iter().enumerate() {
            let Some(pcr) = event.pcr else { continue };
            if event.kind == NO_ACTION {
                if let Some(locality) = startup_locality(event).filter(|_| !values.contains_key(&0)) {
                    values.insert(0, starting_at(bank, locality));
                }
                continue;
            }
            let digest = event.digest(bank).ok_or(ReplayError { event: at, bank })?;
            let value = values.entry(pcr).or_insert_with(|| bank.initial(pcr));
            *value = bank.extend(value, digest);
        }
        Ok(Replayed { bank, values })
    }
}

fn startup_locality(event: &Event) -> Option<u8> {
    match (event.pcr, event.data.strip_prefix(STARTUP_LOCALITY)) {
        (Some(0), Some([locality])) => Some(*locality),
        _ => None,
    }
}

/// PCR 0 after `TPM2_Startup` at a locality: the number in the last byte.
fn starting_at(bank: Bank, locality: u8) -> Vec<u8> {
    let mut value = bank.initial(0);
    if let Some(last) = value.last_mut() {
        *last = locality;
    }
    value
}
