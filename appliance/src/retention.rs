//! Removes evidence from the archive after the time that the bundle sets. The removal
//! is logged first. It covers whole segments and only decisions.

use std::sync::Arc;
use std::time::Duration;

use portcullis_lineage::{MAX_ENTRY, Pruner, Storage, get_number, put_number};
use portcullis_permit::{Kind, RetentionRecord, recorded_time};
use portcullis_wire::Sign1;

use crate::authority::Authority;
use crate::clock;

/// Time between checks.
const LOOK_EVERY: Duration = Duration::from_secs(60);
/// A segment is closed after this fraction of the retention time. If there are few
/// decisions, evidence is removed at most this much late.
const PART: u64 = 8;
/// File with the first entry that was not checked. A lower value only makes the next
/// check longer.
const MARK: &str = "retained";

/// Checks periodically until the authority trips.
pub(crate) async fn retain(authority: Arc<Authority>, pruner: Pruner, storage: Arc<dyn Storage>) {
    let mut ticks = tokio::time::interval(LOOK_EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    while authority.signer.tripped().is_none() {
        ticks.tick().await;
        let Some(kept) = authority.bundle().policy().evidence_kept_seconds else { continue };
        let now = clock::now();
        let cutoff = now.saturating_sub(kept);
        match pruner.newest(time_of) {
            Ok(began) if began.is_some_and(|began| now.saturating_sub(began) >= kept / PART) => pruner.close_newest(),
            Ok(_) => {}
            Err(error) => tracing::error!(%error, "the newest segment cannot be read"),
        }
        if let Err(error) = prune(&authority, &pruner, &storage, cutoff).await {
            tracing::error!(error = format!("{error:#}"), "evidence that has had its time is still there");
        }
    }
}

async fn prune(authority: &Authority, pruner: &Pruner, storage: &Arc<dyn Storage>, cutoff: u64) -> anyhow::Result<()> {
    loop {
        let from = get_number(&**storage, MARK)?.unwrap_or(0);
        let looking = pruner.clone();
        let due =
            tokio::task::spawn_blocking(move || looking.due(from, |entry| is_decision(entry, cutoff) == Some(false)));
        let Some(due) = due.await?? else { return Ok(()) };
        let record = RetentionRecord { time: clock::now(), cutoff, before: due.next };
        authority.log_retention(&record).await.map_err(|failure| anyhow::anyhow!("{failure:?}"))?;
        let pruning = pruner.clone();
        let pruned = move || pruning.prune(due, |entry| is_decision(entry, cutoff) == Some(true));
        let bytes = tokio::task::spawn_blocking(pruned).await??;
        put_number(&**storage, MARK, due.next)?;
        tracing::info!(bytes, before = due.next, "evidence that had its time is gone");
    }
}

/// Time of an entry, if it states one.
fn time_of(entry: &[u8]) -> Option<u64> {
    recorded_time(&Sign1::parse(entry, MAX_ENTRY).ok()?)
}

/// Whether an entry is a decision whose retention time is over; `None` for other
/// entries, whose blobs stay.
fn is_decision(entry: &[u8], cutoff: u64) -> Option<bool> {
    let object = Sign1::parse(entry, MAX_ENTRY).ok()?;
    matches!(Kind::of(&object), Some(Kind::Permit | Kind::Denial)).then_some(())?;
    Some(recorded_time(&object).is_some_and(|time| time < cutoff))
}
