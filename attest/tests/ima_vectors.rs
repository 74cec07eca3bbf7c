#![cfg(test)]
//! Real measurement lists, with the outcome that the manifest states.

mod common;

use portcullis_attest::check::{Checks, Verdict};
use portcullis_attest::ima::{AllowList, List, ListError, Template, verify};
use portcullis_attest::tpm::pcr::Bank;
use portcullis_wire::hex::{hex, unhex};

fn pcr10(folder: &std::path::Path, bank: &str) -> Vec<u8> {
    let json: serde_json::Value = serde_json::from_slice(&common::read(&folder.join("pcrs.json"))).unwrap();
    unhex(json[bank]["10"].as_str().unwrap()).unwrap()
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
    assert!(verify(&list, Bank::Sha1, Some(&pcr10(&root, "sha1")), None, &mut checks).is_none());
    assert_eq!((checks.verdict(), refused(&checks)), (Verdict::Undetermined, vec!["ima.bank"]));
    let covered = checks.list().iter().find(|check| check.id == "ima.pcr").unwrap();
    assert!(covered.found.as_ref().unwrap().ends_with("after 2364 of 2365 entries"), "{covered}");

    let mut checks = Checks::all();
    assert!(verify(&list, Bank::Sha256, Some(&pcr10(&root, "sha256")), None, &mut checks).is_none());
    assert_eq!(refused(&checks), ["ima.pcr"]);

    let mut other = pcr10(&root, "sha1");
    other[7] ^= 1;
    let mut checks = Checks::all();
    assert!(verify(&list, Bank::Sha1, Some(&other), None, &mut checks).is_none());
    assert_eq!(refused(&checks), ["ima.pcr", "ima.bank"]);
}

/// The list states digests of the boot, which the PCRs of the same machine confirm.
#[test]
fn h12ssl_begins_with_the_digest_of_its_boot() {
    let Some(root) = common::vectors("ima/h12ssl") else { return };
    let bytes = common::read(&root.join("binary_runtime_measurements"));
    let list = List::parse(&bytes).unwrap();
    assert_eq!(list.entries().len(), 2365);
    let (digest, name) = list.entries()[0].file().unwrap();
    let json: serde_json::Value = serde_json::from_slice(&common::read(&root.join("pcrs.json"))).unwrap();
    let pcrs: Vec<u8> = (0..8).flat_map(|n| unhex(json["sha1"][n.to_string()].as_str().unwrap()).unwrap()).collect();
    assert_eq!((name, digest.algorithm), ("boot_aggregate", "sha1"));
    assert_eq!(hex(digest.digest), hex(&Bank::Sha1.hash(&[&pcrs])));
}

#[test]
fn ascii_lists_parse_and_what_is_none_does_not() {
    let Some(root) = common::vectors("ima/keylime-ascii") else { return };
    let bytes = common::read(&root.join("ascii_runtime_measurements"));
    let list = List::parse(&bytes).unwrap();
    assert_eq!(list.entries().len(), 826);
    // The kernel's hashes are those of the data that we put together.
    for entry in list.entries() {
        assert_eq!(entry.template, Template::ImaNg);
        assert_eq!(*entry.template_hash, *entry.hash(Bank::Sha1), "{:?}", entry.file());
    }
    assert_eq!(List::parse(&common::read(&root.join("invalid_ima_log.txt"))), Err(ListError::Entry(0)));
    let bytes = common::read(&root.join("ima_log.txt"));
    assert_eq!(List::parse(&bytes).unwrap().entries().len(), 1);
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
    let list = List::parse(bytes).unwrap();
    list.entries().iter().fold(bank.initial(10), |value, entry| bank.extend(&value, &entry.extended(bank)))
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
    let parsed = List::parse(&bytes).unwrap();
    let signed: Vec<bool> = parsed.entries().iter().map(|entry| entry.signature().is_some()).collect();
    assert_eq!(signed, [false, true, false]);
    for bank in [Bank::Sha256, Bank::Sha384, Bank::Sha512] {
        let value = value_of(&bytes, bank);
        let good = AllowList::parse(&format!("{}  a\n# comment\n{}  b\n", "02".repeat(32), "03".repeat(64))).unwrap();
        let mut checks = Checks::all();
        let verified = verify(&bytes, bank, Some(&value), Some(&good), &mut checks).unwrap();
        assert_eq!((verified.entries().len(), verified.beyond()), (3, 0));
        let less = AllowList::parse(&format!("{}  a\n", "02".repeat(32))).unwrap();
        let mut checks = Checks::all();
        assert!(verify(&bytes, bank, Some(&value), Some(&less), &mut checks).is_none());
        assert_eq!(refused(&checks), ["ima.files"]);
    }
    for weak in ["zz  a", "0202  a", "02020202020202020202020202020202  md5", "no digest"] {
        assert!(AllowList::parse(weak).is_err(), "{weak}");
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
        assert!(verify(&changed, Bank::Sha256, Some(&value), None, &mut checks).is_none(), "byte {at}");
    }
    let mut checks = Checks::refusals();
    assert!(verify(&bytes, Bank::Sha256, Some(&value), None, &mut checks).is_some());
    // A list without its end is not the list, and one that goes on is, up to there.
    let first = bytes.len() - bytes.len() / 2;
    assert!(List::parse(&bytes[..first]).is_err());
    let longer = [bytes.clone(), list("ima-ng", &[&[&a, b"/later\0"]])].concat();
    let mut checks = Checks::refusals();
    let verified = verify(&longer, Bank::Sha256, Some(&value), None, &mut checks).unwrap();
    assert_eq!((verified.entries().len(), verified.beyond()), (2, 1));
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
    let verified = verify(&bytes, Bank::Sha256, Some(&value), None, &mut checks).unwrap();
    assert_eq!(verified.violations(), 1);
    let allow = AllowList::parse(&format!("{}  x\n", "01".repeat(32))).unwrap();
    let mut checks = Checks::all();
    assert!(verify(&bytes, Bank::Sha256, Some(&value), Some(&allow), &mut checks).is_none());
    assert_eq!(refused(&checks), ["ima.violations"]);
}
