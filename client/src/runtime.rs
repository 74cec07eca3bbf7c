//! The runtime in which commands wait.

use std::io;

use tokio::runtime::Builder;

use crate::waiting::telling;

/// Runs work that waits for others, and prints what it waits for.
pub(crate) fn in_runtime<T, E: From<io::Error>>(work: impl Future<Output = Result<T, E>>) -> Result<T, E> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let outcome = runtime.block_on(telling(work));
    // A name service that does not answer blocks a thread for minutes; the command ends
    // without waiting for it.
    runtime.shutdown_background();
    outcome
}
