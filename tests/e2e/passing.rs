//! Temporary faults: a busy TPM, a full disk, a witness that is down, a daemon that
//! stops, a damaged file. The authority names the fault, waits, and recovers.

mod common;

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::time::{Duration, Instant};

use portcullis_firmware_policy::document::Witnesses;
use portcullis_lab::deployment::SLEEP;
use portcullis_lab::raw::RawSession;
use portcullis_lab::{Daemon, Deployment, Options, Witness};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use rustix::process::Signal;

fn ready(daemon: &Daemon) -> (u16, serde_json::Value) {
    let (status, body) = daemon.get("/readyz").unwrap();
    (status, serde_json::from_str(&body).unwrap_or(serde_json::Value::String(body)))
}

/// Waits until `/readyz` has the expected status and names the expected check.
fn wait_for(daemon: &Daemon, status: u16, check: Option<&str>) -> serde_json::Value {
    let started = Instant::now();
    loop {
        let (found, body) = ready(daemon);
        if found == status && body["check"].as_str() == check {
            return body;
        }
        assert!(started.elapsed() < Duration::from_secs(25), "{found} {body}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn post(deployment: &Deployment, path: &str, body: Vec<u8>) -> (u16, String) {
    common::block_on(async {
        let mut session = RawSession::open(deployment.nodes_address()).await.unwrap();
        let answer = session.post(path, body).await.unwrap();
        (answer.status, String::from_utf8_lossy(&answer.body).into_owned())
    })
}

/// Processes with a word in their command line.
fn processes(word: &str) -> Vec<u32> {
    let entries = fs::read_dir("/proc").unwrap().filter_map(Result::ok);
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(|pid: &u32| {
        fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| String::from_utf8_lossy(&line).contains(word))
    })
    .collect()
}

/// A TPM that does not answer for a while: nothing is signed, nothing trips, and the
/// authority recovers by itself.
#[test]
fn a_tpm_that_is_busy_stops_signing_until_it_answers() {
    let (_folder, deployment, daemon) = common::serving();
    assert_eq!(deployment.request("node-1", SLEEP).unwrap().status.code(), Some(0));
    let swtpm = processes(&format!("dir={}", deployment.machine("authority").join("tpm").display()));
    let [swtpm] = swtpm.as_slice() else { panic!("one swtpm: {swtpm:?}") };
    common::signal(*swtpm, Signal::STOP);
    let body = wait_for(&daemon, 503, Some("anchor.lease"));
    assert_eq!(body["state"], "waiting", "{body}");
    assert!(body["remedy"].as_str().unwrap().contains("goes on by itself"), "{body}");
    std::thread::sleep(Duration::from_secs(5));
    common::signal(*swtpm, Signal::CONT);
    let body = wait_for(&daemon, 200, None);
    assert_eq!(body["state"], "serving", "{body}");
    assert_eq!(deployment.request("node-1", SLEEP).unwrap().status.code(), Some(0));
}

/// More idle connections of strangers than file descriptors: log and TPM keep theirs,
/// and nothing is reported as an attack on the machine.
#[test]
fn idle_connections_leave_descriptors_for_log_and_tpm() {
    let (_folder, deployment, daemon) = common::serving();
    let mut prlimit = std::process::Command::new("prlimit");
    let limited = prlimit.args(["--pid", &daemon.id().to_string(), "--nofile=600:600"]).status().unwrap();
    assert!(limited.success());
    let idle: Vec<_> = (0..700).filter_map(|_| TcpStream::connect(deployment.nodes_address()).ok()).collect();
    assert!(idle.len() > 600, "{}", idle.len());
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(7) {
        let (status, body) = ready(&daemon);
        assert_eq!(status, 200, "{body}");
        std::thread::sleep(Duration::from_millis(200));
    }
    drop(idle);
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(deployment.request("node-1", SLEEP).unwrap().status.code(), Some(0));
}

/// A separate disk under a folder, with the folder's previous content.
struct SmallDisk<'a>(&'a Path);

