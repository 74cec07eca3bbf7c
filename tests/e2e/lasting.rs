//! Events that a running program survives: restarts of its authority, cut connections,
//! a full disk. Signals, the program's end and deadlines do not wait for a silent
//! authority.

mod common;
#[path = "common/gates.rs"]
mod gates;
#[path = "common/proxy.rs"]
mod proxy;

use std::time::{Duration, Instant};

use gates::{Gate, running, wait_until};
use portcullis_attest::snp::generation::Generation;
use portcullis_client::{State, StateError};
use portcullis_lab::Options;
use portcullis_lab::deployment::{NODE_IMAGE, SLEEP};
use portcullis_lab::scene::Scene;
use proxy::Proxy;
use rustix::process::Signal;

const fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// A deployment with these limits, a second node, and node-1 behind a proxy.
fn behind_proxy(options: Options) -> (tempfile::TempDir, portcullis_lab::Deployment, Proxy) {
    let (folder, mut deployment) = common::deployment(options);
    deployment.boot("node-2", NODE_IMAGE).unwrap();
    deployment.enrol_by_ak("node-2", &["lab"]).unwrap();
    deployment.sign_bundle().unwrap();
    let proxy = Proxy::to(deployment.nodes_address());
    deployment.configure_node("node-1", "node-1", proxy.address()).unwrap();
    (folder, deployment, proxy)
}

/// Status lists are valid for less than half of a lease, and the authority is killed
/// twice: two programs keep running.
#[test]
fn an_authority_is_killed_twice_while_two_gates_run() {
    if !common::is_root() {
        return;
    }
    let options = Options { lease_seconds: 16, status_seconds: 7, ..Options::default() };
    let (_folder, deployment, _proxy) = behind_proxy(options);
    let mut daemon = deployment.serve().unwrap();
    let gates = ["node-1", "node-2"].map(|node| Gate::start(&deployment, node, &[SLEEP, "16.41"]));
    let both_run = || running(&[SLEEP, "16.41"]).len() == 2;
    assert!(wait_until(seconds(20), both_run).is_some(), "both run");
    for _ in 0..2 {
        std::thread::sleep(seconds(4));
        daemon.kill().unwrap();
        daemon = deployment.serve().unwrap();
        assert!(both_run(), "after SIGKILL of the authority");
    }
    for gate in gates {
        let (code, result) = gate.wait(seconds(40));
        assert_eq!((code, &result["stage"]), (Some(0), &"ended".into()), "{result}");
        assert!(result["renewals"].as_u64().unwrap() >= 1, "{result}");
        assert_ne!(result["permit"], result["first_permit"], "{result}");
    }
}

/// An orderly stop of an authority takes time.
#[test]
fn an_authority_is_stopped_and_started_while_a_gate_runs() {
    if !common::is_root() {
        return;
    }
    let options = Options { lease_seconds: 32, status_seconds: 24, ..Options::default() };
    let (_folder, deployment) = common::deployment(options);
    let mut daemon = deployment.serve().unwrap();
    let gate = Gate::start(&deployment, "node-1", &[SLEEP, "22.46"]);
    assert!(wait_until(seconds(20), || !running(&[SLEEP, "22.46"]).is_empty()).is_some(), "it runs");
    std::thread::sleep(seconds(2));
    assert!(daemon.stop().unwrap().success());
    let _daemon = deployment.serve().unwrap();
    let (code, result) = gate.wait(seconds(40));
    assert_eq!((code, &result["stage"]), (Some(0), &"ended".into()), "{result}");
    assert_eq!(result["renewals"], 1, "{result}");
}

/// A firewall drops the connections of a gate without telling either side; later it
/// resets the existing ones.
#[test]
fn connections_that_are_cut_are_opened_again() {
    if !common::is_root() {
        return;
    }
    let options = Options { lease_seconds: 8, status_seconds: 8, ..Options::default() };
    let (_folder, deployment, proxy) = behind_proxy(options);
    let _daemon = deployment.serve().unwrap();
    let gate = Gate::start(&deployment, "node-1", &[SLEEP, "16.42"]);
    assert!(wait_until(seconds(20), || !running(&[SLEEP, "16.42"]).is_empty()).is_some(), "it runs");
    std::thread::sleep(seconds(1));
    proxy.swallow();
    std::thread::sleep(seconds(7));
    proxy.reset();
    let (code, result) = gate.wait(seconds(40));
    assert_eq!((code, &result["stage"]), (Some(0), &"ended".into()), "{result}");
    assert!(result["renewals"].as_u64().unwrap() >= 2, "{result}");
}

