//! Leftovers of a killed run: the TPMs and the authority of a lab that no longer runs.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use rustix::process::{Pid, Signal, kill_process};

/// Time for an orderly end.
const PATIENCE: Duration = Duration::from_secs(10);

/// Ends the processes of the lab in a folder, which this process holds. Returns the
/// number of processes.
pub(super) fn end(folder: &Path) -> Result<usize> {
    let machines = fs::canonicalize(folder)?.join("machines").display().to_string();
    let found: Vec<Pid> = fs::read_dir("/proc")?
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok().and_then(Pid::from_raw))
        .filter(|pid| is_of(*pid, &machines))
        .collect();
    for pid in &found {
        // An error means that it has ended already.
        let _ended = kill_process(*pid, Signal::TERM);
    }
    let started = Instant::now();
    while found.iter().any(|pid| !command_line(*pid).is_empty()) {
        if started.elapsed() > PATIENCE {
            bail!("processes of an earlier run do not end: {found:?}");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(found.len())
}

/// Whether a process is a TPM or an authority of the machines in a folder.
fn is_of(pid: Pid, machines: &str) -> bool {
    let line = command_line(pid);
    let words: Vec<String> = line.split(|byte| *byte == 0).map(|w| String::from_utf8_lossy(w).into_owned()).collect();
    let below = |word: &str| word.strip_prefix(machines).is_some_and(|rest| rest.starts_with('/'));
    let is_tpm = words.iter().any(|word| word.strip_prefix("dir=").is_some_and(below));
    let is_authority = words.iter().any(|word| word == "portcullisd") && words.iter().any(|word| below(word));
    is_tpm || is_authority
}

/// Empty where the process has ended, reaped or not.
fn command_line(pid: Pid) -> Vec<u8> {
    fs::read(format!("/proc/{}/cmdline", pid.as_raw_nonzero())).unwrap_or_default()
}
