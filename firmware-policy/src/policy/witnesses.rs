//! The witnesses whose cosignatures gates demand.

use std::collections::BTreeMap;

use portcullis_permit::{WitnessKey, WitnessQuorum};

use super::reading::Reading;
use crate::document;

/// Most witnesses: every head is sent to each of them.
const MAX_MEMBERS: u64 = 15;

/// Witnesses, with the requirements for their cosignatures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Witnesses {
    /// The requirements that a gate checks.
    pub quorum: WitnessQuorum,
    /// Address of each witness, `host:port`, in the order of the keys.
    pub addresses: Vec<String>,
}

pub(super) fn read(given: &document::Witnesses, reading: &mut Reading<'_>) -> Option<Witnesses> {
    let (mut names, mut keys, mut addresses) = (BTreeMap::new(), Vec::new(), Vec::new());
    let count = given.members.len() as u64;
    reading.number("witnesses.witness", count, 1, MAX_MEMBERS)?;
    for member in &given.members {
        let hint = "the line that `portcullis-witness init` prints";
        match WitnessKey::parse(&member.key) {
            Err(_) => reading.refuse("witnesses.witness.key", format!("{:?} is no witness's key", member.key), hint),
            Ok(key) => {
                reading.unique("witnesses.witness.key", &mut names, key.name().to_owned(), (), key.name());
                keys.push(key);
            }
        }
        match member.url.strip_prefix("http://").map(|rest| rest.trim_end_matches('/')) {
            Some(address) if address.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok()) => {
                addresses.push(address.to_owned());
            }
            _ => reading.refuse("witnesses.witness.url", format!("{:?}", member.url), "http://host:port"),
        }
    }
    let threshold = reading.number("witnesses.threshold", given.threshold, 1, count)?;
    let max_age = reading.number("witnesses.max_age_seconds", given.max_age_seconds, 5, 3600)?;
    let threshold = usize::try_from(threshold).ok()?;
    Some(Witnesses { quorum: WitnessQuorum { threshold, max_age, keys }, addresses })
}
