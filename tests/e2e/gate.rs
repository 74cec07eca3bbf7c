//! No permit, no execution; and no execution outlives trust.

mod common;
#[path = "common/gates.rs"]
mod gates;

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use gates::{running, wait_until};
use portcullis_lab::Options;
use portcullis_lab::deployment::{SLEEP, UNKNOWN};
use portcullis_lineage::RECEIPTS_LABEL;
use portcullis_permit::{SigningKey, Suite, TransparentPermit, statement};
use portcullis_wire::Sign1;
use rustix::process::Signal;

#[test]
fn exit_codes_tell_why_nothing_ran() {
    if !common::is_root() {
        return;
    }
    let (folder, deployment, daemon) = common::serving();
    let script = folder.path().join("script");
    std::fs::write(&script, "#!/bin/sh\nexit 0\n").unwrap();
    let run = |command: &[&str]| {
        let arguments = [&["run", "--"][..], command].concat();
        deployment.portcullis("node-1", &arguments).output().unwrap().status.code()
    };
    assert_eq!(run(&[SLEEP, "0"]), Some(0));
    assert_eq!(run(&[SLEEP, "not a number"]), Some(1), "the program's own code");
    assert_eq!(run(&[UNKNOWN]), Some(77), "denied");
    assert_eq!(run(&[script.to_str().unwrap()]), Some(126), "a script");
    assert_eq!(run(&["/nonexistent"]), Some(127));
    drop(daemon);
    assert_eq!(run(&[SLEEP, "0"]), Some(75), "authority unreachable");
}

