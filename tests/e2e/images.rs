//! Rules of bundles for images: PCRs, Secure Boot, kernel images, files; several images
//! behind one measurement; validity.

mod common;

use std::collections::BTreeMap;

use portcullis_attest::eventlog::EventLog;
use portcullis_attest::ima::Entries;
use portcullis_attest::snp::generation::Generation;
use portcullis_attest::tpm::pcr::{Bank, PcrValues};
use portcullis_firmware_policy::document::{Boot, Coverage, Ima, OneOf, Requirement, Uki};
use portcullis_lab::boot;
use portcullis_lab::scene::{Device, NOW, Scene, Shows};
use portcullis_wire::hex::hex;

const GLOBAL: [u8; 16] = [0x61, 0xdf, 0xe4, 0x8b, 0xca, 0x93, 0xd2, 0x11, 0xaa, 0x0d, 0, 0xe0, 0x98, 3, 0x2b, 0x8c];
const SECURITY: [u8; 16] =
    [0xcb, 0xb2, 0x19, 0xd7, 0x3a, 0x3d, 0x96, 0x45, 0xa3, 0xbc, 0xda, 0xd0, 0x0e, 0x67, 0x65, 0x6f];
const IMAGE: [u8; 32] = [0xa1; 32];

fn sha(data: &[u8]) -> [u8; 32] {
    Bank::Sha256.hash(&[data]).try_into().unwrap()
}

/// A machine that boots a unified kernel image under OVMF.
#[derive(Clone)]
struct Booting {
    secure_boot: u8,
    started: Vec<[u8; 32]>,
    sections: Vec<(&'static str, &'static [u8])>,
    command_line: Option<&'static str>,
    /// An unexplained extension of PCR 11.
    stray: bool,
    files: Vec<(&'static str, [u8; 32])>,
    /// Measured into another PCR, as the kernel's policy says.
    keys: Vec<(u8, [u8; 32])>,
    /// A file that changed while it was measured.
    violation: bool,
}

impl Booting {
    fn sound() -> Self {
        Self {
            secure_boot: 1,
            started: vec![IMAGE],
            sections: vec![(".linux", b"kernel"), (".cmdline", b"quiet"), (".initrd", b"initrd")],
            command_line: None,
            stray: false,
            files: vec![("boot_aggregate", [0; 32]), ("/usr/bin/gate", [0xf1; 32])],
            keys: Vec::new(),
            violation: false,
        }
    }

    fn log(&self) -> Vec<u8> {
        let mut log = boot::log(&[]);
        let mut put = |pcr: u32, kind: u32, digest: [u8; 32], data: &[u8]| {
            for number in [pcr, kind, 1] {
                log.extend(number.to_le_bytes());
            }
            log.extend(Bank::Sha256.id().to_le_bytes());
            log.extend(digest);
            log.extend(u32::try_from(data.len()).unwrap().to_le_bytes());
            log.extend(data);
        };
        let state = [self.secure_boot];
        let names: [(&str, &[u8; 16], &[u8]); 5] = [
            ("SecureBoot", &GLOBAL, &state),
            ("PK", &GLOBAL, &[]),
            ("KEK", &GLOBAL, &[]),
            ("db", &SECURITY, &[]),
            ("dbx", &SECURITY, &[]),
        ];
        for (name, vendor, data) in names {
            let units: Vec<u8> = name.encode_utf16().flat_map(u16::to_le_bytes).collect();
            let lengths = [name.len() as u64, data.len() as u64].map(u64::to_le_bytes).concat();
            let variable = [&vendor[..], &lengths, &units, data].concat();
            put(7, 0x8000_0001, sha(&variable), &variable);
        }
        for pcr in [0, 4, 7] {
            put(pcr, 4, sha(&[0; 4]), &[0; 4]);
        }
        for image in &self.started {
            put(4, 0x8000_0003, *image, b"path of the image");
        }
        for (name, content) in &self.sections {
            put(11, 0xd, sha(&[name.as_bytes(), &[0]].concat()), b"name");
            put(11, 0xd, sha(content), b"content");
        }
        put(11, 0xd, sha(b"enter-initrd"), b"enter-initrd");
        if self.stray {
            put(11, 0xd, [0x5a; 32], b"");
        }
        if let Some(line) = self.command_line {
            let units: Vec<u8> = line.encode_utf16().chain([0]).flat_map(u16::to_le_bytes).collect();
            put(12, 0xd, sha(&units), &units);
        }
        log
    }

