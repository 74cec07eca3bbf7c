//! The log over the network, only for auditors that the governors have enrolled.

mod common;

use std::fs;
use std::path::Path;
use std::process::Output;
use std::sync::Arc;

use portcullis_channel::Identity;
use portcullis_firmware_policy::document::Auditor;
use portcullis_lab::deployment::SLEEP;
use portcullis_lab::raw::RawSession;
use portcullis_lab::{Daemon, Deployment, Options};
use portcullis_permit::SigningKey;
use serde_json::Value;

/// `portcullis log key`: the auditor's entry for the bundle.
fn auditor_key(deployment: &Deployment, name: &str) -> Auditor {
    let key = deployment.text(&format!("{name}.pem"));
    let output = deployment.portcullis("node-1", &["log", "key", "--key", &key, "--name", name]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("key = ")).unwrap_or_else(|| panic!("{text}"));
    Auditor { name: name.into(), key: line.trim_matches('"').into() }
}

/// An authority that lets `alice` read its log.
fn audited() -> (tempfile::TempDir, Deployment, Daemon) {
    let (folder, mut deployment) = common::deployment(Options::default());
    let alice = auditor_key(&deployment, "alice");
    assert_eq!(auditor_key(&deployment, "alice"), alice, "a key is made once");
    deployment.document().auditors.push(alice);
    deployment.sign_bundle().unwrap();
    let daemon = deployment.serve().unwrap();
    (folder, deployment, daemon)
}

fn mirror(deployment: &Deployment, key: &str, out: &str) -> Output {
    let (authority, key, out) = (deployment.nodes_address().to_string(), deployment.text(key), deployment.text(out));
    let (endorsement, root) = (deployment.text("authority.pce"), deployment.text("governance.cbor"));
    let arguments = ["log", "mirror", "--authority", &authority, "--key", &key, "--out", &out];
    let trust = ["--endorsement", &endorsement, "--governance-root", &root];
    deployment.portcullis("node-1", &[&arguments[..], &trust[..]].concat()).output().unwrap()
}

/// Number of copied entries, and of the files that it took.
fn mirrored(deployment: &Deployment) -> (u64, u64) {
    let output = mirror(deployment, "alice.pem", "copy");
    let (said, errors) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert_eq!(output.status.code(), Some(0), "{errors}");
    let numbers: Vec<u64> = said.split([' ', ':']).filter_map(|word| word.parse().ok()).collect();
    (numbers[0], numbers[1])
}

/// As [`mirrored`], repeated until readers see this many entries, moments after they
/// were answered. Returns the number of files of the last attempt.
fn mirrored_up_to(deployment: &Deployment, entries: u64) -> (u64, u64) {
    let started = std::time::Instant::now();
    loop {
        let (size, files) = mirrored(deployment);
        if size >= entries {
            return (size, files);
        }
        assert!(started.elapsed().as_secs() < 10, "{size} entries");
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
}

fn refused(deployment: &Deployment, key: &str, check: &str) {
    let output = mirror(deployment, key, "copy");
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains(check), "{said}");
}

fn audit(deployment: &Deployment, arguments: &[&str]) -> Value {
    let (code, report) = common::audit(deployment, arguments, &deployment.path("copy"), "authority.pce");
    assert_eq!(code, Some(0), "{report}");
    report
}

fn ask(deployment: &Deployment) {
    assert_eq!(deployment.request("node-1", SLEEP).unwrap().status.code(), Some(0));
}

