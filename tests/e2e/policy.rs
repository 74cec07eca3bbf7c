//! Decisions of bundles about genuine evidence: every attack by its exact refusal.

mod common;

use portcullis_attest::snp::generation::Generation;
use portcullis_attest::snp::tcb::Tcb;
use portcullis_firmware_policy::document::{Distrust, Floor, Requirement};
use portcullis_firmware_policy::{Activation, Decision, History, HistoryError, Replayed, VerifiedBundle};
use portcullis_lab::processor::{Fields, Processor};
use portcullis_lab::scene::{self, Ask, Device, NOW, PCRS, Plan, Scene, Shows, chip_id, tcb};
use portcullis_permit::{Denial, SigningKey, Suite};
use portcullis_wire::Sign1;
use portcullis_wire::hex::hex;

fn selection() -> portcullis_attest::tpm::pcr::Selection {
    portcullis_attest::tpm::pcr::Selection::sha256(PCRS)
}

fn scene(generation: Generation) -> (Scene, Device) {
    let mut scene = Scene::new(&common::root_folder(), generation).unwrap();
    let device = scene.device("node-1").unwrap();
    (scene, device)
}

fn ask(device: &mut Device) -> Ask {
    device.ask(NOW, &selection()).unwrap()
}

fn denial(ask: &Ask, bundle: &VerifiedBundle) -> Denial {
    match ask.decide(bundle) {
        Decision::Denied(denial) => denial,
        Decision::Authorized { .. } => panic!("permitted"),
    }
}

const PERMITTED: [&str; 0] = [];

#[test]
fn a_sound_device_of_every_generation_is_permitted() {
    for generation in Generation::ALL {
        let (scene, mut device) = scene(generation);
        assert_eq!(ask(&mut device).refusals(&scene.bundle().unwrap()), PERMITTED, "{generation}");
    }
}

/// The right image on a foreign chip; the right chip with a foreign TPM.
#[test]
fn threat_04_the_right_image_on_another_chip_is_denied() {
    let (mut scene, mut device) = scene(Generation::Milan);
    let mut second = scene.device("node-2").unwrap();
    let bundle = scene.bundle().unwrap();
    std::mem::swap(&mut device.processor, &mut second.processor);
    assert_eq!(ask(&mut device).refusals(&bundle), ["node.chip_id"]);
    std::mem::swap(&mut device.processor, &mut second.processor);
    std::mem::swap(&mut device.tpm, &mut second.tpm);
    assert_eq!(ask(&mut device).refusals(&bundle), ["node.ak"]);
}

/// A report under a leaked VCEK: it verifies, but does not count once the generation is
/// distrusted, or if a second root is required.
#[test]
fn threat_05_a_leaked_endorsement_key_opens_nothing() {
    let (mut scene, mut device) = scene(Generation::Milan);
    let ek = [0xe5; 32];
    scene.document.nodes[0].ek = Some(hex(&ek));
    scene.document.nodes[0].ak_name = None;
    let bundle = scene.bundle().unwrap();
    // The holder of the key can make any report, but has no TPM of the enrolled kind.
    assert_eq!(ask(&mut device).refusals(&bundle), ["node.activation"]);
    device.shows = Shows::Snp;
    assert_eq!(ask(&mut device).refusals(&bundle), ["evidence.class"]);
    // The machine itself has it.
    device.shows = Shows::SnpTpm;
    let activation = Activation { ek, ak_name: portcullis_attester::QuoteDevice::ak_name(&device.tpm).to_vec() };
    let good = Plan { activation: Some(activation), ..Plan::at(NOW) }.ask(&mut device, &selection()).unwrap();
    assert_eq!(good.refusals(&bundle), PERMITTED);
    for distrust in [
        (Distrust { generations: vec!["Milan".into()], ..Distrust::default() }, "chip.generation"),
        (Distrust { chips: vec![hex(&device.processor.fields.chip_id)], ..Distrust::default() }, "chip.id"),
    ] {
        scene.document.distrust = distrust.0;
        assert_eq!(good.refusals(&scene.bundle().unwrap()), [distrust.1]);
    }
}

