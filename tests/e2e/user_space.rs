//! Measurements of user space after firmware: phases of the boot, and other records of
//! systemd in `tpm2-measure.log`.

mod common;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use portcullis_attest::binding::Role;
use portcullis_attest::crypto::sha256;
use portcullis_attest::snp::generation::Generation;
use portcullis_attest::tpm::pcr::{Bank, Selection};
use portcullis_attester::QuoteDevice;
use portcullis_firmware_policy::document::{Boot, OneOf, Reference, Requirement};
use portcullis_lab::busy::BusyTpm;
use portcullis_lab::deployment::SLEEP;
use portcullis_lab::scene::{Device, NOW, Scene};
use portcullis_lab::tpm::LabTpm;
use portcullis_lab::user_space::{UP, measure, record};
use portcullis_wire::hex::hex;

const PERMITTED: [&str; 0] = [];

fn refusals(scene: &Scene, device: &mut Device) -> Vec<String> {
    let bundle = scene.bundle().unwrap();
    let mut selection = bundle.policy().selection(Role::Node).clone();
    // A software TPM has values for the PCRs into which something was measured.
    for (_, pcr) in selection.pcrs().collect::<Vec<_>>() {
        if device.tpm.pcrs.value(Bank::Sha256, pcr).is_none() {
            assert!(device.tpm.pcrs.insert(Bank::Sha256, pcr, Bank::Sha256.initial(pcr)));
        }
    }
    selection = Selection::sha256(selection.pcrs().map(|(_, pcr)| pcr));
    device.ask(NOW, &selection).unwrap().refusals(&bundle)
}

/// A bundle with rules for its one image.
fn scene(rules: impl FnOnce(&mut Reference)) -> (Scene, Device) {
    let mut scene = Scene::new(&common::root_folder(), Generation::Milan).unwrap();
    let device = scene.device("node-1").unwrap();
    rules(scene.references.get_mut("node.toml").unwrap());
    (scene, device)
}

fn phases(image: &mut Reference) {
    image.pcrs.remove("11");
    let paths = vec![UP.join(":")];
    image.boot = Some(Boot { secure_boot: Requirement::Optional, started: None, phases: Some(paths) });
}

fn measured(device: &mut Device, words: &[&str]) {
    words.iter().for_each(|word| device.tpm.measure(11, word));
}

#[test]
fn a_machine_is_admitted_in_the_phases_that_the_bundle_names() {
    let run = |words: &[&str]| {
        let (scene, mut device) = scene(phases);
        measured(&mut device, words);
        refusals(&scene, &mut device)
    };
    assert_eq!(run(&UP), PERMITTED);
    assert_eq!(run(&UP[..3]), ["boot.phases"], "not ready yet");
    assert_eq!(run(&[]), ["boot.phases"], "no phase at all");
    assert_eq!(run(&[&UP[..], &["shutdown"]].concat()), ["boot.phases"], "on its way down");
    assert_eq!(run(&[&UP[..], &["ready"]].concat()), ["boot.phases"], "a phase twice");
    assert_eq!(run(&["leave-initrd", "enter-initrd", "sysinit", "ready"]), ["boot.phases"], "another order");
    assert_eq!(run(&[&UP[..2], &["evil"], &UP[2..]].concat()), ["boot.phases"], "something between");
    assert_eq!(run(&[&UP[..], &["evil"]].concat()), ["boot.phases"], "something afterwards");
    let (scene, mut device) = scene(|image| {
        phases(image);
        image.boot.as_mut().unwrap().phases = Some(vec!["none".into(), "enter-initrd".into()]);
    });
    assert_eq!(refusals(&scene, &mut device), PERMITTED);
    measured(&mut device, &["enter-initrd"]);
    assert_eq!(refusals(&scene, &mut device), PERMITTED);
    measured(&mut device, &["leave-initrd"]);
    assert_eq!(refusals(&scene, &mut device), ["boot.phases"]);
}

/// Without the log the phases are unknown, and the PCR is not explained.
#[test]
fn phases_without_their_log_are_not_proven() {
    let (scene, mut device) = scene(phases);
    measured(&mut device, &UP);
    device.tpm.user_space_log = None;
    assert_eq!(refusals(&scene, &mut device), ["tpm.pcr.11", "boot.phases"]);
    device.tpm.user_space_log = Some(Vec::new());
    assert_eq!(refusals(&scene, &mut device), ["tpm.pcr.11", "boot.phases"]);
    device.tpm.user_space_log = Some(b"\x1e{\"pcr\":11}\n".to_vec());
    assert_eq!(refusals(&scene, &mut device), ["tpm.eventlog.user_space"]);
}