impl<'a> SmallDisk<'a> {
    fn under(folder: &'a Path, mebibytes: usize) -> Self {
        let aside = folder.with_extension("aside");
        fs::rename(folder, &aside).unwrap();
        fs::create_dir(folder).unwrap();
        let size = std::ffi::CString::new(format!("size={mebibytes}m")).unwrap();
        mount("tmpfs", folder, "tmpfs", MountFlags::empty(), Some(size.as_c_str())).unwrap();
        common::copy_folder(&aside, folder);
        Self(folder)
    }
}

impl Drop for SmallDisk<'_> {
    fn drop(&mut self) {
        unmount(self.0, UnmountFlags::DETACH).unwrap();
    }
}

/// The disk of the log fills up: the authority stops signing before the log fails, and
/// continues when there is space.
#[test]
fn a_full_disk_stops_signing_until_there_is_room() {
    if !common::is_root() {
        return;
    }
    let (_folder, deployment) = common::deployment(Options::default());
    let state = deployment.path("state-authority");
    let _disk = SmallDisk::under(&state, 128);
    let daemon = deployment.serve().unwrap();
    assert_eq!(deployment.request("node-1", SLEEP).unwrap().status.code(), Some(0));
    let filler = state.join("filler");
    fs::write(&filler, vec![0; 80 * 1024 * 1024]).unwrap();
    let body = wait_for(&daemon, 503, Some("watch.disk"));
    assert!(body["why"].as_str().unwrap().contains("required 64 MiB"), "{body}");
    let output = deployment.request("node-1", SLEEP).unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.code() != Some(0) && said.contains("watch.disk"), "{said}");
    fs::remove_file(&filler).unwrap();
    wait_for(&daemon, 200, None);
    assert_eq!(deployment.request("node-1", SLEEP).unwrap().status.code(), Some(0));
}

/// A bundle demands a witness that is down. The authority reports it in `/readyz` and
/// to gates, which treat it as unreachable and blame no bundle. When the witness is up,
/// the authority continues.
#[test]
fn a_witness_that_is_down_is_named_and_nothing_is_denied() {
    let (folder, mut deployment, daemon) = common::serving();
    let mut witness = Witness::create(common::lab(), &folder.path().join("w"), "witness.test/1").unwrap();
    let digest = deployment.bundle_digest("bundle.pcb").unwrap();
    let members = vec![witness.document()];
    let document = deployment.document();
    document.witnesses = Some(Witnesses { threshold: 1, max_age_seconds: 5, members });
    (document.version, document.predecessor) = (2, Some(digest));
    deployment.sign_bundle_as("next.pcb").unwrap();
    let bundle = fs::read(deployment.path("next.pcb")).unwrap();
    assert_eq!(post(&deployment, "/v1/policy", bundle).0, 200);

    let body = wait_for(&daemon, 503, Some("witness.lag"));
    let why = body["why"].as_str().unwrap();
    assert!(why.contains("required 1 of 1 witnesses") && why.contains("witness.test/1: "), "{why}");
    if common::is_root() {
        let output = deployment.portcullis("node-1", &["run", "--", SLEEP, "0"]).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(75), "{said}");
        assert!(said.contains("witness.lag") && said.contains("witness.test/1: "), "{said}");
        assert!(said.contains("witnesses do not answer") && !said.contains("put it into the bundle"), "{said}");
    }
    let (_, keys) = daemon.get("/keys").unwrap();
    let keys: serde_json::Value = serde_json::from_str(&keys).unwrap();
    witness.start(keys["checkpoint_key"].as_str().unwrap()).unwrap();
    let body = wait_for(&daemon, 200, None);
    assert!(body["witnessed"].as_str().unwrap().ends_with('Z'), "{body}");
    assert_eq!(deployment.request("node-1", SLEEP).unwrap().status.code(), Some(0));
}

