//! Where commands wait.

use std::io;

use tokio::runtime::Builder;

use crate::waiting::telling;

/// Does work that waits for others, and tells what for.
pub(crate) fn in_runtime<T, E: From<io::Error>>(work: impl Future<Output = Result<T, E>>) -> Result<T, E> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let outcome = runtime.block_on(telling(work));
    // A name service that does not answer holds a thread for minutes: the command
    // ends without it.
    runtime.shutdown_background();
    outcome
}
