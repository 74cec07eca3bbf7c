#![cfg(test)]
//! What real logs claim, and that nobody can change it without the PCRs.

#[path = "../common/mod.rs"]
mod common;
mod log;
mod secure_boot;

use crate::log::{ACTION, APPLICATION, IPL, SEPARATOR, event, judge, log, measured, own_values};
use portcullis_attest::check::Checks;
use portcullis_attest::eventlog::{BootClaims, EventLog, NotProven, Unlogged, verify_parsed};
use portcullis_attest::tpm::pcr::{Bank, Selection};

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
    // PCR 12 has two tagged events and a separator, which reads "䉗䱃" as UTF-16.
    assert_eq!(claims.command_lines, Vec::<String>::new());
    assert_eq!(claims.unexplained, 5, "and two in PCR 11");
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
            let images = claims.boot_chain.len() + claims.boot_unexplained;
            assert!(images >= sound.boot_chain.len(), "byte {at:#x}");
        }
    }
}

#[test]
fn sections_of_a_unified_kernel_image_are_told_by_the_digests_of_their_names() {
    let name = |section: &str| event(11, IPL, &Bank::Sha256.hash(&[section.as_bytes(), &[0]]), b"any text");
    let content = |bytes: &[u8]| event(11, IPL, &Bank::Sha256.hash(&[bytes]), b"any text");
    let phase = |word: &str| event(11, IPL, &Bank::Sha256.hash(&[word.as_bytes()]), b"");
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

/// What firmware starts before it hands over (`SysPrep` applications) is started
/// as well, and no data can make a program look like the text of an action: the
/// Authenticode digest is a hash over parts of the file.
#[test]
fn threat_12_nothing_that_was_started_is_passed_over() {
    let image = |data: &[u8], log: &[u8]| event(4, APPLICATION, &Bank::Sha256.hash(&[data]), log);
    let program = b"MZ\x90\0 parts of a program that firmware hashed";
    let events = [
        image(b"SysPrep", b"path"),
        measured(4, ACTION, b"Calling EFI Application from Boot Option"),
        measured(4, SEPARATOR, &[0; 4]),
        image(program, program),
        image(b"kernel", b"path"),
        measured(4, ACTION, b"Returning from EFI Application from Boot Option\0"),
        measured(4, 0x8000_0006, b"\0 a partition table"),
    ];
    let bytes = log(&events);
    let claims = judge(&bytes, &own_values(&bytes, Bank::Sha256)).0.unwrap();
    let started = [&b"SysPrep"[..], program, b"kernel"].map(|data| Bank::Sha256.hash(&[data]));
    assert_eq!(claims.boot_chain, started);
    assert_eq!(claims.boot_unexplained, 1, "the partition table");
}

/// Each claim is made of its PCR and its type alone, whatever the data say.
#[test]
fn claims_come_from_the_events_that_they_are_made_of() {
    let utf16 = |text: &str| text.encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<u8>>();
    let line = utf16("root=/dev/vda1");
    let grub = |pcr, kind| event(pcr, kind, &Bank::Sha256.hash(&[b"boot"]), b"grub_cmd: boot\0");
    let section = |kind| {
        let name = event(11, kind, &Bank::Sha256.hash(&[b".linux\0"]), b"name");
        [name, event(11, kind, &Bank::Sha256.hash(&[b"kernel"]), b"content")].concat()
    };
    let claims = |events: &[Vec<u8>]| {
        let bytes = log(events);
        judge(&bytes, &own_values(&bytes, Bank::Sha256)).0.unwrap()
    };
    let right = claims(&[measured(12, IPL, &line), grub(8, IPL), section(IPL), measured(0, 8, &utf16("version 1"))]);
    assert_eq!(right.command_lines, ["root=/dev/vda1"]);
    assert_eq!(right.grub_commands, ["boot"]);
    assert_eq!(right.uki_sections.len(), 1);
    assert_eq!(right.firmware_version.as_deref(), Some("version 1"));
    assert_eq!((right.unexplained, right.boot_unexplained), (0, 0));

    for kind in [SEPARATOR, 6, 0xc, ACTION] {
        let version = measured(0, kind, &utf16("version 1"));
        let wrong = claims(&[measured(12, kind, &line), grub(8, kind), section(kind), version]);
        assert_eq!(wrong.command_lines, Vec::<String>::new(), "{kind:#x}");
        assert_eq!(wrong.grub_commands, Vec::<String>::new(), "{kind:#x}");
        assert_eq!(wrong.uki_sections, []);
        assert_eq!(wrong.firmware_version, None);
        assert_eq!(wrong.unexplained, 3, "{kind:#x}: each is counted");
    }
    let elsewhere = claims(&[measured(13, IPL, &line), measured(5, IPL, &line), grub(9, IPL)]);
    assert_eq!((elsewhere.command_lines.len(), elsewhere.grub_commands.len()), (0, 0));
    // A command line is the text that was hashed: a description beside a digest is none.
    let described = claims(&[event(12, IPL, &Bank::Sha256.hash(&[b"initrd"]), &utf16("Credentials initrd"))]);
    assert_eq!((described.command_lines.len(), described.unexplained), (0, 1));
}

/// What every log of others claims that has SHA-256: Secure Boot, why it is not
/// proven, and how many images were started.
const CLAIMS: [(&str, Option<bool>, Option<NotProven>, usize); 26] = [
    ("eventlog/go-attestation/crypto_agile_eventlog.bin", Some(false), None, 2),
    ("eventlog/go-attestation/sb_cert_eventlog.bin", Some(true), None, 3),
    ("eventlog/go-attestation/short_no_action_eventlog.bin", None, Some(NotProven::Pcr), 0),
    ("eventlog/go-tpm-tools/arch-linux-workstation.bin", Some(false), None, 2),
    ("eventlog/go-tpm-tools/cos-85-amd-sev.bin", Some(true), None, 3),
    ("eventlog/go-tpm-tools/eventlogwithsp800155.bin", Some(true), None, 3),
    ("eventlog/go-tpm-tools/glinux-alex.bin", Some(false), None, 1),
    ("eventlog/go-tpm-tools/rhel8-uefi.bin", Some(true), None, 3),
    ("eventlog/go-tpm-tools/ubuntu-2404-amd-sevsnp.bin", Some(false), None, 2),
    ("eventlog/keylime/binary_bios_measurements-secureboot", Some(true), None, 3),
    ("eventlog/openpcc/tcg_event_log.bin", Some(true), None, 2),
    ("eventlog/tpm2-tools/event-postcode.bin", Some(true), None, 3),
    ("eventlog/tpm2-tools/event-sd-boot-fedora37.bin", Some(false), None, 0),
    ("eventlog/tpm2-tools/event-uefiaction.bin", None, Some(NotProven::Pcr), 0),
    ("eventlog/tpm2-tools/event-uefivar.bin", None, Some(NotProven::NoSeparator), 0),
    ("ima/h12ssl/binary_bios_measurements", Some(false), None, 2),
    ("tpm-quote/gce-cos-85-nonce9009/eventlog.bin", Some(true), None, 3),
    ("tpm-quote/haruhi-failed-1-NEG/eventlog.bin", Some(true), None, 1),
    ("tpm-quote/haruhi-good-1/eventlog.bin", Some(true), None, 1),
    ("tpm-quote/windows-dell-5-logs/eventlog.bin", Some(false), None, 2),
    ("tpm-quote/windows-dell-5-logs/eventlog1.bin", Some(false), None, 2),
    ("tpm-quote/windows-dell-5-logs/eventlog2.bin", Some(false), None, 2),
    ("tpm-quote/windows-dell-5-logs/eventlog3.bin", Some(false), None, 2),
    ("tpm-quote/windows-dell-5-logs/eventlog4.bin", Some(false), None, 2),
    ("tpm-quote/windows-supermicro-wbcl/eventlog.bin", None, Some(NotProven::Absent("SecureBoot")), 1),
    ("tpm-quote/x1carbon-before/eventlog.bin", Some(true), None, 1),
];

#[test]
fn what_every_log_of_others_claims() {
    let Some(root) = common::vectors("") else { return };
    for (file, secure_boot, not_proven, started) in CLAIMS {
        let bytes = common::read(&root.join(file));
        let claims = judge(&bytes, &own_values(&bytes, Bank::Sha256)).0.unwrap();
        assert_eq!(claims.secure_boot.map(|state| state.enabled), secure_boot, "{file}");
        assert_eq!(claims.not_proven, not_proven, "{file}");
        assert_eq!((claims.boot_chain.len(), claims.boot_unexplained), (started, 0), "{file}");
        for line in &claims.command_lines {
            assert!(line.contains('='), "{file}: {line:?}");
        }
    }
}

/// A canonical log of the same boot claims the same. The layout is that of David
/// Safford's tools for TCG's canonical event log (`cel.h`): content type 5 has the
/// event's type (0) and data (1), and records are numbered for each PCR; others number
/// them for the whole log.
#[test]
fn canonical_logs_claim_what_the_firmwares_log_claims() {
    let Some(root) = common::vectors("eventlog") else { return };
    let tlv =
        |kind: u8, value: &[u8]| [&[kind][..], &u32::try_from(value.len()).unwrap().to_be_bytes(), value].concat();
    for file in ["keylime/binary_bios_measurements-secureboot", "tpm2-tools/event-sd-boot-fedora37.bin"] {
        let log = EventLog::parse(&common::read(&root.join(file))).unwrap();
        let (mut canonical, mut numbered) = (Vec::new(), Vec::new());
        for (at, event) in log.events.iter().enumerate() {
            let digests: Vec<u8> =
                event.digests.iter().flat_map(|(bank, digest)| tlv(u8::try_from(bank.id()).unwrap(), digest)).collect();
            let content = [tlv(0, &event.kind.to_be_bytes()), tlv(1, &event.data)].concat();
            let of_pcr = log.events[..at].iter().filter(|other| other.pcr == event.pcr).count();
            let number = |number: usize| tlv(0, &u32::try_from(number).unwrap().to_be_bytes());
            let record = [tlv(1, &[event.pcr.unwrap()]), tlv(3, &digests), tlv(5, &content)].concat();
            canonical.extend([number(of_pcr), record.clone()].concat());
            numbered.extend([number(at), record].concat());
        }
        let values = own_values(&common::read(&root.join(file)), Bank::Sha256);
        let claims = |log: EventLog| {
            let selection = Selection::sha256((0..24).filter(|pcr| *pcr != 10));
            let mut checks = Checks::refusals();
            verify_parsed(Ok(log), &values, &selection, None, Unlogged::Refused, &mut checks).unwrap().claims()
        };
        let required = claims(log);
        for bytes in [&canonical, &numbered] {
            assert_eq!(claims(EventLog::parse_cel_tlv(bytes).unwrap()), required, "{file}");
        }
    }
}
