//! An auditor's view of a real authority's log, and of an altered one: export, trail,
//! replay, fsck.

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use portcullis_lab::deployment::{SLEEP, UNKNOWN};
use portcullis_lab::{Deployment, Options};
use serde_json::Value;

use common::{failed, permits};

/// A log with permits, a denial, a revocation, a program that was renewed and
/// ended, and one that was killed.
fn lived() -> (tempfile::TempDir, Deployment) {
    let options = Options { lease_seconds: 4, ..Options::default() };
    let (folder, deployment) = common::deployment(options);
    let mut daemon = deployment.serve().unwrap();
    assert_eq!(deployment.request("node-1", SLEEP).unwrap().status.code(), Some(0));
    assert_eq!(deployment.request("node-1", UNKNOWN).unwrap().status.code(), Some(1));
    if common::is_root() {
        let ended = deployment.portcullis("node-1", &["run", "--", SLEEP, "5"]).output().unwrap();
        assert_eq!(ended.status.code(), Some(0), "{}", String::from_utf8_lossy(&ended.stderr));
    }
    revoke(&deployment, 1, "node-9");
    assert_eq!(deployment.request("node-1", SLEEP).unwrap().status.code(), Some(0));
    assert!(daemon.stop().unwrap().success());
    (folder, deployment)
}

