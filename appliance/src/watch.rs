//! The authority doubts itself: PCRs, clocks, bundle, and its own appraisal.
//! Any doubt trips.

use std::sync::Arc;
use std::time::Duration;

use portcullis_attest::tpm::pcr::PcrValues;
use tokio::time::Instant;

use crate::anchor::LOOK_EVERY;
use crate::authority::Authority;
use crate::clock;
use crate::events::HEARTBEAT;
use crate::instance::Refused;
use portcullis_permit::EventKind;

/// Time between looks at PCRs, clocks and bundle.
const PERIOD: Duration = Duration::from_secs(1);
/// Periods between full appraisals of this machine.
const APPRAISE_EVERY: u32 = 30;
/// Time between writes of the anchor: NV memory wears out.
const ANCHOR_EVERY: Duration = Duration::from_secs(10);
/// Attempts at a first quorum of witnesses.
const ATTEMPTS: usize = 10;
/// Seconds by which wall clock and monotonic clock may differ.
const DRIFT: u64 = 5;

/// No clock is behind what the log has recorded, even if all clocks of a machine
/// were set back together: expired lists and bundles would come to life again.
pub(crate) fn check_clock(now: u64, newest_entry: u64) -> Result<(), Refused> {
    // Batches are ordered by the log, not by the second.
    if now.saturating_add(DRIFT) >= newest_entry {
        return Ok(());
    }
    let why = format!("found {now}, required at least {newest_entry} as in the newest entry");
    Err(Refused::new("log.clock", why))
}

/// Watches until the authority trips.
pub(crate) async fn watch(authority: Arc<Authority>, at_start: PcrValues) {
    let mut clocks = Clocks { wall: clock::now(), monotonic: Instant::now(), tpm: None };
    let mut ticks = tokio::time::interval(PERIOD);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    for round in 1_u32.. {
        ticks.tick().await;
        if authority.signer.tripped().is_some() {
            return;
        }
        if let Some((check, why)) = doubt(&authority, &at_start, &mut clocks, round).await {
            authority.trip(&check, &why).await;
            return;
        }
    }
}

/// The clocks of this machine, when the watch began.
struct Clocks {
    wall: u64,
    monotonic: Instant,
    /// Seconds on the TPM's clock, and when it was read for the first time.
    tpm: Option<(u64, Duration)>,
}

/// Why a clock contradicts the monotonic one, in seconds.
fn drift(clock: &str, now: u64, began: u64, elapsed: Duration) -> Option<String> {
    let expected = began.saturating_add(elapsed.as_secs());
    (now.abs_diff(expected) > DRIFT).then(|| format!("{clock} {now}, expected about {expected}"))
}

async fn doubt(
    authority: &Authority,
    at_start: &PcrValues,
    clocks: &mut Clocks,
    round: u32,
) -> Option<(String, String)> {
    let now = clock::now();
    let elapsed = clocks.monotonic.elapsed();
    if let Some(why) = drift("wall clock", now, clocks.wall, elapsed) {
        return Some(("watch.clock".into(), why));
    }
    let bundle = authority.bundle();
    if let Err(expired) = bundle.check_time(now) {
        return Some((expired.check().into(), expired.to_string()));
    }
    match authority.attestor.read_pcrs(Arc::clone(&bundle)).await {
        Err(error) => return Some(("watch.pcr".into(), error)),
        Ok(values) => {
            let changed =
                values.iter().find(|(bank, pcr, value)| at_start.value(*bank, *pcr).is_some_and(|v| v != *value));
            if let Some((bank, pcr, _)) = changed {
                return Some(("watch.pcr".into(), format!("{bank}:{pcr} changed while the authority ran")));
            }
        }
    }
    if round.is_multiple_of(APPRAISE_EVERY) {
        let origin = authority.origin().to_owned();
        let tpm = match authority.attestor.self_check(bundle, origin, now).await {
            Ok(milliseconds) => milliseconds / 1000,
            Err(error) => {
                return Some(match error.downcast::<Refused>() {
                    Ok(refused) => (refused.check, refused.why),
                    Err(error) => ("watch.pcr".into(), error.to_string()),
                });
            }
        };
        let (began, at) = *clocks.tpm.get_or_insert((tpm, elapsed));
        if let Some(why) = drift("clock of the TPM", tpm, began, elapsed.saturating_sub(at)) {
            return Some(("watch.clock".into(), why));
        }
    }
    None
}

