//! Errors of devices.

use std::fmt;
use std::io::{self, ErrorKind};
use std::path::PathBuf;

/// An error of this machine's devices.
#[derive(Debug)]
pub enum AttesterError {
    /// No device: the missing device, and the system's errors.
    NoDevice {
        /// The missing device.
        what: &'static str,
        /// Paths that were tried.
        tried: Vec<(PathBuf, String)>,
    },
    /// A device failed.
    Device {
        /// The device.
        what: &'static str,
        /// The system's error.
        error: io::Error,
    },
    /// The TPM refused a command.
    Tpm {
        /// Command.
        command: &'static str,
        /// The TPM's error.
        error: String,
        /// Whether a retry may succeed.
        passing: bool,
    },
    /// The final error of a device, with its path.
    At {
        /// Path of the device.
        device: String,
        /// Number of attempts.
        attempts: u32,
        /// The last error.
        error: Box<Self>,
    },
    /// Another process wrote to the same configfs entry meanwhile.
    Generation {
        /// Generation before the read.
        before: String,
        /// Generation after the read.
        after: String,
    },
    /// Readings in several steps changed in between, in every attempt.
    Moving {
        /// The readings that changed.
        what: &'static str,
        /// Number of attempts.
        attempts: u32,
    },
    /// A part is larger than evidence may be.
    TooLarge {
        /// The part.
        what: &'static str,
        /// Its length in bytes.
        length: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// A device returned data of an unexpected form.
    Form(&'static str),
}

impl AttesterError {
    pub(crate) fn device(what: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |error| Self::Device { what, error }
    }

    pub(crate) fn tpm(command: &'static str) -> impl FnOnce(tss_esapi::Error) -> Self {
        move |error| Self::Tpm { command, error: error.to_string(), passing: passes(error) }
    }

    /// Whether a retry may succeed: the device is busy, tests itself, was interrupted, or
    /// changed while it was read.
    #[must_use]
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Device { error, .. } => matches!(
                error.kind(),
                // A name that is taken differs in the next attempt.
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

/// Warnings that mean that the TPM has not run the command and accepts it again (TPM
/// 2.0 Part 2, §6.6.3, `RC_WARN`).
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