fn revoke(deployment: &Deployment, sequence: u64, node: &str) {
    deployment.revocation(sequence, &["--node", node]).unwrap();
    let (authority, file) = (deployment.nodes_address().to_string(), format!("revocation-{sequence}.pcr"));
    let mut command = deployment.portcullis("node-1", &["submit", "--authority", &authority]);
    let output = command.arg(deployment.path(&file)).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

fn export(deployment: &Deployment, out: &str, selection: &[&str]) -> Output {
    let mut command = Command::new(common::lab());
    command.args(["portcullis", "--machine"]).arg(deployment.machine("node-1")).args(["--", "log", "export"]);
    command.arg("--log").arg(deployment.path("state-authority/log"));
    command.arg("--endorsement").arg(deployment.path("authority.pce"));
    command.arg("--governance-root").arg(deployment.path("governance.cbor"));
    command.arg("--out").arg(deployment.path(out)).args(selection).output().unwrap()
}

fn exported(deployment: &Deployment, out: &str, selection: &[&str]) -> PathBuf {
    let output = export(deployment, out, selection);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    deployment.path(out)
}

fn audit(deployment: &Deployment, arguments: &[&str], log: &Path) -> (Option<i32>, Value) {
    common::audit(deployment, arguments, log, "authority.pce")
}

#[test]
fn an_audit_bundle_replays_and_tells_the_trail() {
    let (_folder, deployment) = lived();
    let log = deployment.path("state-authority/log");
    let all = exported(&deployment, "all.pca", &["--all"]);
    let permits = permits(&deployment);

    // Replay reproduces every decision, from the file alone and from the folder.
    for source in [&all, &log] {
        let (code, report) = audit(&deployment, &["replay"], source);
        assert_eq!((code, failed(&report)), (Some(0), vec![]), "{report}");
        let (verified, log) = audit(&deployment, &["log", "verify"], source);
        assert_eq!((verified, failed(&log)), (Some(0), vec![]), "{log}");
        let endorsed = log["log"]["endorsed_by"].as_str().unwrap();
        assert!(endorsed.contains("governor-1 (") && endorsed.contains("governor-2 ("), "{endorsed}");
        assert_eq!(log["log"]["kinds"]["application/vnd.portcullis.permit+cwt"], permits.len(), "{log}");
        let replay = &report["replay"];
        assert_eq!(replay["same"], permits.len() + 1, "one denial: {report}");
        assert_eq!((&replay["pruned"], &replay["other"]), (&0.into(), &Value::Array(vec![])));
    }
    // fsck resumes where it stopped, and finds no work left.
    let state = deployment.text("fsck.json");
    let (_, whole) = audit(&deployment, &["fsck"], &log);
    for _ in 0..2 {
        let (code, report) = audit(&deployment, &["fsck", "--resume", &state], &log);
        assert_eq!((code, failed(&report)), (Some(0), vec![]), "{report}");
        assert_eq!(report["fsck"], whole["fsck"]);
    }
    fs::write(&state, "{}").unwrap();
    let (code, report) = audit(&deployment, &["fsck", "--resume", &state], &log);
    assert_eq!((code, failed(&report)), (Some(1), vec!["log.resume"]), "{report}");

    // An interrupted replay resumes, and counts nothing twice.
    let state = deployment.text("replay.json");
    let (code, first) = audit(&deployment, &["replay", "--resume", &state], &all);
    assert_eq!(code, Some(0), "{first}");
    let kept: Value = serde_json::from_slice(&fs::read(&state).unwrap()).unwrap();
    let (code, again) = audit(&deployment, &["replay", "--resume", &state], &all);
    assert_eq!((code, &again["replay"]), (Some(0), &first["replay"]), "nothing was left to do");
    let resumed = |pointer: &str, value: Value| {
        let mut altered = kept.clone();
        *altered.pointer_mut(pointer).unwrap() = value;
        fs::write(&state, altered.to_string()).unwrap();
        audit(&deployment, &["replay", "--resume", &state], &all)
    };
    let (code, rest) = resumed("/state/tally/next", 3.into());
    assert_eq!((code, &rest["replay"]["next"]), (Some(0), &first["replay"]["next"]));
    let twice = first["replay"]["same"].as_u64().unwrap() * 2;
    assert!(rest["replay"]["same"].as_u64().unwrap() < twice, "the first three were not decided again");
    for (pointer, value) in [("/key", "another".into()), ("/state/head/root", "00".repeat(32).into())] {
        let (code, report) = resumed(pointer, value);
        assert_eq!((code, failed(&report)), (Some(1), vec!["log.resume"]), "{report}");
    }
    fs::write(&state, "no state").unwrap();
    let (code, report) = audit(&deployment, &["replay", "--resume", &state], &all);
    assert_eq!((code, failed(&report)), (Some(1), vec!["log.resume"]), "{report}");

    // A resume file that cannot be written does not change the verdict on the log.
    let (nowhere, id) = (deployment.text("none/state.json"), permits[0].id.to_string());
    for command in [&["log", "verify"][..], &["replay"], &["fsck"], &["trail", &id]] {
        let (code, report) = audit(&deployment, &[command, &["--resume", &nowhere]].concat(), &log);
        assert_eq!((code, failed(&report)), (Some(0), vec![]), "{report}");
    }

    // One permit with its line: the renewals of its execution, and no other permits.
    let renewal = permits.iter().find(|permit| permit.parent.is_some());
    let (asked, renewals) = match renewal {
        Some(renewal) => (renewal.id, permits.iter().filter(|permit| permit.parent.is_some()).count()),
        None => (permits[0].id, 0),
    };
    let one = exported(&deployment, "one.pca", &["--permit", &asked.to_string()]);
    assert!(fs::metadata(&one).unwrap().len() < fs::metadata(&all).unwrap().len());
    let (code, report) = audit(&deployment, &["replay"], &one);
    assert_eq!((code, &report["replay"]["same"]), (Some(0), &(renewals + 1).into()), "{report}");
    let (code, report) = audit(&deployment, &["trail", &asked.to_string()], &one);
    assert_eq!(code, Some(0), "{report}");
    let events: Vec<&str> = report["trail"].as_array().unwrap().iter().map(|e| e["what"].as_str().unwrap()).collect();
    assert_eq!(events[..4], ["chip", "boot", "policy", "permit"], "{events:?}");
    assert_eq!(events.iter().filter(|event| **event == "renewal").count(), renewals, "{events:?}");
    if renewals > 0 {
        assert!(events.contains(&"started") && events.contains(&"ended"), "{events:?}");
    }
    // A bundle that begins within a line shows the rest of that line.
    let whole = report["trail"].as_array().unwrap();
    if let Some(last) = whole.iter().rfind(|event| event["what"] == "renewal") {
        let rest = exported(&deployment, "rest.pca", &["--since", last["time"].as_str().unwrap()]);
        let (code, report) = audit(&deployment, &["trail", last["permit"].as_str().unwrap()], &rest);
        assert_eq!(code, Some(0), "{report}");
        let told = report["trail"].as_array().unwrap();
        assert!(told.len() < whole.len() && told.contains(last), "{report}");
    }
    let (code, report) = audit(&deployment, &["trail", &"0".repeat(32)], &all);
    assert_eq!((code, failed(&report)), (Some(1), vec!["trail.permit"]));

    // From a future time on, the bundle holds only the basis of decisions.
    let later = exported(&deployment, "later.pca", &["--since", "2044-01-01T00:00:00Z"]);
    let (code, report) = audit(&deployment, &["replay"], &later);
    assert_eq!((code, &report["replay"]["decisions"]), (Some(0), &0.into()), "{report}");

    // Impossible requests are refused, and leave no files behind.
    let unknown = export(&deployment, "none.pca", &["--permit", &"0".repeat(32)]);
    assert_eq!(unknown.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&unknown.stderr).contains("the log has no permit"));
    assert!(!deployment.path("none.pca").exists());
    assert_eq!(export(&deployment, "all.pca", &["--all"]).status.code(), Some(2), "it exists");
}

