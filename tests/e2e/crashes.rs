//! The real daemon, killed at random while nodes send requests, and on a full disk: no
//! answered permit is lost, and the log is sound.

mod common;

use std::fs;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use portcullis_lab::deployment::{NODE_IMAGE, SLEEP, UNKNOWN};
use portcullis_lab::{Daemon, Deployment, Options};
use portcullis_permit::{Permit, PermitId};
use portcullis_wire::Sign1;
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use serde_json::Value;

/// Number of kills; `PORTCULLIS_KILLS` overrides it.
fn kills() -> u64 {
    std::env::var("PORTCULLIS_KILLS").ok().and_then(|kills| kills.parse().ok()).unwrap_or(4)
}

fn id_of(permit: &Path) -> PermitId {
    let object = Sign1::parse(&fs::read(permit).unwrap(), 1 << 17).unwrap();
    Permit::decode(object.payload().unwrap()).unwrap().id
}

/// Sends requests repeatedly; returns every answered permit.
fn ask_until(deployment: &Deployment, machine: &str, stop: &AtomicBool, answered: &Mutex<Vec<PermitId>>) {
    while !stop.load(Ordering::Relaxed) {
        let permit = deployment.path(&format!("{machine}.permit"));
        drop(fs::remove_file(&permit));
        let program = if fastrand::u8(0..3) > 0 { SLEEP } else { UNKNOWN };
        if deployment.request(machine, program).unwrap().status.code() == Some(0) {
            answered.lock().unwrap().push(id_of(&permit));
        }
    }
}

fn audit(deployment: &Deployment, arguments: &[&str]) -> Value {
    let log = deployment.path("state-authority/log");
    let (code, report) = common::audit(deployment, arguments, &log, "authority.pce");
    assert_eq!(code, Some(0), "{arguments:?}: {report}");
    report
}

/// Ids of the permits in the log.
fn logged(deployment: &Deployment) -> Vec<PermitId> {
    common::permits(deployment).into_iter().map(|permit| permit.id).collect()
}

/// THREATS 23, 27: killed at a random moment, over and over.
#[test]
fn threat_27_a_daemon_killed_at_random_loses_nothing_that_it_answered() {
    let (_folder, mut deployment) = common::deployment(Options { lease_seconds: 30, ..Options::default() });
    deployment.boot("node-2", NODE_IMAGE).unwrap();
    deployment.enrol_by_ak("node-2", &["lab"]).unwrap();
    deployment.sign_bundle().unwrap();
    let answered = Mutex::new(Vec::new());
    for round in 0..kills() {
        let mut daemon = deployment.serve().unwrap();
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for machine in ["node-1", "node-2"] {
                scope.spawn(|| ask_until(&deployment, machine, &stop, &answered));
            }
            std::thread::sleep(Duration::from_millis(fastrand::u64(150..1_350)));
            daemon.kill().unwrap();
            stop.store(true, Ordering::Relaxed);
        });
        let have = logged(&deployment);
        let answered = answered.lock().unwrap();
        let lost: Vec<_> = answered.iter().filter(|id| !have.contains(id)).collect();
        assert!(lost.is_empty(), "round {round}: {lost:?} of {} answered", answered.len());
    }
    assert!(!answered.lock().unwrap().is_empty());
    let mut daemon = deployment.serve().unwrap();
    assert_eq!(deployment.request("node-1", SLEEP).unwrap().status.code(), Some(0));
    assert!(daemon.stop().unwrap().success());
    let replay = audit(&deployment, &["replay"]);
    assert!(replay["replay"]["same"].as_u64() > Some(answered.lock().unwrap().len() as u64));
    audit(&deployment, &["log", "verify"]);
    audit(&deployment, &["fsck"]);
}

