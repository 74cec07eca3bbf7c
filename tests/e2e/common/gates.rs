//! Gates as processes, and the programs that they run.
#![allow(dead_code, reason = "each test file uses a part")]

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use portcullis_lab::Deployment;
use serde_json::Value;

/// A gate that runs. It is killed with this value.
pub(crate) struct Gate {
    child: Option<Child>,
    result: PathBuf,
}

impl Gate {
    pub(crate) fn start(deployment: &Deployment, node: &str, program: &[&str]) -> Self {
        Self::start_under(deployment, node, &[], program)
    }

    /// A gate as the last arguments of a command that becomes it.
    pub(crate) fn start_under(deployment: &Deployment, node: &str, wrapper: &[&str], program: &[&str]) -> Self {
        let (command, result) = Self::command(deployment, node, wrapper, program);
        Self::spawn(command, result)
    }

    pub(crate) fn spawn(mut command: Command, result: PathBuf) -> Self {
        Self { child: Some(command.stdin(Stdio::null()).spawn().unwrap()), result }
    }

    pub(crate) fn command(
        deployment: &Deployment,
        node: &str,
        wrapper: &[&str],
        program: &[&str],
    ) -> (Command, PathBuf) {
        let result = deployment.path(&format!("{node}.result"));
        drop(std::fs::remove_file(&result));
        let arguments = [&["run", "--result", result.to_str().unwrap(), "--"][..], program].concat();
        let gate = deployment.portcullis(node, &arguments);
        let Some((first, rest)) = wrapper.split_first() else { return (gate, result) };
        let mut command = Command::new(first);
        command.args(rest).arg(gate.get_program()).args(gate.get_args());
        (command, result)
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.as_ref().unwrap().id()
    }

    pub(crate) fn child(&mut self) -> &mut Child {
        self.child.as_mut().unwrap()
    }

    /// Exit code and result, once it has ended.
    pub(crate) fn wait(mut self, patience: Duration) -> (Option<i32>, Value) {
        let mut child = self.child.take().unwrap();
        let mut status = None;
        wait_until(patience, || {
            status = child.try_wait().unwrap();
            status.is_some()
        });
        let Some(status) = status else {
            child.kill().unwrap();
            panic!("the gate does not end");
        };
        let result = std::fs::read(&self.result).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
        (status.code(), result.unwrap_or_default())
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            drop(child.kill());
            drop(child.wait());
        }
    }
}

/// Pids of processes whose command line is exactly this.
pub(crate) fn running(command: &[&str]) -> Vec<i32> {
    let wanted: Vec<u8> = command.iter().flat_map(|part| [part.as_bytes(), &[0]].concat()).collect();
    let entries = std::fs::read_dir("/proc").unwrap().filter_map(Result::ok);
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(|pid: &i32| std::fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line == wanted)).collect()
}

/// The time until a condition held; `None` if it did not hold in time.
pub(crate) fn wait_until(patience: Duration, mut holds: impl FnMut() -> bool) -> Option<Duration> {
    let started = Instant::now();
    while started.elapsed() < patience {
        if holds() {
            return Some(started.elapsed());
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    None
}