/// An audit bundle passes through many hands. Every change in it is detected, or has no
/// effect.
#[test]
fn an_altered_audit_bundle_is_refused() {
    let (_folder, deployment) = lived();
    let all = exported(&deployment, "all.pca", &["--all"]);
    let sound = fs::read(&all).unwrap();
    let bad = deployment.path("bad.pca");
    let (_, before) = audit(&deployment, &["replay"], &all);
    let asked = permits(&deployment)[0].id.to_string();
    let (_, told) = audit(&deployment, &["trail", &asked], &all);
    let header = 2 + fs::read(deployment.path("governance.cbor")).unwrap().len() + 4096;
    let mut refused = 0;
    for at in (0..sound.len()).step_by(sound.len() / 60) {
        let mut bytes = sound.clone();
        bytes[at] ^= 1;
        fs::write(&bad, &bytes).unwrap();
        let (code, report) = audit(&deployment, &["replay"], &bad);
        // Names in the header decide nothing: the objects that they name are verified.
        if code == Some(0) {
            assert!(at < header, "byte {at}: {report}");
            assert_eq!(report["replay"], before["replay"], "byte {at}");
        } else {
            refused += 1;
        }
        // Whatever was changed, a trail that verifies is the same.
        let (code, trail) = audit(&deployment, &["trail", &asked], &bad);
        assert!(code != Some(0) || trail["trail"] == told["trail"], "byte {at}: {trail}");
    }
    assert!(refused >= 50, "{refused}");
    // A truncated file lacks its last items, and the report says that it ends within an
    // item.
    fs::write(&bad, &sound[..sound.len() - 100]).unwrap();
    let (code, report) = audit(&deployment, &["replay"], &bad);
    assert_eq!((code, failed(&report)), (Some(1), vec!["log.tree"]), "{report}");
    let (code, report) = audit(&deployment, &["log", "verify"], &bad);
    assert_eq!((code, failed(&report)), (Some(1), vec!["log.tree"]), "{report}");
}

/// A remembered permit is not read again, and the result is the same as with a full
/// read.
#[test]
fn a_trail_goes_on_in_a_log_that_has_grown() {
    let (_folder, deployment) = lived();
    let log = deployment.path("state-authority/log");
    let asked = permits(&deployment)[0].id.to_string();
    let state = deployment.text("trail.json");
    let resumed = |id: &str| audit(&deployment, &["trail", id, "--resume", &state], &log);
    let (code, first) = resumed(&asked);
    assert_eq!((code, failed(&first)), (Some(0), vec![]), "{first}");
    let kept: Value = serde_json::from_slice(&fs::read(&state).unwrap()).unwrap();

    let mut daemon = deployment.serve().unwrap();
    revoke(&deployment, 2, "node-1");
    assert!(daemon.stop().unwrap().success());
    let (code, again) = resumed(&asked);
    let (_, whole) = audit(&deployment, &["trail", &asked], &log);
    assert_eq!((code, &again["trail"]), (Some(0), &whole["trail"]), "{again}");
    let added = |report: &Value| report["trail"].as_array().unwrap().iter().any(|event| event["what"] == "revoked");
    assert_eq!((added(&first), added(&again)), (false, true), "{again}");
    // The trail names the governors who signed.
    let events = again["trail"].as_array().unwrap();
    let revoked = events.iter().find(|event| event["what"] == "revoked").unwrap()["text"].as_str().unwrap();
    assert!(revoked.contains("signed by governor-1 (") && revoked.contains(", governor-2 ("), "{revoked}");

    // Resume files of another permit, of a rewritten log, or of another auditor.
    let (code, report) = resumed(&permits(&deployment)[1].id.to_string());
    assert_eq!((code, failed(&report)), (Some(1), vec!["log.resume"]), "{report}");
    for (pointer, value) in [("/state/head/root", "00".repeat(32).into()), ("/state/line/permits", Value::Null)] {
        let mut altered = kept.clone();
        *altered.pointer_mut(pointer).unwrap() = value;
        fs::write(&state, altered.to_string()).unwrap();
        let (code, report) = resumed(&asked);
        assert_eq!((code, failed(&report)), (Some(1), vec!["log.resume"]), "{report}");
    }
}