/// The authority is frozen in the middle of a renewal: signals, the program's end and
/// the end of the lease are handled without it.
#[test]
fn nothing_waits_for_an_authority_that_does_not_answer() {
    if !common::is_root() {
        return;
    }
    let options = Options { lease_seconds: 10, status_seconds: 10, ..Options::default() };
    let (_folder, deployment, _proxy) = behind_proxy(options);
    let daemon = deployment.serve().unwrap();
    let signalled = Gate::start(&deployment, "node-1", &[SLEEP, "60.43"]);
    let started = Instant::now();
    let exits = Gate::start(&deployment, "node-2", &[SLEEP, "7.43"]);
    let runs = |seconds: &str| !running(&[SLEEP, seconds]).is_empty();
    assert!(wait_until(seconds(10), || runs("60.43") && runs("7.43")).is_some(), "both run");
    common::signal(daemon.id(), Signal::STOP);
    assert!(wait_until(seconds(10), || !runs("7.43")).is_some(), "the program ends {:?}", started.elapsed());
    let ended = Instant::now();
    let (code, result) = exits.wait(seconds(5));
    let took = ended.elapsed();
    println!("from the program's end to the gate's: {took:?}");
    assert_eq!((code, &result["stage"]), (Some(0), &"ended".into()), "{result}");
    assert!(took < Duration::from_millis(500), "{took:?}");

    // By now, half of the lease is over, and a renewal is under way.
    let sent = Instant::now();
    common::signal(signalled.id(), Signal::TERM);
    let (code, result) = signalled.wait(seconds(5));
    let took = sent.elapsed();
    println!("from a signal to the gate's end: {took:?}");
    common::signal(daemon.id(), Signal::CONT);
    assert_eq!((code, &result["message"]), (Some(143), &"ended by signal 15".into()), "{result}");
    assert!(took < Duration::from_millis(500), "{took:?}");
}

/// Only the end of the lease ends a program whose authority is frozen, and it does so
/// in time.
#[test]
fn a_lease_ends_in_time_while_a_renewal_is_under_way() {
    if !common::is_root() {
        return;
    }
    let (_folder, deployment, daemon) = common::serving();
    let gate = Gate::start(&deployment, "node-1", &[SLEEP, "60.44"]);
    assert!(wait_until(seconds(20), || !running(&[SLEEP, "60.44"]).is_empty()).is_some(), "it runs");
    let frozen = Instant::now();
    common::signal(daemon.id(), Signal::STOP);
    let (code, result) = gate.wait(seconds(10));
    let took = frozen.elapsed();
    common::signal(daemon.id(), Signal::CONT);
    assert_eq!((code, &result["check"]), (Some(124), &"lease.expired".into()), "{result}");
    assert!(took < seconds(5), "the lease has 4 s: {took:?}");
    let message = result["message"].as_str().unwrap();
    assert!(message.starts_with("the lease ended without a renewal; the renewal of the permit "), "{message}");
}