    /// SHA-256 over PCR 0 to 9.
    fn aggregate(&self) -> [u8; 32] {
        let replayed = EventLog::parse(&self.log()).unwrap().replay(Bank::Sha256).unwrap();
        let values: Vec<Vec<u8>> = (0..10).map(|pcr| replayed.value(pcr)).collect();
        sha(&values.concat())
    }

    /// `binary_runtime_measurements` with template `ima-ng`.
    fn list(&self) -> Vec<u8> {
        let sized = |bytes: &[u8]| [&u32::try_from(bytes.len()).unwrap().to_le_bytes()[..], bytes].concat();
        let mut list = Vec::new();
        let files = self.files.iter().map(|(name, digest)| (10, *name, *digest));
        let keys = self.keys.iter().map(|(pcr, digest)| (u32::from(*pcr), "/etc/keys/a", *digest));
        let violation = self.violation.then_some((10, "/var/log/x", [0; 32]));
        for (pcr, name, digest) in files.chain(keys).chain(violation) {
            let digest = if name == "boot_aggregate" { self.aggregate() } else { digest };
            let file = sized(&[b"sha256:\0", &digest[..]].concat());
            let data = [file, sized(&[name.as_bytes(), &[0]].concat())].concat();
            list.extend(u32::to_le_bytes(pcr));
            list.extend(if digest == [0; 32] { vec![0; 20] } else { Bank::Sha1.hash(&[&data]) });
            list.extend(sized(b"ima-ng"));
            list.extend(sized(&data));
        }
        list
    }

