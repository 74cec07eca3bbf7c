//! A child that is pid 1 of its own namespaces, and execution by descriptor.

use std::ffi::{CStr, CString};
use std::fs;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

/// A child in a fresh PID and mount namespace.
#[derive(Debug)]
pub struct Child {
    /// Its pid as seen from here.
    pub pid: i32,
    /// Its descriptor: signals through it never hit another process.
    pub pidfd: OwnedFd,
}

/// Starts a child that is pid 1 of a new PID namespace, in a new mount
/// namespace, and runs `main` in it. When the child ends, the kernel kills
/// everything in the namespace. When this process ends, the child is killed.
/// Of this process's descriptors the child has 0, 1, 2 and those in `keep`.
///
/// # Errors
/// Refused unless this process has exactly one thread: only then may the child
/// run ordinary code. Otherwise errors of `clone3`, such as a missing
/// `CAP_SYS_ADMIN`.
pub fn spawn_init(keep: &[BorrowedFd<'_>], main: impl FnOnce() -> i32) -> io::Result<Child> {
    if fs::read_dir("/proc/self/task")?.count() != 1 {
        return Err(io::Error::other("a child may be made only before threads are"));
    }
    let parent = rustix::process::getpid();
    let mut pidfd: RawFd = -1;
    // SAFETY: clone_args is a plain structure of integers, all zero is valid.
    let mut arguments: libc::clone_args = unsafe { std::mem::zeroed() };
    arguments.flags = (libc::CLONE_NEWPID | libc::CLONE_NEWNS | libc::CLONE_PIDFD) as u64;
    arguments.pidfd = std::ptr::from_mut(&mut pidfd) as u64;
    arguments.exit_signal = libc::SIGCHLD as u64;
    let (pointer, size) = (std::ptr::from_mut(&mut arguments), size_of::<libc::clone_args>());
    // SAFETY: the arguments are valid for the call and share no memory with the
    // child (no CLONE_VM), so this is a fork of a process with one thread.
    let pid = unsafe { libc::syscall(libc::SYS_clone3, pointer, size) };
    match pid {
        -1 => Err(io::Error::last_os_error()),
        0 => {
            let code = if die_with(parent) && close_all_but(keep) { main() } else { 125 };
            // SAFETY: ends the child at once, without the parent's exit handlers.
            unsafe { libc::_exit(code) }
        }
        pid => {
            // SAFETY: clone3 returned a new descriptor that nobody else owns.
            let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
            Ok(Child { pid: i32::try_from(pid).unwrap_or(-1), pidfd })
        }
    }
}

/// Closes every descriptor from 3 on but these: the gate's end of a socket that
/// stayed open here would hide the gate's death.
fn close_all_but(keep: &[BorrowedFd<'_>]) -> bool {
    let mut kept: Vec<u32> = keep.iter().filter_map(|fd| u32::try_from(fd.as_raw_fd()).ok()).collect();
    kept.sort_unstable();
    let mut from = 3_u32;
    let mut closed = true;
    for fd in kept.into_iter().filter(|fd| *fd >= 3).chain([u32::MAX]) {
        if let Some(to) = fd.checked_sub(1).filter(|to| *to >= from) {
            // SAFETY: closes descriptors that nothing in this child uses: it
            // never returns to the frames that own them.
            closed &= unsafe { libc::syscall(libc::SYS_close_range, from, to, 0) } == 0;
        }
        from = fd.saturating_add(1);
    }
    closed
}

/// Asks the kernel to kill this process when its parent ends, and checks that
/// the parent has not ended before.
fn die_with(parent: rustix::process::Pid) -> bool {
    let asked = rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL)).is_ok();
    // In a new PID namespace the parent's pid reads as none; if it had died,
    // the reaper would not be in this namespace either, so ask /proc, which
    // still shows the outer namespace.
    let alive = fs::metadata(format!("/proc/{}", parent.as_raw_nonzero())).is_ok();
    asked && alive
}

/// A program to be executed by descriptor.
#[derive(Debug)]
pub struct Program<'a> {
    /// The executable: a sealed memory file.
    pub executable: BorrowedFd<'a>,
    /// Arguments, the program's name first.
    pub arguments: Vec<CString>,
    /// Environment, `NAME=value`.
    pub environment: Vec<CString>,
    /// User to run as.
    pub uid: u32,
    /// Group to run as; supplementary groups are dropped.
    pub gid: u32,
}

/// Forks and executes a program: descriptor, arguments and environment are
/// exactly those given, all other descriptors but 0, 1 and 2 are closed, no
/// privileges can be gained. Returns the pid.
///
/// # Errors
/// Errors of `fork`. A child that cannot execute ends with 126.
pub fn execute(program: &Program<'_>) -> io::Result<i32> {
    // Everything that allocates happens before the fork.
    let arguments = pointers(&program.arguments);
    let environment = pointers(&program.environment);
    let executable = program.executable.as_raw_fd();
    // SAFETY: the child calls nothing but async-signal-safe functions.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => {
            let _failed = become_program(executable, &arguments, &environment, program.uid, program.gid);
            // SAFETY: ends the child at once.
            unsafe { libc::_exit(126) }
        }
        pid => Ok(pid),
    }
}

/// A null-terminated array of pointers, valid as long as the strings are.
fn pointers(strings: &[CString]) -> Vec<*const libc::c_char> {
    strings.iter().map(|s| s.as_ptr()).chain([std::ptr::null()]).collect()
}

/// Gives up every privilege, then becomes the program. Returns only on failure.
fn become_program(
    executable: RawFd,
    arguments: &[*const libc::c_char],
    environment: &[*const libc::c_char],
    uid: u32,
    gid: u32,
) -> Option<()> {
    const EMPTY: &CStr = c"";
    let done = |result: i64| (result == 0).then_some(());
    // SAFETY: plain system call on integers.
    done(unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL, 0, 0, 0) }.into())?;
    // SAFETY: a null list of length zero drops all supplementary groups.
    done(unsafe { libc::setgroups(0, std::ptr::null()) }.into())?;
    // SAFETY: plain system call on integers.
    done(unsafe { libc::setresgid(gid, gid, gid) }.into())?;
    // SAFETY: plain system call on integers.
    done(unsafe { libc::setresuid(uid, uid, uid) }.into())?;
    // SAFETY: plain system call on integers.
    done(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) }.into())?;
    // Descriptors from 3 on close at execution, the executable's own included.
    // SAFETY: plain system call on integers.
    done(unsafe { libc::syscall(libc::SYS_close_range, 3_u32, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) })?;
    let (argv, envp) = (arguments.as_ptr(), environment.as_ptr());
    // SAFETY: both arrays are null-terminated and point to C strings that live
    // in the parent's copied memory; the path is empty, so the descriptor counts.
    let result =
        unsafe { libc::syscall(libc::SYS_execveat, executable, EMPTY.as_ptr(), argv, envp, libc::AT_EMPTY_PATH) };
    done(result)
}