/// The value that `measure uki` prints: the quote proves it, whether or not a log
/// leads there.
#[test]
fn a_value_after_the_phases_is_admitted_with_a_log_and_without() {
    let (mut scene, mut device) = scene(|_| {});
    assert_eq!(refusals(&scene, &mut device), PERMITTED);
    measured(&mut device, &UP);
    let log = device.tpm.user_space_log.take();
    assert_eq!(refusals(&scene, &mut device), ["tpm.pcr.11", "tpm.reference.11"], "another value, and no log");
    let value = hex(device.tpm.pcrs.value(Bank::Sha256, 11).unwrap());
    scene.references.get_mut("node.toml").unwrap().pcrs.insert("11".into(), OneOf::One(value));
    assert_eq!(refusals(&scene, &mut device), PERMITTED);
    device.tpm.user_space_log = log;
    assert_eq!(refusals(&scene, &mut device), PERMITTED);
    // A selected PCR without a rule in the image is not admitted in this way.
    scene.references.get_mut("node.toml").unwrap().pcrs.remove("11");
    let mut other = scene.references["node.toml"].clone();
    (other.name, other.measurements) = ("other".into(), [("other".to_owned(), hex(&[7; 48]))].into());
    other.pcrs.insert("11".into(), OneOf::One(hex(&[7; 32])));
    scene.references.insert("other.toml".into(), other);
    assert_eq!(refusals(&scene, &mut device), PERMITTED, "the log leads there");
    device.tpm.user_space_log = None;
    assert_eq!(refusals(&scene, &mut device), ["tpm.pcr.11"]);
}

fn machine_id(image: &mut Reference) {
    let digest = format!("sha256:{}", hex(&sha256(&[b"volume key"])));
    image.events.insert("15".into(), vec!["machine-id:0123".into(), "file-system:/:*".into(), digest]);
}

#[test]
fn measurements_into_a_pcr_are_admitted_by_their_text_or_digest() {
    let (scene, mut device) = scene(machine_id);
    assert_eq!(refusals(&scene, &mut device), PERMITTED, "nothing was measured into it");
    device.tpm.measure(15, "machine-id:0123");
    device.tpm.measure(15, "file-system:/:ext4:root:uuid");
    // systemd logs a description of a volume key, which it hashes with a secret.
    let secret = sha256(&[b"volume key"]);
    device.tpm.extend(15, &secret);
    let described = record(15, &secret, "cryptsetup:root:uuid");
    device.tpm.user_space_log.as_mut().unwrap().extend(described.into_bytes());
    assert_eq!(refusals(&scene, &mut device), PERMITTED);
    device.tpm.measure(15, "file-system:/home:ext4:home:uuid");
    assert_eq!(refusals(&scene, &mut device), ["events.15"]);
}

#[test]
fn rules_that_mean_nothing_are_refused_with_the_bundle() {
    let refused = |rules: fn(&mut Reference)| scene(rules).0.bundle().err().unwrap().to_string();
    let events = |pcr: &'static str, texts: &'static [&'static str]| {
        let (mut scene, _) = scene(|_| {});
        let texts = texts.iter().map(|text| (*text).to_owned()).collect();
        scene.references.get_mut("node.toml").unwrap().events.insert(pcr.into(), texts);
        scene.bundle().err().unwrap().to_string()
    };
    assert!(events("11", &["ready"]).contains("events.11: is the PCR of kernel image and phases"));
    assert!(events("10", &["x"]).contains("events.10: is the PCR of measured files"));
    assert!(events("24", &["x"]).contains("events.24: is no PCR"));
    assert!(events("15", &[]).contains("events.15: is empty"));
    assert!(events("15", &["*"]).contains("events.15: cannot be \"*\""));
    assert!(events("15", &["sha256:00"]).contains("events.15: cannot be \"sha256:00\""));
    assert!(
        refused(|image| {
            phases(image);
            image.boot.as_mut().unwrap().phases = Some(vec!["enter-initrd::ready".into()]);
        })
        .contains("boot.phases: cannot be \"enter-initrd::ready\"")
    );
    assert!(
        refused(|image| {
            phases(image);
            image.boot.as_mut().unwrap().phases = Some(Vec::new());
        })
        .contains("boot.phases: is empty")
    );
}

