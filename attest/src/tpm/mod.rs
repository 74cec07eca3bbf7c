//! TPM 2.0 quotes: structures, keys, signatures, PCR values, credential activation.

mod area;
pub mod attest;
pub mod certificate;
pub mod credential;
pub mod key;
pub mod pcr;
pub mod signature;
pub mod verify;
