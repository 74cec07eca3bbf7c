//! Verifies a log against PCR values; the result is a [`VerifiedLog`].

use super::claims::BootClaims;
use super::measurements::{Measurement, measurements};
use super::parse::{EventLog, EventLogError};
use super::replay::Replayed;
use crate::check::Checks;
use crate::ima;
use crate::tpm::pcr::{Bank, PcrSet, PcrValues, Selection};
use portcullis_wire::hex::hex;

const IMA_DETAIL: &str = "quoted value, against the replay of its log";

/// The consequence if the log does not lead to the value of a PCR.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unlogged {
    /// The check `tpm.pcr.N` fails. For callers that can judge the value only by the log.
    Refused,
    /// [`VerifiedLog::unlogged`] lists the PCR. For callers with reference values: the
    /// quote proves the value itself, whatever the log contains. Such a caller must refuse
    /// every listed PCR that no reference value admits.
    Listed,
}

/// A PCR to whose value the log does not lead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnloggedPcr {
    /// Bank.
    pub bank: Bank,
    /// PCR.
    pub pcr: u8,
    /// The value that the log leads to instead.
    pub replayed: Vec<u8>,
}

/// A log that leads to the given values of some PCRs of one bank. Only [`verify`] makes
/// one. It proves only as much as the values do.
#[derive(Clone, Debug)]
pub struct VerifiedLog {
    log: EventLog,
    bank: Bank,
    pcrs: PcrSet,
    unlogged: Vec<UnloggedPcr>,
}

impl VerifiedLog {
    /// The bank in which the log was replayed.
    #[must_use]
    pub const fn bank(&self) -> Bank {
        self.bank
    }

    /// The PCRs to whose values the log leads.
    #[must_use]
    pub const fn pcrs(&self) -> PcrSet {
        self.pcrs
    }

    /// The log. Its statements about PCRs beyond [`Self::pcrs`] and about NV indices, and
    /// its data, are unproven.
    #[must_use]
    pub const fn log(&self) -> &EventLog {
        &self.log
    }

    /// The values to which the log leads in its bank; an IMA list continues from them.
    #[must_use]
    pub fn replayed(&self) -> Option<Replayed> {
        self.log.replay(self.bank).ok()
    }

    /// The selected PCRs to whose values the log does not lead, if [`Unlogged::Listed`] was
    /// requested.
    #[must_use]
    pub fn unlogged(&self) -> &[UnloggedPcr] {
        &self.unlogged
    }

    /// The log's claims about the boot, as far as those PCRs prove them. Hashes the log's
    /// data, so call it once.
    #[must_use]
    pub fn claims(&self) -> BootClaims {
        BootClaims::of(&self.log, self.bank, self.pcrs)
    }

    /// The measurements into a PCR, in order; `None` if the log does not lead to its value.
    /// Hashes the log's data, so call it once.
    #[must_use]
    pub fn measurements(&self, pcr: u8) -> Option<Vec<Measurement<'_>>> {
        self.pcrs.iter().any(|proven| proven == pcr).then(|| measurements(&self.log, self.bank, pcr))
    }
}

/// Replays a log in every selected bank except SHA-1, and compares every selected PCR.
/// Returns the first bank in which some of them match.
pub fn verify(bytes: &[u8], values: &PcrValues, selection: &Selection, checks: &mut Checks) -> Option<VerifiedLog> {
    verify_parsed(EventLog::parse(bytes), values, selection, None, Unlogged::Refused, checks)
}

/// As [`verify`], for a log that was read from another form or combined from several,
/// and with the IMA list that leads to PCR 10.
pub fn verify_parsed(
    parsed: Result<EventLog, EventLogError>,
    values: &PcrValues,
    selection: &Selection,
    measured_files: Option<&[u8]>,
    unlogged: Unlogged,
    checks: &mut Checks,
) -> Option<VerifiedLog> {
    let log = checks.step("tpm.eventlog", parsed, "a TCG event log", "how the PCRs came to their values")?;
    let mut comparison = Comparison { values, measured_files, unlogged, listed: Vec::new() };
    let mut proven = None;
    for (bank, set) in selection.0.iter().filter(|(bank, _)| *bank != Bank::Sha1) {
        match log.replay(*bank) {
            Ok(replayed) => {
                let pcrs = comparison.compare(&replayed, *bank, *set, checks);
                proven = proven.or(Some((*bank, pcrs)));
            }
            Err(error) => {
                let required = format!("a {bank} digest in every event");
                checks.step::<Replayed, _>("tpm.eventlog.bank", Err(error), &required, "digests of the bank");
            }
        }
    }
    proven.map(|(bank, pcrs)| VerifiedLog { log, bank, pcrs, unlogged: comparison.listed })
}

struct Comparison<'a> {
    values: &'a PcrValues,
    measured_files: Option<&'a [u8]>,
    unlogged: Unlogged,
    listed: Vec<UnloggedPcr>,
}

impl Comparison<'_> {
    /// Compares the PCRs of one bank; returns those that match.
    fn compare(&mut self, replayed: &Replayed, bank: Bank, set: PcrSet, checks: &mut Checks) -> PcrSet {
        let mut matching = Vec::new();
        let mut files = MeasuredFiles::of(self.measured_files);
        for pcr in set.iter() {
            let (found, required) = (self.values.value(bank, pcr).unwrap_or_default(), replayed.value(pcr));
            // Linux's IMA has a separate log, which continues from that of the firmware.
            if found != required && files.leads_to(pcr, replayed, self.values, checks) {
                continue;
            }
            if found != required && self.unlogged == Unlogged::Listed {
                self.listed.push(UnloggedPcr { bank, pcr, replayed: required });
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
}

/// The IMA list, which explains the values of its PCRs beyond the event log. It is
/// verified once per bank, for all its PCRs. Its entries prove nothing about the boot,
/// because any later code can add to it.
struct MeasuredFiles<'a> {
    list: Option<&'a [u8]>,
    pcrs: PcrSet,
    verified: bool,
}

impl<'a> MeasuredFiles<'a> {
    fn of(list: Option<&'a [u8]>) -> Self {
        // An unreadable list is refused when it is verified.
        let pcrs = list.and_then(|list| ima::pcrs(list).ok());
        Self { list, pcrs: pcrs.unwrap_or_else(|| PcrSet::of([ima::PCR])), verified: false }
    }

    /// Whether the list, and not the event log, must explain a PCR. The list is then
    /// verified.
    fn leads_to(&mut self, pcr: u8, log: &Replayed, values: &PcrValues, checks: &mut Checks) -> bool {
        match self.list {
            Some(list) if self.pcrs.iter().any(|of_list| of_list == pcr) => {
                if !std::mem::replace(&mut self.verified, true) {
                    // The result is among the checks.
                    let _covered = ima::verify_after(list, log, values, None, checks);
                }
                true
            }
            None if pcr == ima::PCR && !log.covers(pcr) => {
                checks.missing("tpm.pcr.10", "the IMA measurement list", IMA_DETAIL);
                true
            }
            _ => false,
        }
    }
}
