//! Machines without devices, secrets in memory, and shipped binaries.

mod common;

use std::process::Command;

use portcullis_attester::{AttesterError, OpenMachine, RealPlatform};
use rustix::process::Signal;

/// A machine without devices is refused, with the list of searched devices.
#[test]
fn a_machine_without_devices_says_what_was_looked_for() {
    let devices = ["/sys/kernel/config/tsm/report", "/dev/sev-guest", "/dev/tpmrm0"];
    if devices.iter().any(|path| std::path::Path::new(path).exists()) {
        eprintln!("SKIPPED: this machine has a device; nothing was shown about machines without");
        return;
    }
    let Err(error @ AttesterError::NoDevice { .. }) = RealPlatform.open() else { panic!("a device out of nowhere") };
    let said = error.to_string();
    assert!(devices.iter().all(|path| said.contains(path)), "{said}");
}

fn shipped(name: &str) -> Option<std::path::PathBuf> {
    let path = common::lab().with_file_name(name);
    if !path.exists() {
        eprintln!("SKIPPED: {name} is not built; nothing was shown about it (cargo build --workspace)");
        return None;
    }
    Some(path)
}

/// The shipped daemon and client contain no lab code, and do not take lab
/// machines.
#[test]
fn threat_29_shipped_programs_know_no_lab() {
    let (_folder, deployment) = common::deployment(portcullis_lab::Options::default());
    let ark = common::root(portcullis_attest::snp::generation::Generation::Milan);
    for name in ["portcullisd", "portcullis", "portcullis-audit"] {
        let Some(path) = shipped(name) else { continue };
        let program = std::fs::read(&path).unwrap();
        let contains = |needle: &[u8]| program.windows(needle.len()).any(|window| window == needle);
        for needle in [
            &b"Portcullis Lab"[..],
            b"emulated secure processor",
            b"lab derived key",
            b"portcullis lab image",
            ark.ark(),
        ] {
            assert!(
                !contains(needle),
                "{name} contains {:?}",
                String::from_utf8_lossy(&needle[..needle.len().min(30)])
            );
        }
    }
    // started on a lab deployment, the shipped daemon finds no machine to attest
    let Some(portcullisd) = shipped("portcullisd") else { return };
    let output =
        Command::new(portcullisd).arg("--config").arg(deployment.path("authority.toml")).arg("serve").output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success(), "{said}");
    assert!(said.contains("/dev/sev-guest") || said.contains("refused") || said.contains("snp."), "{said}");
}

/// Lab evidence under AMD's roots: a foreign chain, whatever names it has.
#[test]
fn threat_29_lab_evidence_is_foreign_under_amds_roots() {
    use portcullis_attest::check::Checks;
    use portcullis_attest::snp::collateral::Collateral;
    use portcullis_attest::snp::generation::Generation;
    use portcullis_attest::snp::roots::Roots;
    use portcullis_attest::snp::verify::{Presented, SnpVerifier};
    use portcullis_lab::processor::{Fields, Processor};

    let root = common::root(Generation::Milan);
    let fields = Fields::sound(Generation::Milan, [7; 64], portcullis_lab::machine::TCB, [1; 48]);
    let chip = Processor::vcek(&root, fields).unwrap();
    let crl = Collateral::parse(&root.crl(1, &[], None).unwrap()).unwrap();
    let mut checks = Checks::refusals();
    let report = chip.sign().unwrap();
    SnpVerifier::new(Roots::amd().unwrap(), crl).verify(
        &report,
        Presented::table(&chip.certificate_table()),
        1_795_000_000,
        &mut checks,
    );
    let ids: Vec<&str> = checks.refused().map(|check| check.id.as_ref()).collect();
    assert!(ids.contains(&"snp.root"), "{ids:?}");
}

/// THREATS row 25: the unsealed keys are in no core dump, log or file, and no core dump
/// is written at all.
#[test]
fn threat_25_keys_leave_no_trace_outside_the_process() {
    let (_folder, deployment, mut daemon) = common::serving();
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", daemon.id())).unwrap();
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    assert_eq!(core.split_whitespace().collect::<Vec<_>>()[4..6], ["0", "0"], "{core}");
    // not dumpable: even root's view of /proc belongs to root, and memory is locked
    let status = std::fs::read_to_string(format!("/proc/{}/status", daemon.id())).unwrap();
    let kilobytes = |name: &str| -> u64 {
        let line = status.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    };
    // All of it is locked, the heap with the signing keys included.
    assert!(kilobytes("VmLck:") >= kilobytes("VmRSS:"), "{status}");
    assert_eq!(kilobytes("VmSwap:"), 0);

    // The private key's bytes: PKCS#8 begins the same for every P-256 key, so a
    // core or a log that held one would hold this prefix.
    let prefix: &[u8] =
        &[0x30, 0x41, 0x02, 0x01, 0x00, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
    let alternative: &[u8] =
        &[0x30, 0x81, 0x87, 0x02, 0x01, 0x00, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
    for name in [
        "authority.log",
        "state-authority/keys.sealed",
        "state-authority/log/journal/00000000000000000000",
        "state-authority/log/checkpoint",
    ] {
        let bytes = std::fs::read(deployment.path(name)).unwrap();
        for needle in [prefix, alternative] {
            assert!(!bytes.windows(needle.len()).any(|window| window == needle), "{name} holds a private key");
        }
    }
    let mode = std::os::unix::fs::PermissionsExt::mode(
        &std::fs::metadata(deployment.path("state-authority/keys.sealed")).unwrap().permissions(),
    );
    assert_eq!(mode & 0o777, 0o600);

    // and a crash writes no core dump
    common::signal(daemon.id(), Signal::ABORT);
    let status = daemon.wait(std::time::Duration::from_secs(5)).unwrap();
    let (signal, dumped) = (
        std::os::unix::process::ExitStatusExt::signal(&status),
        std::os::unix::process::ExitStatusExt::core_dumped(&status),
    );
    assert_eq!((signal, dumped), (Some(6), false));
}

/// Sealed keys cannot be opened on another machine, or after another boot.
#[test]
fn sealed_keys_open_only_where_and_as_they_were_sealed() {
    let (_folder, mut deployment) = common::deployment(portcullis_lab::Options::default());
    assert!(deployment.serve().unwrap().stop().unwrap().success());
    // the same disk in another machine with the same image
    deployment.boot("thief", portcullis_lab::deployment::AUTHORITY_IMAGE).unwrap();
    let text = std::fs::read_to_string(deployment.path("authority.toml")).unwrap();
    std::fs::write(deployment.path("thief.toml"), text).unwrap();
    let output = deployment.portcullisd("thief", &["serve"]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(4), "{said}");
    assert!(said.contains("does not unseal"), "{said}");
    // the same machine with another image fails its own appraisal first
    deployment.describe("authority", |machine| machine.measured = "authority-0.9".into()).unwrap();
    let output = deployment.portcullisd("authority", &["serve"]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(3), "{said}");
    assert!(said.contains("portcullisd: snp.measurement:"), "{said}");
}
