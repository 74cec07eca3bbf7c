//! Determines the part of a list that quoted PCRs vouch for.

use std::collections::BTreeMap;
use std::io::BufRead;

use super::allow::AllowList;
use super::entry::Entry;
use super::parse::{Entries, ListError};
use crate::check::Checks;
use crate::eventlog::Replayed;
use crate::tpm::pcr::{Bank, PcrSet, PcrValues};
use portcullis_wire::hex::hex;

/// The default PCR of Linux's integrity measurement architecture.
pub const PCR: u8 = 10;
/// The first entry's name: a digest over the PCRs of the boot.
const BOOT_AGGREGATE: &str = "boot_aggregate";
/// Longest part of a file's name that a message repeats, in characters.
const SHOWN: usize = 200;

/// The part of a list that leads to the quoted PCRs. Only [`verify`] and
/// [`verify_after`] make one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VerifiedList {
    covered: Seen,
    total: usize,
    pcrs: PcrSet,
}

impl VerifiedList {
    /// Number of entries that the PCRs cover, counted from the first entry of each PCR.
    #[must_use]
    pub const fn covered(&self) -> usize {
        self.covered.entries
    }

    /// Number of them that are files which changed while they were measured.
    #[must_use]
    pub const fn violations(&self) -> usize {
        self.covered.violations
    }

    /// Number of entries beyond the covered ones. No PCR vouches for them.
    #[must_use]
    pub const fn beyond(&self) -> usize {
        self.total.saturating_sub(self.covered.entries)
    }

    /// The PCRs to whose values the list leads.
    #[must_use]
    pub const fn pcrs(&self) -> PcrSet {
        self.pcrs
    }
}

/// The PCRs for which a list has entries.
///
/// # Errors
/// [`ListError`].
pub fn pcrs(list: impl BufRead) -> Result<PcrSet, ListError> {
    let mut found = [false; 24];
    for entry in Entries::of(list)? {
        if let Some(seen) = found.get_mut(usize::from(entry?.pcr)) {
            *seen = true;
        }
    }
    Ok(PcrSet::of((0..).zip(found).filter(|(_, seen)| *seen).map(|(pcr, _)| pcr)))
}

/// Verifies a list that starts from the PCRs' reset values; see [`verify_after`].
pub fn verify(
    list: impl BufRead,
    bank: Bank,
    values: &PcrValues,
    allow: Option<&AllowList>,
    checks: &mut Checks,
) -> Option<VerifiedList> {
    verify_after(list, &Replayed::nothing(bank), values, allow, checks)
}

/// Verifies a list against the PCR values of one bank, starting from the values to
/// which the event log leads. If the PCRs of the boot are among the values, the first
/// entry is checked against them. If there is an allow list, the files are checked
/// against it. Every PCR with entries needs its value. The list is read once and not
/// stored.
/// PCR with entries needs its value. The list is read once and not kept.
pub fn verify_after(
    list: impl BufRead,
    log: &Replayed,
    values: &PcrValues,
    allow: Option<&AllowList>,
    checks: &mut Checks,
) -> Option<VerifiedList> {
    let bank = log.bank();
    let walked = Walk::over(list, log, values, allow);
    let walk = checks.step("ima.form", walked, "an IMA measurement list", "form of the measurement list")?;
    if bank == Bank::Sha1 {
        checks.missing("ima.bank", "PCR values of a bank stronger than SHA-1", "bank that vouches for the list");
    } else {
        checks.require("ima.bank", true, || bank.to_string(), || "no SHA-1".into(), "bank that vouches for the list");
    }
    walk.check_hashes(checks);
    walk.chains.iter().for_each(|(pcr, chain)| chain.check(*pcr, bank, checks));
    check_boot_aggregate(walk.first.as_ref(), values, checks);
    let covered = walk.covered()?;
    if let Some(allow) = allow {
        walk.check_files(covered, allow, checks);
    }
    let pcrs = PcrSet::of(walk.chains.keys().copied());
    checks.passed().then_some(VerifiedList { covered, total: walk.entries, pcrs })
}

/// Counts up to some entry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Seen {
    entries: usize,
    violations: usize,
    /// Entries that are files, without the boot aggregate.
    files: usize,
}

impl Seen {
    const fn and(self, other: Self) -> Self {
        Self {
            entries: self.entries.saturating_add(other.entries),
            violations: self.violations.saturating_add(other.violations),
            files: self.files.saturating_add(other.files),
        }
    }
}

