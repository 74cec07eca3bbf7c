//! Retries a device that is busy, tests itself or was interrupted, for a bounded time.
//! Every returned error names the device.

use std::thread;
use std::time::Duration;

use crate::error::AttesterError;

/// Number of attempts, and the doubling pauses between them: about two seconds in
/// total. The kernel itself waits for a secure processor that a host throttles.
const ATTEMPTS: u32 = 8;
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// Runs until success, or until an error for which a retry is useless.
///
/// # Errors
/// [`AttesterError::At`] with the last error.
pub(crate) fn patiently<T>(
    device: &str,
    mut run: impl FnMut() -> Result<T, AttesterError>,
) -> Result<T, AttesterError> {
    let mut pause = FIRST_PAUSE;
    let mut attempts = 1;
    loop {
        match run() {
            Err(error) if error.is_passing() && attempts < ATTEMPTS => {
                tracing::debug!(device, %error, attempts, "asked again");
                thread::sleep(pause);
                pause = pause.saturating_mul(2).min(LONGEST_PAUSE);
                attempts = attempts.saturating_add(1);
            }
            outcome => {
                return outcome.map_err(|error| AttesterError::At {
                    device: device.to_owned(),
                    attempts,
                    error: Box::new(error),
                });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    fn device(kind: io::ErrorKind) -> AttesterError {
        AttesterError::Device { what: "report", error: kind.into() }
    }

    #[test]
    fn what_passes_is_tried_again_and_what_does_not_is_not() {
        let run = |errors: u32, kind: io::ErrorKind| {
            let mut asked = 0;
            let outcome = patiently("/dev/it", || {
                asked += 1;
                if asked > errors { Ok(asked) } else { Err(device(kind)) }
            });
            (outcome.map_err(|error| error.to_string()), asked)
        };
        for kind in [
            io::ErrorKind::ResourceBusy,
            io::ErrorKind::WouldBlock,
            io::ErrorKind::Interrupted,
            io::ErrorKind::TimedOut,
        ] {
            assert_eq!(run(2, kind), (Ok(3), 3), "{kind}");
        }
        assert_eq!(run(1, io::ErrorKind::PermissionDenied), (Err("/dev/it: report: permission denied".into()), 1));
        let (busy, asked) = run(u32::MAX, io::ErrorKind::ResourceBusy);
        assert_eq!(busy, Err("/dev/it: report: resource busy (asked 8 times)".into()));
        assert_eq!(asked, ATTEMPTS);
    }
}