/// The copy of an auditor is a log as good as the authority's own; it grows with
/// it, and never goes back.
#[test]
fn an_auditors_copy_follows_the_log_and_passes_every_audit() {
    let (_folder, deployment, mut daemon) = audited();
    ask(&deployment);
    // Genesis, boot, permit.
    let (first, _) = mirrored_up_to(&deployment, 3);
    fs::remove_dir_all(deployment.path("copy")).unwrap();
    let (_, files) = mirrored(&deployment);
    assert_eq!(audit(&deployment, &["replay"])["replay"]["same"], 1);
    let early = fs::read(deployment.path("state-authority/log/signed-root")).unwrap();
    ask(&deployment);
    ask(&deployment);
    let (second, more) = mirrored_up_to(&deployment, first + 2);
    assert!(more < files, "{more} files more, {files} at first");
    assert_eq!(audit(&deployment, &["replay"])["replay"]["same"], 3);
    audit(&deployment, &["log", "verify"]);
    audit(&deployment, &["fsck"]);

    // An authority that shows an older head, or files with wrong contents.
    let shown = deployment.path("state-authority/log/signed-root");
    let newest = fs::read(&shown).unwrap();
    fs::write(&shown, early).unwrap();
    refused(&deployment, "alice.pem", "log.rollback");
    fs::write(&shown, newest).unwrap();
    fs::remove_dir_all(deployment.path("copy")).unwrap();
    let archive = deployment.path("state-authority/log/archive");
    let file = first_file(&archive);
    let sound = fs::read(&file).unwrap();
    let mut rotten = sound.clone();
    rotten[0] ^= 1;
    fs::write(&file, rotten).unwrap();
    refused(&deployment, "alice.pem", "archive.hole");
    fs::write(&file, sound).unwrap();
    assert_eq!(mirrored(&deployment).0, second);
    audit(&deployment, &["fsck"]);
    assert!(daemon.stop().unwrap().success());
}

fn first_file(folder: &Path) -> std::path::PathBuf {
    let entry = fs::read_dir(folder).unwrap().next().unwrap().unwrap();
    if entry.file_type().unwrap().is_dir() { first_file(&entry.path()) } else { entry.path() }
}

/// THREATS 45: only auditors that the governors have named see chips and nodes. Files
/// outside the log are served to no client.
#[test]
fn threat_45_entries_and_archive_are_for_enrolled_auditors_alone() {
    let (_folder, deployment, _daemon) = audited();
    ask(&deployment);
    auditor_key(&deployment, "mallory");
    refused(&deployment, "mallory.pem", "auditor.key");
    assert!(!deployment.path("copy/journal").exists());

    let pem = fs::read_to_string(deployment.path("alice.pem")).unwrap();
    let key = SigningKey::from_pem(&pem).unwrap().to_pkcs8().unwrap();
    common::block_on(async {
        let address = deployment.nodes_address();
        let mut stranger = RawSession::open(address).await.unwrap();
        let alice = Arc::new(Identity::from_pkcs8(&key).unwrap());
        let mut alice = RawSession::open_with(address, alice, [7; 32]).await.unwrap();
        let size = portcullis_permit::Checkpoint::unverified(
            &fs::read_to_string(deployment.path("state-authority/log/checkpoint")).unwrap(),
        );
        let bundle = format!("tile/entries/000.p/{}", size.unwrap().0);
        let archive = first_file(&deployment.path("state-authority/log/archive"));
        let archive = archive.strip_prefix(deployment.path("state-authority/log")).unwrap().display().to_string();
        let files = [
            ("segments", "no-cache"),
            ("signed-root", "no-cache"),
            ("journal/00000000000000000000", "no-cache"),
            (&*bundle, "private, max-age=300"),
            (&*archive, "private, max-age=31536000, immutable"),
        ];
        for (file, caching) in files {
            let path = format!("/v1/log/{file}");
            let answer = stranger.get(&path).await.unwrap();
            assert!(answer.status == 403, "{file}: {}", answer.status);
            assert!(String::from_utf8(answer.body).unwrap().contains("auditor.key"), "{file}");
            let answer = alice.get(&path).await.unwrap();
            assert_eq!((answer.status, &*answer.caching), (200, caching), "{file}");
            assert!(!answer.body.is_empty());
        }
        let nothing =
            ["lock", "", "snapshot", "../keys.sealed", "tile/../../keys.sealed", "journal/..%2f..%2fkeys.sealed"];
        for file in nothing {
            let status = alice.get(&format!("/v1/log/{file}")).await.unwrap().status;
            assert_eq!(status, 404, "{file}");
            assert_eq!(stranger.get(&format!("/v1/log/{file}")).await.unwrap().status, 403, "{file}");
        }
        // The plain listener serves hash tiles to every client, and no entries.
        assert_eq!(portcullis_lab::daemon::get(deployment.public_address(), &format!("/{bundle}")).unwrap().0, 404);
    });
}
