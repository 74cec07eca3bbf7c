//! From a list to the part of it that a quoted PCR vouches for.

use std::io::BufRead;

use super::allow::AllowList;
use super::parse::{Entries, Entry, ListError};
use crate::check::Checks;
use crate::tpm::pcr::{Bank, PcrValues};
use portcullis_wire::hex::hex;

/// The PCR of Linux's integrity measurement architecture.
pub const PCR: u8 = 10;
/// The first entry's name: a digest over the PCRs of the boot.
const BOOT_AGGREGATE: &str = "boot_aggregate";

/// How much of a list leads to the quoted PCR. Only [`verify`] makes one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VerifiedList {
    covered: Seen,
    total: usize,
}

impl VerifiedList {
    /// How many entries the PCR covers, from the first on.
    #[must_use]
    pub const fn covered(&self) -> usize {
        self.covered.entries
    }

    /// How many of them are files that changed while they were measured.
    #[must_use]
    pub const fn violations(&self) -> usize {
        self.covered.violations
    }

    /// How many entries the list has beyond that. Nothing vouches for them.
    #[must_use]
    pub const fn beyond(&self) -> usize {
        self.total.saturating_sub(self.covered.entries)
    }
}

/// Verifies a list against the value of PCR 10 in one bank, its beginning
/// against the PCRs of the boot where they are among the values, and its files
/// against an allow list where there is one. The list is read once and not kept.
pub fn verify(
    list: impl BufRead,
    bank: Bank,
    values: &PcrValues,
    allow: Option<&AllowList>,
    checks: &mut Checks,
) -> Option<VerifiedList> {
    let quoted = values.value(bank, PCR);
    let walked = Walk::over(list, bank, quoted, allow);
    let walk = checks.step("ima.form", walked, "an IMA measurement list", "form of the measurement list")?;
    if bank == Bank::Sha1 {
        checks.missing("ima.bank", "PCR 10 of a bank stronger than SHA-1", "bank that vouches for the list");
    } else {
        checks.require("ima.bank", true, || bank.to_string(), || "no SHA-1".into(), "bank that vouches for the list");
    }
    walk.check_replay(bank, quoted, checks);
    check_boot_aggregate(walk.first.as_ref(), values, checks);
    let covered = walk.covered?;
    if let Some(allow) = allow {
        walk.check_files(covered, allow, checks);
    }
    checks.passed().then_some(VerifiedList { covered, total: walk.seen.entries })
}

/// What was counted up to some entry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Seen {
    entries: usize,
    violations: usize,
    /// Entries that are files, and not the boot aggregate.
    files: usize,
}

/// What one walk over a list leaves behind, whatever its length.
struct Walk {
    value: Vec<u8>,
    /// The value had the kernel put zeroes behind SHA-1 digests, and whether it
    /// was the quoted one somewhere. Every kernel that knows banks has SHA-256.
    padded: Option<Vec<u8>>,
    reached_by_padding: bool,
    first: Option<Entry>,
    seen: Seen,
    /// What was seen when the value was the quoted one for the last time.
    covered: Option<Seen>,
    wrong_hash: Option<usize>,
    violation: Option<usize>,
    foreign: Option<(usize, String)>,
}

impl Walk {
    fn over(
        list: impl BufRead,
        bank: Bank,
        quoted: Option<&[u8]>,
        allow: Option<&AllowList>,
    ) -> Result<Self, ListError> {
        let mut walk = Self {
            value: bank.initial(PCR),
            padded: (bank > Bank::Sha256).then(|| bank.initial(PCR)),
            reached_by_padding: false,
            first: None,
            seen: Seen::default(),
            covered: None,
            wrong_hash: None,
            violation: None,
            foreign: None,
        };
        for entry in Entries::of(list)? {
            walk.take(entry?, bank, quoted, allow);
        }
        Ok(walk)
    }

    /// Recomputes what the entry states, extends by it, and looks for the PCR.
    fn take(&mut self, entry: Entry, bank: Bank, quoted: Option<&[u8]>, allow: Option<&AllowList>) {
        let at = self.seen.entries;
        let violation = entry.is_violation();
        let sha1 = entry.hash(Bank::Sha1);
        if !violation && entry.template_hash != *sha1 {
            self.wrong_hash.get_or_insert(at);
        }
        self.value = bank.extend(&self.value, &entry.extended(bank));
        if let Some(padded) = &mut self.padded {
            let mut digest = if violation { vec![0xff; bank.length()] } else { sha1 };
            digest.resize(bank.length(), 0);
            *padded = bank.extend(padded, &digest);
            self.reached_by_padding |= quoted == Some(padded);
        }

        self.seen.entries = at.saturating_add(1);
        if violation {
            self.seen.violations = self.seen.violations.saturating_add(1);
            self.violation.get_or_insert(at);
        } else if let Ok((file, name)) = entry.file()
            && name != BOOT_AGGREGATE
        {
            self.seen.files = self.seen.files.saturating_add(1);
            if allow.is_some_and(|allow| !allow.admits(&entry)) {
                let named = || format!("{name:.200} {}:{}", file.algorithm, hex(file.digest));
                self.foreign.get_or_insert_with(|| (at, named()));
            }
        }
        if quoted == Some(&self.value) {
            self.covered = Some(self.seen);
        }
        self.first.get_or_insert(entry);
    }

