//! Prints what a command waits for. Outside [`telling`], as in a gate whose program
//! runs and in a library, nothing is printed.

use std::time::Duration;

use portcullis_cli::Waiting;
use tokio::time::timeout;

tokio::task_local! {
    static TOLD: Waiting;
}

/// Runs work, and prints what it waits for in the meantime.
pub(crate) async fn telling<T>(work: impl Future<Output = T>) -> T {
    TOLD.scope(Waiting::start("portcullis"), work).await
}

/// Sets the operation that is waited for from now on.
pub(crate) fn doing(what: impl Into<String>) {
    let _outside = TOLD.try_with(|waiting| waiting.on(what));
}

/// Sets the operation that runs from now on in many short waits, with its progress.
pub(crate) fn phase(what: impl Into<String>) {
    let _outside = TOLD.try_with(|waiting| waiting.phase(what));
}

/// Prints a line now.
pub(crate) fn say(line: impl Into<String>) {
    let _outside = TOLD.try_with(|waiting| waiting.say(line));
}

/// Waits for something and prints that; the error names the operation that exceeded its
/// time limit.
pub(crate) async fn within<T>(limit: Duration, what: &str, work: impl Future<Output = T>) -> Result<T, String> {
    doing(what);
    timeout(limit, work).await.map_err(|_| match limit.subsec_millis() {
        0 => format!("{what}: no answer within {} s", limit.as_secs()),
        _ => format!("{what}: no answer within {} ms", limit.as_millis()),
    })
}
