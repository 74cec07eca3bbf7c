//! Rehearsals over the archive of a real authority.

mod common;

use std::process::{Command, Output};

use portcullis_lab::deployment::{NODE_IMAGE, SLEEP, UNKNOWN};
use portcullis_lab::{Deployment, Options};
use serde_json::Value;

fn rehearse(deployment: &Deployment, more: &[&str]) -> Output {
    let mut command = Command::new(common::lab());
    command.args(["portcullis-policy", "rehearse", "--archive"]).arg(deployment.path("state-authority/log"));
    command.arg("--bundle").arg(deployment.path("bundle")).args(more).output().unwrap()
}

fn json(deployment: &Deployment, more: &[&str]) -> Value {
    let output = rehearse(deployment, &[&["--json"], more].concat());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let report = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(portcullis_schemas::check(&report), "portcullis/rehearsal/1");
    report
}

fn node<'a>(report: &'a Value, name: &str) -> &'a Value {
    report["nodes"].as_array().unwrap().iter().find(|node| node["name"] == name).unwrap()
}

#[test]
fn a_rehearsal_tells_who_would_gain_and_lose_and_why() {
    let (_folder, mut deployment) = common::deployment(Options::default());
    deployment.boot("node-2", NODE_IMAGE).unwrap();
    deployment.enrol_by_ak("node-2", &["lab"]).unwrap();
    deployment.sign_bundle().unwrap();
    let daemon = deployment.serve().unwrap();
    for _ in 0..3 {
        assert_eq!(deployment.request("node-1", SLEEP).unwrap().status.code(), Some(0));
    }
    assert_eq!(deployment.request("node-2", UNKNOWN).unwrap().status.code(), Some(1));
    // A revocation in between: later decisions refer to another state.
    let revocation = deployment.revocation(1, &["--node", "node-9"]).unwrap();
    let status = common::block_on(async {
        let mut session = portcullis_lab::raw::RawSession::open(deployment.nodes_address()).await.unwrap();
        session.post("/v1/revocations", revocation).await.unwrap().status
    });
    assert_eq!(status, 200);
    assert_eq!(deployment.request("node-2", SLEEP).unwrap().status.code(), Some(0));
    drop(daemon);

    // The same bundle: nothing changes.
    let same = json(&deployment, &[]);
    assert_eq!((&same["decisions"], &same["same"], &same["loses"]), (&5.into(), &2.into(), &0.into()));

    // Node 2's program becomes known, node 1 is no longer enrolled.
    let program = std::fs::read(UNKNOWN).unwrap();
    let mut workload = deployment.document().workloads[0].clone();
    workload.name = "true".into();
    workload.digest = portcullis_wire::hex::hex(&portcullis_attest::crypto::sha256(&[&program]));
    deployment.document().workloads.push(workload);
    deployment.document().nodes.retain(|node| node.name != "node-1");
    deployment.document().version = 2;
    deployment.write_bundle().unwrap();
    let report = json(&deployment, &[]);
    let (one, two) = (node(&report, "node-1"), node(&report, "node-2"));
    assert_eq!((&one["change"], &one["lost"]), (&"loses".into(), &3.into()));
    assert_eq!(one["reasons"][0]["check"], "node.enrolled");
    assert_eq!((&two["change"], &two["gained"]), (&"gains".into(), &1.into()));

    // Additions on the command line.
    let distrust = json(&deployment, &["--distrust", "milan"]);
    assert_eq!(node(&distrust, "node-2")["reasons"][0]["check"], "chip.generation");
    for (floor, checks) in [("milan.snp=25", 4), ("milan.launch.snp=25", 1)] {
        let raised = json(&deployment, &["--floor", floor]);
        assert_eq!(node(&raised, "node-2")["reasons"].as_array().unwrap().len(), checks, "{floor}");
    }
    let late = json(&deployment, &["--at", "2044-01-01T00:00:00Z"]);
    assert_eq!(node(&late, "node-2")["reasons"][0]["check"], "bundle.expired");

    // Output for people, and impossible requests, which are refused by name.
    let text = String::from_utf8(rehearse(&deployment, &["--distrust", "milan"]).stdout).unwrap();
    assert!(text.contains("2 nodes would lose permits"), "{text}");
    assert!(text.contains("chip.generation (1): found Milan distrusted, required trusted"), "{text}");
    for (wrong, said) in [
        (["--distrust", "naples"], "\"naples\" is none of milan, genoa, turin"),
        (["--floor", "genoa.snp=3"], "the bundle has no floor for Genoa"),
        (["--floor", "milan.fmc=3"], "Milan has no patch level \"fmc\""),
        (["--at", "tomorrow"], "invalid value 'tomorrow' for '--at <TIME>': write a time after 1970 as"),
    ] {
        let output = rehearse(&deployment, &wrong);
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{error}");
        assert!(error.contains(said), "{error}");
    }
}

/// Archived quotes do not have the PCRs that the proposal would require: the result is
/// undetermined, and the report says so.
#[test]
fn what_the_archive_does_not_show_is_unknown() {
    let (_folder, mut deployment) = common::deployment(Options::default());
    let daemon = deployment.serve().unwrap();
    assert_eq!(deployment.request("node-1", SLEEP).unwrap().status.code(), Some(0));
    drop(daemon);
    for reference in deployment.references().values_mut() {
        reference.pcrs.remove("7");
    }
    deployment.write_bundle().unwrap();
    let report = json(&deployment, &[]);
    assert_eq!((&report["unknown"], &node(&report, "node-1")["change"]), (&1.into(), &"unknown".into()));
}

/// A damaged archive is reported with its place; nothing is guessed.
#[test]
fn a_damaged_archive_is_refused() {
    let (_folder, deployment) = common::deployment(Options::default());
    let daemon = deployment.serve().unwrap();
    assert_eq!(deployment.request("node-1", SLEEP).unwrap().status.code(), Some(0));
    drop(daemon);
    let journal = deployment.path("state-authority/log/journal/00000000000000000000");
    let sound = std::fs::read(&journal).unwrap();
    let mut bad = sound.clone();
    let at = bad.len() / 2;
    bad[at] ^= 1;
    std::fs::write(&journal, &bad).unwrap();
    let output = rehearse(&deployment, &[]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("journal is damaged: segment 0, byte "));
}