    fn check_replay(&self, bank: Bank, quoted: Option<&[u8]>, checks: &mut Checks) {
        checks.require(
            "ima.template",
            self.wrong_hash.is_none(),
            || self.wrong_hash.map_or_else(|| "every one".into(), |at| format!("entry {at} states another hash")),
            || "the hash of its data in every entry".into(),
            "hash of every entry, recomputed from its data",
        );
        let Some(quoted) = quoted else {
            checks.missing("ima.pcr", format!("the quoted {bank} value of PCR 10"), "PCR 10, against the replay");
            return;
        };
        let total = self.seen.entries;
        let reached = || match self.covered {
            Some(covered) => format!("after {} of {total} entries", covered.entries),
            // What a kernel extends that had no hash of the bank when it started
            // is worth no more than SHA-1.
            None if self.reached_by_padding => "reached by SHA-1 digests with zeroes behind".into(),
            None => "reached after no entry".into(),
        };
        checks.require(
            "ima.pcr",
            self.covered.is_some(),
            || format!("{bank}:{}, {}", hex(quoted), reached()),
            || "the value after some entry of the list".into(),
            "PCR 10, against the replay of the list",
        );
    }

    /// Only somebody who says which files may be there can say that one was not
    /// the file that it seemed to be. What the PCR does not cover does not count.
    fn check_files(&self, covered: Seen, allow: &AllowList, checks: &mut Checks) {
        let within = |at: &usize| *at < covered.entries;
        let violation = self.violation.filter(within);
        checks.require(
            "ima.violations",
            violation.is_none(),
            || violation.map_or_else(|| "none".into(), |at| format!("entry {at}")),
            || "none".into(),
            "files that changed while they were measured",
        );
        let foreign = self.foreign.as_ref().filter(|(at, _)| within(at));
        checks.require(
            "ima.files",
            foreign.is_none(),
            || foreign.map_or_else(|| format!("{} files, all allowed", covered.files), |(_, named)| named.clone()),
            || format!("one of {} allowed digests for every file", allow.len()),
            "measured files, against the allow list",
        );
    }
}

/// The list begins with the boot: without that, entries may be of another one.
/// Where the PCRs of that boot are known, they must be the ones of the aggregate.
fn check_boot_aggregate(first: Option<&Entry>, values: &PcrValues, checks: &mut Checks) {
    let file = first.and_then(|entry| entry.file().ok());
    let name = file.as_ref().map_or("nothing", |(_, name)| name);
    let boots = file.as_ref().and_then(|(file, _)| aggregates(Bank::from_name(file.algorithm)?, values));
    let of_this_boot = match (&file, &boots) {
        (Some((file, _)), Some(boots)) => boots.iter().any(|boot| boot == file.digest),
        _ => true,
    };
    checks.require(
        "ima.boot_aggregate",
        name == BOOT_AGGREGATE && of_this_boot,
        || match &file {
            Some((file, BOOT_AGGREGATE)) => format!("{}:{}", file.algorithm, hex(file.digest)),
            _ => name.chars().take(80).collect(),
        },
        || match &boots {
            Some(boots) => {
                format!("{BOOT_AGGREGATE} {}", boots.iter().map(|b| hex(b)).collect::<Vec<_>>().join(" or "))
            }
            None => BOOT_AGGREGATE.into(),
        },
        "first entry of the list, against the PCRs of the boot where they are known",
    );
}

/// The aggregates that a kernel makes of a boot with these PCRs: over PCR 0 to 9,
/// and with SHA-1 and before Linux 5.8 over PCR 0 to 7. None where a value lacks.
fn aggregates(bank: Bank, values: &PcrValues) -> Option<Vec<Vec<u8>>> {
    let over = |end: u8| Some(bank.hash(&(0..end).map(|pcr| values.value(bank, pcr)).collect::<Option<Vec<_>>>()?));
    Some(vec![over(PCR)?, over(8)?])
}
