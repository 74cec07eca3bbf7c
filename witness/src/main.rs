//! The witness, and nothing else.

use std::process::ExitCode;

fn main() -> ExitCode {
    portcullis_witness::run(std::env::args_os()).into()
}
