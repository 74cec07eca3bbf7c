//! The shipped daemon, with the real platform and storage in files.

use std::process::ExitCode;

use mimalloc::MiMalloc;
use portcullis_appliance::{file_storage, run};
use portcullis_attester::RealPlatform;

/// A request allocates and frees several times the size of its evidence;
/// docs/performance.md gives the cost.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    run(std::env::args_os(), &RealPlatform, &file_storage).into()
}
