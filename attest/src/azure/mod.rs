//! Azure confidential VMs: the paravisor at VMPL 0 keeps the SNP report of the
//! boot in the vTPM, and binds it to its runtime data, which name the vTPM's
//! attestation key.
//!
//! ```text
//! HCL report = header ‖ SNP report ‖ header of the runtime data ‖ JSON
//! REPORT_DATA = SHA-256(JSON) ‖ zeroes
//! ```
//!
//! The guest does not choose REPORT_DATA: freshness comes from the quote, and
//! from the user data that the paravisor repeats in the JSON when it makes a
//! new report.

mod hcl;
mod verify;

pub use hcl::{HclError, HclReport, MAX_LENGTH, RuntimeData};
pub use verify::{AzureInput, UserData, VerifiedAzure, verify};

/// The SNP report in an HCL report, unverified; empty if it cannot be read.
#[must_use]
pub fn report_in(hcl: &[u8]) -> &[u8] {
    HclReport::parse(hcl).map_or(&[], |hcl| hcl.snp)
}