/// Event streams, idle connections and unfinished handshakes do not delay a stop; a
/// stream gets its end.
#[test]
fn a_stop_ends_streams_at_once() {
    let (_folder, deployment, mut daemon) = common::serving();
    let public = TcpStream::connect(deployment.public_address()).unwrap();
    let mut handshake = TcpStream::connect(deployment.nodes_address()).unwrap();
    handshake.write_all(&[22, 3, 1]).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let mut idle = runtime.block_on(RawSession::open(deployment.nodes_address())).unwrap();
    let stream = runtime.spawn(async move {
        let mut session = RawSession::open(deployment.nodes_address()).await.unwrap();
        // It reads to the end of the stream.
        session.get("/v1/events").await.unwrap()
    });
    std::thread::sleep(Duration::from_secs(3));
    let began = Instant::now();
    assert!(daemon.stop().unwrap().success());
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    let events = runtime.block_on(stream).unwrap();
    assert!(events.status == 200 && String::from_utf8_lossy(&events.body).contains("event: heartbeat"));
    assert!(runtime.block_on(idle.get("/v1/status/0")).is_err(), "closed");
    drop(public);
}

/// The same for a witness.
#[test]
fn a_stop_of_a_witness_waits_for_no_idle_connection() {
    let folder = tempfile::tempdir().unwrap();
    let mut witness = Witness::create(common::lab(), folder.path(), "witness.test/1").unwrap();
    let key = portcullis_lineage::Keys::from_seeds("log.test/stop", &[1; 32], &[2; 32]).unwrap();
    witness.start(&key.checkpoint_key().to_string()).unwrap();
    let mut used = TcpStream::connect(witness.address()).unwrap();
    used.write_all(b"GET / HTTP/1.1\r\nhost: w\r\n\r\n").unwrap();
    assert!(used.read(&mut [0; 512]).unwrap() > 0);
    let _fresh = TcpStream::connect(witness.address()).unwrap();
    std::thread::sleep(Duration::from_millis(200));
    let began = Instant::now();
    assert!(witness.stop().unwrap().success());
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
}

/// A power cut leaves files empty, truncated or missing. Each is named, and rebuilt
/// from the log. A damaged file is not treated as absent, since an older bundle would
/// then be in force.
#[test]
fn damaged_state_is_named_and_made_again_from_the_log() {
    let (_folder, mut deployment) = common::deployment(Options::default());
    let mut daemon = deployment.serve().unwrap();
    let digest = deployment.bundle_digest("bundle.pcb").unwrap();
    let document = deployment.document();
    (document.version, document.predecessor) = (2, Some(digest.clone()));
    deployment.sign_bundle_as("next.pcb").unwrap();
    let bundle = fs::read(deployment.path("next.pcb")).unwrap();
    assert_eq!(post(&deployment, "/v1/policy", bundle.clone()).0, 200);
    let endorsement = fs::read(deployment.path("authority.pce")).unwrap();
    assert_eq!(post(&deployment, "/v1/instance", endorsement.clone()).0, 200);
    assert!(daemon.stop().unwrap().success());
    let state = deployment.path("state-authority");
    let (active, instance) = (state.join("active.pcb"), state.join("active.pce"));
    let successor = state.join("bundles").join(format!("{digest}.pcb"));
    for damage in [Some(0), Some(100), None] {
        match damage {
            Some(length) => fs::write(&active, &bundle[..length]).unwrap(),
            None => fs::remove_file(&active).unwrap(),
        }
        fs::write(&instance, &endorsement[..damage.unwrap_or(50)]).unwrap();
        fs::write(&successor, &bundle[..damage.unwrap_or(50)]).unwrap();
        let mut daemon = deployment.serve().unwrap();
        assert_eq!(ready(&daemon).1["bundle_version"], 2);
        let log = daemon.log();
        assert!(log.contains("active.pcb") && log.contains("active.pce"), "{log}");
        let path = format!("/v1/policy/after/{digest}");
        let answer = common::block_on(async {
            let mut session = RawSession::open(deployment.nodes_address()).await.unwrap();
            session.get(&path).await.unwrap()
        });
        assert_eq!((answer.status, answer.body == bundle), (200, true));
        assert!(daemon.stop().unwrap().success());
        assert_eq!(fs::read(&active).unwrap(), bundle);
        assert_eq!(fs::read(&instance).unwrap(), endorsement);
        assert_eq!(fs::read(&successor).unwrap(), bundle);
    }
    // An unreadable file is not treated as absent.
    fs::remove_file(&active).unwrap();
    fs::create_dir(&active).unwrap();
    let refused = deployment.portcullisd("authority", &["serve"]).output().unwrap();
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(refused.status.code() == Some(2) && said.contains("active.pcb"), "{said}");
    fs::remove_dir(&active).unwrap();
    // A file that cannot be rebuilt is named.
    let keys = state.join("keys.sealed");
    fs::write(&keys, b"").unwrap();
    let refused = deployment.portcullisd("authority", &["serve"]).output().unwrap();
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && said.contains("keys.sealed"), "{said}");
}

