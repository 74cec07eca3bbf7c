//! Witnesses: nothing runs that a quorum of them has not seen.

mod common;

use std::fs;
use std::time::{Duration, Instant};

use portcullis_firmware_policy::document::Witnesses;
use portcullis_lab::deployment::SLEEP;
use portcullis_lab::{Daemon, Deployment, Options, Witness, daemon};
use portcullis_lineage::{Keys, Log, MemoryStorage, NewEntry};
use portcullis_permit::{
    Clock, Endorsement, GateExpectation, Governance, PermitError, PermitLife, SigningKey, Suite, TransparentPermit,
    WitnessQuorum, Workload,
};
use tempfile::TempDir;

/// An authority whose bundle demands two of three witnesses.
fn witnessed(max_age_seconds: u64) -> (TempDir, Deployment, Vec<Witness>) {
    let (folder, mut deployment) = common::deployment(Options { lease_seconds: 30, ..Options::default() });
    let mut witnesses: Vec<Witness> = (1..=3)
        .map(|n| {
            let name = format!("witness.test/{n}");
            Witness::create(common::lab(), &folder.path().join(format!("w{n}")), &name).unwrap()
        })
        .collect();
    let members = witnesses.iter().map(Witness::document).collect();
    deployment.document().witnesses = Some(Witnesses { threshold: 2, max_age_seconds, members });
    deployment.sign_bundle().unwrap();
    let key = endorsement(&deployment).checkpoint_key.to_string();
    witnesses.iter_mut().for_each(|witness| witness.start(&key).unwrap());
    (folder, deployment, witnesses)
}

fn endorsement(deployment: &Deployment) -> Endorsement {
    let governance = Governance::decode(&fs::read(deployment.path("governance.cbor")).unwrap()).unwrap();
    Endorsement::verify(&fs::read(deployment.path("authority.pce")).unwrap(), &governance).unwrap()
}

