//! A checkpoint of a public log with the cosignatures of public witnesses: none of
//! the programs that made it are ours.
#![cfg(test)]

use portcullis_lineage::{Checkpoint, CheckpointError, VerifyingKey, WitnessKey};

/// `arche2025h1.staging.ct.transparency.dev` in May 2026, as its monitoring
/// address served it: two signatures of the log (RFC 6962 and Ed25519) and four
/// cosignatures.
const NOTE: &str = "\
arche2025h1.staging.ct.transparency.dev
1432088532
U7WM79jrzyhGZ5/GUBTpM7NzwdyfFx61t3RovgcC4Ro=

— arche2025h1.staging.ct.transparency.dev zTM8sQAAAZ5W0WdjBAMARjBEAiBjW5IQf9pvsYLfQFX6hoGREPMHbdQ3urbllzalApkptQIgIpwtEroeW2BXaHAI4kJXFbon5Ch9MNL5zRNZ55lvGt0=
— arche2025h1.staging.ct.transparency.dev ui8GwCF1+kWqZrxGdhj4aX3gcw7XUlXQQabg/27lefwhUkzbC3NygNI75MdhL1bfTW9g8Ei59RA23oHP7Ry1k3ZFWwQ=
— transparency.dev/DEV:witness-little-garden 2AQqhwAAAABqEiEgzgFIqqhbUoDwjMWE6UP8nd8/KYTzwZ2rhIgcqoXHAwVkjZr4AscylP3v7sEodkRAErumC2q44vdgJY096st5BQ==
— witness1.smartit.nu/witness1 pIyCDwAAAABqEiEghIp82KWebrw7/oHQwlTAm3g2RKS4+eebl8eO0WH+/iEcxZ75W3u5hNI7TOQtmJbqmNWVuE0tgh0XwzdZsDsUAQ==
— remora.n621.de 2net5wAAAABqEiEgPlfF3V06o0Y+fHM+J5J9s27wgxxcOVSpZ/2g/KSiXCg9DEZI+aVCIobWX9sXTynk5XeU/zZ0WBxtqB0DrAWfBw==
— witness.stagemole.eu Z/euoAAAAABqEiEgw0i+7g2ENfDAWHmtRzCfKTHSDwYDJA2NmKeGi9Y8FtEyOUvVr+AJmIY/2TUFucgKi7lI7cUiOvKFYe/TmN9DAg==
";
/// Keys as the log and the operators of the witnesses publish them.
const LOG: &str = "arche2025h1.staging.ct.transparency.dev+ba2f06c0+AU0vHmlGCS/PdN8b2OaGmKprLI8HKM+dJ472xgFYh15f";
const WITNESSES: [&str; 3] = [
    "transparency.dev/DEV:witness-little-garden+d8042a87+BCtusOxINQNUTN5Oj8HObRkh2yHf/MwYaGX4CPdiVEPM",
    "witness1.smartit.nu/witness1+a48c820f+BPSFWg9G6KPiO7QPryYO5Xq4oYJJ+kAvLKLSimDhoxMO",
    "remora.n621.de+da77ade7+BOvN63jn/bLvkieywe8R6UYAtVtNbZpXh34x7onlmtw2",
];
/// 2026-05-23T22:50:24Z, in each of the cosignatures.
const TIME: u64 = 0x6a12_2120;

fn key() -> VerifyingKey {
    VerifyingKey::parse(LOG).unwrap()
}

#[test]
fn a_checkpoint_of_a_public_log_verifies_with_its_cosignatures() {
    let checkpoint = Checkpoint::verify(NOTE, &key()).unwrap();
    assert_eq!(checkpoint.size(), 1_432_088_532);
    for vkey in WITNESSES {
        let witness = WitnessKey::parse(vkey).unwrap();
        assert_eq!(witness.to_string(), vkey);
        assert_eq!(witness.cosigned(&checkpoint), Some(TIME), "{vkey}");
    }
}

/// A cosignature is over the time that it names: another one in its place, or in
/// the other byte order, is none.
#[test]
fn a_cosignature_of_another_time_or_checkpoint_is_none() {
    let witness = WitnessKey::parse(WITNESSES[2]).unwrap();
    let sealed = NOTE.lines().find(|line| line.contains("remora")).unwrap();
    let with = |line: &str| Checkpoint::verify(&NOTE.replace(sealed, line), &key()).unwrap();
    // Behind the id of 4 bytes stand 8 bytes of time: base64 digits 6 to 16.
    let at = sealed.rfind(' ').unwrap() + 1;
    for digits in ["AAAAABqEiEh", "AAAAABqEiAg", "CAhEmoAAAAA"] {
        let mut other = sealed.to_owned();
        other.replace_range(at + 6..at + 6 + digits.len(), digits);
        assert_eq!(witness.cosigned(&with(&other)), None, "{digits}");
    }
    assert_eq!(witness.cosigned(&with(sealed)), Some(TIME));
    // One valid line does not make up for another of the same key that is not.
    let mut forged = sealed.to_owned();
    forged.replace_range(at + 20..at + 21, "A");
    assert_eq!(witness.cosigned(&with(&format!("{sealed}\n{forged}"))), None);

    let larger = NOTE.replacen("1432088532", "1432088533", 1);
    assert_eq!(Checkpoint::verify(&larger, &key()), Err(CheckpointError::Signature));
    // The key of a witness is none of a log, and the reverse.
    assert!(VerifyingKey::parse(WITNESSES[2]).is_err() && WitnessKey::parse(LOG).is_err());
}