/// The node's disk is full for a while, then for good.
#[test]
fn a_full_disk_is_borne_as_long_as_the_lease() {
    if !common::is_root() {
        return;
    }
    let options = Options { lease_seconds: 6, status_seconds: 6, ..Options::default() };
    let (_folder, deployment) = common::deployment(options);
    let _daemon = deployment.serve().unwrap();
    let state = deployment.path("state-node-1");
    std::fs::create_dir_all(&state).unwrap();
    let mounted = format!("mount -t tmpfs -o size=256k tmpfs {} && exec \"$@\"", state.display());
    let gate =
        Gate::start_under(&deployment, "node-1", &["unshare", "-m", "sh", "-c", &mounted, "sh"], &[SLEEP, "60.45"]);
    assert!(wait_until(seconds(20), || !running(&[SLEEP, "60.45"]).is_empty()).is_some(), "it runs");
    let fill = format!("/proc/{}/root{}/fill", gate.id(), state.display());
    let fill_disk = || {
        // Fills the free space.
        let written = std::fs::write(&fill, vec![0; 1 << 20]);
        assert_eq!(written.unwrap_err().kind(), std::io::ErrorKind::StorageFull);
    };
    fill_disk();
    // After one lease the gate opens a new session, which writes.
    std::thread::sleep(seconds(7));
    std::fs::remove_file(&fill).unwrap();
    std::thread::sleep(seconds(3));
    assert!(!running(&[SLEEP, "60.45"]).is_empty(), "it was full for less than a lease");
    fill_disk();
    let (code, result) = gate.wait(seconds(20));
    assert_eq!((code, &result["stage"]), (Some(124), &"stopped".into()), "{result}");
    let check = result["check"].as_str().unwrap();
    assert!(["lease.expired", "permit.status.expired"].contains(&check), "{result}");
    let message = result["message"].as_str().unwrap();
    let file = format!("{}/checkpoint-", state.display());
    assert!(message.contains(&file) && message.contains("No space left on device"), "{message}");
}

/// Files damaged by a power cut or a failing disk: the error names the file and the
/// remedy. No older log or bundle is accepted.
#[test]
fn damaged_state_is_refused_by_name() {
    if !common::is_root() {
        return;
    }
    let (_folder, deployment, _daemon) = common::serving();
    let run = || Gate::start(&deployment, "node-1", &[SLEEP, "0"]).wait(seconds(20));
    assert_eq!(run().0, Some(0));
    let state = deployment.path("state-node-1");
    let names = std::fs::read_dir(&state).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.collect();
    names.sort();
    let [bundle, checkpoint, origin] = names.as_slice() else { panic!("{names:?}") };
    for (name, check) in [(bundle, "state.bundle"), (checkpoint, "state.checkpoint"), (origin, "state.origin")] {
        let path = state.join(name);
        let whole = std::fs::read(&path).unwrap();
        // Empty, zeroes, and truncated. A truncated origin would be another origin, so that one
        // is cut to a line end.
        let cut = if name == origin { &b"\n"[..] } else { &whole[..whole.len() - 4] };
        for damage in [&b""[..], &vec![0; whole.len()], cut] {
            std::fs::write(&path, damage).unwrap();
            let (code, result) = run();
            assert_eq!((code, &result["check"]), (Some(77), &check.into()), "{result}");
            assert!(result["message"].as_str().unwrap().contains(path.to_str().unwrap()), "{result}");
        }
        std::fs::write(&path, whole).unwrap();
    }
    std::fs::remove_file(state.join(checkpoint)).unwrap();
    let (_, result) = run();
    assert_eq!(result["check"], "state.checkpoint", "missing beside its origin");
    // Follows the remedy.
    std::fs::remove_file(state.join(origin)).unwrap();
    std::fs::remove_file(state.join(bundle)).unwrap();
    assert_eq!(run().0, Some(0));
}

/// A gate with an older bundle shares the node's state with a gate that has taken the
/// next bundle.
#[test]
fn a_bundle_does_not_go_back_whatever_gates_run() {
    let mut scene = Scene::new(&common::root_folder(), Generation::Milan).unwrap();
    let first = scene.bundle().unwrap();
    let predecessor = portcullis_wire::hex::hex(first.digest());
    (scene.document.version, scene.document.predecessor) = (2, Some(predecessor));
    let second = scene.bundle().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let (state, path) = (State::open(folder.path()).unwrap(), folder.path().join("bundle.pcb"));
    for bundle in [&first, &second, &first] {
        state.keep_bundle(bundle, scene.governance()).unwrap();
    }
    assert_eq!(std::fs::read(&path).unwrap(), second.bytes());
    std::fs::write(&path, b"").unwrap();
    match state.keep_bundle(&first, scene.governance()).unwrap_err() {
        StateError::Damaged { check, found } => {
            assert_eq!((check, found), ("state.bundle", format!("{} is empty", path.display())));
        }
        StateError::Io(error) => panic!("{error}"),
    }
}
