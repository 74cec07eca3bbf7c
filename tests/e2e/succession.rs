//! One authority after another: retired by its governors, or lost. No part of the old
//! one stays in force unnoticed, and revoked objects stay revoked.

mod common;

use std::fs;
use std::process::{Command, Output};

use portcullis_lab::deployment::SLEEP;
use portcullis_lab::{Daemon, Deployment, Options};
use serde_json::Value;

use common::failed;

const NEW: &str = "lab/authority-2";

/// `portcullisd` of the new authority, on the old one's machine.
fn successor(deployment: &Deployment, arguments: &[&str]) -> Command {
    let mut command = Command::new(common::lab());
    command.arg("portcullisd").arg("--machine").arg(deployment.machine("authority")).arg("--");
    command.arg("--config").arg(deployment.path("successor.toml")).args(arguments);
    command
}

fn init(deployment: &Deployment, arguments: &[&str]) -> Output {
    let endorsement = deployment.text("authority.pce");
    successor(deployment, &[&["init", "--succeeds", &endorsement], arguments].concat()).output().unwrap()
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// Checks that a refusal names the check.
fn refused(output: &Output, code: i32, check: &str) {
    assert_eq!(output.status.code(), Some(code), "{}", said(output));
    assert!(said(output).contains(check), "{}", said(output));
}

/// `portcullis submit`: exit code and output.
fn submit(deployment: &Deployment, file: &str) -> (Option<i32>, String) {
    let (authority, file) = (deployment.nodes_address().to_string(), deployment.text(file));
    let output = deployment.portcullis("node-1", &["submit", "--authority", &authority, &file]).output().unwrap();
    (output.status.code(), said(&output))
}

fn revoke(deployment: &Deployment, sequence: u64, target: &[&str]) {
    deployment.revocation(sequence, target).unwrap();
    let (code, answer) = submit(deployment, &format!("revocation-{sequence}.pcr"));
    assert_eq!(code, Some(0), "{answer}");
}

/// A bundle for the new authority that follows on the first.
fn hand_over(deployment: &mut Deployment) {
    fs::copy(deployment.path("bundle.pcb"), deployment.path("first.pcb")).unwrap();
    let digest = deployment.bundle_digest("bundle.pcb").unwrap();
    let document = deployment.document();
    document.version = 2;
    document.predecessor = Some(digest);
    document.authority = NEW.into();
    deployment.sign_bundle().unwrap();
    deployment.write_configuration("successor", NEW).unwrap();
}

fn serve(deployment: &Deployment) -> Daemon {
    deployment.endorse("successor").unwrap();
    let command = successor(deployment, &["serve"]);
    Daemon::start(command, deployment.public_address(), &deployment.path("successor.log")).unwrap()
}

/// A deployment with two nodes, the second of them revoked by the governors.
fn two_nodes() -> (tempfile::TempDir, Deployment, Daemon) {
    let (folder, mut deployment) = common::deployment(Options::default());
    deployment.boot("node-2", portcullis_lab::deployment::NODE_IMAGE).unwrap();
    deployment.enrol_by_ak("node-2", &["lab"]).unwrap();
    deployment.sign_bundle().unwrap();
    let daemon = deployment.serve().unwrap();
    for node in ["node-1", "node-2"] {
        assert_eq!(deployment.request(node, SLEEP).unwrap().status.code(), Some(0));
    }
    revoke(&deployment, 1, &["--node", "node-2"]);
    (folder, deployment, daemon)
}

fn audit(deployment: &Deployment, arguments: &[&str], folder: &str) -> (Option<i32>, Value) {
    common::audit(deployment, arguments, &deployment.path(folder), "successor.pce")
}

/// The whole ceremony, and each way of doing it wrong.
#[test]
fn a_retired_authority_is_followed_by_another_that_knows_what_it_withdrew() {
    let (_folder, mut deployment, mut daemon) = two_nodes();

    // This authority does not activate a bundle that hands over, and a mistaken `init`
    // does not take the machine from it.
    hand_over(&mut deployment);
    let (code, answer) = submit(&deployment, "bundle.pcb");
    assert!(code == Some(1) && answer.contains("bundle.authority"), "{answer}");
    let (code, answer) = submit(&deployment, "revocation-1.pcr");
    assert!(code == Some(1) && answer.contains("governance.sequence"), "{answer}");
    let (code, answer) = submit(&deployment, "node-1.toml");
    assert_eq!(code, Some(2), "{answer}");
    // Its own endorsement, submitted again, is accepted and changes nothing.
    let (code, answer) = submit(&deployment, "authority.pce");
    assert_eq!(code, Some(0), "{answer}");
    assert!(daemon.stop().unwrap().success());
    refused(&successor(&deployment, &["init"]).output().unwrap(), 3, "anchor.present");
    fs::rename(deployment.path("bundle.pcb"), deployment.path("next.pcb")).unwrap();
    fs::copy(deployment.path("first.pcb"), deployment.path("bundle.pcb")).unwrap();
    let mut daemon = deployment.serve().unwrap();

    // A retired authority signs nothing more, and does not start again.
    revoke(&deployment, 2, &["--retire", "--successor", NEW]);
    let (status, body) = daemon.get("/readyz").unwrap();
    assert!(status == 503 && body.contains("authority.retired"), "{body}");
    assert!(daemon.stop().unwrap().success());
    refused(&deployment.portcullisd("authority", &["serve"]).output().unwrap(), 3, "authority.retired");
    fs::copy(deployment.path("next.pcb"), deployment.path("bundle.pcb")).unwrap();
    let old_log = deployment.text("state-authority/log");

    // Each failed step is named.
    let wrong = deployment.text("governance.cbor");
    let output = successor(&deployment, &["init", "--succeeds", &wrong, "--old-log", &old_log]).output().unwrap();
    refused(&output, 3, "succession.endorsement");
    refused(&init(&deployment, &["--old-checkpoint", &wrong]), 3, "succession.head");
    let missing = init(&deployment, &[]);
    assert_eq!(missing.status.code(), Some(2), "{}", said(&missing));
    deployment.write_configuration("successor", "lab/authority").unwrap();
    refused(&init(&deployment, &["--old-log", &old_log]), 3, "bundle.authority");
    fs::copy(deployment.path("first.pcb"), deployment.path("bundle.pcb")).unwrap();
    refused(&init(&deployment, &["--old-log", &old_log]), 3, "succession.origin");
    fs::copy(deployment.path("next.pcb"), deployment.path("bundle.pcb")).unwrap();
    deployment.write_configuration("successor", NEW).unwrap();

    let output = init(&deployment, &["--old-log", &old_log]);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    assert!(said(&output).contains("follows on       lab/authority (rotation)"), "{}", said(&output));
    let old = deployment.portcullisd("authority", &["serve"]).output().unwrap();
    assert_eq!(old.status.code(), Some(3), "{}", said(&old));

    let mut daemon = serve(&deployment);
    let output = deployment.request("node-1", SLEEP).unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    refused(&deployment.request("node-2", SLEEP).unwrap(), 1, "node.revoked");
    // Its numbering of commands starts again.
    assert!(daemon.stop().unwrap().success());
    let mut daemon = serve(&deployment);
    refused(&deployment.request("node-2", SLEEP).unwrap(), 1, "node.revoked");
    assert!(daemon.stop().unwrap().success());

    // An auditor sees one line of logs, and replay reproduces every decision.
    let verify = ["log", "verify", "--predecessor", &old_log];
    let (code, report) = audit(&deployment, &verify, "state-successor/log");
    assert_eq!((code, failed(&report)), (Some(0), vec![]), "{report}");
    let (code, report) = audit(&deployment, &["replay"], "state-successor/log");
    assert_eq!((code, failed(&report), &report["replay"]["same"]), (Some(0), vec![], &3.into()), "{report}");

    // A truncated old log is not the one that was succeeded.
    let cut = deployment.text("cut");
    common::copy_folder(std::path::Path::new(&deployment.text("state-successor/log")), std::path::Path::new(&cut));
    let verify = ["log", "verify", "--predecessor", &cut];
    let (code, report) = audit(&deployment, &verify, "state-successor/log");
    assert_eq!((code, failed(&report)), (Some(1), vec!["log.predecessor"]), "{report}");
    // The first log has no predecessor, whatever the second's endorsement says.
    let (code, report) = audit(&deployment, &["log", "verify"], "state-authority/log");
    assert_eq!(code, Some(1));
    assert!(failed(&report).contains(&"log.tree"), "{report}");
}

/// The checkpoint that a node has kept.
fn kept_checkpoint(deployment: &Deployment) -> std::path::PathBuf {
    let files = fs::read_dir(deployment.path("state-node-1")).unwrap().map(|file| file.unwrap().path());
    let mut kept = files.filter(|path| path.file_name().unwrap().to_string_lossy().starts_with("checkpoint-"));
    kept.next().unwrap()
}

/// Keys and log are lost, except for copies that others kept. The recovery entry says
/// so, and a node that has seen more of the old log than it names refuses it.
#[test]
fn a_lost_authority_is_recovered_from_no_older_head_than_nodes_have_seen() {
    let (_folder, mut deployment, mut daemon) = two_nodes();
    let (early, late) = (deployment.path("early"), deployment.path("late"));
    fs::copy(kept_checkpoint(&deployment), &early).unwrap();
    assert_eq!(deployment.request("node-1", SLEEP).unwrap().status.code(), Some(0));
    daemon.kill().unwrap();
    fs::copy(kept_checkpoint(&deployment), &late).unwrap();
    fs::remove_dir_all(deployment.path("state-authority")).unwrap();
    hand_over(&mut deployment);

    let begin = |checkpoint: &std::path::Path| {
        let output = init(&deployment, &["--old-checkpoint", &checkpoint.display().to_string()]);
        assert_eq!(output.status.code(), Some(0), "{}", said(&output));
        assert!(said(&output).contains("follows on       lab/authority (recovery)"), "{}", said(&output));
        serve(&deployment)
    };
    let mut daemon = begin(&early);
    let output = deployment.request("node-1", SLEEP).unwrap();
    assert_ne!(output.status.code(), Some(0));
    assert!(said(&output).contains("authority.succession"), "{}", said(&output));
    assert!(daemon.stop().unwrap().success());
    fs::remove_dir_all(deployment.path("state-successor")).unwrap();

    let mut daemon = begin(&late);
    let output = deployment.request("node-1", SLEEP).unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    // Lost revocations are not restored: the governors revoke again.
    assert_eq!(deployment.request("node-2", SLEEP).unwrap().status.code(), Some(0));
    assert!(daemon.stop().unwrap().success());
    let (code, report) = audit(&deployment, &["log", "verify"], "state-successor/log");
    assert_eq!((code, failed(&report)), (Some(0), vec![]), "{report}");
}