const KINDS: [&str; 4] = ["reported", "committed", "launch", "current"];

fn lowered(tcb: Tcb, part: usize) -> Option<Tcb> {
    let mut low = tcb;
    match part {
        0 => low.boot_loader -= 1,
        1 => low.tee -= 1,
        2 => low.snp -= 1,
        3 => low.microcode -= 1,
        _ => low.fmc = Some(low.fmc?.checked_sub(1)?),
    }
    Some(low)
}

/// One patch level below the floor in only one of the four TCBs, on every
/// generation; and floors that look at one of the four alone.
#[test]
fn threat_06_a_level_below_the_floor_shows_in_each_of_the_four() {
    for generation in Generation::ALL {
        let (mut scene, _) = scene(generation);
        let high = Tcb { boot_loader: 9, tee: 3, ..tcb(generation) };
        let floor = |on: &str, tcb: Tcb| Floor { on: vec![on.into()], ..scene::floor(generation, tcb) };
        let none = Tcb { fmc: high.fmc.map(|_| 0), boot_loader: 0, tee: 0, snp: 0, microcode: 0 };
        let chip = chip_id("node-1", generation);
        let mut device = scene.device("low").unwrap();
        scene.document.nodes.last_mut().unwrap().chip_id = Some(hex(&chip));
        let base = Fields { version: 5, ..Fields::sound(generation, chip, high, device.processor.fields.measurement) };
        for low in (0..5).filter_map(|part| lowered(high, part)) {
            // The certificate is of the higher level: it is for another report.
            let mut certified = Processor::vcek(scene.root(), base.clone()).unwrap();
            certified.fields.reported_tcb = low;
            device.processor = certified;
            assert_eq!(ask(&mut device).refusals(&scene.bundle().unwrap()), ["snp.tcb.certificate"]);
            let mut show = |reported, committed, launch, current| {
                let tcbs = Fields {
                    reported_tcb: reported,
                    committed_tcb: committed,
                    launch_tcb: launch,
                    current_tcb: current,
                    ..base.clone()
                };
                device.processor = Processor::vcek(scene.root(), tcbs).unwrap();
                ask(&mut device)
            };
            let all_low = show(low, low, low, low);
            let alone = [
                (show(low, high, high, high), "snp.tcb.floor.reported"),
                // Firmware keeps the TCBs in order, so another order means a forgery.
                (show(high, low, high, high), "snp.tcb.order"),
                (show(high, high, low, high), "snp.tcb.floor.launch"),
                (show(high, high, high, low), "snp.tcb.order"),
            ];
            scene.document.floors = KINDS.map(|kind| floor(kind, high)).to_vec();
            let bundle = scene.bundle().unwrap();
            for (ask, check) in &alone {
                assert_eq!(ask.refusals(&bundle), [*check], "{generation} {low}");
            }
            for kind in KINDS {
                let only = |of: &str| if of == kind { high } else { none };
                scene.document.floors = KINDS.map(|of| floor(of, only(of))).to_vec();
                let bundle = scene.bundle().unwrap();
                assert_eq!(all_low.refusals(&bundle), [format!("snp.tcb.floor.{kind}")], "{generation} {low}");
            }
        }
    }
}

/// A staged floor: a warning in the permit until its date, a denial from then on,
/// decided by the recorded time.
#[test]
fn a_staged_floor_warns_until_its_date_and_denies_from_then_on() {
    let (mut scene, mut device) = scene(Generation::Genoa);
    let staged = Floor {
        deny_from: Some("2026-11-20T00:00:00Z".into()),
        on: vec!["launch".into()],
        snp: 27,
        ..scene.document.floors[0].clone()
    };
    scene.document.floors.push(staged);
    let bundle = scene.bundle().unwrap();
    let date = 1_795_132_800; // 2026-11-20T00:00:00Z
    let before = device.ask(date - 1, &selection()).unwrap();
    let Decision::Authorized { permit, result } = before.decide(&bundle) else { panic!("denied") };
    assert_eq!((permit.warnings[0].check.as_str(), permit.warnings[0].deny_from), ("snp.tcb.floor.launch", date));
    assert_eq!(permit.warnings.len(), 1);
    assert_eq!(result.warnings()[0].required, "at least boot_loader 4 tee 0 snp 27 microcode 219");
    let from = device.ask(date, &selection()).unwrap();
    assert_eq!(from.refusals(&bundle), ["snp.tcb.floor.launch"]);
}

