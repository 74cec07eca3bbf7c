//! Why a device gave nothing.

use std::fmt;
use std::io;
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
    },
    /// Somebody else wrote to the same configfs entry meanwhile.
    Generation {
        /// Generation before the read.
        before: String,
        /// Generation after the read.
        after: String,
    },
    /// A device returned something of another form than it should.
    Form(&'static str),
}

impl AttesterError {
    pub(crate) fn device(what: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |error| Self::Device { what, error }
    }

    pub(crate) fn tpm(command: &'static str) -> impl FnOnce(tss_esapi::Error) -> Self {
        move |error| Self::Tpm { command, error: error.to_string() }
    }
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
            Self::Tpm { command, error } => write!(f, "TPM refused {command}: {error}"),
            Self::Generation { before, after } => {
                write!(f, "configfs-tsm entry changed while it was read: generation {before}, then {after}")
            }
            Self::Form(what) => write!(f, "{what} has an unknown form"),
        }
    }
}

impl std::error::Error for AttesterError {}
