//! From a list to the part of it that a quoted PCR vouches for.

use super::allow::AllowList;
use super::parse::{Entry, List};
use crate::check::Checks;
use crate::tpm::pcr::Bank;
use portcullis_wire::hex::hex;

/// The first entry's name: a digest over the PCRs of the boot.
const BOOT_AGGREGATE: &str = "boot_aggregate";

/// The entries that lead to the quoted PCR. Only [`verify`] makes one.
#[derive(Clone, Debug)]
pub struct VerifiedList<'a> {
    list: List<'a>,
    covered: usize,
}

impl<'a> VerifiedList<'a> {
    /// What the PCR covers.
    #[must_use]
    pub fn entries(&self) -> &[Entry<'a>] {
        self.list.entries().get(..self.covered).unwrap_or_default()
    }

    /// How many of them are files that changed while they were measured.
    #[must_use]
    pub fn violations(&self) -> usize {
        self.entries().iter().filter(|entry| entry.is_violation()).count()
    }

    /// How many entries the list has beyond that. Nothing vouches for them.
    #[must_use]
    pub fn beyond(&self) -> usize {
        self.list.entries().len().saturating_sub(self.covered)
    }
}

/// Verifies a list against the value of PCR 10 in one bank, and its files
/// against an allow list where there is one.
pub fn verify<'a>(
    bytes: &'a [u8],
    bank: Bank,
    quoted: Option<&[u8]>,
    allow: Option<&AllowList>,
    checks: &mut Checks,
) -> Option<VerifiedList<'a>> {
    let parsed = List::parse(bytes);
    let list = checks.step("ima.form", parsed, "an IMA measurement list", "form of the measurement list")?;
    if bank == Bank::Sha1 {
        checks.missing("ima.bank", "PCR 10 of a bank stronger than SHA-1", "bank that vouches for the list");
    } else {
        checks.require("ima.bank", true, || bank.to_string(), || "no SHA-1".into(), "bank that vouches for the list");
    }
    let covered = replay(&list, bank, quoted, checks);
    check_boot_aggregate(&list, checks);
    let covered = covered?;
    let verified = VerifiedList { list, covered };
    check_files(&verified, allow, checks);
    checks.passed().then_some(verified)
}

/// Walks the list once: every stated hash is recomputed, and the PCR is looked
/// for after every entry. Returns how many entries it covers.
fn replay(list: &List<'_>, bank: Bank, quoted: Option<&[u8]>, checks: &mut Checks) -> Option<usize> {
    let mut value = bank.initial(10);
    let (mut covered, mut wrong) = (None, None);
    for (at, entry) in list.entries().iter().enumerate() {
        let stated = || *entry.template_hash == *entry.hash(Bank::Sha1);
        if wrong.is_none() && !entry.is_violation() && !stated() {
            wrong = Some(at);
        }
        value = bank.extend(&value, &entry.extended(bank));
        if quoted == Some(value.as_slice()) {
            covered = Some(at.saturating_add(1));
        }
    }
    checks.require(
        "ima.template",
        wrong.is_none(),
        || wrong.map_or_else(|| "every one".into(), |at| format!("entry {at} states another hash")),
        || "the hash of its data in every entry".into(),
        "hash of every entry, recomputed from its data",
    );
    let Some(quoted) = quoted else {
        checks.missing("ima.pcr", format!("the quoted {bank} value of PCR 10"), "PCR 10, against the replay");
        return None;
    };
    let total = list.entries().len();
    checks.require(
        "ima.pcr",
        covered.is_some(),
        || match covered {
            Some(covered) => format!("{bank}:{} after {covered} of {total} entries", hex(quoted)),
            None => format!("{bank}:{}, reached after no entry", hex(quoted)),
        },
        || "the value after some entry of the list".into(),
        "PCR 10, against the replay of the list",
    );
    covered
}

/// The list begins with the boot: without that, entries may be of another one.
fn check_boot_aggregate(list: &List<'_>, checks: &mut Checks) {
    let first = list.entries().first().and_then(|entry| entry.file().ok()).map_or("nothing", |(_, name)| name);
    checks.require(
        "ima.boot_aggregate",
        first == BOOT_AGGREGATE,
        || first.chars().take(80).collect(),
        || BOOT_AGGREGATE.into(),
        "first entry of the list",
    );
}

/// Only somebody who says which files may be there can say that one was not the
/// file that it seemed to be.
fn check_files(list: &VerifiedList<'_>, allow: Option<&AllowList>, checks: &mut Checks) {
    let Some(allow) = allow else { return };
    let violation = list.entries().iter().position(Entry::is_violation);
    checks.require(
        "ima.violations",
        violation.is_none(),
        || violation.map_or_else(|| "none".into(), |at| format!("entry {at}")),
        || "none".into(),
        "files that changed while they were measured",
    );
    let files = || {
        list.entries().iter().filter(|e| !e.is_violation() && e.file().is_ok_and(|(_, name)| name != BOOT_AGGREGATE))
    };
    let foreign = files().find(|entry| !allow.admits(entry));
    checks.require(
        "ima.files",
        foreign.is_none(),
        || match foreign.and_then(|entry| entry.file().ok()) {
            None => format!("{} files, all allowed", files().count()),
            Some((file, name)) => format!("{name:.200} {}:{}", file.algorithm, hex(file.digest)),
        },
        || format!("one of {} allowed digests for every file", allow.len()),
        "measured files, against the allow list",
    );
}