#[test]
fn the_program_runs_without_privileges_in_its_own_namespace() {
    if !common::is_root() {
        return;
    }
    let (_folder, mut deployment) = common::deployment(portcullis_lab::Options::default());
    let shell = std::fs::canonicalize("/bin/sh").unwrap().display().to_string();
    let digest = portcullis_wire::hex::hex(&portcullis_wire::sha256(&[&std::fs::read(&shell).unwrap()]));
    let mut workload = deployment.document().workloads[0].clone();
    (workload.name, workload.digest) = ("shell".into(), digest);
    deployment.document().workloads.push(workload);
    deployment.sign_bundle().unwrap();
    let _daemon = deployment.serve().unwrap();
    let script = "echo pid $$; id -u; ls /proc/self/fd | wc -l; cat /proc/1/comm; test -r /dev/tpmrm0 || echo no tpm; grep NoNewPrivs /proc/self/status";
    let output = deployment.portcullis("node-1", &["run", "--", &shell, "-c", script]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(output.status.code(), Some(0), "{said} {}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(lines[0], "pid 2", "{said}");
    assert_eq!(lines[1], "65534", "{said}");
    assert!(lines.contains(&"no tpm") && lines.contains(&"NoNewPrivs:\t1"), "{said}");
}

#[test]
fn threat_18_a_stolen_permit_does_not_run_elsewhere() {
    let (folder, deployment, _daemon) = common::serving();
    assert!(deployment.request("node-1", SLEEP).unwrap().status.success());
    let thief = folder.path().join("thief.pem");
    std::fs::write(&thief, SigningKey::generate(Suite::Classic).unwrap().to_pem().unwrap().as_bytes()).unwrap();
    let verify = |key: &Path, program: &str| {
        let (permit, endorsement) = (deployment.text("node-1.permit"), deployment.text("authority.pce"));
        let key = key.display().to_string();
        let arguments = ["permit", "verify", &permit, "--endorsement", &endorsement, "--key", &key, "--", program];
        let output = deployment.portcullis("node-1", &arguments).output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let own = deployment.path("node-1-gate.pem");
    assert_eq!(verify(&own, SLEEP).0, Some(0));
    let (code, said) = verify(&thief, SLEEP);
    assert!(code == Some(1) && said.contains("\n  permit.cnf\n"), "{said}");
    let (code, said) = verify(&own, UNKNOWN);
    assert!(code == Some(1) && said.contains("\n  permit.workload\n"), "{said}");
}

/// The permit is signed by the real key, but is not in the log.
#[test]
fn threat_19_a_permit_that_was_never_logged_is_refused() {
    let (_folder, deployment, _daemon) = common::serving();
    assert!(deployment.request("node-1", SLEEP).unwrap().status.success());
    let permit = std::fs::read(deployment.path("node-1.permit")).unwrap();
    assert!(deployment.request("node-1", SLEEP).unwrap().status.success());
    let other = std::fs::read(deployment.path("node-1.permit")).unwrap();
    let endorsement = std::fs::read(deployment.path("authority.pce")).unwrap();
    let governance = std::fs::read(deployment.path("governance.cbor")).unwrap();
    let governance = portcullis_permit::Governance::decode(&governance).unwrap();
    let endorsed = portcullis_permit::Endorsement::verify(&endorsement, &governance).unwrap();
    let check = |bytes: &[u8]| {
        TransparentPermit::verify(bytes, &endorsed.permit_key, &endorsed.receipt_key, None)
            .map(|_| ())
            .map_err(|e| e.check())
    };
    let real = Sign1::parse(&permit, statement::MAX_LENGTH).unwrap();
    let receipt = Sign1::parse(&other, statement::MAX_LENGTH).unwrap().unprotected(RECEIPTS_LABEL).cloned().unwrap();
    assert_eq!(check(&permit), Ok(()));
    assert_eq!(check(&real.signed_part()), Err("permit.receipt"));
    let borrowed = TransparentPermit::attach(&real.signed_part(), receipt, None).unwrap();
    assert_eq!(check(&borrowed), Err("permit.receipt.proof"));
}

#[test]
fn threat_23_the_program_dies_with_its_gate() {
    if !common::is_root() {
        return;
    }
    let (_folder, deployment, _daemon) = common::serving();
    let mut gate =
        deployment.portcullis("node-1", &["run", "--", SLEEP, "31.23"]).stdin(Stdio::null()).spawn().unwrap();
    let command = [SLEEP, "31.23"];
    assert!(wait_until(Duration::from_secs(10), || !running(&command).is_empty()).is_some(), "it runs");
    gate.kill().unwrap();
    gate.wait().unwrap();
    let took = wait_until(Duration::from_secs(5), || running(&command).is_empty());
    println!("time from SIGKILL of the gate to death: {took:?}");
    assert!(took.is_some(), "the program outlived its gate");
}

/// A frozen gate cannot prolong a lease: init has its own timer.
#[test]
fn threat_23_a_frozen_gate_does_not_keep_its_program_alive() {
    if !common::is_root() {
        return;
    }
    let (_folder, deployment, _daemon) = common::serving();
    let mut gate =
        deployment.portcullis("node-1", &["run", "--", SLEEP, "32.23"]).stdin(Stdio::null()).spawn().unwrap();
    let command = [SLEEP, "32.23"];
    assert!(wait_until(Duration::from_secs(10), || !running(&command).is_empty()).is_some(), "it runs");
    common::signal(gate.id(), Signal::STOP);
    let took = wait_until(Duration::from_secs(8), || running(&command).is_empty());
    common::signal(gate.id(), Signal::CONT);
    let code = gate.wait().unwrap().code();
    println!("time from freezing the gate to death: {took:?}");
    assert!(took.is_some(), "the program outlived its lease");
    assert_eq!(code, Some(124));
}

#[test]
fn a_newer_bundle_reaches_nodes_and_takes_away_what_it_no_longer_lists() {
    if !common::is_root() {
        return;
    }
    let (_folder, mut deployment, _daemon) = common::serving();
    let predecessor = deployment.bundle_digest("bundle.pcb").unwrap();
    let document = deployment.document();
    (document.version, document.predecessor) = (2, Some(predecessor));
    document.workloads.clear();
    let gate = deployment.portcullis("node-1", &["run", "--", SLEEP, "33.23"]).stdin(Stdio::null()).spawn();
    let mut gate = gate.unwrap();
    assert!(wait_until(Duration::from_secs(10), || !running(&[SLEEP, "33.23"]).is_empty()).is_some(), "it runs");
    deployment.sign_bundle_as("next.pcb").unwrap();
    let next = std::fs::read(deployment.path("next.pcb")).unwrap();
    let answers = common::block_on(async {
        let mut governor = portcullis_lab::raw::RawSession::open(deployment.nodes_address()).await.unwrap();
        let first = governor.post("/v1/policy", next.clone()).await.unwrap();
        let again = governor.post("/v1/policy", next).await.unwrap();
        (first.status, again.status, String::from_utf8_lossy(&again.body).into_owned())
    });
    assert_eq!((answers.0, answers.1), (200, 403), "{}", answers.2);
    assert!(answers.2.contains("bundle.version"), "{}", answers.2);
    let code = gate.wait().unwrap().code();
    assert_eq!(code, Some(124), "the renewal is denied and the program killed");
}

/// THREATS row 34: the program that the gate runs cannot make evidence itself,
/// even where the devices' permissions would let it.
#[test]
fn threat_34_the_workload_cannot_open_the_devices() {
    const HEAD: &str = "/usr/bin/head";
    if !common::is_root() {
        return;
    }
    let (_folder, mut deployment) = common::deployment(Options::default());
    let digest = portcullis_wire::hex::hex(&portcullis_attest::crypto::sha256(&[&std::fs::read(HEAD).unwrap()]));
    let mut workload = deployment.document().workloads[0].clone();
    (workload.name, workload.digest) = ("head".into(), digest);
    deployment.document().workloads.push(workload);
    deployment.sign_bundle().unwrap();
    let _daemon = deployment.serve().unwrap();
    let devices = deployment.path("dev");
    std::fs::create_dir(&devices).unwrap();
    // A machine with a TPM that every user may open, in a separate mount namespace.
    let script = format!(
        "set -e; cd {0}; mknod null c 1 3; mknod urandom c 1 9; mknod tpmrm0 c 1 5; chmod 666 *; \
         mount --bind {0} /dev; test $(head -c 5 /dev/tpmrm0 | wc -c) = 5; exec \"$@\"",
        devices.display()
    );
    let gate = deployment.portcullis("node-1", &["run", "--", HEAD, "-c", "5", "/dev/tpmrm0"]);
    let mut isolated = std::process::Command::new("unshare");
    isolated.args(["-m", "sh", "-c", &script, "sh"]).arg(gate.get_program()).args(gate.get_args());
    let output = isolated.stdin(Stdio::null()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("/dev/tpmrm0") && said.contains("Permission denied"), "{said}");
    assert!(output.stdout.is_empty());
}

/// The other half of row 34: an image whose measurement ends at the firmware could
/// start any agent that signs on command.
#[test]
fn threat_34_firmware_only_reference_values_are_refused() {
    let (_folder, mut deployment) = common::deployment(Options::default());
    for reference in deployment.references().values_mut() {
        reference.covers = portcullis_firmware_policy::document::Coverage::Firmware;
    }
    let refused = deployment.sign_bundle().unwrap_err().to_string();
    assert!(refused.contains("bundle.document"), "{refused}");
    assert!(refused.contains("reference/node-1.0.toml:3: covers: cannot be \"firmware\""), "{refused}");
}
