#![cfg(test)]
//! Real measurement lists, with the outcome that the manifest states.

mod common;

use std::io::{BufReader, Read};

use portcullis_attest::check::{Checks, Verdict};
use portcullis_attest::ima::{AllowList, Entries, Entry, ListError, MAX_LENGTH, Template, verify};
use portcullis_attest::tpm::pcr::{Bank, PcrValues};
use portcullis_wire::hex::{hex, unhex};

/// Every PCR of the folder.
fn pcrs(folder: &std::path::Path) -> PcrValues {
    let json: serde_json::Value = serde_json::from_slice(&common::read(&folder.join("pcrs.json"))).unwrap();
    let mut values = PcrValues::default();
    for (bank, of_bank) in json.as_object().unwrap() {
        for (pcr, value) in of_bank.as_object().unwrap() {
            let value = unhex(value.as_str().unwrap()).unwrap();
            assert!(values.insert(Bank::from_name(bank).unwrap(), pcr.parse().unwrap(), value));
        }
    }
    values
}

/// The same values, with one bit of one PCR changed.
fn changed(values: &PcrValues, bank: Bank, pcr: u8) -> PcrValues {
    let mut other = PcrValues::default();
    for (of, at, value) in values.iter() {
        let mut value = value.to_vec();
        if (of, at) == (bank, pcr) {
            value[7] ^= 1;
        }
        assert!(other.insert(of, at, value));
    }
    other
}

fn entries(bytes: &[u8]) -> Result<Vec<Entry>, ListError> {
    Entries::of(bytes)?.collect()
}

/// PCR 10 alone.
fn quoted(bank: Bank, value: Vec<u8>) -> PcrValues {
    let mut values = PcrValues::default();
    assert!(values.insert(bank, 10, value));
    values
}

fn refused(checks: &Checks) -> Vec<&str> {
    checks.refused().map(|check| check.id.as_ref()).collect()
}

#[test]
fn h12ssl_is_vouched_for_by_its_sha1_bank_alone() {
    let Some(root) = common::vectors("ima/h12ssl") else { return };
    let list = common::read(&root.join("binary_runtime_measurements"));
    // SHA-1 leads to the PCR, but nobody should trust SHA-1: no check fails,
    // and the verdict names the bank.
    let mut checks = Checks::all();
    assert!(verify(&list[..], Bank::Sha1, &pcrs(&root), None, &mut checks).is_none());
    assert_eq!((checks.verdict(), refused(&checks)), (Verdict::Undetermined, vec!["ima.bank"]));
    let covered = checks.list().iter().find(|check| check.id == "ima.pcr").unwrap();
    assert!(covered.found.as_ref().unwrap().ends_with("after 2364 of 2365 entries"), "{covered}");

    let mut checks = Checks::all();
    assert!(verify(&list[..], Bank::Sha256, &pcrs(&root), None, &mut checks).is_none());
    assert_eq!(refused(&checks), ["ima.pcr"]);

    let mut checks = Checks::all();
    assert!(verify(&list[..], Bank::Sha1, &changed(&pcrs(&root), Bank::Sha1, 10), None, &mut checks).is_none());
    assert_eq!(refused(&checks), ["ima.pcr", "ima.bank"]);
}

/// The list states digests of the boot, which the PCRs of the same machine confirm.
#[test]
fn h12ssl_begins_with_the_digest_of_its_boot() {
    let Some(root) = common::vectors("ima/h12ssl") else { return };
    let bytes = common::read(&root.join("binary_runtime_measurements"));
    let list = entries(&bytes).unwrap();
    assert_eq!(list.len(), 2365);
    let (digest, name) = list[0].file().unwrap();
    let values = pcrs(&root);
    let of_boot: Vec<u8> = (0..8).flat_map(|pcr| values.value(Bank::Sha1, pcr).unwrap().to_vec()).collect();
    assert!(name == "boot_aggregate" && digest.algorithm == "sha1");
    assert_eq!(hex(digest.digest), hex(&Bank::Sha1.hash(&[&of_boot])));
    // With the PCRs of another boot, the list is not one of this.
    for pcr in 0..8 {
        let mut checks = Checks::all();
        assert!(verify(&bytes[..], Bank::Sha1, &changed(&values, Bank::Sha1, pcr), None, &mut checks).is_none());
        assert_eq!(refused(&checks), ["ima.boot_aggregate", "ima.bank"], "PCR {pcr}");
    }
}

/// A kernel that had no SHA-384 when it started extends that bank with SHA-1
/// digests and zeroes (seen on Linux 6.1): no check but SHA-1's would hold.
#[test]
fn sha1_digests_with_zeroes_behind_vouch_for_nothing() {
    let aggregate = digest_field("sha256", &[1; 32]);
    let bytes = list("ima-ng", &[&[&aggregate, b"boot_aggregate\0"]]);
    let digest = entries(&bytes).unwrap()[0].hash(Bank::Sha1);
    let padded = [&digest[..], &[0; 28]].concat();
    let values = quoted(Bank::Sha384, Bank::Sha384.extend(&Bank::Sha384.initial(10), &padded));
    let mut checks = Checks::all();
    assert!(verify(&bytes[..], Bank::Sha384, &values, None, &mut checks).is_none());
    assert_eq!(refused(&checks), ["ima.pcr"]);
    let check = checks.refused().next().unwrap();
    assert!(check.found.as_ref().unwrap().ends_with("reached by SHA-1 digests with zeroes behind"), "{check}");
}

