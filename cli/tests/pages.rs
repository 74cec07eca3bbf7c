//! Manual pages: one for each command, which refer to each other.
#![cfg(test)]

use clap::{Parser, Subcommand};
use portcullis_cli::Common;

/// A program to test with.
#[derive(Debug, Parser)]
#[command(
    name = "gatehouse",
    version,
    after_help = "Examples:\n  gatehouse open\n\nExit codes:\n  0  done\n  1  refused"
)]
struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Rope and gate.
    #[command(subcommand)]
    Gate(Gate),
    #[command(flatten)]
    Common(Common),
}

#[derive(Debug, Subcommand)]
enum Gate {
    /// Let the gate down.
    Close {
        /// Say so.
        #[arg(long)]
        json: bool,
    },
}

fn written() -> (std::path::PathBuf, Vec<String>) {
    let folder = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("pages");
    let man = Common::Man { command: Vec::new(), out: Some(folder.clone()) };
    man.print::<Arguments>().unwrap();
    let mut names: Vec<String> =
        std::fs::read_dir(&folder).unwrap().map(|page| page.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    (folder, names)
}

#[test]
fn each_command_has_a_page_and_names_its_neighbours() {
    let (folder, names) = written();
    let all = ["-completions", "-gate-close", "-gate", "-man", ""].map(|name| format!("gatehouse{name}.1"));
    assert_eq!(names, all);
    let read = |name: &str| std::fs::read_to_string(folder.join(name)).unwrap();
    let first = read("gatehouse.1");
    for part in
        [".SH EXAMPLES", ".SH \"EXIT CODES\"", "gatehouse open", ".SH \"SEE ALSO\"", "\\fBgatehouse\\-gate\\fR(1)"]
    {
        assert!(first.contains(part), "no {part} in {first}");
    }
    let close = read("gatehouse-gate-close.1");
    for part in ["gatehouse\\-gate\\-close \\- Let the gate down", "\\-\\-json", "\\fBgatehouse\\-gate\\fR(1)"] {
        assert!(close.contains(part), "no {part} in {close}");
    }
}

#[test]
fn a_command_that_is_none_is_named_with_those_that_are() {
    let man =
        |words: &[&str]| Common::Man { command: words.iter().map(|word| (*word).to_owned()).collect(), out: None };
    assert!(man(&["gate", "close"]).print::<Arguments>().is_ok());
    let error = man(&["gate", "open"]).print::<Arguments>().unwrap_err();
    assert_eq!(error.to_string(), "gatehouse-gate has no command \"open\"; it has close");
}
