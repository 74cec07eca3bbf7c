//! The inputs that accompany a report, before they are verified.

use super::certificate::Certificate;
use super::fields::SigningKey;
use super::report::Report;
use super::table::CertificateTable;
use crate::check::Checks;
use crate::crypto::sha256;

/// Certificates that accompany a report. None is trusted before its signature is
/// verified.
#[derive(Clone, Copy, Debug, Default)]
pub struct Presented<'a> {
    table: &'a [u8],
    certificates: &'a [Certificate],
}

impl<'a> Presented<'a> {
    /// A host's certificate table, as in `auxblob`; empty if the host has none.
    #[must_use]
    pub const fn table(table: &'a [u8]) -> Self {
        Self { table, certificates: &[] }
    }

    /// Collected certificates.
    #[must_use]
    pub const fn certificates(certificates: &'a [Certificate]) -> Self {
        Self { table: &[], certificates }
    }

    /// These, and collected certificates.
    #[must_use]
    pub const fn with(self, certificates: &'a [Certificate]) -> Self {
        Self { table: self.table, certificates }
    }

    /// An id for the kind of key, the chip, the TCB and the host's table together. `None` if
    /// there is no table, or if there are collected certificates too.
    pub(super) fn id(&self, report: &Report) -> Option<[u8; 32]> {
        let alone = self.certificates.is_empty() && !self.table.is_empty();
        let is_vlek = report.key_info.signing_key() == SigningKey::Vlek;
        alone.then(|| sha256(&[&[u8::from(is_vlek)], &report.chip_id, &report.reported_tcb.0, self.table]))
    }

    /// The collected certificates.
    pub(super) const fn collected(&self) -> &'a [Certificate] {
        self.certificates
    }

    /// Reads the host's table. An empty table means that the host has no certificates: no
    /// check is recorded.
    pub(super) fn check_table(&self, checks: &mut Checks) -> CertificateTable {
        const REQUIRED: &str = "a certificate table";
        const DETAIL: &str = "the host's certificate table";
        if self.table.is_empty() {
            return CertificateTable::default();
        }
        let read = match CertificateTable::parse(self.table) {
            Ok(read) => read,
            Err(error) => {
                checks.step::<(), _>("snp.certificates", Err(error), REQUIRED, DETAIL);
                return CertificateTable::default();
            }
        };
        if read.has_known_entry() {
            checks.require("snp.certificates", true, || read.to_string(), || REQUIRED.into(), DETAIL);
        } else if !read.entries().is_empty() {
            checks.lacking(
                "snp.certificates.known",
                read.to_string(),
                "an entry for VCEK, VLEK, ASK, ARK or CRL",
                DETAIL,
            );
        }
        read
    }
}
