//! A child that is pid 1 of its own namespaces, and execution by descriptor.

use std::ffi::{CStr, CString};
use std::fs;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use rustix::io::retry_on_intr;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, WaitOptions, waitpid};

use crate::signals::Set;

/// A child in a fresh PID and mount namespace.
#[derive(Debug)]
pub struct Child {
    /// Its pid in this namespace.
    pub pid: i32,
    /// Its pid descriptor: signals through it never reach another process.
    pub pidfd: OwnedFd,
}

/// Starts a child that is pid 1 of a new PID namespace, in a new mount namespace, and
/// runs `main` in it. When the child ends, the kernel kills every process in the
/// namespace. When this process ends, the child is killed. The child inherits only the
/// descriptors 0, 1, 2 and those in `keep`.
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

/// Closes all descriptors from 3 on except these: if the gate's end of a socket stayed
/// open here, the child would not notice the gate's death.
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
    /// Signals that the program starts with blocked.
    pub blocked: Set,
}

/// The steps of a child before it executes the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Step {
    /// Created by `fork`, with a pipe that reports the outcome.
    Fork = 1,
    /// Dies with its parent.
    ParentDeath,
    /// Drops supplementary groups.
    Groups,
    /// Sets its group.
    Group,
    /// Sets its user.
    User,
    /// Disables gaining privileges.
    NoNewPrivileges,
    /// Closes all descriptors except 0, 1 and 2.
    Descriptors,
    /// Restores the caller's signal mask, and the default action of `SIGPIPE`.
    Signals,
    /// Executes the program.
    Execution,
}

impl Step {
    const ALL: [Self; 9] = [
        Self::Fork,
        Self::ParentDeath,
        Self::Groups,
        Self::Group,
        Self::User,
        Self::NoNewPrivileges,
        Self::Descriptors,
        Self::Signals,
        Self::Execution,
    ];

    /// The step with a number.
    #[must_use]
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|step| *step as u8 == number)
    }

    /// The system call that failed.
    #[must_use]
    pub const fn call(self) -> &'static str {
        match self {
            Self::Fork => "fork",
            Self::ParentDeath => "prctl(PR_SET_PDEATHSIG)",
            Self::Groups => "setgroups",
            Self::Group => "setresgid",
            Self::User => "setresuid",
            Self::NoNewPrivileges => "prctl(PR_SET_NO_NEW_PRIVS)",
            Self::Descriptors => "close_range",
            Self::Signals => "sigprocmask",
            Self::Execution => "execveat",
        }
    }
}

/// The program was not executed.
#[derive(Debug)]
pub struct NotExecuted {
    /// The step that failed.
    pub step: Step,
    /// The kernel's error.
    pub error: io::Error,
}

impl NotExecuted {
    fn fork(error: impl Into<io::Error>) -> Self {
        Self { step: Step::Fork, error: error.into() }
    }
}

/// Forks and executes a program. Descriptor, arguments and environment are exactly
/// those given, all descriptors except 0, 1 and 2 are closed, and no privileges can be
/// gained. Returns the pid once the program is executed.
///
/// # Errors
/// [`NotExecuted`]; no child remains.
pub fn execute(program: &Program<'_>) -> Result<i32, NotExecuted> {
    // Everything that allocates happens before the fork.
    let arguments = pointers(&program.arguments);
    let environment = pointers(&program.environment);
    // The kernel closes the child's end when it executes the program.
    let (outcome, childs) = pipe_with(PipeFlags::CLOEXEC).map_err(NotExecuted::fork)?;
    // SAFETY: the child calls nothing but async-signal-safe functions.
    match unsafe { libc::fork() } {
        -1 => Err(NotExecuted::fork(io::Error::last_os_error())),
        0 => {
            let step = become_program(program, &arguments, &environment);
            let errno = io::Error::last_os_error().raw_os_error().unwrap_or(0);
            let [a, b, c, d] = errno.to_le_bytes();
            // On an error here, the parent learns only the exit code.
            let _told = rustix::io::write(&childs, &[step as u8, a, b, c, d]);
            // SAFETY: ends the child at once.
            unsafe { libc::_exit(126) }
        }
        pid => {
            drop(childs);
            let mut told = [0; 5];
            let length = retry_on_intr(|| rustix::io::read(&outcome, &mut told)).map_err(NotExecuted::fork)?;
            let ([step, errno @ ..], 5) = (told, length) else { return Ok(pid) };
            let child = Pid::from_raw(pid);
            // The child has ended, or is about to.
            let _reaped = retry_on_intr(|| waitpid(child, WaitOptions::empty()));
            let step = Step::from_number(step).unwrap_or(Step::Execution);
            Err(NotExecuted { step, error: io::Error::from_raw_os_error(i32::from_le_bytes(errno)) })
        }
    }
}