/// The node's operator and the authority's operator are warned in time.
#[test]
fn a_node_is_warned_of_a_floor_to_come() {
    use portcullis_lab::deployment::SLEEP;
    let (_folder, mut deployment) = common::deployment(portcullis_lab::Options::default());
    let floor = deployment.document().floors[0].clone();
    let staged = Floor {
        snp: floor.snp + 1,
        on: vec!["launch".into()],
        deny_from: Some("2044-01-01T00:00:00Z".into()),
        ..floor
    };
    deployment.document().floors.push(staged);
    deployment.sign_bundle().unwrap();
    let _daemon = deployment.serve().unwrap();
    let output = deployment.request("node-1", SLEEP).unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(0));
    let warning = "portcullis: warning: snp.tcb.floor.launch denies from 2044-01-01T00:00:00Z on: Relaunch the guest";
    assert!(said.contains(warning), "{said}");
    let (_, metrics) = portcullis_lab::daemon::get(deployment.public_address(), "/metrics").unwrap();
    assert!(metrics.contains("portcullis_warnings_total{check=\"snp.tcb.floor.launch\"} 1"), "{metrics}");
}

/// BadRAM, ciphertext and SMT side channels: every bit of PLATFORM_INFO flipped.
#[test]
fn threat_07_every_platform_bit_flipped() {
    let (mut scene, mut device) = scene(Generation::Turin);
    scene.document.platform.smt_disabled = Requirement::Required;
    scene.document.platform.ciphertext_hiding = Requirement::Required;
    let bundle = scene.bundle().unwrap();
    let good = 0b11_0100; // ECC, ciphertext hiding, alias check; no SMT
    for bit in 0..64 {
        device.processor.fields.platform_info = good ^ (1 << bit);
        let expected: &[&str] = match bit {
            0 => &["snp.platform.smt_disabled"],
            2 => &["snp.platform.ecc"],
            4 => &["snp.platform.ciphertext_hiding"],
            5 => &["snp.platform.alias_check"],
            // TSME, RAPL, SEV-TIO and a bit that real firmware sets cause no refusal.
            1 | 3 | 6 | 7 => &[],
            _ => &["snp.reserved"],
        };
        assert_eq!(ask(&mut device).refusals(&bundle), expected, "bit {bit}");
    }
}

/// Policy errors that loading cannot exclude occur at the decision.
#[test]
fn threat_21_a_policy_that_errs_denies_with_its_name() {
    for effect in ["permit", "forbid"] {
        let (mut scene, mut device) = scene(Generation::Milan);
        scene.policies.push_str(&format!(
            "@id(\"too-large\") {effect}(principal, action, resource) when {{ context.time * 9223372036854775807 == 1 }};"
        ));
        let ask = ask(&mut device);
        let denial = denial(&ask, &scene.bundle().unwrap());
        let [refusal] = denial.refusals.as_slice() else { panic!("{:?}", denial.refusals) };
        assert_eq!(refusal.check, "authz.error");
        assert!(refusal.found.as_ref().unwrap().starts_with("too-large: "), "{refusal:?}");
    }
}

#[test]
fn a_forbid_names_itself_and_its_reason() {
    let (mut scene, mut device) = scene(Generation::Milan);
    scene.policies.push_str(
        r#"@id("milan-retires") @reason("Milan is retired: ask for a Genoa host")
        forbid(principal in Generation::"Milan", action, resource);"#,
    );
    let denial = denial(&ask(&mut device), &scene.bundle().unwrap());
    assert_eq!(denial.refusals[0].check, "authz.forbid");
    let found = denial.refusals[0].found.as_deref();
    assert_eq!(found, Some("forbidden by milan-retires: Milan is retired: ask for a Genoa host"));
}

