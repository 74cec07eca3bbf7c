//! Shared parts of the end-to-end tests: a deployment, and a runtime.
#![allow(dead_code, reason = "each test file uses a part")]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use portcullis_attest::crypto::sha256;
use portcullis_attest::snp::generation::Generation;
use portcullis_lab::deployment::SLEEP;
use portcullis_lab::{Daemon, Deployment, LabRoot, Options};
use portcullis_lineage::{ArchiveReader, FileStorage, Storage};
use portcullis_permit::{Kind, Permit};
use portcullis_wire::Sign1;
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// The lab's binary.
pub(crate) fn lab() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_portcullis-lab"))
}

/// A root that all tests share: making one takes seconds.
pub(crate) fn root_folder() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("lab-root")
}

pub(crate) fn root(generation: Generation) -> LabRoot {
    LabRoot::open(&root_folder(), generation).unwrap()
}

/// A deployment, not serving yet.
pub(crate) fn deployment(options: Options) -> (TempDir, Deployment) {
    let folder = tempfile::tempdir().unwrap();
    let deployment = Deployment::create(&folder.path().join("d"), lab(), &root_folder(), options).unwrap();
    (folder, deployment)
}

/// A deployment that serves.
pub(crate) fn serving() -> (TempDir, Deployment, Daemon) {
    let (folder, deployment) = deployment(Options::default());
    let daemon = deployment.serve().unwrap();
    (folder, deployment, daemon)
}

/// SHA-256 of the program that every deployment permits.
pub(crate) fn sleep_digest() -> [u8; 32] {
    sha256(&[&std::fs::read(SLEEP).unwrap()])
}

/// Runs a future to its end.
pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap().block_on(future)
}

/// Sends a signal to a process that a test started.
pub(crate) fn signal(process: u32, signal: Signal) {
    let pid = Pid::from_raw(i32::try_from(process).unwrap()).unwrap();
    kill_process(pid, signal).unwrap();
}

/// Whether this process may create namespaces. Tests that need them report loudly which
/// checks were skipped.
pub(crate) fn is_root() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        eprintln!("SKIPPED: the gate needs root; nothing was shown about it");
    }
    root
}

/// Gives a program a clock that is ahead or behind: `+2d`, `-30m`.
pub(crate) fn under_clock(command: &mut Command, offset: &str) {
    let libraries = std::fs::read_dir("/usr/lib").unwrap().map(|entry| entry.unwrap().path());
    let library = libraries.map(|folder| folder.join("faketime/libfaketime.so.1")).find(|path| path.exists());
    command.env("LD_PRELOAD", library.expect("ci/setup installs libfaketime")).env("FAKETIME", offset);
}

/// A log's folder, for reading beside the authority.
pub(crate) fn log_reader(deployment: &Deployment) -> Arc<dyn Storage> {
    Arc::new(FileStorage::reader(&deployment.path("state-authority/log")))
}

/// `portcullis-audit` on a log, folder or audit bundle: exit code and report.
pub(crate) fn audit(
    deployment: &Deployment,
    arguments: &[&str],
    log: &Path,
    endorsement: &str,
) -> (Option<i32>, serde_json::Value) {
    let mut command = Command::new(lab());
    command.arg("portcullis-audit").args(arguments).arg(log).arg("--json");
    command.arg("--governance-root").arg(deployment.path("governance.cbor"));
    if log.is_dir() {
        command.arg("--endorsement").arg(deployment.path(endorsement));
    }
    let output = command.output().unwrap();
    let report = serde_json::from_slice(&output.stdout);
    if let Ok(report) = &report {
        let _described = portcullis_schemas::check(report);
    }
    // A test that expects a report shows the actual output instead.
    (output.status.code(), report.unwrap_or_else(|_| String::from_utf8_lossy(&output.stderr).into_owned().into()))
}

/// The checks of a report that failed.
pub(crate) fn failed(report: &serde_json::Value) -> Vec<&str> {
    let checks = report["checks"].as_array().map(Vec::as_slice).unwrap_or_default();
    let failed = checks.iter().filter(|check| check["outcome"] == "fail");
    failed.map(|check| check["id"].as_str().unwrap()).collect()
}

/// The permits of the authority's log, in order.
pub(crate) fn permits(deployment: &Deployment) -> Vec<Permit> {
    let mut reader = ArchiveReader::open(log_reader(deployment), 0).unwrap();
    let mut permits = Vec::new();
    while let Some(batch) = reader.next_batch().unwrap() {
        for entry in batch.entries {
            let object = Sign1::parse(&entry.statement, 1 << 16).unwrap();
            if Kind::of(&object) == Some(Kind::Permit) {
                permits.push(Permit::decode(object.payload().unwrap()).unwrap());
            }
        }
    }
    permits
}

/// Every blob that the authority has archived.
pub(crate) fn archived(deployment: &Deployment) -> Vec<Vec<u8>> {
    let mut reader = ArchiveReader::open(log_reader(deployment), 0).unwrap();
    let mut blobs = Vec::new();
    while let Some(batch) = reader.next_batch().unwrap() {
        for blob in batch.entries.iter().flat_map(|entry| &entry.blobs) {
            blobs.push(reader.archive().read(blob).unwrap());
        }
    }
    blobs
}

/// Copies a folder with everything in it: a backup.
pub(crate) fn copy_folder(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_folder(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}