    fn start(&self, device: &mut Device) {
        let (log, list) = (self.log(), self.list());
        let replayed = EventLog::parse(&log).unwrap().replay(Bank::Sha256).unwrap();
        let mut pcrs = PcrValues::default();
        for pcr in 0..24 {
            assert!(pcrs.insert(Bank::Sha256, pcr, replayed.value(pcr)));
        }
        for entry in Entries::of(list.as_slice()).unwrap() {
            let entry = entry.unwrap();
            let value = pcrs.value(Bank::Sha256, entry.pcr).unwrap().to_vec();
            let value = Bank::Sha256.extend(&value, &entry.extended(Bank::Sha256));
            assert!(pcrs.insert(Bank::Sha256, entry.pcr, value));
        }
        (device.tpm.pcrs, device.tpm.event_log, device.tpm.measured_files) = (pcrs, log, Some(list));
    }
}

fn one(digest: [u8; 32]) -> OneOf {
    OneOf::One(hex(&digest))
}

/// A bundle with rules of every kind for its one image.
fn scene() -> (Scene, Device) {
    let mut scene = Scene::new(&common::root_folder(), Generation::Milan).unwrap();
    let device = scene.device("node-1").unwrap();
    let image = scene.references.get_mut("node.toml").unwrap();
    image.pcrs = BTreeMap::new();
    image.boot = Some(Boot { secure_boot: Requirement::Required, started: Some(vec![hex(&IMAGE)]), phases: None });
    let sections = [(".linux", &b"kernel"[..]), (".cmdline", b"quiet"), (".initrd", b"initrd")];
    let sections = sections.map(|(name, content)| (name.to_owned(), one(sha(content)))).into();
    image.uki = Some(Uki { sections, command_lines: vec!["debug".into()] });
    (scene, device)
}

fn refusals(scene: &Scene, device: &mut Device) -> Vec<String> {
    let bundle = scene.bundle().unwrap();
    let selection = bundle.policy().selection(portcullis_attest::binding::Role::Node).clone();
    device.ask(NOW, &selection).unwrap().refusals(&bundle)
}

const PERMITTED: [&str; 0] = [];

#[test]
fn boots_that_the_rules_do_not_admit_are_denied_by_what_is_wrong() {
    let (scene, mut device) = scene();
    let sound = Booting::sound();
    let mut judge = |booting: Booting| {
        booting.start(&mut device);
        refusals(&scene, &mut device)
    };
    assert_eq!(judge(sound.clone()), PERMITTED);
    assert_eq!(judge(Booting { command_line: Some("debug"), ..sound.clone() }), PERMITTED);
    assert_eq!(judge(Booting { secure_boot: 0, ..sound.clone() }), ["boot.secure_boot"]);
    assert_eq!(judge(Booting { started: vec![IMAGE, [9; 32]], ..sound.clone() }), ["boot.started"]);
    assert_eq!(judge(Booting { started: vec![], ..sound.clone() }), ["boot.started"]);
    let sections = vec![(".linux", &b"another"[..]), (".cmdline", b"quiet"), (".initrd", b"initrd")];
    assert_eq!(judge(Booting { sections, ..sound.clone() }), ["uki.section.linux"]);
    assert_eq!(judge(Booting { sections: sound.sections[..2].to_vec(), ..sound.clone() }), ["uki.sections"]);
    let twice = [&sound.sections[..], &sound.sections[..1]].concat();
    assert_eq!(judge(Booting { sections: twice, ..sound.clone() }), ["uki.sections"]);
    assert_eq!(judge(Booting { command_line: Some("init=/bin/sh"), ..sound.clone() }), ["uki.command_line"]);
    assert_eq!(judge(Booting { stray: true, ..sound }), ["uki.unexplained"]);
}

#[test]
fn files_that_no_list_allows_are_denied() {
    let (mut scene, mut device) = scene();
    scene.references.get_mut("node.toml").unwrap().ima = Some(Ima { allow: "node.sha256".into(), pcrs: vec![] });
    assert!(scene.bundle().is_err(), "the list is not in the bundle");
    scene.lists.insert("node.sha256".into(), format!("{}  /usr/bin/gate\n", hex(&[0xf1; 32])));
    let sound = Booting::sound();
    sound.start(&mut device);
    assert_eq!(refusals(&scene, &mut device), PERMITTED);
    let mut more = sound.clone();
    more.files.push(("/tmp/agent", [0xbb; 32]));
    more.start(&mut device);
    assert_eq!(refusals(&scene, &mut device), ["ima.files"]);
    // A truncated list does not lead to PCR 10; without a list nothing is known.
    device.tpm.measured_files = Some(sound.list()[..sound.list().len() / 2].to_vec());
    assert_eq!(refusals(&scene, &mut device), ["ima.form"]);
    device.tpm.measured_files = Some(Booting { files: sound.files[..1].to_vec(), ..sound }.list());
    assert_eq!(refusals(&scene, &mut device), ["ima.pcr"]);
    device.tpm.measured_files = None;
    assert_eq!(refusals(&scene, &mut device), ["tpm.pcr.10"]);
}

/// A kernel whose policy measures into another PCR as well: the image says so, the
/// PCR is quoted, and its files are judged like the others.
#[test]
fn files_in_other_registers_are_judged_where_the_image_names_these() {
    let (mut scene, mut device) = scene();
    scene.lists.insert("node.sha256".into(), format!("{}  a\n{}  b\n", hex(&[0xf1; 32]), hex(&[0xf2; 32])));
    let rule = |scene: &mut Scene, pcrs: Vec<u8>| {
        scene.references.get_mut("node.toml").unwrap().ima = Some(Ima { allow: "node.sha256".into(), pcrs });
    };
    let with_key = |pcr, digest| Booting { keys: vec![(pcr, digest)], ..Booting::sound() };
    // PCR 13 is not quoted if the image does not name it.
    rule(&mut scene, vec![]);
    with_key(13, [0xf2; 32]).start(&mut device);
    assert_eq!(refusals(&scene, &mut device), ["ima.pcr"]);
    rule(&mut scene, vec![13]);
    assert_eq!(refusals(&scene, &mut device), PERMITTED);
    with_key(13, [0xbb; 32]).start(&mut device);
    assert_eq!(refusals(&scene, &mut device), ["ima.files"]);
    // A PCR into which files are measured no longer proves the claims of the boot.
    rule(&mut scene, vec![11]);
    with_key(11, [0xf2; 32]).start(&mut device);
    assert_eq!(refusals(&scene, &mut device), ["uki.sections"]);
    rule(&mut scene, vec![24]);
    assert!(scene.bundle().is_err(), "no PCR");
    // A file that changed while it was measured is refused.
    rule(&mut scene, vec![]);
    Booting { violation: true, ..Booting::sound() }.start(&mut device);
    assert_eq!(refusals(&scene, &mut device), ["ima.violations"]);
}

/// One firmware before two kernels: the matching image counts. If no image matches, the
/// refusals are those of the closest one.
#[test]
fn images_that_share_a_measurement_are_told_apart_by_the_rest() {
    let (mut scene, mut device) = scene();
    let first = scene.references["node.toml"].clone();
    let mut second = first.clone();
    second.name = "node-2.0".into();
    second.uki.as_mut().unwrap().sections.insert(".linux".into(), one(sha(b"kernel 2")));
    scene.references.insert("second.toml".into(), second);
    let mut next = Booting::sound();
    next.sections[0].1 = b"kernel 2";
    for booting in [Booting::sound(), next.clone()] {
        booting.start(&mut device);
        assert_eq!(refusals(&scene, &mut device), PERMITTED);
    }
    next.secure_boot = 0;
    next.start(&mut device);
    assert_eq!(refusals(&scene, &mut device), ["boot.secure_boot"], "and not the first image's .linux too");
}

/// If the measurement ends at the firmware, the TPM's values for the rest count only if
/// that TPM is vouched for.
#[test]
fn firmware_and_uki_needs_a_tpm_that_somebody_vouches_for() {
    let (mut scene, mut device) = scene();
    scene.references.get_mut("node.toml").unwrap().covers = Coverage::FirmwareAndUki;
    Booting::sound().start(&mut device);
    assert_eq!(refusals(&scene, &mut device), ["reference.vtpm"], "the host runs that TPM");
    scene.document.nodes[0].minimum_class = "snp".into();
    device.shows = Shows::Snp;
    assert_eq!(refusals(&scene, &mut device), ["reference.vtpm", "tpm.reference"]);
    scene.references.get_mut("node.toml").unwrap().uki = None;
    assert_eq!(
        scene.bundle().err().unwrap().to_string(),
        "reference/node.toml:3: covers: is \"firmware-and-uki\" without [uki]"
    );
}

#[test]
fn reference_values_end() {
    let (mut scene, mut device) = scene();
    Booting::sound().start(&mut device);
    scene.references.get_mut("node.toml").unwrap().expires = Some("2026-11-10T00:00:00Z".into());
    assert_eq!(refusals(&scene, &mut device), ["reference.validity"]);
    scene.references.get_mut("node.toml").unwrap().not_before = Some("2026-11-10T00:00:00Z".into());
    let refused = scene.bundle().err().unwrap().to_string();
    assert!(refused.contains("expires: is not after not_before"), "{refused}");
}

#[test]
fn several_values_of_a_pcr_may_be_admitted() {
    let (mut scene, mut device) = scene();
    Booting::sound().start(&mut device);
    let found = hex(device.tpm.pcrs.value(Bank::Sha256, 7).unwrap());
    let image = scene.references.get_mut("node.toml").unwrap();
    image.pcrs.insert("7".into(), OneOf::Any(vec!["00".repeat(32), found]));
    assert_eq!(refusals(&scene, &mut device), PERMITTED);
    let image = scene.references.get_mut("node.toml").unwrap();
    image.pcrs.insert("7".into(), OneOf::Any(vec!["00".repeat(32), "11".repeat(32)]));
    assert_eq!(refusals(&scene, &mut device), ["tpm.reference.7"]);
}

/// Rules over the logs of real machines: RHEL 8 with Secure Boot, and Ubuntu on an
/// SEV-SNP guest of Google's without.
#[test]
fn boots_of_real_machines_are_admitted_by_what_they_started() {
    let Some(logs) = portcullis_vectors::vectors("eventlog/go-tpm-tools") else { return };
    let (mut scene, mut device) = scene();
    let boot = |device: &mut Device, file: &str| {
        let log = std::fs::read(logs.join(file)).unwrap();
        let replayed = EventLog::parse(&log).unwrap().replay(Bank::Sha256).unwrap();
        let mut pcrs = PcrValues::default();
        for pcr in (0..24).filter(|pcr| *pcr != 10) {
            assert!(pcrs.insert(Bank::Sha256, pcr, replayed.value(pcr)));
        }
        let selection = portcullis_attest::tpm::pcr::Selection::sha256((0..24).filter(|pcr| *pcr != 10));
        let mut checks = portcullis_attest::check::Checks::refusals();
        let verified = portcullis_attest::eventlog::verify(&log, &pcrs, &selection, &mut checks).unwrap();
        (device.tpm.pcrs, device.tpm.event_log, device.tpm.measured_files) = (pcrs, log, None);
        verified.claims().boot_chain.iter().map(|digest| hex(digest)).collect::<Vec<String>>()
    };
    let rule = |scene: &mut Scene, started: &[String]| {
        let image = scene.references.get_mut("node.toml").unwrap();
        image.uki = None;
        image.boot = Some(Boot { secure_boot: Requirement::Required, started: Some(started.to_vec()), phases: None });
    };
    let red_hat = boot(&mut device, "rhel8-uefi.bin");
    assert!(red_hat.len() > 1, "{red_hat:?}");
    rule(&mut scene, &red_hat);
    assert_eq!(refusals(&scene, &mut device), PERMITTED);
    rule(&mut scene, &red_hat[1..]);
    assert_eq!(refusals(&scene, &mut device), ["boot.started"]);
    let ubuntu = boot(&mut device, "ubuntu-2404-amd-sevsnp.bin");
    rule(&mut scene, &ubuntu);
    assert_eq!(refusals(&scene, &mut device), ["boot.secure_boot"]);
    rule(&mut scene, &red_hat);
    assert_eq!(refusals(&scene, &mut device), ["boot.secure_boot", "boot.started"]);
}

/// The same over real processes: Linux's list is read after the quote, and PCR 10
/// of the TPM leads to it.
#[test]
fn a_machine_shows_the_files_that_it_measured() {
    use portcullis_lab::deployment::SLEEP;
    use portcullis_lab::tpm::{LabTpm, MEASURED_FILES, extend};
    let (_folder, mut deployment) = common::deployment(portcullis_lab::Options::default());
    let booting = Booting::sound();
    deployment.references().get_mut("node-1.0.toml").unwrap().ima =
        Some(Ima { allow: "node.sha256".into(), pcrs: vec![] });
    let lists = deployment.path("bundle/ima");
    std::fs::create_dir_all(&lists).unwrap();
    std::fs::write(lists.join("node.sha256"), format!("{}  /usr/bin/gate\n", hex(&[0xf1; 32]))).unwrap();
    deployment.sign_bundle().unwrap();
    let _daemon = deployment.serve().unwrap();
    let machine = deployment.machine("node-1");
    let said = |deployment: &portcullis_lab::Deployment| {
        let output = deployment.request("node-1", SLEEP).unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (_, nothing) = said(&deployment);
    assert!(nothing.starts_with("portcullis: denied\n  ima."), "{nothing}");
    let list = booting.list();
    {
        let tpm = LabTpm::open(&machine).unwrap();
        for entry in Entries::of(list.as_slice()).unwrap() {
            let digest: [u8; 32] = entry.unwrap().extended(Bank::Sha256).try_into().unwrap();
            extend(&tpm.handle(), 10, &digest).unwrap();
        }
    }
    std::fs::write(machine.join(MEASURED_FILES), &list).unwrap();
    assert_eq!(said(&deployment), (Some(0), String::new()));
    // The kernel measured more files after the quote: those entries are not trusted.
    let mut longer = booting;
    longer.files.push(("/tmp/agent", [0xbb; 32]));
    std::fs::write(machine.join(MEASURED_FILES), longer.list()).unwrap();
    assert_eq!(said(&deployment).0, Some(0));
    std::fs::write(machine.join(MEASURED_FILES), &list[..list.len() - 1]).unwrap();
    assert!(said(&deployment).1.starts_with("portcullis: denied\n  ima.form\n"));
}
