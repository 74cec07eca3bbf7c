//! The authority checks itself: PCRs, clocks, disk, bundle, and its own appraisal. A
//! wrong result trips it. A failed measurement is retried ([`crate::doubts`]).

mod clocks;
mod witnesses;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use portcullis_attest::tpm::pcr::PcrValues;
use portcullis_permit::EventKind;
use portcullis_wire::rfc3339;
use tokio::time::{Instant, timeout};

use crate::anchor::LOOK_EVERY;
use crate::attestor::Appraised;
use crate::authority::Authority;
use crate::clock;
use crate::events::HEARTBEAT;
use crate::instance::{Refused, log_folder};
use clocks::Clocks;
pub(crate) use witnesses::{first_quorum, stay_witnessed};

/// Time between checks of PCRs, clocks and bundle.
const PERIOD: Duration = Duration::from_secs(1);
/// Periods between full appraisals of this machine.
const APPRAISE_EVERY: u32 = 30;
/// Time between writes of the anchor: NV memory wears out.
const ANCHOR_EVERY: Duration = Duration::from_secs(10);
/// Longest wait for a device. One that never answers must not stop the watch.
const DEVICE_PATIENCE: Duration = Duration::from_secs(30);
/// Least free space on the disk of the log, in bytes: a decision takes at most half a
/// mebibyte, and several are in progress.
const LEAST_ROOM: u64 = 64 * 1024 * 1024;

/// The TPM or the secure processor does not answer, or reports that it cannot.
const DEVICE: &str = "watch.device";
const DISK: &str = "watch.disk";

/// A failed check of this machine.
struct Wrong {
    check: String,
    why: String,
}

impl Wrong {
    fn new(check: &str, why: impl Into<String>) -> Self {
        Self { check: check.to_owned(), why: why.into() }
    }
}

/// Checks that no clock is behind the log, even if all clocks of a machine were set
/// back together: expired lists and bundles would become valid again.
pub(crate) fn check_clock(now: u64, newest_entry: u64, skew: u64) -> Result<(), Refused> {
    if now.saturating_add(skew) >= newest_entry {
        return Ok(());
    }
    let (now, newest) = (rfc3339(now), rfc3339(newest_entry));
    let why = format!("the clock shows {now}, required at most {skew} s before the newest entry of the log, {newest}");
    Err(Refused::new("log.clock", why))
}

/// Watches until the authority trips.
pub(crate) async fn watch(authority: Arc<Authority>, at_start: PcrValues) {
    let mut clocks = Clocks::new(clock::wall(), clock::boot_time());
    let mut ticks = tokio::time::interval(PERIOD);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    for round in 1_u32.. {
        ticks.tick().await;
        if authority.signer.tripped().is_some() {
            return;
        }
        if let Err(wrong) = look(&authority, &at_start, &mut clocks, round).await {
            authority.trip(&wrong.check, &wrong.why).await;
            return;
        }
    }
}

async fn look(authority: &Authority, at_start: &PcrValues, clocks: &mut Clocks, round: u32) -> Result<(), Wrong> {
    let bundle = authority.bundle();
    let skew = bundle.policy().clock_skew;
    if let Some(why) = clocks.look_at_wall(clock::wall(), clock::boot_time(), skew) {
        return Err(Wrong::new("watch.clock", why));
    }
    bundle.check_time(clock::now()).map_err(|error| Wrong::new(error.check(), error.to_string()))?;
    note(authority, DISK, room(authority))?;
    let values = in_time(authority.attestor.read_pcrs(Arc::clone(&bundle))).await;
    if let Some(values) = note(authority, DEVICE, values.map_err(|why| format!("reading PCRs: {why}")))? {
        let changed = values.iter().find(|(bank, pcr, value)| at_start.value(*bank, *pcr).is_some_and(|v| v != *value));
        if let Some((bank, pcr, _)) = changed {
            return Err(Wrong::new("watch.pcr", format!("{bank}:{pcr} changed while the authority ran")));
        }
    }
    if round.is_multiple_of(APPRAISE_EVERY)
        && let Some(appraised) = appraise(authority).await?
        && let Some(why) = clocks.look_at_tpm(&appraised.clock, appraised.between, skew)
    {
        return Err(Wrong::new("watch.clock", why));
    }
    Ok(())
}