fn ask(deployment: &Deployment) -> (Option<i32>, String) {
    let output = deployment.request("node-1", SLEEP).unwrap();
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

fn refused(deployment: &Deployment, check: &str) -> String {
    let output = deployment.portcullisd("authority", &["serve"]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(3), "{said}");
    assert!(said.contains(check), "{said}");
    said
}

/// Exit code of a replay, and its report on the witnesses.
fn replay(deployment: &Deployment) -> (Option<i32>, String) {
    let mut command = std::process::Command::new(common::lab());
    command.args(["portcullis-audit", "replay", "--json"]).arg(deployment.path("state-authority/log"));
    command.arg("--endorsement").arg(deployment.path("authority.pce"));
    command.arg("--governance-root").arg(deployment.path("governance.cbor"));
    let output = command.output().unwrap();
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let checks = report["checks"].as_array().unwrap();
    let check = checks.iter().find(|check| check["id"] == "log.witnessed").unwrap();
    (output.status.code(), check["outcome"].as_str().unwrap().to_owned())
}

fn wait_for_trip(daemon: &Daemon, patience: Duration) -> String {
    let started = Instant::now();
    while started.elapsed() < patience {
        let (status, body) = daemon.get("/readyz").unwrap();
        if status == 503 {
            return body;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    panic!("it does not trip")
}

/// THREATS 46: one witness that is gone, or has lost its memory, stops no permit;
/// without a quorum the authority trips, and gates refuse.
#[test]
fn threat_46_a_faulty_witness_stops_nobody_and_no_quorum_stops_all() {
    let (_folder, deployment, mut witnesses) = witnessed(5);
    let daemon = deployment.serve().unwrap();
    assert_eq!(ask(&deployment).0, Some(0));
    witnesses[0].kill();
    std::thread::sleep(Duration::from_secs(7));
    let (code, said) = ask(&deployment);
    assert_eq!(code, Some(0), "two of three are enough: {said}");
    let (status, body) = daemon.get("/readyz").unwrap();
    assert!(status == 200 && body.contains("\"2 of 3\""), "{body}");
    witnesses[1].kill();
    let body = wait_for_trip(&daemon, Duration::from_secs(15));
    assert!(body.contains("witness.lag"), "{body}");
    assert_eq!(ask(&deployment).0, Some(4), "it signs no more");
}

/// THREATS 16, 39: a whole disk restored from a backup. Nodes that have seen more are
/// not needed, because the witnesses have.
#[test]
fn threat_39_witnesses_refuse_a_restored_disk() {
    let (_folder, deployment, _witnesses) = witnessed(30);
    let mut daemon = deployment.serve().unwrap();
    assert_eq!(ask(&deployment).0, Some(0));
    assert!(daemon.stop().unwrap().success());
    let (log, backup) = (deployment.path("state-authority/log"), deployment.path("backup"));
    common::copy_folder(&log, &backup);
    let mut daemon = deployment.serve().unwrap();
    for _ in 0..3 {
        assert_eq!(ask(&deployment).0, Some(0));
    }
    // Witnesses see every head within seconds.
    std::thread::sleep(Duration::from_secs(7));
    daemon.kill().unwrap();
    let newest = deployment.path("newest");
    common::copy_folder(&log, &newest);
    fs::remove_dir_all(&log).unwrap();
    common::copy_folder(&backup, &log);
    let said = refused(&deployment, "witness.quorum");
    assert!(said.contains("has seen a tree of"), "{said}");

    fs::remove_dir_all(&log).unwrap();
    common::copy_folder(&newest, &log);
    // An auditor sees whether a quorum has seen this log; `missing` means no cosignatures.
    assert_eq!(replay(&deployment), (Some(0), "pass".into()));
    let note = fs::read_to_string(log.join("witnessed")).unwrap();
    let fewer = note.lines().filter(|line| !line.contains("witness.test/")).map(|line| format!("{line}\n"));
    fs::write(log.join("witnessed"), fewer.collect::<String>()).unwrap();
    assert_eq!(replay(&deployment), (Some(1), "fail".into()));
    fs::remove_file(log.join("witnessed")).unwrap();
    assert_eq!(replay(&deployment), (Some(3), "missing".into()));
    let _daemon = deployment.serve().unwrap();
    assert_eq!(ask(&deployment).0, Some(0), "the newest copy goes on");
}

/// A successor names a head that enough witnesses have seen.
#[test]
fn a_successor_names_an_old_log_that_witnesses_have_seen() {
    let (_folder, mut deployment, _witnesses) = witnessed(5);
    let mut daemon = deployment.serve().unwrap();
    assert_eq!(ask(&deployment).0, Some(0));
    let retire = deployment.revocation(1, &["--retire", "--successor", "lab/authority-2"]).unwrap();
    common::block_on(async {
        let mut session = portcullis_lab::raw::RawSession::open(deployment.nodes_address()).await.unwrap();
        assert_eq!(session.post("/v1/revocations", retire).await.unwrap().status, 200);
    });
    // Witnesses also see the last head of the log.
    let witnessed = deployment.path("state-authority/log/witnessed");
    let size = |note: &str| portcullis_permit::Checkpoint::unverified(note).unwrap().0;
    let head = || fs::read_to_string(deployment.path("state-authority/log/checkpoint")).unwrap();
    let started = Instant::now();
    while size(&fs::read_to_string(&witnessed).unwrap()) < size(&head()) || started.elapsed() < Duration::from_secs(2) {
        assert!(started.elapsed() < Duration::from_secs(10), "the last head is not witnessed");
        std::thread::sleep(Duration::from_millis(100));
    }
    assert!(daemon.stop().unwrap().success());

    let digest = deployment.bundle_digest("bundle.pcb").unwrap();
    let document = deployment.document();
    (document.version, document.predecessor, document.authority) = (2, Some(digest), "lab/authority-2".into());
    deployment.sign_bundle().unwrap();
    deployment.write_configuration("authority", "lab/authority-2").unwrap();
    fs::rename(deployment.path("state-authority"), deployment.path("old")).unwrap();
    let (endorsement, log) = (deployment.text("authority.pce"), deployment.text("old/log"));
    let init = || {
        let arguments = ["init", "--succeeds", &endorsement, "--old-log", &log];
        let output = deployment.portcullisd("authority", &arguments).output().unwrap();
        let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        (output.status.code(), said.concat())
    };
    let witnessed = deployment.path("old/log/witnessed");
    let note = fs::read_to_string(&witnessed).unwrap();
    let fewer = note.lines().filter(|line| !line.contains("witness.test/")).map(|line| format!("{line}\n"));
    fs::write(&witnessed, fewer.collect::<String>()).unwrap();
    let (code, said) = init();
    assert!(code == Some(3) && said.contains("succession.witnesses"), "{said}");
    fs::write(&witnessed, note).unwrap();
    let (code, said) = init();
    assert!(code == Some(0) && said.contains("(rotation)"), "{said}");
}

/// A whole machine, with its TPM, disk and configuration, copied while it was off. The
/// copy has different addresses.
fn clone_authority(deployment: &Deployment) -> (portcullis_lab::Booted, std::net::SocketAddr) {
    common::copy_folder(&deployment.machine("authority"), &deployment.machine("clone"));
    common::copy_folder(&deployment.path("state-authority"), &deployment.path("state-clone"));
    let (nodes, public) = (daemon::free_address().unwrap(), daemon::free_address().unwrap());
    let text = fs::read_to_string(deployment.path("authority.toml")).unwrap();
    let text = text.replace("state-authority", "state-clone");
    let text = text.replace(&deployment.nodes_address().to_string(), &nodes.to_string());
    let text = text.replace(&deployment.public_address().to_string(), &public.to_string());
    fs::write(deployment.path("clone.toml"), text).unwrap();
    (portcullis_lab::Booted::boot(&deployment.machine("clone")).unwrap(), public)
}

/// THREATS 16: a machine and its clone, each with its own TPM, and each consistent:
/// only the witnesses know that there are two. If one starts after the other, it does
/// not serve; if both start together, at most one continues.
#[test]
fn threat_16_of_two_clones_one_dies() {
    let (_folder, deployment, _witnesses) = witnessed(5);
    let mut daemon = deployment.serve().unwrap();
    assert_eq!(ask(&deployment).0, Some(0));
    assert!(daemon.stop().unwrap().success());
    let (_booted, clone) = clone_authority(&deployment);

    let start = |name: &str, address| {
        let command = deployment.portcullisd(name, &["serve"]);
        Daemon::start(command, address, &deployment.path(&format!("{name}.log")))
    };
    let together = || {
        std::thread::scope(|scope| {
            let second = scope.spawn(|| start("clone", clone));
            (start("authority", deployment.public_address()), second.join().unwrap())
        })
    };
    let (mut first, mut second) = together();
    let began = Instant::now();
    let serves = |daemon: &anyhow::Result<Daemon>| {
        daemon.as_ref().is_ok_and(|daemon| daemon.get("/readyz").is_ok_and(|(status, _)| status == 200))
    };
    while serves(&first) && serves(&second) {
        assert!(began.elapsed() < Duration::from_secs(15), "both clones serve");
        std::thread::sleep(Duration::from_millis(100));
    }
    // The other one continues throughout the test.
    std::thread::sleep(Duration::from_secs(7));
    assert!(serves(&first) != serves(&second), "{:?} {:?}", serves(&first), serves(&second));
    let (survivor, loser, name) =
        if serves(&first) { (&mut first, second, "clone") } else { (&mut second, first, "authority") };
    let why = match loser {
        Ok(daemon) => daemon.get("/readyz").unwrap().1,
        Err(error) => format!("{error:#}"),
    };
    assert!(why.contains("witness.lag") || why.contains("witness.quorum"), "{why}");
    // The loser stays refused after a restart, and also while the survivor is off.
    assert!(survivor.as_mut().unwrap().stop().unwrap().success());
    let output = deployment.portcullisd(name, &["serve"]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(3), "{said}");
    assert!(said.contains("witness.quorum"), "{said}");
}

/// THREATS 32: an attacker has stolen permit key and log keys, and makes a tree with
/// them. If witnesses are demanded, the gate refuses; if not, only a checkpoint that
/// the node has seen before reveals the difference.
#[test]
fn threat_32_a_private_tree_runs_only_where_no_witness_is_demanded() {
    let stolen = SigningKey::generate(Suite::Classic).unwrap();
    let gate = SigningKey::generate(Suite::Classic).unwrap();
    let keys = || Keys::from_seeds("log.stolen/1", &[1; 32], &[2; 32]).unwrap();
    let (mut log, _) = Log::open(std::sync::Arc::new(MemoryStorage::new()), keys()).unwrap();
    let workload = Workload {
        digest: [7; 32],
        arguments: [0; 32],
        environment: [0; 32],
        linking: portcullis_permit::DynamicLinking::Static,
    };
    let permit = forged(&gate, &workload);
    let signed = permit.sign(&stolen).unwrap();
    log.append(vec![NewEntry { statement: vec![1], ..NewEntry::default() }]).unwrap();
    let committed = log.append(vec![NewEntry { statement: signed.clone(), ..NewEntry::default() }]).unwrap().remove(0);
    let receipts = committed.receipts().unwrap();
    let key = keys();
    let witness = portcullis_lineage::Cosigner::from_seed("witness.test/1", &[9; 32]).unwrap();
    let quorum = WitnessQuorum { threshold: 1, max_age: 60, keys: vec![witness.public().clone()] };
    let expect = |witnessed: Option<portcullis_permit::Witnessed>, witnesses: Option<&WitnessQuorum>| {
        let bytes = TransparentPermit::attach(&signed, receipts.clone(), witnessed.as_ref()).unwrap();
        let transparent = TransparentPermit::verify(&bytes, stolen.public(), &key.receipt_key(), None).unwrap();
        transparent.expect(&GateExpectation {
            issuer: "log.stolen/1",
            node: "node-1",
            confirmation: gate.public(),
            workload: &workload,
            clock: Clock { now: 1_010, skew: 5 },
            life: PermitLife::ByClock,
            checkpoint_key: key.checkpoint_key(),
            witnesses,
        })
    };
    let check =
        |outcome: Result<_, PermitError>| outcome.map(|_: portcullis_permit::VerifiedPermit| ()).map_err(|e| e.check());
    // The documented outcome without witnesses.
    assert_eq!(check(expect(None, None)), Ok(()));
    assert_eq!(check(expect(None, Some(&quorum))), Err("permit.witness"));
    let with = |note: String, path| Some(portcullis_permit::Witnessed { note, path });
    let head = committed.checkpoint();
    assert_eq!(check(expect(with(head.note().into(), vec![]), Some(&quorum))), Err("permit.witness.quorum"));
    // A cosignature of the real log's head does not carry over to another tree.
    let (mut real, _) = Log::open(std::sync::Arc::new(MemoryStorage::new()), keys()).unwrap();
    let entry = |n| NewEntry { statement: vec![n], ..NewEntry::default() };
    let head_of_real = real.append(vec![entry(1), entry(2)]).unwrap().remove(0).checkpoint().clone();
    let cosigned =
        |head: &portcullis_permit::Checkpoint, time| format!("{}{}", head.note(), witness.cosign(head, time));
    let elsewhere = with(cosigned(&head_of_real, 1_000), vec![]);
    assert_eq!(check(expect(elsewhere, Some(&quorum))), Err("permit.witness.consistency"));
    let foreign = with(head.note().replacen("log.stolen", "log.other", 1), vec![]);
    assert_eq!(check(expect(foreign, Some(&quorum))), Err("permit.witness.checkpoint"));
    assert_eq!(check(expect(with(cosigned(head, 900), vec![]), Some(&quorum))), Err("permit.witness.age"));
    assert_eq!(
        check(expect(with(cosigned(head, 9_000), vec![]), Some(&quorum))),
        Err("permit.witness.age"),
        "the future"
    );
    assert_eq!(check(expect(with(cosigned(head, 1_000), vec![]), Some(&quorum))), Ok(()));
}

/// THREATS 15: a process that was paused for longer than an answer's lease checks the
/// TPM before it answers again (the lease itself: `anchor::tests`).
#[test]
fn threat_15_a_paused_authority_looks_again_before_it_answers() {
    let (_folder, deployment, daemon) = common::serving();
    assert_eq!(ask(&deployment).0, Some(0));
    common::signal(daemon.id(), rustix::process::Signal::STOP);
    std::thread::sleep(Duration::from_secs(5));
    common::signal(daemon.id(), rustix::process::Signal::CONT);
    std::thread::sleep(Duration::from_secs(2));
    // No request came before it had checked the TPM, so it continues.
    assert_eq!(daemon.get("/readyz").unwrap().0, 200);
    assert_eq!(ask(&deployment).0, Some(0));
}

fn forged(gate: &SigningKey, workload: &Workload) -> portcullis_permit::Permit {
    portcullis_permit::Permit {
        issuer: "log.stolen/1".into(),
        subject: "node-1".into(),
        audience: portcullis_permit::Permit::gate_audience("node-1"),
        not_before: 1_000,
        expires: 1_060,
        id: portcullis_permit::PermitId::from_bytes([5; 16]),
        confirmation: *gate.public().thumbprint(),
        workload: workload.digest,
        constraints: portcullis_permit::Constraints { arguments: None, environment: None, linking: workload.linking },
        status: portcullis_permit::StatusReference { uri: "/v1/status/0".into(), index: 0 },
        evidence: [0; 32],
        bundle: [0; 32],
        result: [0; 32],
        channel: [0; 32],
        boot: None,
        parent: None,
        warnings: Vec::new(),
    }
}
