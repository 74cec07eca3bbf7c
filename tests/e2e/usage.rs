#![cfg(test)]
//! Rules for the command lines of all programs: the order of options, a reader that
//! closes the pipe, help with exit codes, and builds that report progress.

mod common;

use std::path::Path;
use std::process::{Command, Output, Stdio};

const PROGRAMS: [&str; 5] =
    ["portcullis", "portcullisd", "portcullis-audit", "portcullis-policy", "portcullis-witness"];

/// A program of the lab's binary.
fn program(name: &str) -> Command {
    let mut command = Command::new(common::lab());
    if name != "portcullis-lab" {
        command.arg(name);
    }
    if ["portcullis", "portcullisd"].contains(&name) {
        command.args(["--machine", "/nonexistent", "--"]);
    }
    command
}

fn run(name: &str, arguments: &[&str]) -> Output {
    program(name).args(arguments).output().unwrap()
}

#[test]
fn global_options_stand_before_or_behind_the_command() {
    let file = "/nonexistent/option-order.toml";
    for (name, command) in [("portcullis-witness", "serve"), ("portcullisd", "serve"), ("portcullis", "attest")] {
        for arguments in [["--config", file, command], [command, "--config", file]] {
            let output = run(name, &arguments);
            let said = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(2), "{name} {arguments:?}: {said}");
            assert!(said.contains(file), "{name} {arguments:?} did not look there: {said}");
        }
    }
    // Arguments after `--` belong to the program.
    let output = run("portcullis", &["run", "--config", file, "--", "/bin/true", "--config", "other"]);
    assert_eq!(output.status.code(), Some(125));
    assert!(String::from_utf8_lossy(&output.stderr).contains(file));
}

#[test]
fn help_names_the_exit_codes_and_shows_examples() {
    for name in PROGRAMS.into_iter().chain(["portcullis-lab"]) {
        let output = run(name, &["--help"]);
        let help = String::from_utf8_lossy(&output.stdout);
        assert_eq!(output.status.code(), Some(0), "{name}");
        for part in ["Examples:\n", "Exit codes:\n  0  done"].into_iter().filter(|_| name != "portcullis-audit") {
            assert!(help.contains(part), "{name}: no {part:?} in {help}");
        }
        assert!(help.contains("Exit codes:\n  0  "), "{name}: {help}");
    }
    let run = run("portcullis", &["run", "--help"]);
    let help = String::from_utf8_lossy(&run.stdout);
    for code in ["77", "75", "124", "125", "126", "127"] {
        assert!(help.contains(&format!("\n  {code}  ")), "{code}: {help}");
    }
}

/// `… | head`: a reader that closes the pipe early causes no failure or panic.
#[test]
fn a_closed_pipe_is_no_failure_of_any_program() {
    for name in PROGRAMS.into_iter().chain(["portcullis-lab"]) {
        for arguments in [&["man"][..], &["--help"], &["completions", "bash"]] {
            let mut child =
                program(name).args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
            drop(child.stdout.take());
            let output = child.wait_with_output().unwrap();
            let said = String::from_utf8_lossy(&output.stderr);
            assert_eq!((output.status.code(), said.as_ref()), (Some(0), ""), "{name} {arguments:?}");
        }
    }
}

#[test]
fn pages_go_into_a_folder_or_are_printed() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("man");
    for name in PROGRAMS.into_iter().chain(["portcullis-lab"]) {
        let output = run(name, &["man", "--out", out.to_str().unwrap()]);
        assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
        assert!(out.join(format!("{name}.1")).exists());
    }
    assert!(out.join("portcullis-permit-request.1").exists() && out.join("portcullis-audit-log-verify.1").exists());
    let printed = run("portcullis", &["man", "permit", "request"]).stdout;
    assert_eq!(
        printed.trim_ascii_end(),
        std::fs::read(out.join("portcullis-permit-request.1")).unwrap().trim_ascii_end()
    );
    let none = run("portcullis-audit", &["man", "frobnicate"]);
    assert_eq!(none.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&none.stderr).contains("portcullis-audit has no command \"frobnicate\""));
}

#[test]
fn a_build_without_a_terminal_says_how_far_it_is() {
    let heartbeat = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../ci/heartbeat");
    let build = |script: &str| {
        let mut command = Command::new(&heartbeat);
        command.env("HEARTBEAT_SECONDS", "1").args(["sh", "-c", script]).output().unwrap()
    };
    let output = build("echo '   Compiling one v1.0'; sleep 2.5; echo '   Compiling two v1.0'");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}");
    let lines: Vec<&str> = said.lines().collect();
    assert!((1..=3).contains(&lines.len()), "{said}");
    assert!(lines[0].ends_with("1 crates begun: Compiling one v1.0"), "{said}");
    let output = build("echo '   Compiling one v1.0'; echo 'error: it does not build' >&2; exit 3");
    assert_eq!(output.status.code(), Some(3));
    assert!(String::from_utf8_lossy(&output.stdout).contains("error: it does not build"));
    assert!(String::from_utf8_lossy(&output.stderr).contains("failed with exit code 3"));
}