/// From Linux 5.8 the aggregate is over PCR 0 to 9 of the list's own algorithm.
#[test]
fn aggregates_of_ten_registers_and_of_eight() {
    for registers in [8_u8, 10] {
        let mut values = PcrValues::default();
        (0..10).for_each(|pcr| assert!(values.insert(Bank::Sha256, pcr, vec![pcr; 32])));
        let of_boot: Vec<u8> = (0..registers).flat_map(|pcr| [pcr; 32]).collect();
        let aggregate = digest_field("sha256", &Bank::Sha256.hash(&[&of_boot]));
        let bytes = list("ima-ng", &[&[&aggregate, b"boot_aggregate\0"]]);
        assert!(values.insert(Bank::Sha256, 10, value_of(&bytes, Bank::Sha256)));
        assert!(verify(&bytes[..], Bank::Sha256, &values, None, &mut Checks::all()).is_some());
        let mut checks = Checks::all();
        assert!(verify(&bytes[..], Bank::Sha256, &changed(&values, Bank::Sha256, 0), None, &mut checks).is_none());
        assert_eq!(refused(&checks), ["ima.boot_aggregate"]);
    }
}

#[test]
fn ascii_lists_parse_and_what_is_none_does_not() {
    let Some(root) = common::vectors("ima/keylime-ascii") else { return };
    let bytes = common::read(&root.join("ascii_runtime_measurements"));
    let list = entries(&bytes).unwrap();
    assert_eq!(list.len(), 826);
    // The kernel's hashes are those of the data that we put together.
    for entry in list {
        assert_eq!(entry.template, Template::ImaNg);
        assert_eq!(entry.template_hash, *entry.hash(Bank::Sha1), "{:?}", entry.file());
    }
    assert_eq!(entries(&common::read(&root.join("invalid_ima_log.txt"))), Err(ListError::Entry(0)));
    let bytes = common::read(&root.join("ima_log.txt"));
    assert_eq!(entries(&bytes).unwrap().len(), 1);
}

/// A list in the kernel's binary form, of entries with these fields.
fn list(template: &str, entries: &[&[&[u8]]]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for fields in entries {
        let counted = |field: &&[u8]| [&u32::try_from(field.len()).unwrap().to_le_bytes()[..], field].concat();
        let data: Vec<u8> = fields.iter().flat_map(counted).collect();
        bytes.extend(10_u32.to_le_bytes());
        bytes.extend(Bank::Sha1.hash(&[&data]));
        bytes.extend(u32::try_from(template.len()).unwrap().to_le_bytes());
        bytes.extend(template.as_bytes());
        bytes.extend(u32::try_from(data.len()).unwrap().to_le_bytes());
        bytes.extend(data);
    }
    bytes
}

fn digest_field(algorithm: &str, digest: &[u8]) -> Vec<u8> {
    [algorithm.as_bytes(), b":\0", digest].concat()
}

/// PCR 10 after a list.
fn value_of(bytes: &[u8], bank: Bank) -> Vec<u8> {
    entries(bytes).unwrap().iter().fold(bank.initial(10), |value, entry| bank.extend(&value, &entry.extended(bank)))
}

#[test]
fn several_algorithms_signatures_and_allow_lists() {
    let aggregate = digest_field("sha256", &[1; 32]);
    let (a, b) = (digest_field("sha256", &[2; 32]), digest_field("sha512", &[3; 64]));
    let bytes = list(
        "ima-sig",
        &[
            &[&aggregate, b"boot_aggregate\0", b""],
            &[&a, b"/usr/bin/a\0", b"\x03\x02\x04signature"],
            &[&b, b"/usr/bin/b c\0", b""],
        ],
    );
    let signed: Vec<bool> = entries(&bytes).unwrap().iter().map(|entry| entry.signature().is_some()).collect();
    assert_eq!(signed, [false, true, false]);
    for bank in [Bank::Sha256, Bank::Sha384, Bank::Sha512] {
        let value = value_of(&bytes, bank);
        let good = AllowList::parse(format!("{}  a\n# comment\n{}  b\n", "02".repeat(32), "03".repeat(64))).unwrap();
        let mut checks = Checks::all();
        let verified = verify(&bytes[..], bank, &quoted(bank, value.clone()), Some(&good), &mut checks).unwrap();
        assert_eq!((verified.covered(), verified.beyond()), (3, 0));
        let less = AllowList::parse(format!("{}  a\n", "02".repeat(32))).unwrap();
        let mut checks = Checks::all();
        assert!(verify(&bytes[..], bank, &quoted(bank, value.clone()), Some(&less), &mut checks).is_none());
        assert_eq!(refused(&checks), ["ima.files"]);
    }
}