/// Evidence of decisions is pruned after its time, and the log, the replay and the
/// trail say so. Missing evidence without a log entry for its pruning is a hole.
#[test]
fn evidence_is_gone_after_its_time_and_the_log_says_so() {
    let options = Options { bundle_seconds: 30 * 86_400, lease_seconds: 4, ..Options::default() };
    let (_folder, mut deployment) = common::deployment(options);
    deployment.document().limits.evidence_kept_seconds = Some(86_400);
    deployment.sign_bundle().unwrap();
    let mut daemon = deployment.serve().unwrap();
    if common::is_root() {
        let ended = deployment.portcullis("node-1", &["run", "--", SLEEP, "5"]).output().unwrap();
        assert_eq!(ended.status.code(), Some(0), "{}", String::from_utf8_lossy(&ended.stderr));
    } else {
        assert_eq!(deployment.request("node-1", SLEEP).unwrap().status.code(), Some(0));
    }
    let line: Vec<String> = permits(&deployment).iter().map(|permit| permit.id.to_string()).collect();
    assert_eq!(line.len() > 1, common::is_root(), "renewals");
    assert!(daemon.stop().unwrap().success());
    let log = deployment.path("state-authority/log");
    let archived = |log: &Path| fs::read(log.join("journal/00000000000000000000")).unwrap();
    let backup = deployment.path("backup");
    common::copy_folder(&log, &backup);

    // Two days later: the segment is closed by the next entry, and pruned at the
    // look after that.
    let ask = || {
        let mut command = deployment.portcullis("node-1", &["permit", "request", "--key"]);
        command.arg(deployment.path("late.pem")).arg("--out").arg(deployment.path("late.permit")).args(["--", SLEEP]);
        common::under_clock(&mut command, "+2d");
        let output = command.output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    };
    for start in 0..2 {
        let mut command = deployment.portcullisd("authority", &["serve"]);
        common::under_clock(&mut command, "+2d");
        let log = deployment.path("authority.log");
        let mut daemon = portcullis_lab::Daemon::start(command, deployment.public_address(), &log).unwrap();
        std::thread::sleep(std::time::Duration::from_millis(300));
        if start == 0 {
            ask();
        }
        assert!(daemon.stop().unwrap().success());
    }
    let after = archived(&log);

    let (code, report) = audit(&deployment, &["replay"], &log);
    assert_eq!((code, failed(&report)), (Some(3), vec![]), "{report}");
    let replay = &report["replay"];
    assert_eq!((&replay["same"], &replay["pruned"]), (&1.into(), &line.len().into()), "{report}");
    let missing = report["checks"].as_array().unwrap().iter().find(|check| check["outcome"] == "missing").unwrap();
    assert_eq!(missing["id"], "replay.pruned");
    let (code, report) = audit(&deployment, &["fsck"], &log);
    assert_eq!((code, failed(&report)), (Some(0), vec![]), "{report}");
    let (code, report) = audit(&deployment, &["log", "verify", "--at", "2045-01-01T00:00:00Z"], &log);
    assert_eq!((code, failed(&report)), (Some(0), vec![]), "{report}");
    // The line is built from the parents, for any permit of the line.
    for asked in [line.first(), line.last()] {
        let (code, report) = audit(&deployment, &["trail", asked.unwrap()], &log);
        assert_eq!(code, Some(0), "{report}");
        let told = report["trail"].as_array().unwrap().iter().filter_map(|event| event["permit"].as_str());
        assert_eq!(told.collect::<Vec<_>>(), line, "{report}");
    }

    // Evidence removed from a copy whose log does not record it.
    fs::write(backup.join("journal/00000000000000000000"), after).unwrap();
    let (code, report) = audit(&deployment, &["fsck"], &backup);
    assert_eq!((code, failed(&report)), (Some(1), vec!["archive.hole"]), "{report}");
}