/// A node learns all faults, in the order of the checks; a stranger with the same
/// faults learns one id, and no floor.
#[test]
fn threat_45_a_stranger_learns_one_id_and_a_node_everything() {
    let (mut scene, mut device) = scene(Generation::Milan);
    scene.document.platform.smt_disabled = Requirement::Required;
    scene.document.floors[0].snp += 1;
    scene.document.distrust.generations = vec!["Milan".into()];
    scene.document.workloads.clear();
    let bundle = scene.bundle().unwrap();
    device.processor.fields.guest_svn = 0;
    let everything = [
        "request.nonce.age",
        "chip.generation",
        "snp.tcb.floor.current",
        "snp.tcb.floor.committed",
        "snp.tcb.floor.reported",
        "snp.tcb.floor.launch",
        "snp.platform.smt_disabled",
        "snp.guest_svn",
        "workload.known",
    ];
    let late = Plan { nonce_age: 11, ..Plan::at(NOW) };
    let told = denial(&late.ask(&mut device, &selection()).unwrap(), &bundle);
    assert_eq!(told.refusals.iter().map(|r| r.check.as_str()).collect::<Vec<_>>(), everything);
    assert!(told.refusals.iter().all(|r| r.found.is_some() && r.required.is_some() && r.remedy.is_some()));
    // The same evidence under a name that is not enrolled, and from a chip that the named
    // node does not have.
    device.name = "node-9".into();
    let stranger = denial(&late.ask(&mut device, &selection()).unwrap(), &bundle);
    assert_eq!(stranger.refusals.len(), 1);
    assert_eq!(stranger.refusals[0].check, "request.nonce.age");
    assert!(stranger.refusals[0].found.is_none() && stranger.refusals[0].required.is_none());
    scene.device("node-9").unwrap();
    let other = denial(&ask(&mut device), &scene.bundle().unwrap());
    assert_eq!((other.refusals.len(), other.refusals[0].check.as_str()), (1, "node.chip_id"));
    assert!(other.refusals[0].required.is_none(), "which chip is enrolled is nobody's business");
}

/// With any number of faults, all are counted, those that fit are listed, and the
/// denial fits the log.
#[test]
fn a_denial_tells_how_much_more_there_is() {
    let (mut scene, mut device) = scene(Generation::Milan);
    let floor = Floor { snp: 200, ..scene.document.floors[0].clone() };
    scene.document.floors.extend((0..40).map(|_| floor.clone()));
    let bundle = scene.bundle().unwrap();
    let denial = denial(&ask(&mut device), &bundle);
    assert_eq!(denial.refusals.len(), 96);
    let last = denial.refusals.last().unwrap();
    assert_eq!((last.check.as_str(), last.found.as_deref()), ("denial.more", Some("65 more checks that failed")));
    let key = portcullis_permit::SigningKey::generate(portcullis_permit::Suite::Pq).unwrap();
    let signed = denial.sign(&key).unwrap();
    assert!(signed.len() < portcullis_lineage::MAX_ENTRY, "{}", signed.len());
    let read = Denial::verify(&signed, key.public()).unwrap();
    assert_eq!(read.refusals.len(), 96);
    assert!(read.refusals.iter().all(|refusal| refusal.found.is_some() && refusal.remedy.is_some()));
}

