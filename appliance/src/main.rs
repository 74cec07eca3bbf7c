//! The shipped daemon: the real platform, files, and nothing else.

use std::process::ExitCode;

use portcullis_appliance::{file_storage, run};
use portcullis_attester::RealPlatform;

fn main() -> ExitCode {
    run(std::env::args_os(), &RealPlatform, &file_storage).into()
}