/// A witness with damaged state does not start afresh: it names the file.
#[test]
fn a_witness_with_damaged_state_does_not_start() {
    let folder = tempfile::tempdir().unwrap();
    let mut witness = Witness::create(common::lab(), folder.path(), "witness.test/1").unwrap();
    let key = portcullis_lineage::Keys::from_seeds("log.test/damage", &[1; 32], &[2; 32]).unwrap();
    witness.start(&key.checkpoint_key().to_string()).unwrap();
    witness.kill();
    let name = portcullis_wire::hex::hex(&portcullis_wire::sha256(&[b"log.test/damage"]));
    fs::write(witness.state().join(&name), b"").unwrap();
    let said = witness.start(&key.checkpoint_key().to_string()).unwrap_err().to_string();
    assert!(said.contains(&name) && said.contains("log.test/damage"), "{said}");
}

/// Governors lift a revocation: the node gets permits again, and revoked permits stay
/// revoked. Permits that had already ended do not count as revoked. Log, replay and
/// trail agree.
#[test]
fn a_revocation_can_be_lifted() {
    let (_folder, deployment, mut daemon) = common::serving();
    let ask = || deployment.request("node-1", SLEEP).unwrap();
    let command = |n, target: &[&str]| post(&deployment, "/v1/revocations", deployment.revocation(n, target).unwrap());
    assert_eq!(ask().status.code(), Some(0));
    // Longer than its lease.
    std::thread::sleep(Duration::from_secs(5));
    assert_eq!(ask().status.code(), Some(0));
    let killed = common::permits(&deployment)[1].id.to_string();
    let (status, said) = command(1, &["--node", "node-1"]);
    assert_eq!((status, said.trim()), (200, "node node-1 revoked; permits that had not ended: 1"));
    let denied = ask();
    let said = String::from_utf8_lossy(&denied.stderr).into_owned();
    assert!(denied.status.code() == Some(1) || said.contains("node.revoked"), "{said}");
    let (status, said) = command(2, &["--lift", "--node", "node-7"]);
    assert!(status == 403 && said.contains("governance.lift") && said.contains("node node-7"), "{said}");
    let (status, said) = command(2, &["--lift", "--node", "node-1"]);
    assert_eq!((status, said.trim()), (200, "node node-1 gets permits again; permits that were revoked stay revoked"));
    assert_eq!(ask().status.code(), Some(0));
    assert!(daemon.stop().unwrap().success());
    // A start reads the same state from the log.
    let mut daemon = deployment.serve().unwrap();
    assert_eq!(ask().status.code(), Some(0));
    assert!(daemon.stop().unwrap().success());
    let log = deployment.path("state-authority/log");
    for arguments in [&["log", "verify"][..], &["replay"]] {
        let (code, report) = common::audit(&deployment, arguments, &log, "authority.pce");
        assert_eq!((code, common::failed(&report)), (Some(0), Vec::new()), "{report}");
    }
    let (code, report) = common::audit(&deployment, &["trail", &killed], &log, "authority.pce");
    let text = report.to_string();
    assert_eq!(code, Some(0), "{text}");
    assert!(
        text.contains("\"revoked\"") && text.contains("\"lifted\"") && text.contains("node node-1, signed by"),
        "{text}"
    );
}
