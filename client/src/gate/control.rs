//! Messages between the gate and the init of the program's namespace. Each is a
//! datagram of nine bytes: a tag and a number.

use std::fmt;
use std::io;

use portcullis_sys::process::Step;

/// From the gate to init.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// Run the program until this time (`CLOCK_BOOTTIME`, nanoseconds).
    Start(u64),
    /// The permit was renewed: run until this time instead.
    Extend(u64),
    /// The gate received this signal.
    Signal(u64),
}

/// From init to the gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// The kernel has executed the program.
    Started,
    /// The program ended with this code.
    Exited(u64),
    /// The program was ended by this signal.
    Signalled(u64),
    /// The deadline passed; everything in the namespace is dead.
    Expired,
    /// Init could not complete a task.
    Failed(Failure<Task>),
    /// The program was never executed.
    NotExecuted(Failure<Step>),
    /// Init has ended, and every process with it. Init does not send this event.
    Lost,
}

/// The failed operation, and the kernel's error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Failure<T> {
    pub(super) what: T,
    pub(super) errno: i32,
}

impl<T> Failure<T> {
    pub(super) fn of(what: T, error: &io::Error) -> Self {
        Self { what, errno: error.raw_os_error().unwrap_or(0) }
    }

    pub(super) fn reason(&self) -> io::Error {
        io::Error::from_raw_os_error(self.errno)
    }
}

/// The tasks of init.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Task {
    Orders = 1,
    Signals,
    Proc,
    Devices,
    Deadline,
    Children,
}

impl Task {
    const ALL: [Self; 6] = [Self::Orders, Self::Signals, Self::Proc, Self::Devices, Self::Deadline, Self::Children];
}

impl fmt::Display for Task {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Orders => "reading orders of the gate",
            Self::Signals => "reading signals",
            Self::Proc => "mounting /proc",
            Self::Devices => "hiding the devices that make evidence",
            Self::Deadline => "setting the deadline",
            Self::Children => "watching the program",
        })
    }
}

pub(super) type Message = [u8; 9];

fn message(tag: u8, number: u64) -> Message {
    let [a, b, c, d, e, f, g, h] = number.to_le_bytes();
    [tag, a, b, c, d, e, f, g, h]
}

fn parts(bytes: &[u8]) -> Option<(u8, u64)> {
    let [tag, number @ ..] = <&Message>::try_from(bytes).ok()?;
    Some((*tag, u64::from_le_bytes(*number)))
}

/// A failure as a number: the operation in the upper half, errno in the lower half.
fn pack(what: u8, errno: i32) -> u64 {
    u64::from(what) << 32 | u64::from(errno.unsigned_abs())
}

fn unpack<T>(number: u64, what: impl Fn(u8) -> Option<T>) -> Option<Failure<T>> {
    let errno = i32::try_from(number & u64::from(u32::MAX)).ok()?;
    Some(Failure { what: what(u8::try_from(number >> 32).ok()?)?, errno })
}

impl Order {
    pub(super) fn encode(self) -> Message {
        match self {
            Self::Start(deadline) => message(1, deadline),
            Self::Extend(deadline) => message(2, deadline),
            Self::Signal(number) => message(3, number),
        }
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        match parts(bytes)? {
            (1, deadline) => Some(Self::Start(deadline)),
            (2, deadline) => Some(Self::Extend(deadline)),
            (3, number) => Some(Self::Signal(number)),
            _ => None,
        }
    }
}

impl Event {
    pub(super) fn encode(self) -> Message {
        match self {
            Self::Started => message(1, 0),
            Self::Exited(code) => message(2, code),
            Self::Signalled(signal) => message(3, signal),
            Self::Expired => message(4, 0),
            Self::Failed(Failure { what, errno }) => message(5, pack(what as u8, errno)),
            Self::NotExecuted(Failure { what, errno }) => message(6, pack(what as u8, errno)),
            Self::Lost => message(7, 0),
        }
    }

    /// Bytes that are no event mean that init has ended.
    pub(super) fn decode(bytes: &[u8]) -> Self {
        let task = |number| Task::ALL.into_iter().find(|task| *task as u8 == number);
        let event = parts(bytes).and_then(|parts| match parts {
            (1, _) => Some(Self::Started),
            (2, code) => Some(Self::Exited(code)),
            (3, signal) => Some(Self::Signalled(signal)),
            (4, _) => Some(Self::Expired),
            (5, number) => unpack(number, task).map(Self::Failed),
            (6, number) => unpack(number, Step::from_number).map(Self::NotExecuted),
            _ => None,
        });
        event.unwrap_or(Self::Lost)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_come_back_as_they_were_sent() {
        let events = [
            Event::Started,
            Event::Exited(7),
            Event::Signalled(15),
            Event::Expired,
            Event::Failed(Failure { what: Task::Proc, errno: 1 }),
            Event::NotExecuted(Failure { what: Step::Execution, errno: 13 }),
            Event::Lost,
        ];
        assert_eq!(events.map(|event| Event::decode(&event.encode())), events);
        assert_eq!(Event::decode(&[]), Event::Lost, "the other end is closed");
    }
}