/// THREATS 12: the owner of the node controls its log.
#[test]
fn threat_12_a_log_of_user_space_cannot_pass_off_what_was_measured() {
    let evil = sha256(&[b"file-system:/:evil"]);
    let with = |log: &str, firmware: &[portcullis_lab::boot::Measured]| {
        let (scene, mut device) = scene(|image| {
            image.events.insert("15".into(), vec!["machine-id:0123".into()]);
        });
        device.tpm.extend(15, &evil);
        let mut events = portcullis_lab::boot::events("node-1.0");
        events.extend_from_slice(firmware);
        device.tpm.event_log = portcullis_lab::boot::log(&events);
        device.tpm.user_space_log = Some(log.into());
        refusals(&scene, &mut device)
    };
    let as_firmware = portcullis_lab::boot::Measured { pcr: 15, kind: 0xd, data: b"file-system:/:evil".to_vec() };
    assert_eq!(with(&record(15, &evil, "machine-id:0123"), &[]), ["events.15"], "another text");
    assert_eq!(with(&record(15, &evil, "file-system:/:evil"), &[]), ["events.15"], "the true text");
    assert_eq!(with("", &[as_firmware]), ["events.15"], "as if firmware had measured it");
    assert_eq!(with(&record(15, &sha256(&[b"machine-id:0123"]), "machine-id:0123"), &[]), ["tpm.pcr.15", "events.15"]);
    assert_eq!(with(&record(14, &evil, "file-system:/:evil"), &[]), ["tpm.pcr.15", "events.15"], "another PCR");
    let index = record(15, &evil, "machine-id:0123").replace("\"pcr\":15", "\"nv_index\":30474753");
    assert_eq!(with(&index, &[]), ["tpm.pcr.15", "events.15"], "an NV index");
    let both = record(15, &evil, "x").replace("\"pcr\":15", "\"pcr\":15,\"nv_index\":30474753");
    assert_eq!(with(&both, &[]), ["tpm.eventlog.user_space"]);
    // A claimed phase that was not measured, and a measured phase that is withheld.
    let (scene, mut device) = scene(phases);
    measured(&mut device, &UP[..3]);
    let claimed = record(11, &sha256(&[b"ready"]), "ready");
    device.tpm.user_space_log.as_mut().unwrap().extend(claimed.into_bytes());
    assert_eq!(refusals(&scene, &mut device), ["tpm.pcr.11", "boot.phases"]);
}

/// Over real processes and a TPM: the node's own log is part of its evidence.
#[test]
fn a_node_shows_what_its_user_space_measured() {
    let (_folder, mut deployment) = common::deployment(portcullis_lab::Options::default());
    phases(deployment.references().get_mut("node-1.0.toml").unwrap());
    deployment.sign_bundle().unwrap();
    let _daemon = deployment.serve().unwrap();
    let machine = deployment.machine("node-1");
    let said = || {
        let output = deployment.request("node-1", SLEEP).unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    assert!(said().1.starts_with("portcullis: denied\n  boot.phases\n"), "{}", said().1);
    let tpm = LabTpm::open(&machine).unwrap();
    UP.iter().for_each(|word| measure(&machine, &tpm.handle(), 11, word).unwrap());
    drop(tpm);
    assert_eq!(said(), (Some(0), String::new()));
    let tpm = LabTpm::open(&machine).unwrap();
    measure(&machine, &tpm.handle(), 11, "shutdown").unwrap();
    drop(tpm);
    assert!(said().1.starts_with("portcullis: denied\n  boot.phases\n"), "{}", said().1);
}

/// A machine measures during a request, in bursts as a boot does: in all of its
/// evidence, quote, values and log fit together.
#[test]
fn evidence_of_a_machine_that_measures_meanwhile_fits_together() {
    let (_folder, deployment) = common::deployment(portcullis_lab::Options::default());
    let machine = deployment.machine("node-1");
    let mut tpm = LabTpm::open(&machine).unwrap();
    let (handle, stop) = (tpm.handle(), AtomicBool::new(false));
    let selection = Selection::sha256([0, 4, 7, 11, 15]);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for burst in 0..12 {
                for number in 0..3 {
                    measure(&machine, &handle, 15, &format!("event {burst} {number}")).unwrap();
                    std::thread::sleep(Duration::from_millis(3));
                }
                std::thread::sleep(Duration::from_millis(60));
            }
            stop.store(true, Ordering::Relaxed);
        });
        while !stop.load(Ordering::Relaxed) {
            let evidence = tpm.quote(&[7; 32], &selection).unwrap();
            let parsed = portcullis_attest::eventlog::EventLog::parse(&evidence.event_log).unwrap();
            let log = parsed.with_user_space(&evidence.user_space_log.unwrap()).unwrap();
            let replayed = log.replay(Bank::Sha256).unwrap();
            for (bank, pcr, value) in evidence.pcrs.iter() {
                assert_eq!(replayed.value(pcr), value, "{bank}:{pcr} while the machine measures");
            }
        }
    });
}

/// TPM_RC_RETRY, more often than the TSS itself retries (five times a command).
#[test]
fn a_busy_tpm_is_asked_again_and_named_in_the_end() {
    let (_folder, deployment) = common::deployment(portcullis_lab::Options::default());
    let machine = deployment.machine("node-1");
    let busy = BusyTpm::before(&machine).unwrap();
    let mut tpm = LabTpm::open(&machine).unwrap();
    let selection = Selection::sha256([0, 4, 7, 11]);
    for refused in [1, 14, 30] {
        busy.refuse(refused);
        tpm.quote(&[1; 32], &selection).unwrap();
        busy.refuse(refused);
        tpm.read_pcrs(&selection).unwrap();
    }
    busy.refuse(u32::MAX);
    let error = tpm.quote(&[1; 32], &selection).unwrap_err();
    assert!(error.is_passing(), "the gate goes on trying while its lease lasts: {error}");
    let said = error.to_string();
    assert!(said.starts_with("swtpm:host=127.0.0.1,port=") && said.contains("TPM refused Quote"), "{said}");
    assert!(said.ends_with("(asked 8 times)"), "{said}");
    busy.refuse(0);
    tpm.quote(&[1; 32], &selection).unwrap();
}
