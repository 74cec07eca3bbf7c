//! Sends the log to witnesses: before the authority serves, and as the log grows.

use std::sync::Arc;
use std::time::Duration;

use crate::authority::Authority;
use crate::clock;
use crate::instance::Refused;

/// Attempts at a first quorum.
const ATTEMPTS: usize = 10;
/// Shortest and longest time between checks, seconds.
const EVERY: (u64, u64) = (1, 10);
const LAG: &str = "witness.lag";

/// Waits until a quorum of witnesses accepts the head as an extension of the log that
/// they have seen, before this authority serves.
///
/// # Errors
/// `witness.quorum`, with the answer of each of the others.
pub(crate) async fn first_quorum(authority: &Authority) -> Result<(), Refused> {
    let bundle = authority.bundle();
    let Some(witnesses) = &bundle.policy().witnesses else { return Ok(()) };
    let mut said = Vec::new();
    for _ in 0..ATTEMPTS {
        said = authority.ask_witnesses().await.map_err(|failure| Refused::new("internal", format!("{failure:?}")))?;
        if authority.unwitnessed().is_none() {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_secs(EVERY.0)).await;
    }
    let required = format!("{} of {} witnesses", witnesses.quorum.threshold, witnesses.quorum.keys.len());
    Err(Refused::new("witness.quorum", format!("required {required}; {}", said.join("; "))))
}

/// Keeps the log witnessed. While the quorum is older than the bundle allows, no permit
/// is issued, because gates would refuse it. If that lasts too long, the authority
/// trips.
pub(crate) async fn stay_witnessed(authority: Arc<Authority>) {
    let mut said = Vec::new();
    while authority.signer.tripped().is_none() {
        let bundle = authority.bundle();
        let Some(witnesses) = &bundle.policy().witnesses else {
            // A later bundle may demand witnesses.
            authority.lag.settled(LAG);
            tokio::time::sleep(Duration::from_secs(EVERY.0)).await;
            continue;
        };
        if let Ok(failed) = authority.ask_witnesses().await {
            if !failed.is_empty() && failed != said {
                tracing::warn!(said = failed.join("; "), "witnesses that did not cosign");
            }
            said = failed;
        }
        match authority.unwitnessed() {
            None => authority.lag.settled(LAG),
            Some(why) if authority.lag.failed(LAG, &why, clock::boot_time()) => {
                authority.trip(LAG, &why).await;
                return;
            }
            Some(_) => {}
        }
        tokio::time::sleep(Duration::from_secs((witnesses.quorum.max_age / 5).clamp(EVERY.0, EVERY.1))).await;
    }
    // Witness the last entry too, so that a successor of this log can name a witnessed
    // head.
    tokio::time::sleep(Duration::from_secs(EVERY.0)).await;
    drop(authority.ask_witnesses().await);
}
