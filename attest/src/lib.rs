//! Attestation evidence of AMD SEV-SNP and TPM 2.0: parsing and verification.
//!
//! No device, clock, network or file is used; time is an argument.
//!
//! ```text
//! &[u8] --Evidence::parse--> Evidence --verified::verify--> VerifiedEvidence
//! ```
//!
//! Every requirement is a [`check::Check`] with a stable id, the found and the required
//! value; a `Verified…` value exists only if all of them passed.
//!
//! ```
//! use portcullis_attest::check::{Checks, Outcome};
//! use portcullis_attest::snp::report::Report;
//!
//! let mut checks = Checks::all();
//! assert!(Report::parse(&[0; 793], &mut checks).is_none());
//! assert_eq!(checks.list()[0].id, "snp.length");
//! assert_eq!(checks.list()[0].outcome, Outcome::Fail);
//! ```
//!
//! It does not check whether a verified machine should be trusted. Reference values,
//! TCB floors and classes are policy (`portcullis-firmware-policy`).

pub mod azure;
pub mod binding;
pub mod bytes;
pub mod check;
pub mod cmw;
pub mod crypto;
pub mod eventlog;
pub mod evidence;
pub mod ima;
pub mod import;
mod recurring;
pub mod snp;
pub mod svsm;
pub mod tpm;
pub mod tsm;
pub mod uki;
pub mod verified;
pub mod x509;