/// A node keeps its last denial, and the tool shows it in full to people.
#[test]
fn a_denial_is_explained_check_by_check() {
    use portcullis_lab::deployment::UNKNOWN;
    let (_folder, deployment, _daemon) = common::serving();
    deployment.describe("node-1", |machine| machine.snp_svn = 3).unwrap();
    assert_eq!(deployment.request("node-1", UNKNOWN).unwrap().status.code(), Some(1));
    let explain = |what: &str, more: &[&str]| {
        let mut command = std::process::Command::new(common::lab());
        let output = command.args(["portcullis-policy", "explain", what]).args(more).output().unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    };
    let denial = deployment.text("state-node-1/denial.cose");
    let (code, text) = explain(&denial, &[]);
    assert_eq!(code, Some(0));
    for line in [
        "lab/authority denied node-1 at ",
        "1. snp.tcb.floor.current\n   means       The platform runs older firmware than the floor.",
        "   found       boot_loader 4 tee 0 snp 3 microcode 219",
        "   required    at least boot_loader 4 tee 0 snp 24 microcode 219",
        "4. snp.tcb.floor.launch",
        "   what to do  Relaunch the guest after the firmware update.",
        "5. workload.known",
    ] {
        assert!(text.contains(line), "{line}\n{text}");
    }
    let json: serde_json::Value = serde_json::from_str(&explain(&denial, &["--json"]).1).unwrap();
    assert_eq!((&json["node"], json["checks"].as_array().unwrap().len()), (&"node-1".into(), 5));
    assert_eq!(explain("snp.tcb.floor.launch", &[]).0, Some(0));
    assert_eq!(explain("no.such.check", &[]).0, Some(2));
}

/// A known good machine drafts its own reference values; they are accepted after a
/// review.
#[test]
fn a_known_good_machine_is_drafted_and_must_be_reviewed() {
    let (folder, deployment) = common::deployment(portcullis_lab::Options::default());
    let evidence = deployment.text("good.cbor");
    let output = deployment.portcullis("node-1", &["identity", "--name", "node-1", "--evidence", &evidence]).output();
    assert!(output.unwrap().status.success());
    let new = folder.path().join("drafted").display().to_string();
    deployment.policy(&["new", &new, "--from-evidence", &evidence, "--name", "node 1.1"]).unwrap();
    let path = folder.path().join("drafted/reference/node-1.1.toml");
    let drafted = std::fs::read_to_string(&path).unwrap();
    let measurement = hex(&portcullis_lab::boot::measurement(portcullis_lab::deployment::NODE_IMAGE));
    assert!(drafted.contains(&measurement) && drafted.contains("reviewed = false"), "{drafted}");
    for (pcr, value) in portcullis_lab::boot::reference(portcullis_lab::deployment::NODE_IMAGE) {
        // PCR 11 follows the phases of a boot; the others are of the image.
        assert_eq!(drafted.contains(&hex(&value)), pcr != 11, "PCR {pcr}\n{drafted}");
    }
    // In the bundle of the deployment: refused, and admitted once it is reviewed.
    deployment.write_bundle().unwrap();
    let place = deployment.path("bundle/reference/node-1.1.toml");
    std::fs::copy(&path, &place).unwrap();
    let refused = deployment.policy(&["check", &deployment.text("bundle")]).unwrap_err().to_string();
    assert!(refused.contains("reference/node-1.1.toml:9: reviewed: is false"), "{refused}");
    let reviewed = drafted.replace("reviewed = false", "reviewed = true").replace("\"firmware\"", "\"boot-chain\"");
    std::fs::write(&place, reviewed).unwrap();
    deployment.policy(&["check", &deployment.text("bundle")]).unwrap();
    let again = deployment.policy(&["new", &new, "--from-evidence", &evidence, "--name", "node 1.1"]).unwrap_err();
    assert!(again.to_string().contains("drafts take the place of nothing"), "{again}");
}