/// The entries of one PCR.
struct Chain {
    quoted: Option<Vec<u8>>,
    value: Vec<u8>,
    /// The value if the kernel had padded SHA-1 digests with zeroes, and whether it
    /// equalled the quoted one at some entry. Every kernel that supports banks has SHA-256.
    padded: Option<Vec<u8>>,
    reached_by_padding: bool,
    seen: Seen,
    /// The counts when the value last equalled the quoted one.
    covered: Option<Seen>,
    /// The first of its kind: the number of entries of the PCR up to it, and its
    /// description.
    violation: Option<(usize, String)>,
    foreign: Option<(usize, String)>,
}

impl Chain {
    /// The PCR before the list. If it is not the PCR of the first entry, it may have had no
    /// entry at the time of the quote.
    fn of(pcr: u8, log: &Replayed, values: &PcrValues, first: bool) -> Self {
        let (bank, value) = (log.bank(), log.value(pcr));
        let quoted = values.value(bank, pcr).map(<[u8]>::to_vec);
        Self {
            covered: (!first && quoted.as_ref() == Some(&value)).then(Seen::default),
            padded: (bank > Bank::Sha256).then(|| value.clone()),
            reached_by_padding: false,
            seen: Seen::default(),
            violation: None,
            foreign: None,
            quoted,
            value,
        }
    }

    /// Extends by an entry, and compares with the quoted value.
    fn take(&mut self, at: usize, entry: &Entry, bank: Bank, hash: Option<Vec<u8>>, allow: Option<&AllowList>) {
        let violation = entry.is_violation();
        let extended = hash.unwrap_or_else(|| entry.extended(bank));
        self.value = bank.extend(&self.value, &extended);
        if let Some(padded) = &mut self.padded {
            let mut digest = if violation { extended } else { entry.hash(Bank::Sha1) };
            digest.resize(bank.length(), 0);
            *padded = bank.extend(padded, &digest);
            self.reached_by_padding |= self.quoted.as_ref() == Some(padded);
        }
        self.seen.entries = self.seen.entries.saturating_add(1);
        if violation {
            self.seen.violations = self.seen.violations.saturating_add(1);
            self.violation.get_or_insert_with(|| (self.seen.entries, format!("entry {at}")));
        } else if let Ok((file, name)) = entry.file()
            && name != BOOT_AGGREGATE
        {
            self.seen.files = self.seen.files.saturating_add(1);
            if allow.is_some_and(|allow| !allow.admits(entry)) {
                let name = || name.to_string().chars().take(SHOWN).collect::<String>();
                let named = || format!("{} {}:{}{}", name(), file.algorithm, hex(file.digest), weak(file.algorithm));
                self.foreign.get_or_insert_with(|| (self.seen.entries, named()));
            }
        }
        if self.quoted.as_ref() == Some(&self.value) {
            self.covered = Some(self.seen);
        }
    }

    fn check(&self, pcr: u8, bank: Bank, checks: &mut Checks) {
        const DETAIL: &str = "PCR values, against the replay of the list";
        let Some(quoted) = &self.quoted else {
            checks.missing(
                "ima.pcr",
                format!("the quoted {bank} value of PCR {pcr}, which the list has entries for"),
                DETAIL,
            );
            return;
        };
        let reached = || match self.covered {
            Some(covered) => format!("after {} of {} entries", covered.entries, self.seen.entries),
            // A kernel that had no hash of the bank at its start extends padded SHA-1 digests,
            // which prove no more than SHA-1.
            None if self.reached_by_padding => "reached by SHA-1 digests with zeroes behind".into(),
            None => "reached after no entry".into(),
        };
        checks.require(
            "ima.pcr",
            self.covered.is_some(),
            || format!("PCR {pcr} {bank}:{}, {}", hex(quoted), reached()),
            || format!("the value of PCR {pcr} after some entry of the list"),
            DETAIL,
        );
    }

    /// The first violation, or the first foreign file, that the PCR covers.
    fn within<'a>(&self, first: Option<&'a (usize, String)>) -> Option<&'a String> {
        let covered = self.covered.map_or(0, |covered| covered.entries);
        first.filter(|(entries, _)| *entries <= covered).map(|(_, what)| what)
    }
}

/// The state after one pass over a list, of constant size.
struct Walk {
    /// The bank of the listed template hashes.
    stated: Bank,
    chains: BTreeMap<u8, Chain>,
    entries: usize,
    first: Option<Entry>,
    /// The first entry whose listed hash is wrong, and what the listed value is.
    wrong_hash: Option<(usize, &'static str)>,
}

impl Walk {
    fn over(
        list: impl BufRead,
        log: &Replayed,
        values: &PcrValues,
        allow: Option<&AllowList>,
    ) -> Result<Self, ListError> {
        let entries = Entries::of(list)?;
        let stated = entries.bank();
        let mut walk = Self { stated, chains: BTreeMap::new(), entries: 0, first: None, wrong_hash: None };
        for entry in entries {
            walk.take(entry?, log, values, allow);
        }
        Ok(walk)
    }

