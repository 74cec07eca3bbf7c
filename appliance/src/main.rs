//! The shipped daemon: the real platform, files, and nothing else.

use std::process::ExitCode;

use mimalloc::MiMalloc;
use portcullis_appliance::{file_storage, run};
use portcullis_attester::RealPlatform;

/// A request allocates and frees evidence several times over; see
/// docs/performance.md for what that costs.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    run(std::env::args_os(), &RealPlatform, &file_storage).into()
}
