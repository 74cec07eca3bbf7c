//! TPM 2.0 quotes: structures, attestation keys, signatures, PCR values.

pub mod attest;
pub mod key;
pub mod pcr;
pub mod signature;
pub mod verify;
