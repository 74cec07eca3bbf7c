//! Secrets that stay in memory.

use std::fmt;
use std::io;

use rustix::mm::{MlockAllFlags, mlockall};
use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};
use zeroize::Zeroize;

/// Forbids core dumps and tracing by other processes of the same user.
///
/// # Errors
/// I/O errors; a process with secrets must then not continue.
pub fn forbid_dumps() -> io::Result<()> {
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?;
    set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    Ok(())
}

/// Keeps every page of this process out of swap, including future pages, as they are
/// touched: the heap of the cryptographic library holds keys too.
///
/// # Errors
/// I/O errors, such as a `RLIMIT_MEMLOCK` that is too low for a process without
/// `CAP_IPC_LOCK`; a process with secrets must then not continue.
pub fn lock_all_memory() -> io::Result<()> {
    mlockall(MlockAllFlags::CURRENT | MlockAllFlags::FUTURE | MlockAllFlags::ONFAULT).map_err(|error| {
        io::Error::new(error.kind(), format!("memory cannot be locked ({error}): raise RLIMIT_MEMLOCK"))
    })
}

/// Makes the C library overwrite memory that it frees. The TPM software stack returns
/// unsealed secrets in memory that it frees without clearing; our own allocator and
/// keys do not depend on it. Without glibc there is no such setting, and the function
/// returns an error: a process with secrets must then not continue.
///
/// # Errors
/// [`io::ErrorKind::Unsupported`].
pub fn wipe_freed_c_memory() -> io::Result<()> {
    #[cfg(target_env = "gnu")]
    {
        // SAFETY: sets a number in the allocator's state; called before threads
        // that allocate in C exist, and harmless if not.
        if unsafe { libc::mallopt(libc::M_PERTURB, 0x5a) } == 1 {
            return Ok(());
        }
    }
    Err(io::Error::new(io::ErrorKind::Unsupported, "the C library cannot overwrite freed memory"))
}

/// Bytes that are locked in memory, kept out of core dumps, and overwritten
/// when they are dropped.
pub struct Secret {
    /// Never grows, because that would leave a copy behind.
    bytes: Vec<u8>,
}

impl Secret {
    /// Takes ownership of bytes and locks them.
    ///
    /// # Errors
    /// I/O errors, such as an exhausted `RLIMIT_MEMLOCK`.
    pub fn new(bytes: Vec<u8>) -> io::Result<Self> {
        let mut secret = Self { bytes };
        let (start, length) = (secret.bytes.as_mut_ptr().cast(), secret.bytes.len());
        if length > 0 {
            // SAFETY: start and length are those of a live allocation; locking
            // its pages changes no memory.
            unsafe { rustix::mm::mlock(start, length) }?;
        }
        Ok(secret)
    }

    /// The bytes. Do not copy them.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Secret {
    fn drop(&mut self) {
        self.bytes.as_mut_slice().zeroize();
        let (start, length) = (self.bytes.as_mut_ptr().cast(), self.bytes.len());
        if length > 0 {
            // SAFETY: start and length are those of a live allocation. Unlocking
            // fails only for memory that was never locked, where nothing is lost.
            let _unlocked = unsafe { rustix::mm::munlock(start, length) };
        }
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}
