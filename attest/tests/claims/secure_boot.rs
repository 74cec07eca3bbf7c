//! Secure Boot, as the events of PCR 7 prove it or contradict each other. The order
//! of events, what may stand on both sides of the separator, and the separator's
//! values are those of the PC Client Platform Firmware Profile, §3.3.4.8 and §10.4.1.

use crate::log::{
    ACTION, AUTHORITY, GLOBAL, SECURITY, SEPARATOR, VARIABLE, boot, event, judge, log, measured, own_values, variable,
};
use portcullis_attest::eventlog::{NotProven, SecureBoot};
use portcullis_attest::tpm::pcr::Bank;

/// One signature of a database: an owner's GUID, and a certificate.
const SIGNATURE: &[u8] = b"owner of 16 byte, and a certificate";

fn state(events: &[Vec<u8>]) -> Result<SecureBoot, NotProven> {
    let bytes = log(events);
    let claims = judge(&bytes, &own_values(&bytes, Bank::Sha256)).0.unwrap();
    assert_eq!(claims.secure_boot.is_none(), claims.not_proven.is_some());
    claims.secure_boot.ok_or_else(|| claims.not_proven.unwrap())
}

/// Secure Boot is on; these events come right before the separator.
fn before_separator(events: &[Vec<u8>]) -> Result<SecureBoot, NotProven> {
    let whole = boot(1);
    let (variables, separator) = whole.split_at(5);
    state(&[variables, events, separator].concat())
}

/// Secure Boot is on; these events come right after the separator.
fn after_separator(events: &[Vec<u8>]) -> Result<SecureBoot, NotProven> {
    state(&[boot(1), events.to_vec()].concat())
}

fn authority(name: &str, vendor: &[u8; 16], value: &[u8]) -> Vec<u8> {
    measured(7, AUTHORITY, &variable(vendor, name, value))
}

fn config(name: &str, vendor: &[u8; 16], value: &[u8]) -> Vec<u8> {
    measured(7, VARIABLE, &variable(vendor, name, value))
}

/// A server with signed option ROMs: firmware verifies them before it hands over.
#[test]
fn drivers_verified_before_the_separator_leave_secure_boot_proven() {
    let driver = authority("db", &SECURITY, SIGNATURE);
    let state = before_separator(&[driver.clone(), driver.clone()]).unwrap();
    assert_eq!((state.enabled, state.early_authorities), (true, 2));
    // The same events after it: boot loaders, and what they verify.
    let shim = ["SbatLevel", "MokListTrusted", "Shim", "vendor_db"].map(|name| authority(name, &[7; 16], b"any"));
    let state = after_separator(&[vec![driver], shim.to_vec()].concat()).unwrap();
    assert_eq!((state.enabled, state.early_authorities), (true, 0));
}

#[test]
fn further_variables_and_actions_stand_beside_the_five() {
    let others = [
        config("dbt", &SECURITY, b"timestamps"),
        config("dbr", &SECURITY, b"recovery"),
        config("DeployedMode", &GLOBAL, &[1]),
        config("AuditMode", &GLOBAL, &[0]),
        config("SecureBoot", &[9; 16], &[0]),
        authority("devdb", &[8; 16], b"device"),
        measured(7, 0x8000_00e3, b"SPDM device policy"),
    ];
    assert_eq!(
        before_separator(&others).map(|state| (state.enabled, state.dma_protection_disabled)),
        Ok((true, false))
    );
    for action in [&b"DMA Protection Disabled"[..], b"DMA Protection Disabled\0"] {
        assert!(before_separator(&[measured(7, ACTION, action)]).unwrap().dma_protection_disabled);
    }
    // Information is never extended, whatever PCR it names.
    let information = [7_u32, 24, 0x1000, u32::MAX].map(|pcr| event(pcr, 3, &[0; 32], b"StartupLocality\0\x03"));
    assert!(before_separator(&information).unwrap().enabled);
}

#[test]
fn a_variable_measured_again_with_the_same_value_contradicts_nothing() {
    for (name, vendor, value) in [("SecureBoot", &GLOBAL, &[1][..]), ("db", &SECURITY, &[]), ("dbx", &SECURITY, &[])] {
        assert!(before_separator(&[config(name, vendor, value)]).unwrap().enabled, "{name}");
        assert!(after_separator(&[config(name, vendor, value)]).unwrap().enabled, "{name}");
    }
}

#[test]
fn threat_12_what_contradicts_the_first_value_takes_secure_boot_away() {
    let list = [&[0x26; 16][..], &28_u32.to_le_bytes(), &0_u32.to_le_bytes(), &48_u32.to_le_bytes()].concat();
    for (events, name) in [
        (config("SecureBoot", &GLOBAL, &[0]), "SecureBoot"),
        (config("PK", &GLOBAL, b"other"), "PK"),
        (config("KEK", &GLOBAL, b"other"), "KEK"),
        (config("dbx", &SECURITY, b"other"), "dbx"),
        // another database, whatever it is called
        (config("db", &SECURITY, SIGNATURE), "db"),
        (authority("db", &SECURITY, &list), "db"),
        (authority("db", &SECURITY, b""), "db"),
        // authorities name databases, and nothing else
        (authority("SecureBoot", &GLOBAL, &[1]), "SecureBoot"),
        (authority("PK", &GLOBAL, b""), "PK"),
        (authority("dbx", &SECURITY, SIGNATURE), "dbx"),
    ] {
        assert_eq!(before_separator(&[events]), Err(NotProven::Contradiction(name)), "{name}");
    }
    // Firmware measures again what changes before the operating system runs.
    for (events, name) in [
        (config("SecureBoot", &GLOBAL, &[0]), "SecureBoot"),
        (config("db", &SECURITY, SIGNATURE), "db"),
        (authority("KEK", &GLOBAL, SIGNATURE), "KEK"),
    ] {
        assert_eq!(after_separator(&[events]), Err(NotProven::Contradiction(name)), "{name}");
    }
    // An authority in place of the database.
    let mut hidden = boot(1);
    hidden[3] = authority("db", &SECURITY, SIGNATURE);
    assert_eq!(state(&hidden), Err(NotProven::Contradiction("db")));
}