/// A null-terminated array of pointers, valid as long as the strings are.
fn pointers(strings: &[CString]) -> Vec<*const libc::c_char> {
    strings.iter().map(|s| s.as_ptr()).chain([std::ptr::null()]).collect()
}

/// Drops every privilege, then executes the program. Returns only on failure, with the
/// step that failed; `errno` has the reason.
fn become_program(
    program: &Program<'_>,
    arguments: &[*const libc::c_char],
    environment: &[*const libc::c_char],
) -> Step {
    const EMPTY: &CStr = c"";
    let (uid, gid) = (program.uid, program.gid);
    // SAFETY: plain system call on integers.
    if unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL, 0, 0, 0) } != 0 {
        return Step::ParentDeath;
    }
    // SAFETY: a null list of length zero drops all supplementary groups.
    if unsafe { libc::setgroups(0, std::ptr::null()) } != 0 {
        return Step::Groups;
    }
    // SAFETY: plain system call on integers.
    if unsafe { libc::setresgid(gid, gid, gid) } != 0 {
        return Step::Group;
    }
    // SAFETY: plain system call on integers.
    if unsafe { libc::setresuid(uid, uid, uid) } != 0 {
        return Step::User;
    }
    // SAFETY: plain system call on integers.
    if unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) } != 0 {
        return Step::NoNewPrivileges;
    }
    // Descriptors from 3 on close at execution, the executable's own included.
    // SAFETY: plain system call on integers.
    if unsafe { libc::syscall(libc::SYS_close_range, 3_u32, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) } != 0 {
        return Step::Descriptors;
    }
    // Rust programs ignore SIGPIPE, and an ignored signal stays ignored after execution.
    // SAFETY: sets a default action; async-signal-safe.
    if unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) } == libc::SIG_ERR || program.blocked.restore().is_err() {
        return Step::Signals;
    }
    let (argv, envp, executable) = (arguments.as_ptr(), environment.as_ptr(), program.executable.as_raw_fd());
    // SAFETY: both arrays are null-terminated and point to C strings that live
    // in the parent's copied memory; the path is empty, so the descriptor counts.
    unsafe { libc::syscall(libc::SYS_execveat, executable, EMPTY.as_ptr(), argv, envp, libc::AT_EMPTY_PATH) };
    Step::Execution
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::os::fd::AsFd;

    fn start(executable: &File) -> Result<i32, NotExecuted> {
        let (uid, gid) = (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw());
        let (arguments, environment, blocked) = (vec![c"name".to_owned()], Vec::new(), Set::of([]).unwrap());
        execute(&Program { executable: executable.as_fd(), arguments, environment, uid, gid, blocked })
    }

    #[test]
    fn what_the_kernel_does_not_execute_is_an_error_with_its_reason() {
        if !rustix::process::geteuid().is_root() {
            eprintln!("SKIPPED: dropping groups needs root");
            return;
        }
        let file = rustix::fs::memfd_create("test", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
        rustix::io::write(&file, b"no program").unwrap();
        let refused = start(&File::from(file)).unwrap_err();
        assert_eq!((refused.step, refused.error.raw_os_error()), (Step::Execution, Some(libc::ENOEXEC)));
        let pid = start(&File::open("/bin/true").unwrap()).unwrap();
        let (_, status) = waitpid(Pid::from_raw(pid), WaitOptions::empty()).unwrap().unwrap();
        assert_eq!(status.exit_status(), Some(0));
    }
}
