//! Collects evidence from the devices of a real machine, and seals secrets to it.
//!
//! ```text
//! SNP  configfs-tsm, else /dev/sev-guest      report, certificate table, derived key
//! TPM  /dev/tpmrm0                            quote, PCRs, activation, seal and unseal
//! log  /sys/kernel/security/tpm0/…            event log of the firmware
//! ```
//!
//! A machine without a device is refused with the list of what was looked for.
//!
//! ```
//! use portcullis_attester::{OpenMachine, RealPlatform};
//!
//! match RealPlatform.open() {
//!     Ok(machine) => println!("evidence class {}", machine.class()),
//!     Err(error) => println!("{error}"), // names every path that was tried
//! }
//! ```
//!
//! What it does not do: judge. It returns bytes.

mod error;
mod machine;
mod snp;
mod tpm;

pub use error::AttesterError;
pub use machine::{ActivateDevice, Machine, OpenMachine, QuoteDevice, RealPlatform, SealDevice, SnpDevice};
pub use snp::{ConfigfsTsm, DerivedKeyRequest, SevGuest};
pub use tpm::{SealedBlob, Tpm, TpmHandle};