/// Bit rot, holes and orphans in the folder of a log, each by its name.
/// `portcullis-audit fsck FOLDER`, as the README has it: fsck finds damage with the
/// keys that the log itself states, and reports the missing endorsement.
#[test]
fn fsck_of_a_folder_alone_finds_damage_and_says_what_is_missing() {
    let (_folder, deployment) = lived();
    let log = deployment.path("state-authority/log");
    let fsck = || {
        let output = Command::new(common::lab()).args(["portcullis-audit", "fsck"]).arg(&log).arg("--json").output();
        let output = output.unwrap();
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        let missing: Vec<Value> = report["missing"].as_array().unwrap().clone();
        (output.status.code(), missing, report)
    };
    let (code, missing, report) = fsck();
    assert_eq!((code, missing), (Some(3), vec!["authority.endorsement".into()]), "{report}");
    assert_eq!(portcullis_schemas::check(&report), "portcullis/fsck/1");
    assert!(report["fsck"]["entries"].as_u64().unwrap() > 4, "{report}");
    let segment = log.join("journal/00000000000000000000");
    let mut rotten = fs::read(&segment).unwrap();
    let middle = rotten.len() / 2;
    rotten[middle] ^= 1;
    fs::write(&segment, &rotten).unwrap();
    let (code, _, report) = fsck();
    assert_eq!((code, failed(&report)), (Some(1), vec!["log.journal.damaged"]), "{report}");
}

#[test]
fn fsck_names_bit_rot_holes_and_orphans() {
    let (_folder, deployment) = lived();
    let log = deployment.path("state-authority/log");
    let check = |what: &str, expected: &[&str]| {
        let (code, report) = audit(&deployment, &["fsck"], &log);
        assert_eq!((code, failed(&report)), (Some(1), expected.to_vec()), "{what}: {report}");
    };
    let files = portcullis_lineage::Storage::list(&portcullis_lineage::FileStorage::reader(&log), "archive").unwrap();
    let shared = log.join(&files[0]);
    let sound = fs::read(&shared).unwrap();
    let mut rotten = sound.clone();
    rotten[0] ^= 1;
    fs::write(&shared, rotten).unwrap();
    check("bit rot in the archive", &["archive.hole"]);
    fs::remove_file(&shared).unwrap();
    check("a hole in the archive", &["archive.hole"]);
    // A resumed run finds the hole again, and later finds it repaired.
    let state = deployment.text("fsck.json");
    for (bytes, expected) in [(None, (1, vec!["archive.hole"])), (Some(&sound), (0, vec![]))] {
        bytes.into_iter().for_each(|bytes| fs::write(&shared, bytes).unwrap());
        for _ in 0..2 {
            let (code, report) = audit(&deployment, &["fsck", "--resume", &state], &log);
            assert_eq!((code, failed(&report)), (Some(expected.0), expected.1.clone()), "{report}");
        }
    }

    let orphan = log.join("archive/00/0000");
    fs::create_dir_all(orphan.parent().unwrap()).unwrap();
    fs::write(&orphan, b"nobody's").unwrap();
    check("an orphan", &["archive.orphan"]);
    fs::remove_file(&orphan).unwrap();

    let segment = log.join("journal/00000000000000000000");
    let sound = fs::read(&segment).unwrap();
    let mut rotten = sound.clone();
    let middle = rotten.len() / 2;
    rotten[middle] ^= 1;
    fs::write(&segment, &rotten).unwrap();
    check("bit rot in the journal", &["log.journal.damaged"]);
    // The authority does not start on it either, and says why.
    let refused = deployment.portcullisd("authority", &["serve"]).output().unwrap();
    assert_eq!(refused.status.code(), Some(3));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("log.journal.damaged"), "{refused:?}");
    fs::write(&segment, &sound[..sound.len() - 9]).unwrap();
    check("a journal that ends before its head", &["log.rollback"]);
    fs::write(&segment, &sound).unwrap();
    let (code, _) = audit(&deployment, &["fsck"], &log);
    assert_eq!(code, Some(0));
}
