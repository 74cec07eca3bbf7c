//! The shipped client, with the real platform.

use std::process::ExitCode;

use portcullis_attester::RealPlatform;
use portcullis_client::run;

fn main() -> ExitCode {
    run(std::env::args_os(), &RealPlatform).into()
}
