//! Messages between the gate and the init of the program's namespace, one a
//! datagram of nine bytes: a tag and a number.

/// From the gate to init.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// Run the program until this time (`CLOCK_BOOTTIME`, nanoseconds).
    Start(u64),
    /// The permit was renewed: run until this time instead.
    Extend(u64),
    /// Pass a signal on to the program.
    Signal(u64),
}

/// From init to the gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// The program runs.
    Started,
    /// The program ended with this code.
    Exited(u64),
    /// The program was ended by this signal.
    Signalled(u64),
    /// The deadline passed; everything in the namespace is dead.
    Expired,
    /// Init could not do its work; the number is an errno.
    Failed(u64),
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
            Self::Failed(errno) => message(5, errno),
        }
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        match parts(bytes)? {
            (1, _) => Some(Self::Started),
            (2, code) => Some(Self::Exited(code)),
            (3, signal) => Some(Self::Signalled(signal)),
            (4, _) => Some(Self::Expired),
            (5, errno) => Some(Self::Failed(errno)),
            _ => None,
        }
    }
}
