//! Clocks that differ within the tolerance of the bundle cause no denial and end no
//! program (decision 0017).

mod common;

use std::time::{Duration, Instant};

use portcullis_firmware_policy::document::Witnesses;
use portcullis_lab::deployment::SLEEP;
use portcullis_lab::raw::RawSession;
use portcullis_lab::scene::rfc3339;
use portcullis_lab::{Daemon, Deployment, Options, Witness};

#[expect(clippy::disallowed_methods, reason = "the test writes bundles that begin in a moment")]
fn now() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs()
}

/// Runs a program under a shifted clock; returns exit code and output.
fn run(deployment: &Deployment, offset: &str, seconds: &str) -> (Option<i32>, String) {
    let mut command = deployment.portcullis("node-1", &["run", "--", SLEEP, seconds]);
    common::under_clock(&mut command, offset);
    command.env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
    let output = command.output().unwrap();
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

fn post(deployment: &Deployment, path: &str, body: Vec<u8>) -> (u16, String) {
    common::block_on(async {
        let mut session = RawSession::open(deployment.nodes_address()).await.unwrap();
        let answer = session.post(path, body).await.unwrap();
        (answer.status, String::from_utf8_lossy(&answer.body).into_owned())
    })
}

/// A node whose clock is behind or ahead of its authority's, by more than the validity
/// of a status list: its program starts, is renewed, and ends by itself. Beyond the
/// tolerance it is denied, with readable times.
#[test]
fn a_node_whose_clock_is_a_few_seconds_off_runs_and_renews() {
    if !common::is_root() {
        return;
    }
    let (_folder, deployment) = common::deployment(Options { status_seconds: 2, ..Options::default() });
    let _daemon = deployment.serve().unwrap();
    for offset in ["-0.5s", "-1s", "-8s", "+1s", "+8s"] {
        assert_eq!(run(&deployment, offset, "5"), (Some(0), String::new()), "{offset}");
    }
    let (code, said) = run(&deployment, "-30s", "0");
    assert_eq!(code, Some(77), "{said}");
    assert!(said.contains("permit.not_before") && said.contains("at most 10 s after 20"), "{said}");
    let (code, said) = run(&deployment, "+30s", "0");
    assert_eq!(code, Some(77), "{said}");
    assert!(said.contains("permit.expired") && said.contains("later than 10 s before 20"), "{said}");
}

/// The second bundle of a deployment, which begins at a time.
fn next_bundle(deployment: &mut Deployment, begins: u64) -> Vec<u8> {
    let digest = deployment.bundle_digest("bundle.pcb").unwrap();
    let document = deployment.document();
    (document.version, document.predecessor) = (2, Some(digest));
    document.not_before = rfc3339(begins);
    // `check` comes last and refuses a bundle that is not valid yet: it judges by the
    // governors' clock.
    drop(deployment.sign_bundle_as("next.pcb"));
    std::fs::read(deployment.path("next.pcb")).unwrap()
}

/// A bundle whose authors' clock is ahead: the authority waits until it begins, and
/// nodes whose clocks are behind the authority's take it. A bundle that begins later is
/// refused.
#[test]
fn a_bundle_that_begins_in_a_moment_is_waited_for() {
    let (_folder, mut deployment) = common::deployment(Options::default());
    let _daemon = deployment.serve().unwrap();
    let later = next_bundle(&mut deployment, now() + 60);
    let (status, said) = post(&deployment, "/v1/policy", later);
    assert!(status == 403 && said.contains("bundle.not_before"), "{said}");
    let begins = now() + 3;
    let soon = next_bundle(&mut deployment, begins);
    let (status, said) = post(&deployment, "/v1/policy", soon);
    assert_eq!(status, 200, "{said}");
    assert!(now() >= begins, "it is not in force before it begins");
    let mut command = deployment.portcullis("node-1", &["attest"]);
    common::under_clock(&mut command, "-5s");
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
}

fn witnessed(offset: &str) -> (tempfile::TempDir, Deployment, Witness) {
    let (folder, mut deployment) = common::deployment(Options { lease_seconds: 30, ..Options::default() });
    let mut witness = Witness::create(common::lab(), &folder.path().join("w"), "witness.test/1").unwrap();
    let members = vec![witness.document()];
    deployment.document().witnesses = Some(Witnesses { threshold: 1, max_age_seconds: 5, members });
    deployment.sign_bundle().unwrap();
    let governance = std::fs::read(deployment.path("governance.cbor")).unwrap();
    let governance = portcullis_permit::Governance::decode(&governance).unwrap();
    let endorsement = std::fs::read(deployment.path("authority.pce")).unwrap();
    let key = portcullis_permit::Endorsement::verify(&endorsement, &governance).unwrap().checkpoint_key.to_string();
    witness.start_with(&key, |command| common::under_clock(command, offset)).unwrap();
    (folder, deployment, witness)
}

/// A witness whose clock is ahead or behind counts within the tolerance, even if that
/// is longer than the bundle's maximum age of a cosignature. Beyond the tolerance, the
/// error names the witness.
#[test]
fn a_witness_whose_clock_is_off_counts_within_the_tolerance() {
    for offset in ["+8s", "-8s"] {
        let (_folder, deployment, _witness) = witnessed(offset);
        let _daemon = deployment.serve().unwrap();
        let asked = deployment.request("node-1", SLEEP).unwrap();
        assert_eq!(asked.status.code(), Some(0), "{offset}: {}", String::from_utf8_lossy(&asked.stderr));
    }
    let (_folder, deployment, _witness) = witnessed("+1h");
    let refused = deployment.portcullisd("authority", &["serve"]).output().unwrap();
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(3), "{said}");
    assert!(said.contains("witness.quorum") && said.contains("witness.test/1: its clock shows 20"), "{said}");
}

/// NTP sets the machine's clock back: within the tolerance, recorded times stay
/// constant. A start continues from the newest entry.
#[test]
fn a_clock_that_is_set_back_a_little_goes_on() {
    let (_folder, deployment) = common::deployment(Options::default());
    let mut daemon = deployment.serve().unwrap();
    assert_eq!(deployment.request("node-1", SLEEP).unwrap().status.code(), Some(0));
    assert!(daemon.stop().unwrap().success());
    let mut command = deployment.portcullisd("authority", &["serve"]);
    common::under_clock(&mut command, "-8s");
    let mut daemon = Daemon::start(command, deployment.public_address(), &deployment.path("authority.log")).unwrap();
    let asked = Instant::now();
    assert_eq!(deployment.request("node-1", SLEEP).unwrap().status.code(), Some(0));
    assert!(asked.elapsed() < Duration::from_secs(5));
    assert!(daemon.stop().unwrap().success());
    let times: Vec<u64> = common::permits(&deployment).iter().map(|permit| permit.not_before).collect();
    assert!(times.is_sorted(), "{times:?}");
}
