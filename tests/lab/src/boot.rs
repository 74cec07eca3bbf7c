//! The measurements of a lab machine's boot: events, their log, and the resulting PCRs.

use std::collections::BTreeMap;

use portcullis_attest::eventlog::EventLog;
use portcullis_attest::tpm::pcr::Bank;

const EV_S_CRTM_VERSION: u32 = 8;
const EV_SEPARATOR: u32 = 4;
const EV_EFI_VARIABLE_DRIVER_CONFIG: u32 = 0x8000_0001;
const EV_EFI_BOOT_SERVICES_APPLICATION: u32 = 0x8000_0003;
const EV_IPL: u32 = 0x0d;

/// PCRs for which lab images have reference values.
pub const PCRS: [u8; 4] = [0, 4, 7, 11];

/// One measured event.
#[derive(Clone, Debug)]
pub struct Measured {
    /// PCR.
    pub pcr: u8,
    /// Event type.
    pub kind: u32,
    /// Event data, whose SHA-256 is extended.
    pub data: Vec<u8>,
}

/// The boot of a lab image: firmware, Secure Boot state, kernel, UKI sections.
#[must_use]
pub fn events(image: &str) -> Vec<Measured> {
    let event = |pcr, kind, data: String| Measured { pcr, kind, data: data.into_bytes() };
    let mut events = vec![
        event(0, EV_S_CRTM_VERSION, "portcullis lab firmware 1".into()),
        event(7, EV_EFI_VARIABLE_DRIVER_CONFIG, "SecureBoot=1".into()),
        event(4, EV_EFI_BOOT_SERVICES_APPLICATION, format!("{image} unified kernel image")),
        event(11, EV_IPL, format!("{image} .linux")),
        event(11, EV_IPL, format!("{image} .initrd")),
    ];
    events.extend(PCRS.map(|pcr| event(pcr, EV_SEPARATOR, "\0\0\0\0".into())));
    events
}

/// The crypto-agile log of events, SHA-256.
#[must_use]
pub fn log(events: &[Measured]) -> Vec<u8> {
    let mut spec = b"Spec ID Event03\0".to_vec();
    spec.extend([0, 0, 0, 0, 0, 2, 0, 2]);
    spec.extend(1_u32.to_le_bytes());
    spec.extend(Bank::Sha256.id().to_le_bytes());
    spec.extend(32_u16.to_le_bytes());
    spec.push(0);
    let mut log = Vec::new();
    log.extend(0_u32.to_le_bytes());
    log.extend(3_u32.to_le_bytes());
    log.extend([0; 20]);
    push_data(&mut log, &spec);
    for event in events {
        log.extend(u32::from(event.pcr).to_le_bytes());
        log.extend(event.kind.to_le_bytes());
        log.extend(1_u32.to_le_bytes());
        log.extend(Bank::Sha256.id().to_le_bytes());
        log.extend(Bank::Sha256.hash(&[&event.data]));
        push_data(&mut log, &event.data);
    }
    log
}

fn push_data(log: &mut Vec<u8>, data: &[u8]) {
    log.extend(u32::try_from(data.len()).unwrap_or(u32::MAX).to_le_bytes());
    log.extend(data);
}

/// The reference values of an image: its PCRs after boot.
#[must_use]
pub fn reference(image: &str) -> BTreeMap<u8, Vec<u8>> {
    let log = EventLog::parse(&log(&events(image)));
    let replayed = log.ok().and_then(|log| log.replay(Bank::Sha256).ok());
    replayed.map(|values| PCRS.map(|pcr| (pcr, values.value(pcr))).into_iter().collect()).unwrap_or_default()
}

/// The launch measurement of an image.
#[must_use]
pub fn measurement(image: &str) -> [u8; 48] {
    portcullis_attest::crypto::sha384(&[b"portcullis lab image ", image.as_bytes()])
}
