//! Why a device gave nothing.

use std::fmt;
use std::io::{self, ErrorKind};
use std::path::PathBuf;

/// A refusal of this machine's devices.
#[derive(Debug)]
pub enum AttesterError {
    /// No device: what was looked for, and what the system said.
    NoDevice {
        /// What is missing.
        what: &'static str,
        /// Paths that were tried.
        tried: Vec<(PathBuf, String)>,
    },
    /// A device failed.
    Device {
        /// Which.
        what: &'static str,
        /// What the system said.
        error: io::Error,
    },
    /// The TPM refused a command.
    Tpm {
        /// Command.
        command: &'static str,
        /// What the TPM said.
        error: String,
        /// Whether it may answer when it is asked again.
        passing: bool,
    },
    /// What a device, named by its path, ended with.
    At {
        /// Path of the device.
        device: String,
        /// How often it was asked.
        attempts: u32,
        /// The last error.
        error: Box<Self>,
    },
    /// Somebody else wrote to the same configfs entry meanwhile.
    Generation {
        /// Generation before the read.
        before: String,
        /// Generation after the read.
        after: String,
    },
    /// What was read in several steps changed in between, every time.
    Moving {
        /// What changed.
        what: &'static str,
        /// How often it was read.
        attempts: u32,
    },
    /// Something is larger than evidence may be.
    TooLarge {
        /// What.
        what: &'static str,
        /// Its length in bytes.
        length: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// A device returned something of another form than it should.
    Form(&'static str),
}

impl AttesterError {
    pub(crate) fn device(what: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |error| Self::Device { what, error }
    }

    pub(crate) fn tpm(command: &'static str) -> impl FnOnce(tss_esapi::Error) -> Self {
        move |error| Self::Tpm { command, error: error.to_string(), passing: passes(error) }
    }

    /// Whether the device may answer when it is asked again: it is busy, tests
    /// itself, was interrupted, or changed while it was read.
    #[must_use]
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Device { error, .. } => matches!(
                error.kind(),
                // A name that is taken is another one the next time.
                ErrorKind::ResourceBusy
                    | ErrorKind::WouldBlock
                    | ErrorKind::Interrupted
                    | ErrorKind::TimedOut
                    | ErrorKind::AlreadyExists
            ),
            Self::Tpm { passing, .. } => *passing,
            Self::At { error, .. } => error.is_passing(),
            Self::Generation { .. } | Self::Moving { .. } => true,
            Self::NoDevice { .. } | Self::TooLarge { .. } | Self::Form(_) => false,
        }
    }
}

/// Warnings after which a TPM has not run the command and takes it again (TPM 2.0
/// Part 2, §6.6.3, `RC_WARN`).
fn passes(error: tss_esapi::Error) -> bool {
    use tss_esapi::constants::response_code::Tss2ResponseCodeKind as Kind;
    let tss_esapi::Error::Tss2Error(code) = error else { return false };
    matches!(
        code.kind(),
        Some(
            Kind::Retry
                | Kind::Yielded
                | Kind::Testing
                | Kind::Canceled
                | Kind::NvRate
                | Kind::NvUnavailable
                | Kind::ObjectMemory
                | Kind::SessionMemory
                | Kind::Memory
                | Kind::SessionHandles
                | Kind::ObjectHandles
        )
    )
}

impl fmt::Display for AttesterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoDevice { what, tried } => {
                write!(f, "no {what} on this machine; looked for")?;
                for (at, (path, why)) in tried.iter().enumerate() {
                    write!(f, "{} {} ({why})", if at == 0 { "" } else { "," }, path.display())?;
                }
                Ok(())
            }
            Self::Device { what, error } => write!(f, "{what}: {error}"),
            Self::Tpm { command, error, .. } => write!(f, "TPM refused {command}: {error}"),
            Self::At { device, attempts: 1, error } => write!(f, "{device}: {error}"),
            Self::At { device, attempts, error } => write!(f, "{device}: {error} (asked {attempts} times)"),
            Self::Generation { before, after } => {
                write!(f, "configfs-tsm entry changed while it was read: generation {before}, then {after}")
            }
            Self::Moving { what, attempts } => {
                write!(f, "the {what} changed during each of {attempts} quotes; try again when the machine is quieter")
            }
            Self::TooLarge { what, length, limit } => {
                write!(f, "{what} has {length} bytes, and evidence carries at most {limit}")
            }
            Self::Form(what) => write!(f, "{what} has an unknown form"),
        }
    }
}

impl std::error::Error for AttesterError {}
