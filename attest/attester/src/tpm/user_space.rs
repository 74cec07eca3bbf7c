//! The log of user space's measurements (`tpm2-measure.log` of systemd 254 and later).
//!
//! systemd holds an exclusive lock on the file from before it extends a PCR until the
//! record is written. So a shared lock never sees a partial record, or a PCR without
//! its record.

use std::fs::{File, TryLockError};
use std::io::{ErrorKind, Read};
use std::path::Path;
use std::thread;
use std::time::Duration;

use portcullis_attest::eventlog::MAX_LENGTH;

use crate::error::AttesterError;

const WHAT: &str = "log of what user space measured, tpm2-measure.log";
/// Pause while a writer holds the lock: an extension takes a TPM some tens of
/// milliseconds.
const PAUSE: Duration = Duration::from_millis(20);
const PAUSES: u32 = 100;

/// Reads the log; `None` if there is none.
///
/// # Errors
/// The log cannot be read, is locked for two seconds, or is too long.
pub(super) fn read(path: &Path) -> Result<Option<Vec<u8>>, AttesterError> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(AttesterError::device(WHAT)(error)),
    };
    lock(&file)?;
    let mut text = Vec::new();
    let longest = MAX_LENGTH as u64;
    (&file).take(longest.saturating_add(1)).read_to_end(&mut text).map_err(AttesterError::device(WHAT))?;
    if text.len() > MAX_LENGTH {
        let length = file.metadata().map_or(text.len(), |data| usize::try_from(data.len()).unwrap_or(usize::MAX));
        return Err(AttesterError::TooLarge { what: WHAT, length, limit: MAX_LENGTH });
    }
    Ok(Some(text))
}

/// Closing the file releases the lock.
fn lock(file: &File) -> Result<(), AttesterError> {
    for _ in 0..PAUSES {
        match file.try_lock_shared() {
            Ok(()) => return Ok(()),
            Err(TryLockError::WouldBlock) => thread::sleep(PAUSE),
            // The file system has no locks: consistent readings are the only protection.
            Err(TryLockError::Error(error)) if error.kind() == ErrorKind::Unsupported => return Ok(()),
            Err(TryLockError::Error(error)) => return Err(AttesterError::device(WHAT)(error)),
        }
    }
    Err(AttesterError::device(WHAT)(ErrorKind::ResourceBusy.into()))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::time::Instant;

    use super::*;

    #[test]
    fn a_log_is_read_when_its_writer_is_done() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tpm2-measure.log");
        assert!(read(&path).unwrap().is_none());
        fs::write(&path, "begun").unwrap();
        let writer = File::options().append(true).open(&path).unwrap();
        writer.lock().unwrap();
        let began = Instant::now();
        let text = thread::scope(|scope| {
            scope.spawn(|| {
                thread::sleep(Duration::from_millis(100));
                fs::write(&path, "begun and ended").unwrap();
                writer.unlock().unwrap();
            });
            read(&path).unwrap().unwrap()
        });
        assert_eq!(text, b"begun and ended");
        assert!(began.elapsed() >= Duration::from_millis(100));
    }

    #[test]
    fn a_log_that_is_locked_for_ever_or_too_long_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tpm2-measure.log");
        fs::write(&path, vec![b' '; MAX_LENGTH + 1]).unwrap();
        let error = read(&path).unwrap_err().to_string();
        assert_eq!(error, format!("{WHAT} has 1048577 bytes, and evidence carries at most 1048576"));
        let writer = File::open(&path).unwrap();
        writer.lock().unwrap();
        assert!(read(&path).unwrap_err().to_string().contains("busy"));
    }
}
