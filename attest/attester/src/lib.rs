//! Collects evidence from the devices of a real machine, and seals secrets to it.
//!
//! ```text
//! SNP  configfs-tsm, else /dev/sev-guest      report, certificate table, derived key
//! TPM  /dev/tpmrm0                            quote, PCRs, activation, seal and unseal
//! SVSM configfs-tsm, service provider svsm    report over the vTPM's manifest
//! Azure NV indices of the vTPM                HCL report, user data
//! log  /sys/kernel/security/tpm0/…            event log of the firmware
//!      /run/log/systemd/tpm2-measure.log      later measurements of user space
//!      /sys/kernel/security/ima/…             files that Linux measured
//! ```
//!
//! A busy device is retried, and a machine that measures while it is read is read
//! again, both for about two seconds.
//!
//! If a device is missing, the error lists every path that was tried.
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
//! It does not judge evidence; it returns bytes.

mod error;
mod machine;
mod passing;
mod snp;
mod tpm;

pub use error::AttesterError;
pub use machine::{
    ANCHOR_LENGTH, ActivateDevice, Anchor, AnchorDevice, AzureDevice, Machine, OpenMachine, QuoteDevice, RealPlatform,
    SealDevice, ServiceDevice, SnpDevice,
};
pub use snp::{ConfigfsTsm, DerivedKeyRequest, SevGuest};
pub use tpm::{AzureTpm, Logs, SealedBlob, Tpm, TpmHandle};