/// The table that a node prints for a program permits that program; the digests beside
/// it cover its arguments and nothing else.
#[test]
fn a_program_whose_table_a_node_printed_is_permitted() {
    const HEAD: &str = "/usr/bin/head";
    let (_folder, mut deployment) = common::deployment(portcullis_lab::Options::default());
    let print = |more: &[&str]| {
        let output =
            deployment.portcullis("node-1", &[&["identity", "--workload", HEAD], more].concat()).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let table = print(&["--", "-c", "0"]);
    let json: serde_json::Value =
        serde_json::from_str(&print(&["--json", "--name", "the head", "--", "-c", "0"])).unwrap();
    let arguments = hex(&portcullis_permit::Workload::list_digest([HEAD, "-c", "0"].map(str::as_bytes)));
    assert_eq!((&json["name"], &json["arguments"]), (&"the head".into(), &arguments.clone().into()));
    assert_ne!(json["environment"], json["arguments"]);
    assert!(table.contains(&format!("# or exactly this line: \"{arguments}\"")), "{table}");
    assert!(table.contains("# no digest covers the libraries that it loads"), "{table}");
    let mut printed: toml::Value = toml::from_str(&table).unwrap();
    let workload = printed["workload"][0].as_table_mut().unwrap().clone();
    assert_eq!((&workload["name"], &workload["linking"]), (&"head".into(), &"dynamic".into()));
    let digest = hex(&portcullis_attest::crypto::sha256(&[&std::fs::read(HEAD).unwrap()]));
    assert_eq!(workload["digest"], digest.into());
    deployment.document().workloads = vec![toml::Value::Table(workload).try_into().unwrap()];
    deployment.sign_bundle().unwrap();
    let _daemon = deployment.serve().unwrap();
    let output = deployment.request("node-1", HEAD).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    // Scripts have no table, because the interpreter is the program that runs.
    let script = deployment.path("script");
    std::fs::write(&script, "#!/bin/sh\n").unwrap();
    let output =
        deployment.portcullis("node-1", &["identity", "--workload", script.to_str().unwrap()]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("a script: run its interpreter"));
}

/// If an archived object differs from the one that the statement names, the decision is
/// not replayed.
#[test]
fn a_decision_is_made_again_only_of_what_its_statement_names() {
    let (scene, mut device) = scene(Generation::Milan);
    let bundle = scene.bundle().unwrap();
    let key = SigningKey::generate(Suite::Classic).unwrap();
    let later = Plan { salt: 1, ..Plan::at(NOW + 1) };
    let asks = [ask(&mut device), later.ask(&mut device, &selection()).unwrap()];
    let archived = |ask: &Ask| -> (Sign1, [Vec<u8>; 4]) {
        let Decision::Authorized { permit, result } = ask.decide(&bundle) else { panic!("denied") };
        let [_, request, evidence, facts] = ask.archived();
        let statement = Sign1::parse(&permit.sign(&key).unwrap(), 65_535).unwrap();
        (statement, [request, evidence, facts, result.bytes().to_vec()])
    };
    let [(statement, blobs), (_, others)] = [archived(&asks[0]), archived(&asks[1])];
    let replay = |blobs: &[Vec<u8>]| {
        let past = History::default().take::<HistoryError>(&statement, || Ok(blobs.to_vec()))?;
        past.unwrap().replay(&bundle, key.public())
    };
    assert_eq!(replay(&blobs), Ok(Replayed::Same));
    assert_eq!(replay(&blobs[..3]), Ok(Replayed::Same), "the result is not what it was decided of");

    for (at, what) in ["request", "evidence", "record of facts", "attestation result"].into_iter().enumerate() {
        let mut changed = blobs.clone();
        changed[at].clone_from(&others[at]);
        assert_eq!(replay(&changed), Err(HistoryError::Other(what)), "another decision's {what}");
        for place in (0..blobs[at].len()).step_by(blobs[at].len() / 16 + 1) {
            let mut changed = blobs.clone();
            changed[at][place] ^= 1;
            assert_eq!(replay(&changed), Err(HistoryError::Other(what)), "byte {place} of the {what}");
        }
    }
    let more = [&blobs[..], &others[3..]].concat();
    assert_eq!(replay(&more), Err(HistoryError::Other("attestation result")), "one more than it names");
    for (length, what) in ["request", "evidence", "facts"].into_iter().enumerate() {
        assert_eq!(replay(&blobs[..length]), Err(HistoryError::Missing(what)));
    }
}
