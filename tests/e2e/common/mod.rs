//! What end-to-end tests share: a deployment, and a runtime.
#![allow(dead_code, reason = "each test file uses a part")]

use std::path::{Path, PathBuf};

use portcullis_attest::crypto::sha256;
use portcullis_attest::snp::generation::Generation;
use portcullis_lab::deployment::SLEEP;
use portcullis_lab::{Daemon, Deployment, LabRoot, Options};
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

/// Whether this process may make namespaces. Tests that need it say loudly what
/// was not shown.
pub(crate) fn is_root() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        eprintln!("SKIPPED: the gate needs root; nothing was shown about it");
    }
    root
}
