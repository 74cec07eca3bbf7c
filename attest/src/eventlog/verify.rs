//! From a log and PCR values to [`VerifiedLog`].

use super::claims::BootClaims;
use super::parse::{EventLog, EventLogError};
use super::replay::Replayed;
use crate::check::Checks;
use crate::ima;
use crate::tpm::pcr::{Bank, PcrSet, PcrValues, Selection};
use portcullis_wire::hex::hex;

const IMA_DETAIL: &str = "quoted value, against the replay of its log";

/// A log that leads to the given values of some PCRs of one bank. Only
/// [`verify`] makes one. What it proves is worth what the values are worth.
#[derive(Clone, Debug)]
pub struct VerifiedLog {
    log: EventLog,
    bank: Bank,
    pcrs: PcrSet,
}

impl VerifiedLog {
    /// The bank that it was replayed in.
    #[must_use]
    pub const fn bank(&self) -> Bank {
        self.bank
    }

    /// The PCRs that it leads to.
    #[must_use]
    pub const fn pcrs(&self) -> PcrSet {
        self.pcrs
    }

    /// What it claims of the boot, as far as those PCRs prove it. Hashes the
    /// log's data: ask once.
    #[must_use]
    pub fn claims(&self) -> BootClaims {
        BootClaims::of(&self.log, self.bank, self.pcrs)
    }
}

/// Replays a log in every selected bank but SHA-1, and compares every selected
/// PCR. Returns the first bank in which some of them matched.
pub fn verify(bytes: &[u8], values: &PcrValues, selection: &Selection, checks: &mut Checks) -> Option<VerifiedLog> {
    verify_parsed(EventLog::parse(bytes), values, selection, None, checks)
}

/// As [`verify`], with a log that was read from another form, or put together of
/// several, and with the IMA list that leads to PCR 10.
pub fn verify_parsed(
    parsed: Result<EventLog, EventLogError>,
    values: &PcrValues,
    selection: &Selection,
    measured_files: Option<&[u8]>,
    checks: &mut Checks,
) -> Option<VerifiedLog> {
    let log = checks.step("tpm.eventlog", parsed, "a TCG event log", "how the PCRs came to their values")?;
    let mut proven = None;
    for (bank, set) in selection.0.iter().filter(|(bank, _)| *bank != Bank::Sha1) {
        match log.replay(*bank) {
            Ok(replayed) => {
                let pcrs = compare(&replayed, values, *bank, *set, measured_files, checks);
                proven = proven.or(Some((*bank, pcrs)));
            }
            Err(error) => {
                let required = format!("a {bank} digest in every event");
                checks.step::<Replayed, _>("tpm.eventlog.bank", Err(error), &required, "digests of the bank");
            }
        }
    }
    proven.map(|(bank, pcrs)| VerifiedLog { log, bank, pcrs })
}

/// Compares the PCRs of one bank; returns those that match.
fn compare(
    replayed: &Replayed,
    values: &PcrValues,
    bank: Bank,
    set: PcrSet,
    measured_files: Option<&[u8]>,
    checks: &mut Checks,
) -> PcrSet {
    let mut matching = Vec::new();
    for pcr in set.iter() {
        let (found, required) = (values.value(bank, pcr).unwrap_or_default(), replayed.value(pcr));
        // Linux's IMA has PCR 10 to itself and a log of its own.
        if pcr == ima::PCR && !replayed.covers(pcr) && found != required {
            match measured_files {
                Some(list) => drop(ima::verify(list, bank, values, None, checks)),
                None => checks.missing("tpm.pcr.10", "the IMA measurement list", IMA_DETAIL),
            }
            continue;
        }
        let same = checks.require(
            format!("tpm.pcr.{pcr}"),
            found == required,
            || format!("{bank}:{}", hex(found)),
            || format!("{bank}:{}", hex(&required)),
            "quoted value, against the replay of the event log",
        );
        if same {
            matching.push(pcr);
        }
    }
    PcrSet::of(matching)
}
