//! The shipped tool of governors.

use std::process::ExitCode;

use portcullis_policy_tool::run;

fn main() -> ExitCode {
    run(std::env::args_os()).into()
}