    /// Recomputes the hash of an entry, and passes the entry to its PCR.
    fn take(&mut self, entry: Entry, log: &Replayed, values: &PcrValues, allow: Option<&AllowList>) {
        let at = self.entries;
        let hash = (!entry.is_violation()).then(|| entry.hash(self.stated));
        if hash.as_ref().is_some_and(|hash| *hash != entry.template_hash) {
            self.wrong_hash.get_or_insert_with(|| (at, instead(&entry, self.stated)));
        }
        let first = self.chains.is_empty();
        let chain = self.chains.entry(entry.pcr).or_insert_with(|| Chain::of(entry.pcr, log, values, first));
        chain.take(at, &entry, log.bank(), hash.filter(|_| self.stated == log.bank()), allow);
        self.entries = at.saturating_add(1);
        self.first.get_or_insert(entry);
    }

    /// The counts that the PCRs cover; `None` if one of them is not reached.
    fn covered(&self) -> Option<Seen> {
        self.chains.values().try_fold(Seen::default(), |sum, chain| Some(sum.and(chain.covered?)))
    }

    fn check_hashes(&self, checks: &mut Checks) {
        let stated = self.stated;
        checks.require(
            "ima.template",
            self.wrong_hash.is_none(),
            || self.wrong_hash.map_or_else(|| "every one".into(), |(at, what)| format!("entry {at} states {what}")),
            || format!("the {stated} hash of its data in every entry"),
            "hash of every entry, recomputed from its data",
        );
    }

    /// Checks the files against the allow list. Without one, a substituted file cannot be
    /// detected. Entries that the PCRs do not cover do not count.
    fn check_files(&self, covered: Seen, allow: &AllowList, checks: &mut Checks) {
        let violation = self.chains.values().find_map(|chain| chain.within(chain.violation.as_ref()));
        checks.require(
            "ima.violations",
            violation.is_none(),
            || violation.cloned().unwrap_or_else(|| "none".into()),
            || "none".into(),
            "files that changed while they were measured",
        );
        let foreign = self.chains.values().find_map(|chain| chain.within(chain.foreign.as_ref()));
        checks.require(
            "ima.files",
            foreign.is_none(),
            || foreign.cloned().unwrap_or_else(|| format!("{} files, all allowed", covered.files)),
            || format!("one of {} allowed digests for every file", allow.len()),
            "measured files, against the allow list",
        );
    }
}

/// Description of a listed hash that is not the hash of the entry's data.
fn instead(entry: &Entry, stated: Bank) -> &'static str {
    let mut padded = entry.hash(Bank::Sha1);
    padded.resize(stated.length(), 0);
    match stated {
        _ if entry.template_hash == padded => {
            "its SHA-1 hash with zeroes behind: the kernel had no hash of this bank; read the list of another one"
        }
        Bank::Sha256 => {
            "another hash; if the list is that of the bank sm3_256, which is not supported, read the one of sha256"
        }
        _ => "another hash",
    }
}

/// The remedy for digests that no allow list accepts.
fn weak(algorithm: &str) -> &'static str {
    match algorithm {
        "sha1" | "md5" => ", which no allow list can have: boot with ima_hash=sha256",
        _ => "",
    }
}

/// Checks that the list begins with the boot aggregate; otherwise entries may belong to
/// another boot. If the PCRs of that boot are known, they must match the aggregate.
fn check_boot_aggregate(first: Option<&Entry>, values: &PcrValues, checks: &mut Checks) {
    let file = first.and_then(|entry| entry.file().ok());
    let named = file.as_ref().is_some_and(|(_, name)| *name == BOOT_AGGREGATE);
    let boots = file.as_ref().and_then(|(file, _)| aggregates(Bank::from_name(file.algorithm)?, values));
    let of_this_boot = match (&file, &boots) {
        (Some((file, _)), Some(boots)) => boots.iter().any(|boot| boot == file.digest),
        _ => true,
    };
    checks.require(
        "ima.boot_aggregate",
        named && of_this_boot,
        || match &file {
            Some((file, _)) if named => format!("{}:{}", file.algorithm, hex(file.digest)),
            Some((_, name)) => name.to_string().chars().take(80).collect(),
            None => "nothing".into(),
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

/// The aggregates that a kernel computes for a boot with these PCRs: over PCR 0 to 9,
/// and with SHA-1 and before Linux 5.8 over PCR 0 to 7. `None` if a value is missing.
fn aggregates(bank: Bank, values: &PcrValues) -> Option<Vec<Vec<u8>>> {
    let over = |end: u8| Some(bank.hash(&(0..end).map(|pcr| values.value(bank, pcr)).collect::<Option<Vec<_>>>()?));
    Some(vec![over(PCR)?, over(8)?])
}
