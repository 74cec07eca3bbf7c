//! Makes event logs, and judges them by the values that they lead to.

use portcullis_attest::check::Checks;
use portcullis_attest::eventlog::{BootClaims, EventLog, verify};
use portcullis_attest::tpm::pcr::{Bank, PcrValues, Selection};

/// One event of a log in crypto-agile form with one bank.
pub(crate) fn event(pcr: u32, kind: u32, digest: &[u8], data: &[u8]) -> Vec<u8> {
    [
        &pcr.to_le_bytes()[..],
        &kind.to_le_bytes(),
        &1_u32.to_le_bytes(),
        &0x0b_u16.to_le_bytes(),
        digest,
        &u32::try_from(data.len()).unwrap().to_le_bytes(),
        data,
    ]
    .concat()
}

pub(crate) fn measured(pcr: u32, kind: u32, data: &[u8]) -> Vec<u8> {
    event(pcr, kind, &Bank::Sha256.hash(&[data]), data)
}

pub(crate) fn header() -> Vec<u8> {
    let mut spec = b"Spec ID Event03\0".to_vec();
    spec.extend([0, 0, 0, 0, 0, 2, 0, 2, 1, 0, 0, 0, 0x0b, 0, 32, 0, 0]);
    [&[0; 4][..], &3_u32.to_le_bytes(), &[0; 20], &u32::try_from(spec.len()).unwrap().to_le_bytes(), &spec].concat()
}

pub(crate) fn variable(vendor: &[u8; 16], name: &str, data: &[u8]) -> Vec<u8> {
    let utf16: Vec<u8> = name.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let (characters, length) = (name.len() as u64, data.len() as u64);
    [&vendor[..], &characters.to_le_bytes(), &length.to_le_bytes(), &utf16, data].concat()
}

pub(crate) const GLOBAL: [u8; 16] =
    [0x61, 0xdf, 0xe4, 0x8b, 0xca, 0x93, 0xd2, 0x11, 0xaa, 0x0d, 0, 0xe0, 0x98, 3, 0x2b, 0x8c];
pub(crate) const SECURITY: [u8; 16] =
    [0xcb, 0xb2, 0x19, 0xd7, 0x3a, 0x3d, 0x96, 0x45, 0xa3, 0xbc, 0xda, 0xd0, 0x0e, 0x67, 0x65, 0x6f];
pub(crate) const SEPARATOR: u32 = 4;
pub(crate) const IPL: u32 = 0xd;
pub(crate) const VARIABLE: u32 = 0x8000_0001;
pub(crate) const APPLICATION: u32 = 0x8000_0003;
pub(crate) const ACTION: u32 = 0x8000_0007;
pub(crate) const AUTHORITY: u32 = 0x8000_00e0;

pub(crate) fn boot(enabled: u8) -> Vec<Vec<u8>> {
    let mut events = vec![measured(7, VARIABLE, &variable(&GLOBAL, "SecureBoot", &[enabled]))];
    for (name, vendor) in [("PK", &GLOBAL), ("KEK", &GLOBAL), ("db", &SECURITY), ("dbx", &SECURITY)] {
        events.push(measured(7, VARIABLE, &variable(vendor, name, &[])));
    }
    events.push(measured(7, 4, &[0; 4]));
    events
}

pub(crate) fn log(events: &[Vec<u8>]) -> Vec<u8> {
    [header(), events.concat()].concat()
}

/// The values that the log itself leads to: as a quote would prove them.
pub(crate) fn own_values(log: &[u8], bank: Bank) -> PcrValues {
    let replayed = EventLog::parse(log).unwrap().replay(bank).unwrap();
    let mut values = PcrValues::default();
    for pcr in 0..24 {
        assert!(values.insert(bank, pcr, replayed.value(pcr)));
    }
    values
}

pub(crate) fn judge(log: &[u8], values: &PcrValues) -> (Option<BootClaims>, Vec<String>) {
    let mut checks = Checks::refusals();
    let verified = verify(log, values, &Selection::sha256((0..24).filter(|pcr| *pcr != 10)), &mut checks);
    (verified.map(|log| log.claims()), checks.refused().map(|check| check.id.to_string()).collect())
}
