//! A virtual TPM inside the guest, run by a Secure VM Service Module at VMPL 0
//! (SVSM specification, attestation protocol; service GUID of the vTPM
//! c476f1eb-0123-45a5-9641-b4e7dde5bfe3, manifest version 0).
//!
//! ```text
//! manifest    = public area of the vTPM's endorsement key
//! REPORT_DATA = SHA-512(64-byte nonce ‖ manifest)
//! ```
//!
//! COCONUT-SVSM hashes nonce and manifest in this way, and its manifest is the
//! marshalled `TPMT_PUBLIC` of the endorsement key, without a length prefix.
//!
//! An endorsement key cannot sign quotes. Credential activation proves which
//! attestation key is in the same TPM.

use crate::check::Checks;
use crate::crypto::sha512;
use crate::snp::verify::{Presented, SnpVerifier, VerifiedSnpReport};
use crate::tpm::credential::EndorsementKey;
use portcullis_wire::hex::hex;

/// The VMPL at which the module runs; its report must have this level.
const LEVEL: u32 = 0;

/// The statement of a module about its vTPM. Only [`verify`] makes one.
#[derive(Clone, Debug)]
pub struct VerifiedSvsm {
    snp: VerifiedSnpReport,
    ek: [u8; 32],
}

impl VerifiedSvsm {
    /// The report of the module.
    #[must_use]
    pub const fn snp(&self) -> &VerifiedSnpReport {
        &self.snp
    }

    /// SHA-256 of the `SubjectPublicKeyInfo` of the vTPM's endorsement key.
    #[must_use]
    pub const fn ek(&self) -> &[u8; 32] {
        &self.ek
    }

    /// The parts.
    #[must_use]
    pub fn into_parts(self) -> (VerifiedSnpReport, [u8; 32]) {
        (self.snp, self.ek)
    }
}

/// The REPORT_DATA of a service report over a nonce.
#[must_use]
pub fn report_data(nonce: &[u8], manifest: &[u8]) -> [u8; 64] {
    sha512(&[nonce, manifest])
}

/// The evidence of a service module, and the nonce that it must answer.
#[derive(Clone, Copy, Debug)]
pub struct SvsmInput<'a> {
    /// The module's report.
    pub report: &'a [u8],
    /// The vTPM's manifest.
    pub manifest: &'a [u8],
    /// Certificates for the report.
    pub certificates: Presented<'a>,
    /// The value that the guest wrote to `inblob`; if absent, the binding's check is
    /// missing.
    pub nonce: Option<&'a [u8]>,
}

/// Verifies a service report with its manifest, at a time (Unix seconds),
/// recording every check.
pub fn verify(input: &SvsmInput<'_>, verifier: &SnpVerifier, at: u64, checks: &mut Checks) -> Option<VerifiedSvsm> {
    const DETAIL: &str = "REPORT_DATA: report and manifest were made for this session, nonce and request";
    let snp = verifier.verify(input.report, input.certificates, at, checks)?;
    let found = &snp.report().report_data;
    let bound = match input.nonce.map(|nonce| report_data(nonce, input.manifest)) {
        Some(required) => {
            checks.require("evidence.binding", *found == required, || hex(found), || hex(&required), DETAIL)
        }
        None => {
            checks.missing("evidence.binding", "the 64 bytes that the guest wrote to inblob", DETAIL);
            false
        }
    };
    checks.equal("svsm.vmpl", &snp.report().vmpl, &LEVEL, "privilege level of the service module");
    // A manifest that the report does not vouch for is not read.
    if !bound {
        return None;
    }
    let ek = EndorsementKey::from_area(input.manifest).ok().and_then(|key| key.digest());
    let ek = checks.step(
        "svsm.manifest",
        ek.ok_or("something else"),
        "the public area of an endorsement key",
        "manifest of the vTPM service, version 0",
    )?;
    checks.passed().then_some(VerifiedSvsm { snp, ek })
}
