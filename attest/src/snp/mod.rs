//! AMD SEV-SNP attestation reports: bytes, certificates, signatures.
//!
//! Three steps, with one or two files each: [`report`] reads the 1184 bytes and refuses
//! non-canonical ones; [`certificate`] and [`crl`] read AMD's X.509 profile; [`verify`]
//! combines them, check by check.

pub mod certificate;
mod chip;
pub mod collateral;
pub mod crl;
pub mod fields;
pub mod generation;
mod presented;
pub mod report;
pub mod roots;
pub mod table;
pub mod tcb;
pub mod verify;
