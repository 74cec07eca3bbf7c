#![cfg(test)]
//! Measurement lists, judged by `evmctl` of ima-evm-utils as well: where it matches
//! a list with a PCR, so do we, and where it does not, neither do we.

mod common;

use std::fs;
use std::path::Path;
use std::process::Command;

use portcullis_attest::check::{Checks, Outcome};
use portcullis_attest::ima::verify;
use portcullis_attest::tpm::pcr::{Bank, PcrValues};

/// Whether `evmctl` reaches the PCRs of a bank by the list; `None` where it is not
/// installed.
fn theirs(folder: &Path, list: &[u8], bank: Bank, values: &PcrValues) -> Option<bool> {
    let (measurements, pcrs) = (folder.join("list"), folder.join("pcrs"));
    fs::write(&measurements, list).unwrap();
    let line = |pcr: u8, value: &[u8]| {
        let bytes: Vec<String> = value.iter().map(|byte| format!("{byte:02X}")).collect();
        format!("PCR-{pcr:02}: {}\n", bytes.join(" "))
    };
    let all = (0..24).map(|pcr| line(pcr, values.value(bank, pcr).map_or(&bank.initial(pcr)[..], |value| value)));
    fs::write(&pcrs, all.collect::<String>()).unwrap();
    let output = Command::new("evmctl")
        .args(["ima_measurement", "--ignore-violations", "--pcrs", &format!("{bank},{}", pcrs.display())])
        .arg(&measurements)
        .output();
    match output {
        Ok(output) => Some(output.status.success()),
        Err(_) => {
            eprintln!("SKIPPED: evmctl is not installed; nothing was compared with it");
            None
        }
    }
}

fn ours(list: &[u8], bank: Bank, values: &PcrValues) -> bool {
    let mut checks = Checks::all();
    let _verified = verify(list, bank, values, None, &mut checks);
    checks.list().iter().any(|check| check.id == "ima.pcr" && check.outcome == Outcome::Pass)
}

/// A list in the form of the kernel's documentation (IMA-templates): PCR, SHA-1 of
/// the template data, counted name, counted data of counted fields.
fn list(files: &[(&str, [u8; 32])]) -> (Vec<u8>, PcrValues) {
    let counted = |bytes: &[u8]| [&u32::try_from(bytes.len()).unwrap().to_le_bytes()[..], bytes].concat();
    let (mut list, mut values) = (Vec::new(), PcrValues::default());
    let mut pcrs = [Bank::Sha1, Bank::Sha256].map(|bank| (bank, bank.initial(10)));
    for (name, digest) in files {
        let digest = counted(&[b"sha256:\0", &digest[..]].concat());
        let data = [digest, counted(&[name.as_bytes(), b"\0"].concat())].concat();
        list.extend_from_slice(&10_u32.to_le_bytes());
        list.extend(Bank::Sha1.hash(&[&data]));
        list.extend(counted(b"ima-ng"));
        list.extend(counted(&data));
        for (bank, value) in &mut pcrs {
            *value = bank.extend(value, &bank.hash(&[&data]));
        }
    }
    for (bank, value) in pcrs {
        assert!(values.insert(bank, 10, value));
    }
    (list, values)
}

#[test]
fn evmctl_agrees_on_lists_and_pcrs() {
    let folder = tempfile::tempdir().unwrap();
    let (good, values) = list(&[("boot_aggregate", [1; 32]), ("/usr/bin/init", [2; 32]), ("/usr/bin/cp", [3; 32])]);
    let (other, _) = list(&[("boot_aggregate", [1; 32]), ("/usr/bin/init", [9; 32]), ("/usr/bin/cp", [3; 32])]);
    let (short, _) = list(&[("boot_aggregate", [1; 32]), ("/usr/bin/init", [2; 32])]);
    let (swapped, _) = list(&[("/usr/bin/init", [2; 32]), ("boot_aggregate", [1; 32]), ("/usr/bin/cp", [3; 32])]);
    for bank in [Bank::Sha1, Bank::Sha256] {
        for (what, list, expected) in
            [("good", &good, true), ("another file", &other, false), ("cut", &short, false), ("order", &swapped, false)]
        {
            let Some(theirs) = theirs(folder.path(), list, bank, &values) else { return };
            assert_eq!((theirs, ours(list, bank, &values)), (expected, expected), "{what} in {bank}");
        }
    }
}

/// A list of a real machine, which leads to its SHA-1 bank and to no other.
#[test]
fn evmctl_agrees_on_the_list_of_a_real_machine() {
    let Some(root) = common::vectors("ima/h12ssl") else { return };
    let list = common::read(&root.join("binary_runtime_measurements"));
    let json: serde_json::Value = serde_json::from_slice(&common::read(&root.join("pcrs.json"))).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let mut values = PcrValues::default();
    for bank in [Bank::Sha1, Bank::Sha256] {
        for (pcr, value) in json[bank.name()].as_object().unwrap() {
            let value = portcullis_wire::hex::unhex(value.as_str().unwrap()).unwrap();
            assert!(values.insert(bank, pcr.parse().unwrap(), value));
        }
    }
    for (bank, expected) in [(Bank::Sha1, true), (Bank::Sha256, false)] {
        let Some(theirs) = theirs(folder.path(), &list, bank, &values) else { return };
        assert_eq!((theirs, ours(&list, bank, &values)), (expected, expected), "{bank}");
    }
}
