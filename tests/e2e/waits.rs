#![cfg(test)]
//! Commands that wait for an authority: each reports within seconds, ends, and says
//! which step failed and what to look at.

mod common;

use std::net::{SocketAddr, TcpListener};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use portcullis_lab::deployment::SLEEP;
use portcullis_lab::{Deployment, Options};

/// An address that accepts connections and never answers.
fn silent() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

struct Ended {
    output: Output,
    elapsed: Duration,
}

/// Commands that contact an authority, side by side, with the exit code for one that
/// cannot be reached.
fn ask(deployment: &Deployment, authority: &str) -> Vec<(&'static str, i32, Ended)> {
    let own = |name: &str| deployment.text(name);
    let revocation = own("revocation-1.pcr");
    let (key, out, copy) = (own("waits.pem"), own("waits.permit"), own("copy"));
    let (endorsement, governance) = (own("authority.pce"), own("governance.cbor"));
    let auditor = own("auditor.pem");
    assert!(deployment.portcullis("node-1", &["log", "key", "--key", &auditor]).output().unwrap().status.success());
    let mirror = [
        &["log", "mirror", "--authority", authority, "--key", &auditor, "--endorsement", &endorsement][..],
        &["--governance-root", &governance, "--out", &copy],
    ];
    let commands = [
        ("attest", 4, vec!["attest"]),
        ("permit request", 4, vec!["permit", "request", "--key", &key, "--out", &out, "--", SLEEP]),
        ("submit", 4, vec!["submit", "--authority", authority, &revocation]),
        ("log mirror", 4, mirror.concat()),
        ("run", 75, vec!["run", "--", SLEEP, "1"]),
    ];
    let root = common::is_root();
    std::thread::scope(|scope| {
        let started =
            commands.into_iter().filter(|(name, ..)| root || *name != "run").map(|(name, code, arguments)| {
                let mut command = deployment.portcullis("node-1", &arguments);
                let run = scope.spawn(move || {
                    let started = Instant::now();
                    let output = command.output().unwrap();
                    Ended { output, elapsed: started.elapsed() }
                });
                (name, code, run)
            });
        let started: Vec<_> = started.collect();
        started.into_iter().map(|(name, code, run)| (name, code, run.join().unwrap())).collect()
    })
}

#[test]
fn an_authority_that_says_nothing_is_waited_for_aloud_and_not_for_ever() {
    let (_folder, deployment) = common::deployment(Options::default());
    deployment.revocation(1, &["--node", "node-9"]).unwrap();
    let (_listener, address) = silent();
    deployment.configure_node("node-1", "node-1", address).unwrap();
    for (name, code, Ended { output, elapsed }) in ask(&deployment, &address.to_string()) {
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{name}: {said}");
        assert!(elapsed < Duration::from_secs(25), "{name}: {elapsed:?}");
        let activity = format!("setting up TLS with the authority at {address}");
        for part in [format!("still {activity}, 3 s"), format!("{activity}: no answer within 10 s")] {
            assert!(said.contains(&part), "{name}: no {part:?} in {said}");
        }
        assert!(said.contains("authority unreachable") && said.contains("remedy   is portcullisd running"), "{said}");
    }
}

#[test]
fn an_authority_that_is_not_there_is_told_at_once() {
    let (_folder, deployment) = common::deployment(Options::default());
    deployment.revocation(1, &["--node", "node-9"]).unwrap();
    let address = {
        let (_closed, address) = silent();
        address
    };
    deployment.configure_node("node-1", "node-1", address).unwrap();
    for (name, code, Ended { output, elapsed }) in ask(&deployment, &address.to_string()) {
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{name}: {said}");
        assert!(elapsed < Duration::from_secs(8), "{name}: {elapsed:?}");
        let why = format!("connecting to {address}: Connection refused");
        assert!(said.contains(&why) && said.contains("remedy   is portcullisd running"), "{name}: {said}");
    }
}

/// On a terminal one line counts the seconds and is redrawn in place.
#[test]
fn on_a_terminal_one_line_counts_the_seconds() {
    let (_folder, deployment) = common::deployment(Options::default());
    let (_listener, address) = silent();
    deployment.configure_node("node-1", "node-1", address).unwrap();
    let attest = deployment.portcullis("node-1", &["attest"]);
    let words = std::iter::once(attest.get_program()).chain(attest.get_args());
    let line = words.map(|word| format!("'{}'", word.to_str().unwrap())).collect::<Vec<_>>().join(" ");
    // script(1) of bsdutils, which every Debian has, gives the command a terminal.
    let output =
        Command::new("script").args(["--quiet", "--return", "--command", &line, "/dev/null"]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(4), "{said}");
    let activity = format!("setting up TLS with the authority at {address}, ");
    for seconds in [2, 5, 8] {
        assert!(said.contains(&format!("{activity}{seconds} s")), "{seconds} s: {said:?}");
    }
    assert!(said.matches('\n').count() < 8, "drawn in its place: {said:?}");
    assert!(!said.contains("still "), "{said:?}");
}
