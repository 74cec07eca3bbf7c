#![cfg(test)]
//! `portcullis-lab up`: resumes a lab, reports each part that died, and leaves nothing
//! behind.

mod common;

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use portcullis_lab::deployment::SLEEP;
use rustix::process::Signal;

const PATIENCE: Duration = Duration::from_secs(60);

/// A running lab, with its output.
struct Up {
    child: Child,
    lines: Receiver<String>,
}

impl Up {
    fn start(folder: &Path) -> Self {
        let mut command = Command::new(common::lab());
        command.args(["up", "--nodes", "1"]).arg(folder).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.stderr(Stdio::inherit()).spawn().unwrap();
        let lines = read_lines(child.stdout.take().unwrap());
        Self { child, lines }
    }

    /// Its output up to a line with a text, which it must print.
    fn until(&self, text: &str) -> String {
        let mut said = String::new();
        while let Ok(line) = self.lines.recv_timeout(PATIENCE) {
            said.push_str(&line);
            said.push('\n');
            if line.contains(text) {
                return said;
            }
        }
        panic!("no {text:?} in: {said}")
    }

    /// Process ids of its children, with their names.
    fn children(&self) -> Vec<(u32, String)> {
        let parent = self.child.id().to_string();
        let processes =
            fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
        let child = |id: u32| {
            let stat = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
            let (name, rest) = stat.split_once('(')?.1.rsplit_once(") ")?;
            (rest.split(' ').nth(1)? == parent).then(|| (id, name.to_owned()))
        };
        processes.filter_map(child).collect()
    }

    fn wait(mut self) -> Option<i32> {
        let started = Instant::now();
        while started.elapsed() < PATIENCE {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        self.child.kill().unwrap();
        panic!("it does not end")
    }
}

fn read_lines(stdout: ChildStdout) -> Receiver<String> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    receiver
}

/// Whether a process still runs: neither a zombie nor gone.
fn is_alive(id: u32) -> bool {
    fs::read(format!("/proc/{id}/cmdline")).is_ok_and(|line| !line.is_empty())
}

fn up(folder: &Path) -> Output {
    Command::new(common::lab()).arg("up").arg(folder).stdin(Stdio::null()).output().unwrap()
}

#[track_caller]
fn assert_refused(output: &Output, why: &str) {
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(4), "{text}");
    assert!(text.contains(why), "{text}");
}

/// Requests a permit on node-1; returns its place in the log.
fn request(folder: &Path) -> u64 {
    let (permit, key) = (folder.join("up.permit"), folder.join("up-key.pem"));
    let node = |arguments: &[&str]| {
        let mut command = Command::new(common::lab());
        command.args(["portcullis", "--machine"]).arg(folder.join("machines/node-1")).args(["--", "--config"]);
        command.arg(folder.join("node-1.toml")).args(arguments).output().unwrap()
    };
    let (permit, key) = (permit.to_str().unwrap(), key.to_str().unwrap());
    let output = node(&["permit", "request", "--key", key, "--out", permit, "--", SLEEP]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let endorsement = folder.join("authority.pce");
    let output =
        node(&["permit", "verify", permit, "--endorsement", endorsement.to_str().unwrap(), "--key", key, "--", SLEEP]);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    said.split("logged as entry ").nth(1).and_then(|rest| rest.split(' ').next()?.parse().ok()).expect(&said)
}

#[test]
fn a_folder_with_a_lab_is_taken_up_again() {
    let folder = tempfile::tempdir().unwrap();
    let lab = folder.path().join("lab");
    let mut first = Up::start(&lab);
    assert!(!first.until("Ctrl-C").contains("resumed"));
    let index = request(&lab);
    assert_refused(&up(&lab), "another portcullis-lab up runs this lab");
    // The end of a script's pipe ends the lab and all that it started.
    let children = first.children();
    assert!(children.len() >= 3, "{children:?}");
    drop(first.child.stdin.take());
    first.until("ending the authority and 2 machines");
    assert_eq!(first.wait(), Some(0));
    for (id, name) in &children {
        assert!(!is_alive(*id), "{name} is left behind");
    }

    let again = Up::start(&lab);
    assert!(again.until("Ctrl-C").contains("resumed"));
    assert!(request(&lab) > index, "the same log goes on");
    common::signal(again.child.id(), Signal::TERM);
    again.until("ending the authority");
    assert_eq!(again.wait(), Some(0));
    let output = Command::new(common::lab()).args(["up", "--nodes", "7"]).arg(&lab).output().unwrap();
    assert_refused(&output, "holds a lab of 1 nodes");
}

/// A killed lab leaves its processes running; the next run on the folder ends them.
#[test]
fn what_a_killed_run_left_behind_is_ended_when_the_lab_is_taken_up_again() {
    let folder = tempfile::tempdir().unwrap();
    let lab = folder.path().join("lab");
    let mut killed = Up::start(&lab);
    killed.until("Ctrl-C");
    let left = killed.children();
    killed.child.kill().unwrap();
    killed.child.wait().unwrap();
    assert!(left.len() >= 3 && left.iter().all(|(id, _)| is_alive(*id)), "{left:?}");
    let again = Up::start(&lab);
    assert!(again.until("Ctrl-C").contains("resumed"));
    for (id, name) in &left {
        assert!(!is_alive(*id), "{name} is left behind still");
    }
    request(&lab);
    common::signal(again.child.id(), Signal::TERM);
    assert_eq!(again.wait(), Some(0));
}

#[test]
fn a_folder_that_is_no_lab_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("thesis.tex"), "precious").unwrap();
    assert_refused(&up(folder.path()), "holds something else than a lab (thesis.tex)");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    let broken = tempfile::tempdir().unwrap();
    fs::write(broken.path().join("portcullis-lab"), "a lab of portcullis-lab up: being made\n").unwrap();
    assert_refused(&up(broken.path()), "making this lab was broken off: remove the folder");
}

#[test]
fn an_authority_that_dies_is_told_with_its_last_words() {
    let folder = tempfile::tempdir().unwrap();
    let lab = folder.path().join("lab");
    let mut up = Up::start(&lab);
    up.until("Ctrl-C");
    let daemon = up.children().into_iter().find(|(_, name)| name.starts_with("portcullis-lab")).unwrap().0;
    common::signal(daemon, Signal::KILL);
    let said = up.until("Ctrl-C ends them");
    assert!(said.contains("the authority has ended, signal: 9 (SIGKILL). The last lines of "), "{said}");
    assert!(said.lines().any(|line| line.starts_with("  20")), "lines of its log: {said}");
    let again = said.lines().find(|line| line.ends_with("authority.toml serve")).unwrap().trim();
    // The machines are up, so that the printed command works.
    let mut started = Command::new("sh").args(["-c", &format!("exec {again}")]).stderr(Stdio::null()).spawn().unwrap();
    let began = Instant::now();
    while request_works(&lab).is_none() && began.elapsed() < PATIENCE {
        std::thread::sleep(Duration::from_millis(200));
    }
    assert!(request_works(&lab).is_some());
    started.kill().unwrap();
    started.wait().unwrap();
    drop(up.child.stdin.take());
    assert_eq!(up.wait(), Some(0));
}

fn request_works(folder: &Path) -> Option<()> {
    let output = Command::new(common::lab())
        .args(["portcullis", "--machine"])
        .arg(folder.join("machines/node-1"))
        .args(["--", "--config"])
        .arg(folder.join("node-1.toml"))
        .arg("attest")
        .output()
        .unwrap();
    output.status.success().then_some(())
}