/// Looks whether another start has taken over, and anchors heads as they grow.
pub(crate) async fn anchor(authority: Arc<Authority>) {
    let (mut anchored, mut last) = (0, Instant::now());
    while authority.signer.tripped().is_none() {
        let began = std::time::Instant::now();
        match authority.attestor.is_newest_start().await {
            Ok(true) => authority.fence.seen(began),
            Ok(false) => {
                authority.trip_silently("anchor.clone", "the TPM counts a start after this one: a clone runs");
                return;
            }
            // Seen again in time, or the fence falls.
            Err(error) => tracing::warn!(error, "the TPM's counter was not read"),
        }
        let size = authority.head().map_or(0, |head| head.size());
        if size > anchored && last.elapsed() >= ANCHOR_EVERY {
            match authority.anchor(false).await {
                Ok(()) => (anchored, last) = (size, Instant::now()),
                Err(error) => {
                    authority.trip("anchor.write", &error).await;
                    return;
                }
            }
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Keeps the log in order: counts of strangers every second, snapshots when they
/// are due. A log that cannot be written trips by itself; after that, strangers
/// who wait for their count are still told so.
pub(crate) async fn keep(authority: Arc<Authority>) {
    let mut ticks = tokio::time::interval(PERIOD);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        if let Err(failure) = authority.log_denial_counts().await {
            tracing::error!(?failure, "denials of strangers were not counted");
        }
        if authority.signer.tripped().is_none()
            && authority.snapshot_is_due()
            && let Err(failure) = authority.log_snapshot().await
        {
            tracing::error!(?failure, "no snapshot");
        }
    }
}

/// A quorum of witnesses accepts the head as an extension of what it has seen,
/// before this authority serves.
///
/// # Errors
/// `witness.quorum`, with what each of the others said.
pub(crate) async fn first_quorum(authority: &Authority) -> Result<(), Refused> {
    let bundle = authority.bundle();
    let Some(witnesses) = &bundle.policy().witnesses else { return Ok(()) };
    let mut said = Vec::new();
    for _ in 0..ATTEMPTS {
        said = authority.ask_witnesses().await.map_err(|failure| Refused::new("internal", format!("{failure:?}")))?;
        if authority.witnessed().is_some() {
            return Ok(());
        }
        tokio::time::sleep(PERIOD).await;
    }
    let required = format!("{} of {} witnesses", witnesses.quorum.threshold, witnesses.quorum.keys.len());
    Err(Refused::new("witness.quorum", format!("required {required}; {}", said.join("; "))))
}

/// Keeps the log witnessed; trips once the quorum is older than the bundle allows.
pub(crate) async fn stay_witnessed(authority: Arc<Authority>) {
    let (mut since, mut said) = (clock::now(), Vec::new());
    while authority.signer.tripped().is_none() {
        let bundle = authority.bundle();
        let Some(witnesses) = &bundle.policy().witnesses else {
            // They may be demanded later.
            since = clock::now();
            tokio::time::sleep(PERIOD).await;
            continue;
        };
        if let Ok(failed) = authority.ask_witnesses().await {
            if !failed.is_empty() && failed != said {
                tracing::warn!(said = failed.join("; "), "witnesses that did not cosign");
            }
            said = failed;
        }
        let (max_age, now) = (witnesses.quorum.max_age, clock::now());
        since = authority.witnessed().unwrap_or(since).max(since);
        if now.saturating_sub(since) > max_age {
            let why = format!("found a quorum {} s old, required at most {max_age}", now.saturating_sub(since));
            authority.trip("witness.lag", &format!("{why}; {}", said.join("; "))).await;
            return;
        }
        tokio::time::sleep(Duration::from_secs((max_age / 5).clamp(1, 10))).await;
    }
    // The last entry, too: whoever follows on this log names a head that others
    // have seen.
    tokio::time::sleep(PERIOD).await;
    drop(authority.ask_witnesses().await);
}

/// Sends heartbeats until the authority trips.
pub(crate) async fn heartbeat(authority: Arc<Authority>) {
    let mut ticks = tokio::time::interval(HEARTBEAT);
    loop {
        ticks.tick().await;
        match authority.signer.key() {
            Ok(key) => authority.events.send(EventKind::Heartbeat, &key, authority.origin()),
            Err(_) => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// THREATS 15: hours and years, either way; seconds are let through.
    #[test]
    fn threat_15_clocks_that_jump_contradict_each_other() {
        let hour = Duration::from_secs(3600);
        let drift = |now| drift("wall clock", now, 1_000_000, hour);
        assert_eq!(drift(1_003_600), None);
        assert_eq!(drift(1_003_605), None);
        assert_eq!(drift(1_003_606).unwrap(), "wall clock 1003606, expected about 1003600");
        for jump in [3_600, 365 * 86_400] {
            assert!(drift(1_003_600 + jump).is_some());
            assert!(drift(1_003_600_u64.saturating_sub(jump)).is_some());
        }
    }

    /// THREATS 42: a cold boot with an old clock.
    #[test]
    fn threat_42_a_clock_behind_the_log_is_refused() {
        assert!(check_clock(1_000, 1_000).is_ok());
        assert!(check_clock(995, 1_000).is_ok());
        let refused = check_clock(994, 1_000).unwrap_err();
        assert_eq!(refused.check, "log.clock");
        assert!(check_clock(1_000, 1_000 + 365 * 86_400).is_err());
    }
}