/// Whoever edits the list cannot edit the PCR: every byte counts.
#[test]
fn no_changed_byte_of_a_list_passes() {
    let aggregate = digest_field("sha256", &[1; 32]);
    let a = digest_field("sha256", &[2; 32]);
    let bytes = list("ima-ng", &[&[&aggregate, b"boot_aggregate\0"], &[&a, b"/init\0"]]);
    let value = value_of(&bytes, Bank::Sha256);
    for at in 0..bytes.len() {
        let mut changed = bytes.clone();
        changed[at] ^= 1;
        let mut checks = Checks::refusals();
        assert!(
            verify(&changed[..], Bank::Sha256, &quoted(Bank::Sha256, value.clone()), None, &mut checks).is_none(),
            "byte {at}"
        );
    }
    let mut checks = Checks::refusals();
    assert!(verify(&bytes[..], Bank::Sha256, &quoted(Bank::Sha256, value.clone()), None, &mut checks).is_some());
    // A list without its end is not the list, and one that goes on is, up to there.
    let first = bytes.len() - bytes.len() / 2;
    assert!(entries(&bytes[..first]).is_err());
    let longer = [bytes.clone(), list("ima-ng", &[&[&a, b"/later\0"]])].concat();
    let mut checks = Checks::refusals();
    let verified = verify(&longer[..], Bank::Sha256, &quoted(Bank::Sha256, value.clone()), None, &mut checks).unwrap();
    assert_eq!((verified.covered(), verified.beyond()), (2, 1));
}

#[test]
fn a_file_that_changed_while_it_was_measured_is_told() {
    let aggregate = digest_field("sha256", &[1; 32]);
    let mut bytes = list("ima-ng", &[&[&aggregate, b"boot_aggregate\0"], &[&aggregate, b"/etc/x\0"]]);
    let second = bytes.len() / 2;
    let at = bytes.windows(6).rposition(|window| window == b"ima-ng").unwrap() - 24;
    assert!(at > second / 2);
    bytes[at..at + 20].fill(0);
    let value = value_of(&bytes, Bank::Sha256);
    let mut checks = Checks::all();
    let verified = verify(&bytes[..], Bank::Sha256, &quoted(Bank::Sha256, value.clone()), None, &mut checks).unwrap();
    assert_eq!(verified.violations(), 1);
    let allow = AllowList::parse(format!("{}  x\n", "01".repeat(32))).unwrap();
    let mut checks = Checks::all();
    assert!(
        verify(&bytes[..], Bank::Sha256, &quoted(Bank::Sha256, value.clone()), Some(&allow), &mut checks).is_none()
    );
    assert_eq!(refused(&checks), ["ima.violations"]);
}

/// However the bytes come, and whatever happens on the way.
#[test]
fn lists_are_read_as_they_come_and_within_limits() {
    let entry = |name: &[u8]| list("ima-ng", &[&[&digest_field("sha256", &[2; 32]), name]]);
    let bytes = [entry(b"/a\0"), entry(b"/b\0"), entry(b"/c\0")].concat();
    let ascii = format!("10 {} ima-ng sha256:{}  /a b\r\n\n", "00".repeat(20), "02".repeat(32));
    for bytes in [&bytes[..], ascii.as_bytes()] {
        let whole = entries(bytes).unwrap();
        for capacity in [1, 2, 3, 7] {
            let slow = Entries::of(BufReader::with_capacity(capacity, bytes)).unwrap();
            assert_eq!(slow.collect::<Result<Vec<_>, _>>().unwrap(), whole, "{capacity}");
        }
    }
    assert_eq!(entries(&bytes[..bytes.len() - 1]), Err(ListError::Entry(2)));
    for nothing in [&b""[..], b"10 \n", b"\n\n"] {
        assert!(entries(nothing).is_err(), "{nothing:?}");
    }

    // Entries of a megabyte, more of them than a list may have.
    let large = entry(&[b'x'; 1_000_000]);
    let count = usize::try_from(MAX_LENGTH).unwrap() / large.len();
    let read = |count: usize| Entries::of(BufReader::new(large.repeat(count).as_slice())).unwrap().last().unwrap();
    assert!(read(count).is_ok());
    assert_eq!(read(count + 1), Err(ListError::TooLarge));

    struct Broken;
    impl Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
            Err(std::io::ErrorKind::ConnectionReset.into())
        }
    }
    let broken = || BufReader::new(bytes.as_slice().chain(Broken));
    let unreadable = ListError::Unreadable(std::io::ErrorKind::ConnectionReset);
    assert_eq!(Entries::of(broken()).unwrap().last(), Some(Err(unreadable)));
    let mut checks = Checks::all();
    assert!(verify(broken(), Bank::Sha256, &PcrValues::default(), None, &mut checks).is_none());
    assert_eq!(refused(&checks), ["ima.form"]);
}
