//! The released tool for governors.

use std::process::ExitCode;

use mimalloc::MiMalloc;
use portcullis_policy_tool::run;

/// A rehearsal makes the same allocations as the daemon, a million times.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    run(std::env::args_os()).into()
}
