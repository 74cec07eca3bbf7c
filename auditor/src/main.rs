//! The shipped tool of auditors.

use std::process::ExitCode;

use portcullis_auditor::run;

fn main() -> ExitCode {
    run(std::env::args_os()).into()
}
