//! Signals as data: blocked, read from a descriptor, and sent by number. Unlike
//! handlers, this keeps every real-time signal, and supports every number.

use std::io;
use std::mem::MaybeUninit;
use std::ops::RangeInclusive;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

/// A set of signals, by their numbers.
#[derive(Clone, Copy)]
pub struct Set(libc::sigset_t);

/// A signal that was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Received {
    /// Its number.
    pub number: i32,
    /// Whether the kernel sent it, for example for a key of the terminal or a limit, and
    /// not `kill`.
    pub by_kernel: bool,
}

/// The real-time signals that the C library leaves to programs.
#[must_use]
pub fn real_time() -> RangeInclusive<i32> {
    libc::SIGRTMIN()..=libc::SIGRTMAX()
}

impl Set {
    /// A set of these signals.
    ///
    /// # Errors
    /// A number that is not a signal, or a signal that the C library reserves.
    pub fn of(numbers: impl IntoIterator<Item = i32>) -> io::Result<Self> {
        let mut set = MaybeUninit::uninit();
        // SAFETY: sigemptyset initialises the set that the pointer is for.
        succeeded(unsafe { libc::sigemptyset(set.as_mut_ptr()) })?;
        // SAFETY: it was initialised above.
        let mut set = unsafe { set.assume_init() };
        for number in numbers {
            // SAFETY: changes an initialised set; wrong numbers are refused.
            succeeded(unsafe { libc::sigaddset(&raw mut set, number) })?;
        }
        Ok(Self(set))
    }

    /// Blocks these signals in this thread and in the threads that it starts. Returns the
    /// previously blocked set.
    ///
    /// # Errors
    /// I/O errors.
    pub fn block(&self) -> io::Result<Self> {
        self.mask(libc::SIG_BLOCK)
    }

    /// Blocks exactly these signals.
    pub(crate) fn restore(&self) -> io::Result<()> {
        self.mask(libc::SIG_SETMASK).map(|_| ())
    }

    fn mask(&self, how: i32) -> io::Result<Self> {
        let mut former = MaybeUninit::uninit();
        // SAFETY: reads an initialised set, and writes the former one.
        match unsafe { libc::pthread_sigmask(how, &raw const self.0, former.as_mut_ptr()) } {
            // SAFETY: the call succeeded, so the former set was written.
            0 => Ok(Self(unsafe { former.assume_init() })),
            errno => Err(io::Error::from_raw_os_error(errno)),
        }
    }

    /// A descriptor from which these signals are read once they are blocked. Reads do not
    /// block: [`next`].
    ///
    /// # Errors
    /// I/O errors.
    pub fn descriptor(&self) -> io::Result<OwnedFd> {
        // SAFETY: reads an initialised set.
        let fd = unsafe { libc::signalfd(-1, &raw const self.0, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) };
        succeeded(fd)?;
        // SAFETY: signalfd returned a new descriptor that nobody else owns.
        Ok(unsafe { OwnedFd::from_raw_fd(fd) })
    }
}

/// The next signal of a descriptor; [`io::ErrorKind::WouldBlock`] if there is none.
///
/// # Errors
/// I/O errors.
pub fn next(descriptor: impl AsFd) -> io::Result<Received> {
    let mut info = MaybeUninit::<libc::signalfd_siginfo>::zeroed();
    let (fd, size) = (descriptor.as_fd().as_raw_fd(), size_of::<libc::signalfd_siginfo>());
    // SAFETY: the buffer is as long as is said, and lives until the call returns.
    let read = unsafe { libc::read(fd, info.as_mut_ptr().cast(), size) };
    if usize::try_from(read).is_ok_and(|read| read == size) {
        // SAFETY: it was zeroed, which is valid, and the kernel filled it.
        let info = unsafe { info.assume_init() };
        let number = i32::try_from(info.ssi_signo).unwrap_or(0);
        return Ok(Received { number, by_kernel: info.ssi_code == libc::SI_KERNEL });
    }
    if read == -1 { Err(io::Error::last_os_error()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

/// Sends a signal to a process.
///
/// # Errors
/// The process or signal does not exist.
pub fn send(pid: i32, number: i32) -> io::Result<()> {
    // SAFETY: plain system call on integers.
    succeeded(unsafe { libc::kill(pid, number) })
}

/// Applies the default action of a signal to this process: for a signal that stops a
/// process, until it is continued. The signal must be blocked, and is blocked again
/// afterwards.
///
/// # Errors
/// I/O errors.
pub fn take_default_action(number: i32) -> io::Result<()> {
    // SAFETY: sends a signal to this thread, where it is still blocked.
    succeeded(unsafe { libc::raise(number) })?;
    Set::of([number])?.mask(libc::SIG_UNBLOCK)?.restore()
}

fn succeeded(result: i32) -> io::Result<()> {
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_are_read_one_by_one() {
        let (usr1, real_time) = (libc::SIGUSR1, *real_time().start());
        let set = Set::of([usr1, real_time]).unwrap();
        let former = set.block().unwrap();
        let descriptor = set.descriptor().unwrap();
        let raise = |number| {
            // SAFETY: sends a signal that this thread has blocked.
            assert_eq!(unsafe { libc::raise(number) }, 0);
        };
        [real_time, real_time, usr1].into_iter().for_each(raise);
        let read: Vec<i32> = std::iter::from_fn(|| next(&descriptor).ok()).map(|received| received.number).collect();
        assert_eq!(read, [usr1, real_time, real_time], "real-time signals are queued");
        assert_eq!(next(&descriptor).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        former.restore().unwrap();
        assert!(Set::of([1000]).is_err());
    }
}