#[test]
fn threat_12_a_debugger_damaged_data_and_missing_variables_prove_nothing() {
    for text in [&b"UEFI Debug Mode"[..], b"UEFI Debug Mode\0"] {
        assert_eq!(before_separator(&[measured(7, ACTION, text)]), Err(NotProven::Debugger));
    }
    let digest = Bank::Sha256.hash(&[b"something"]);
    assert_eq!(before_separator(&[event(7, AUTHORITY, &digest, b"something else")]), Err(NotProven::Data));
    for (at, name) in ["SecureBoot", "PK", "KEK", "db", "dbx"].into_iter().enumerate() {
        let mut events = boot(1);
        events.remove(at);
        assert_eq!(state(&events), Err(NotProven::Absent(name)));
    }
    assert_eq!(state(&boot(2)), Err(NotProven::Form("SecureBoot")));
    assert_eq!(state(&[measured(4, SEPARATOR, &[0; 4])]), Err(NotProven::Pcr));
}

/// The separator has two values that hand over, and one that says that firmware
/// met an error. What comes first counts: anybody can add another one later.
#[test]
fn threat_12_separators() {
    let with = |value: &[u8]| {
        let mut events = boot(1);
        events[5] = measured(7, SEPARATOR, value);
        events
    };
    assert!(state(&with(&[0; 4])).unwrap().enabled);
    assert!(state(&with(&[0xff; 4])).unwrap().enabled);
    assert_eq!(state(&with(&[1, 0, 0, 0])), Err(NotProven::FirmwareFailed));
    // The data of an error is a text, and its digest that of the number.
    let mut events = boot(1);
    events[5] = event(7, SEPARATOR, &Bank::Sha256.hash(&[&[1, 0, 0, 0]]), b"an error");
    assert_eq!(state(&events), Err(NotProven::FirmwareFailed));
    assert_eq!(state(&boot(1)[..5]), Err(NotProven::NoSeparator));
    // Twice is as good as once, and later is too late.
    let twice = [boot(1), vec![measured(7, SEPARATOR, &[0; 4])]].concat();
    assert!(state(&twice).unwrap().enabled);
    for first in [[0xff; 4], [1, 0, 0, 0]] {
        let forged = [vec![measured(7, SEPARATOR, &first)], boot(1)].concat();
        assert!(state(&forged).is_err(), "{first:?}");
    }
}

/// Secure Boot is off. Whoever owns the machine after firmware can extend PCRs,
/// and can write any log that leads to them.
#[test]
fn threat_12_secure_boot_cannot_be_claimed_afterwards() {
    let on = measured(7, VARIABLE, &variable(&GLOBAL, "SecureBoot", &[1]));
    let honest = [boot(0), vec![on.clone()]].concat();
    let values = own_values(&log(&honest), Bank::Sha256);
    let enabled = |events: &[Vec<u8>]| {
        let (claims, refused) = judge(&log(events), &values);
        assert_eq!(refused, Vec::<String>::new());
        claims.unwrap().secure_boot.map(|s| s.enabled)
    };
    assert_eq!(enabled(&honest), Some(false), "what was extended after the separator says nothing");
    // The first event's data damaged, so that only the later one is readable.
    let digest = Bank::Sha256.hash(&[&variable(&GLOBAL, "SecureBoot", &[0])]);
    let mut hidden = honest.clone();
    hidden[0] = event(7, VARIABLE, &digest, b"damaged");
    assert_eq!(enabled(&hidden), None);
    // The separator renamed, and its data taken away: its digest still tells.
    let mut renamed = honest.clone();
    renamed[5] = event(7, VARIABLE, &Bank::Sha256.hash(&[&[0; 4]]), b"no separator");
    assert_eq!(enabled(&renamed), Some(false));
    // Types swapped: nothing goes by them.
    let mut swapped = honest.clone();
    swapped[0] = event(7, 0xd, &digest, &variable(&GLOBAL, "SecureBoot", &[0]));
    assert_eq!(enabled(&swapped), Some(false));
    // Events left out, doubled or in another order do not lead to the PCR.
    for other in [
        [boot(1), vec![on.clone()]].concat(),
        honest[1..].to_vec(),
        [vec![on], boot(0)].concat(),
        [honest.clone(), vec![honest[0].clone()]].concat(),
    ] {
        assert_eq!(judge(&log(&other), &values).1, ["tpm.pcr.7"]);
    }
}

#[test]
fn threat_12_a_separator_must_be_there_and_a_variable_once() {
    let judge_own = |events: &[Vec<u8>]| {
        let bytes = log(events);
        judge(&bytes, &own_values(&bytes, Bank::Sha256)).0.unwrap().secure_boot.map(|s| s.enabled)
    };
    assert_eq!(judge_own(&boot(1)), Some(true));
    assert_eq!(judge_own(&boot(1)[..5]), None, "no separator");
    assert_eq!(judge_own(&[vec![boot(1)[0].clone()], boot(0)].concat()), None, "measured twice");
    assert_eq!(judge_own(&boot(2)), None, "neither on nor off");
    let without_dbx: Vec<Vec<u8>> = boot(1).into_iter().enumerate().filter(|(n, _)| *n != 4).map(|(_, e)| e).collect();
    assert_eq!(judge_own(&without_dbx), None);
}
