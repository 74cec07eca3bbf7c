#![cfg(test)]
//! What real logs claim, and that nobody can change it without the PCRs.

mod common;

use portcullis_attest::check::Checks;
use portcullis_attest::eventlog::{BootClaims, EventLog, verify};
use portcullis_attest::tpm::pcr::{Bank, PcrValues, Selection};

/// The values that the log itself leads to: as a quote would prove them.
fn own_values(log: &[u8], bank: Bank) -> PcrValues {
    let replayed = EventLog::parse(log).unwrap().replay(bank).unwrap();
    let mut values = PcrValues::default();
    for pcr in 0..24 {
        assert!(values.insert(bank, pcr, replayed.value(pcr)));
    }
    values
}

fn judge(log: &[u8], values: &PcrValues) -> (Option<BootClaims>, Vec<String>) {
    let mut checks = Checks::refusals();
    let verified = verify(log, values, &Selection::sha256((0..24).filter(|pcr| *pcr != 10)), &mut checks);
    (verified.map(|log| log.claims()), checks.refused().map(|check| check.id.to_string()).collect())
}

fn claims(file: &str) -> Option<BootClaims> {
    let bytes = common::read(&common::vectors("eventlog")?.join(file));
    let (claims, refused) = judge(&bytes, &own_values(&bytes, Bank::Sha256));
    assert_eq!(refused, Vec::<String>::new(), "{file}");
    claims
}

#[test]
fn grub_on_google_cloud() {
    let Some(claims) = claims("go-tpm-tools/ubuntu-2404-amd-sevsnp.bin") else { return };
    let secure_boot = claims.secure_boot.unwrap();
    assert!(!secure_boot.enabled);
    assert_eq!(secure_boot.platform_key.certificates.len(), 1);
    assert_eq!(secure_boot.exchange_keys.certificates.len(), 1);
    assert_eq!(secure_boot.allowed.certificates.len(), 2);
    assert!(secure_boot.forbidden.images.len() > 200);
    assert_eq!(claims.firmware_version.as_deref(), Some("GCE Virtual Firmware v2"));
    assert_eq!(claims.boot_chain.len(), 2, "shim and GRUB");
    assert_eq!(claims.command_lines.len(), 1);
    assert!(claims.command_lines[0].starts_with("/vmlinuz-6.8.0-1010-gcp root=PARTUUID="));
    assert!(claims.grub_commands.iter().any(|command| command == "load_video"));
}

#[test]
fn grub_of_red_hat() {
    let Some(claims) = claims("go-tpm-tools/rhel8-uefi.bin") else { return };
    assert!(claims.secure_boot.unwrap().enabled);
    assert_eq!(claims.command_lines.len(), 1);
    assert!(claims.command_lines[0].starts_with("(hd0,gpt2)/boot/vmlinuz-4.18.0-240.22.1.el8_3.x86_64 root=UUID="));
    let initrd = "initrd (hd0,gpt2)/boot/initramfs-4.18.0-240.22.1.el8_3.x86_64.img";
    assert!(claims.grub_commands.iter().any(|command| command == initrd), "{:?}", claims.grub_commands.last());
}

#[test]
fn secure_boot_on_fedora() {
    let Some(claims) = claims("keylime/binary_bios_measurements-secureboot") else { return };
    assert!(claims.secure_boot.unwrap().enabled);
    assert_eq!(claims.firmware_version.as_deref(), Some("edk2-20240524-7.el9"));
}

#[test]
fn systemd_boot_on_fedora() {
    let Some(claims) = claims("tpm2-tools/event-sd-boot-fedora37.bin") else { return };
    assert!(!claims.secure_boot.unwrap().enabled);
    assert_eq!(claims.command_lines.len(), 2);
    assert!(claims.command_lines[0].starts_with(" console=ttyS0 console=tty0"));
    assert_eq!(claims.unexplained, 0);
}

#[test]
fn windows_log_without_secure_boot_variables_claims_no_secure_boot() {
    let Some(root) = common::vectors("tpm-quote") else { return };
    let bytes = common::read(&root.join("windows-supermicro-wbcl/eventlog.bin"));
    let (claims, _) = judge(&bytes, &own_values(&bytes, Bank::Sha256));
    let claims = claims.unwrap();
    assert_eq!(claims.secure_boot, None);
    assert_eq!(claims.boot_chain.len(), 1, "bootmgfw.efi");
}