/// Appraises this machine. A refusal is checked once more: the machine may have changed
/// between its event log and its quote.
async fn appraise(authority: &Authority) -> Result<Option<Appraised>, Wrong> {
    let mut refused = None;
    for _ in 0..2 {
        let own = authority.attestor.self_check(authority.bundle(), authority.origin().to_owned(), clock::now());
        let error = match timeout(DEVICE_PATIENCE, own).await {
            Ok(Ok(appraised)) => return note(authority, DEVICE, Ok(appraised)),
            Ok(Err(error)) => error,
            Err(_) => return note(authority, DEVICE, Err("collecting evidence: no answer in time".into())),
        };
        match error.downcast::<Refused>() {
            Ok(error) => refused = Some(Wrong { check: error.check, why: error.why }),
            Err(error) => return note(authority, DEVICE, Err(format!("collecting evidence: {error:#}"))),
        }
    }
    refused.map_or(Ok(None), Err)
}

/// Handles the outcome of a check: a value, or a failure, which is a doubt and trips
/// the authority if it has lasted too long.
fn note<T>(authority: &Authority, check: &'static str, outcome: Result<T, String>) -> Result<Option<T>, Wrong> {
    match outcome {
        Ok(value) => {
            authority.signer.doubts.settled(check);
            Ok(Some(value))
        }
        Err(why) if authority.signer.doubts.failed(check, &why, clock::boot_time()) => Err(Wrong::new(check, why)),
        Err(_) => Ok(None),
    }
}

async fn in_time<T>(device: impl Future<Output = Result<T, String>>) -> Result<T, String> {
    timeout(DEVICE_PATIENCE, device).await.unwrap_or_else(|_| Err("no answer in time".into()))
}

/// Whether the disk of the log has free space.
fn room(authority: &Authority) -> Result<(), String> {
    let folder = log_folder(&authority.config);
    let disk = rustix::fs::statvfs(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let free = disk.f_bavail.saturating_mul(disk.f_frsize);
    if free >= LEAST_ROOM {
        return Ok(());
    }
    let mebibytes = |bytes: u64| bytes / (1024 * 1024);
    let (free, least) = (mebibytes(free), mebibytes(LEAST_ROOM));
    Err(format!("{}: found {free} MiB free, required {least} MiB", folder.display()))
}

/// Checks whether another start has taken over, and anchors new heads.
pub(crate) async fn anchor(authority: Arc<Authority>) {
    let (mut anchored, mut last) = (0, Instant::now());
    while authority.signer.tripped().is_none() {
        let began = clock::boot_time();
        let looked = in_time(authority.attestor.is_newest_start()).await;
        match note(&authority, "anchor.lease", looked.map_err(|why| format!("reading the TPM's counter: {why}"))) {
            Ok(Some(true)) => authority.fence.seen(began),
            Ok(Some(false)) => {
                authority.trip_silently("anchor.clone", "the TPM counts a start after this one: a clone runs");
                return;
            }
            // The counter must be read again in time; otherwise the fence stops the authority.
            Ok(None) => {}
            Err(wrong) => {
                authority.trip_silently(&wrong.check, &wrong.why);
                return;
            }
        }
        let size = authority.head().map_or(0, |head| head.size());
        if size > anchored && last.elapsed() >= ANCHOR_EVERY {
            let written = in_time(authority.anchor(false)).await;
            match note(&authority, "anchor.write", written.map_err(|why| format!("writing the anchor: {why}"))) {
                Ok(Some(())) => (anchored, last) = (size, Instant::now()),
                Ok(None) => {}
                Err(wrong) => {
                    authority.trip(&wrong.check, &wrong.why).await;
                    return;
                }
            }
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Maintains the log: counts of strangers every second, snapshots when they are due. A
/// log that cannot be written trips the authority; after that, strangers who wait for
/// their count are still answered with the reason.
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

/// Sends heartbeats until the authority trips.
pub(crate) async fn heartbeat(authority: Arc<Authority>) {
    let mut ticks = tokio::time::interval(HEARTBEAT);
    loop {
        ticks.tick().await;
        match authority.signer.key() {
            Ok(key) => authority.events.send(EventKind::Heartbeat, &key, authority.origin()),
            Err(stopped) if stopped.for_good => return,
            Err(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// THREATS 42: a cold boot with an old clock.
    #[test]
    fn threat_42_a_clock_behind_the_log_is_refused() {
        assert!(check_clock(1_000, 1_000, 5).is_ok());
        assert!(check_clock(995, 1_000, 5).is_ok());
        let refused = check_clock(994, 1_000, 5).unwrap_err();
        assert_eq!(refused.check, "log.clock");
        assert!(refused.why.contains("1970-01-01T00:16:34Z"), "{}", refused.why);
        assert!(check_clock(1_000, 1_000 + 365 * 86_400, 60).is_err());
    }
}
