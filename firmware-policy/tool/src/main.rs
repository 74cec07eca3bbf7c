//! The shipped tool of governors.

use std::process::ExitCode;

use mimalloc::MiMalloc;
use portcullis_policy_tool::run;

/// A rehearsal allocates what the daemon does, a million times over.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    run(std::env::args_os()).into()
}
