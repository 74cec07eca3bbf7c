//! The shipped auditor's tool.

use std::process::ExitCode;

use mimalloc::MiMalloc;
use portcullis_auditor::run;

/// A replay allocates as much as the daemon, for every decision of a log.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    run(std::env::args_os()).into()
}