/// THREATS 42: every clock of the machine was set back while it was off. Expired
/// objects would become valid again; the log proves that the time is later.
#[test]
fn threat_42_a_clock_that_was_set_back_is_refused() {
    let (_folder, deployment) = common::deployment(Options::default());
    let mut daemon = deployment.serve().unwrap();
    assert_eq!(deployment.request("node-1", SLEEP).unwrap().status.code(), Some(0));
    assert!(daemon.stop().unwrap().success());
    let start = |offset| {
        let mut command = deployment.portcullisd("authority", &["serve"]);
        common::under_clock(&mut command, offset);
        command
    };
    for (offset, check) in
        [("-2m", "log.clock"), ("-50m", "log.clock"), ("-2h", "bundle.not_before"), ("+3d", "bundle.expired")]
    {
        let refused = start(offset).output().unwrap();
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert_eq!(refused.status.code(), Some(3), "{offset}: {said}");
        assert!(said.contains(check), "{offset}: {said}");
    }
    let log = deployment.path("authority.log");
    let mut daemon = Daemon::start(start("+1m"), deployment.public_address(), &log).unwrap();
    assert!(daemon.stop().unwrap().success(), "forward, within the bundle, it starts");
    // It has written entries with future times: now the true clock is behind.
    let refused = deployment.portcullisd("authority", &["serve"]).output().unwrap();
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(refused.status.code() == Some(3) && said.contains("log.clock"), "{said}");
}

/// A separate small disk under a folder.
struct SmallDisk<'a>(&'a Path);

impl<'a> SmallDisk<'a> {
    fn mount(folder: &'a Path, bytes: usize) -> Self {
        fs::create_dir_all(folder).unwrap();
        let size = std::ffi::CString::new(format!("size={bytes}")).unwrap();
        mount("tmpfs", folder, "tmpfs", MountFlags::empty(), Some(size.as_c_str())).unwrap();
        Self(folder)
    }
}

impl Drop for SmallDisk<'_> {
    fn drop(&mut self) {
        let _unmounted = unmount(self.0, UnmountFlags::DETACH);
    }
}

/// THREATS 27: the disk of the log fills up while nodes send requests. The authority
/// stops signing and says why; with free space it starts again, and has lost nothing.
#[test]
fn threat_27_a_full_disk_stops_the_authority_and_loses_nothing() {
    if !common::is_root() {
        return;
    }
    let (_folder, deployment) = common::deployment(Options { lease_seconds: 30, ..Options::default() });
    let log = deployment.path("state-authority/log");
    let kept = deployment.path("kept");
    fs::rename(&log, &kept).unwrap();
    let disk = SmallDisk::mount(&log, 256 * 1024);
    common::copy_folder(&kept, &log);

    let mut daemon = deployment.serve().unwrap();
    let mut answered = Vec::new();
    let permit = deployment.path("node-1.permit");
    loop {
        drop(fs::remove_file(&permit));
        let output = deployment.request("node-1", SLEEP).unwrap();
        match output.status.code() {
            Some(0) => answered.push(id_of(&permit)),
            code => {
                let said = String::from_utf8_lossy(&output.stderr).into_owned();
                assert!(code == Some(4) && said.contains("log.storage"), "{code:?} {said}");
                break;
            }
        }
        assert!(answered.len() < 500, "the disk does not fill up");
    }
    assert!(!answered.is_empty());
    let (status, body) = daemon.get("/readyz").unwrap();
    assert!(status == 503 && body.contains("log.storage"), "{body}");
    assert!(daemon.stop().unwrap().success());

    // Every answered permit is in the log on the full disk.
    let have = logged(&deployment);
    assert!(answered.iter().all(|id| have.contains(id)), "{} answered, {} logged", answered.len(), have.len());

    // The same files on a disk with room.
    let more = deployment.path("more");
    common::copy_folder(&log, &more);
    drop(disk);
    fs::remove_dir_all(&log).unwrap();
    fs::rename(&more, &log).unwrap();
    let mut daemon: Daemon = deployment.serve().unwrap();
    assert_eq!(deployment.request("node-1", SLEEP).unwrap().status.code(), Some(0));
    assert!(daemon.stop().unwrap().success());
    let have = logged(&deployment);
    assert!(answered.iter().all(|id| have.contains(id)));
    audit(&deployment, &["replay"]);
    audit(&deployment, &["fsck"]);
}
