//! From a list to the part of it that a quoted PCR vouches for.

use super::allow::AllowList;
use super::parse::{Entry, List};
use crate::check::Checks;
use crate::tpm::pcr::{Bank, PcrValues};
use portcullis_wire::hex::hex;

/// The PCR of Linux's integrity measurement architecture.
pub const PCR: u8 = 10;
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

/// Verifies a list against the value of PCR 10 in one bank, its beginning
/// against the PCRs of the boot where they are among the values, and its files
/// against an allow list where there is one.
pub fn verify<'a>(
    bytes: &'a [u8],
    bank: Bank,
    values: &PcrValues,
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
    let covered = replay(&list, bank, values.value(bank, PCR), checks);
    check_boot_aggregate(&list, values, checks);
    let covered = covered?;
    let verified = VerifiedList { list, covered };
    check_files(&verified, allow, checks);
    checks.passed().then_some(verified)
}

/// Walks the list once: every stated hash is recomputed, and the PCR is looked
/// for after every entry. Returns how many entries it covers.
fn replay(list: &List<'_>, bank: Bank, quoted: Option<&[u8]>, checks: &mut Checks) -> Option<usize> {
    let mut value = bank.initial(PCR);
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
            None if padded(list, bank, quoted) => {
                format!("{bank}:{}, reached by SHA-1 digests with zeroes behind", hex(quoted))
            }
            None => format!("{bank}:{}, reached after no entry", hex(quoted)),
        },
        || "the value after some entry of the list".into(),
        "PCR 10, against the replay of the list",
    );
    covered
}

/// Whether SHA-1 digests filled up with zeroes lead to the value: what a kernel
/// extends that had no hash of the bank when it started, and worth no more than
/// SHA-1.
fn padded(list: &List<'_>, bank: Bank, quoted: &[u8]) -> bool {
    let mut value = bank.initial(PCR);
    list.entries().iter().any(|entry| {
        let mut digest = entry.extended(if entry.is_violation() { bank } else { Bank::Sha1 });
        digest.resize(bank.length(), 0);
        value = bank.extend(&value, &digest);
        value == quoted
    })
}

/// The list begins with the boot: without that, entries may be of another one.
/// Where the PCRs of that boot are known, they must be the ones of the aggregate.
fn check_boot_aggregate(list: &List<'_>, values: &PcrValues, checks: &mut Checks) {
    let file = list.entries().first().and_then(|entry| entry.file().ok());
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
