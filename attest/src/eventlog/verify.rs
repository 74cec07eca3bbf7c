//! From a log and PCR values to [`VerifiedLog`].

use super::claims::BootClaims;
use super::measurements::{Measurement, measurements};
use super::parse::{EventLog, EventLogError};
use super::replay::Replayed;
use crate::check::Checks;
use crate::ima;
use crate::tpm::pcr::{Bank, PcrSet, PcrValues, Selection};
use portcullis_wire::hex::hex;

const IMA_DETAIL: &str = "quoted value, against the replay of its log";

/// What it means that the log does not lead to the value of a PCR.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unlogged {
    /// The check `tpm.pcr.N` fails: for whoever has nothing but the log to judge
    /// the value by.
    Refused,
    /// [`VerifiedLog::unlogged`] lists the PCR, for whoever has reference values:
    /// the quote proves the value itself, whatever the log says. Who asks for this
    /// must refuse every listed PCR that no reference value admits.
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

/// A log that leads to the given values of some PCRs of one bank. Only
/// [`verify`] makes one. What it proves is worth what the values are worth.
#[derive(Clone, Debug)]
pub struct VerifiedLog {
    log: EventLog,
    bank: Bank,
    pcrs: PcrSet,
    unlogged: Vec<UnloggedPcr>,
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

    /// The log. What it says of PCRs beyond [`Self::pcrs`], of NV indices, and in its
    /// data, nothing proves.
    #[must_use]
    pub const fn log(&self) -> &EventLog {
        &self.log
    }

    /// The values that it leads to in its bank: an IMA list goes on from them.
    #[must_use]
    pub fn replayed(&self) -> Option<Replayed> {
        self.log.replay(self.bank).ok()
    }

    /// The selected PCRs that it does not lead to, where [`Unlogged::Listed`] was
    /// asked for.
    #[must_use]
    pub fn unlogged(&self) -> &[UnloggedPcr] {
        &self.unlogged
    }

    /// What it claims of the boot, as far as those PCRs prove it. Hashes the
    /// log's data: ask once.
    #[must_use]
    pub fn claims(&self) -> BootClaims {
        BootClaims::of(&self.log, self.bank, self.pcrs)
    }

    /// What was measured into a PCR, in order; `None` where the log does not lead
    /// to its value. Hashes the log's data: ask once.
    #[must_use]
    pub fn measurements(&self, pcr: u8) -> Option<Vec<Measurement<'_>>> {
        self.pcrs.iter().any(|proven| proven == pcr).then(|| measurements(&self.log, self.bank, pcr))
    }
}

/// Replays a log in every selected bank but SHA-1, and compares every selected
/// PCR. Returns the first bank in which some of them matched.
pub fn verify(bytes: &[u8], values: &PcrValues, selection: &Selection, checks: &mut Checks) -> Option<VerifiedLog> {
    verify_parsed(EventLog::parse(bytes), values, selection, None, Unlogged::Refused, checks)
}

/// As [`verify`], with a log that was read from another form, or put together of
/// several, and with the IMA list that leads to PCR 10.
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
            // Linux's IMA has a log of its own, which goes on from the firmware's.
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

/// The IMA list, which accounts for what is in its PCRs beyond the event log. It is
/// verified once a bank, for all its PCRs. What it accounts for proves nothing of
/// the boot: anybody who runs later can add to it.
struct MeasuredFiles<'a> {
    list: Option<&'a [u8]>,
    pcrs: PcrSet,
    verified: bool,
}

impl<'a> MeasuredFiles<'a> {
    fn of(list: Option<&'a [u8]>) -> Self {
        // A list that cannot be read is refused where it is verified.
        let pcrs = list.and_then(|list| ima::pcrs(list).ok());
        Self { list, pcrs: pcrs.unwrap_or_else(|| PcrSet::of([ima::PCR])), verified: false }
    }

    /// Whether a PCR is for the list to account for.
    fn leads_to(&mut self, pcr: u8, log: &Replayed, values: &PcrValues, checks: &mut Checks) -> bool {
        match self.list {
            Some(list) if self.pcrs.iter().any(|of_list| of_list == pcr) => {
                if !std::mem::replace(&mut self.verified, true) {
                    // What it comes to is among the checks.
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