/// THREATS row 12: every byte of a real log is changed. Either the replay tells,
/// or no claim differs; what is not proven is missing, never different.
#[test]
fn threat_12_no_changed_byte_of_a_log_changes_a_claim() {
    let Some(root) = common::vectors("eventlog") else { return };
    let bytes = common::read(&root.join("tpm2-tools/event-sd-boot-fedora37.bin"));
    let values = own_values(&bytes, Bank::Sha256);
    let sound = judge(&bytes, &values).0.unwrap();
    for at in 0..bytes.len() {
        for flip in [1, 0x80] {
            let mut changed = bytes.clone();
            changed[at] ^= flip;
            let (claims, refused) = judge(&changed, &values);
            let Some(claims) = claims.filter(|_| refused.is_empty()) else { continue };
            assert!(claims.secure_boot.is_none() || claims.secure_boot == sound.secure_boot, "byte {at:#x}");
            assert!(claims.firmware_version.is_none() || claims.firmware_version == sound.firmware_version);
            assert!(claims.command_lines.iter().all(|line| sound.command_lines.contains(line)), "byte {at:#x}");
            assert!(claims.uki_sections.iter().all(|section| sound.uki_sections.contains(section)));
            // A digest whose data was damaged may look like that of an image:
            // it is a digest of the quote all the same.
            assert!(claims.boot_chain.len() >= sound.boot_chain.len());
        }
    }
}

/// One event of a log in crypto-agile form with one bank.
fn event(pcr: u32, kind: u32, digest: &[u8], data: &[u8]) -> Vec<u8> {
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

fn measured(pcr: u32, kind: u32, data: &[u8]) -> Vec<u8> {
    event(pcr, kind, &Bank::Sha256.hash(&[data]), data)
}

fn header() -> Vec<u8> {
    let mut spec = b"Spec ID Event03\0".to_vec();
    spec.extend([0, 0, 0, 0, 0, 2, 0, 2, 1, 0, 0, 0, 0x0b, 0, 32, 0, 0]);
    [&[0; 4][..], &3_u32.to_le_bytes(), &[0; 20], &u32::try_from(spec.len()).unwrap().to_le_bytes(), &spec].concat()
}

fn variable(vendor: &[u8; 16], name: &str, data: &[u8]) -> Vec<u8> {
    let utf16: Vec<u8> = name.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let (characters, length) = (name.len() as u64, data.len() as u64);
    [&vendor[..], &characters.to_le_bytes(), &length.to_le_bytes(), &utf16, data].concat()
}

const GLOBAL: [u8; 16] = [0x61, 0xdf, 0xe4, 0x8b, 0xca, 0x93, 0xd2, 0x11, 0xaa, 0x0d, 0, 0xe0, 0x98, 3, 0x2b, 0x8c];
const SECURITY: [u8; 16] =
    [0xcb, 0xb2, 0x19, 0xd7, 0x3a, 0x3d, 0x96, 0x45, 0xa3, 0xbc, 0xda, 0xd0, 0x0e, 0x67, 0x65, 0x6f];
const VARIABLE: u32 = 0x8000_0001;

fn boot(enabled: u8) -> Vec<Vec<u8>> {
    let mut events = vec![measured(7, VARIABLE, &variable(&GLOBAL, "SecureBoot", &[enabled]))];
    for (name, vendor) in [("PK", &GLOBAL), ("KEK", &GLOBAL), ("db", &SECURITY), ("dbx", &SECURITY)] {
        events.push(measured(7, VARIABLE, &variable(vendor, name, &[])));
    }
    events.push(measured(7, 4, &[0; 4]));
    events
}

fn log(events: &[Vec<u8>]) -> Vec<u8> {
    [header(), events.concat()].concat()
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

#[test]
fn sections_of_a_unified_kernel_image_are_told_by_the_digests_of_their_names() {
    let name = |section: &str| event(11, 0xd, &Bank::Sha256.hash(&[section.as_bytes(), &[0]]), b"any text");
    let content = |bytes: &[u8]| event(11, 0xd, &Bank::Sha256.hash(&[bytes]), b"any text");
    let phase = |word: &str| event(11, 0xd, &Bank::Sha256.hash(&[word.as_bytes()]), b"");
    let events = [
        name(".linux"),
        content(b"kernel"),
        name(".initrd"),
        content(b"initrd"),
        phase("enter-initrd"),
        phase("leave-initrd"),
        content(b"something else"),
    ];
    let bytes = log(&events);
    let claims = judge(&bytes, &own_values(&bytes, Bank::Sha256)).0.unwrap();
    let sections = [(".linux", Bank::Sha256.hash(&[b"kernel"])), (".initrd", Bank::Sha256.hash(&[b"initrd"]))];
    assert_eq!(claims.uki_sections, sections);
    assert_eq!(claims.phases, ["enter-initrd", "leave-initrd"]);
    assert_eq!(claims.unexplained, 1);
}
