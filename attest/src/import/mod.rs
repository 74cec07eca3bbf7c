//! Evidence as other systems archive it, brought into the form that is verified
//! here. Reading an envelope proves nothing; it only says where the evidence is.

mod report;
mod trustee;

use std::fmt;

use crate::cmw::{Cmw, CmwError, cbor};
use crate::evidence::{Evidence, SnpEvidence, TSM_REPORT, read_snp_lenient};
use crate::tpm::pcr::PcrValues;

/// Largest envelope accepted, in bytes.
pub const MAX_LENGTH: usize = 4 << 20;

/// Why an envelope is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ImportError {
    /// Longer than [`MAX_LENGTH`].
    TooLong,
    /// Neither of the forms that are known.
    Unknown,
    /// A known form with a part that cannot be read.
    Part(&'static str),
}

impl fmt::Display for ImportError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong => f.write_str("an envelope of more than 4 MiB"),
            Self::Unknown => f.write_str("an envelope of no known form"),
            Self::Part(what) => write!(f, "an envelope whose {what} cannot be read"),
        }
    }
}

impl std::error::Error for ImportError {}

impl From<CmwError> for ImportError {
    fn from(_: CmwError) -> Self {
        Self::Unknown
    }
}

/// The quote of an Azure vTPM, as archived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArchivedQuote {
    /// `TPMS_ATTEST`.
    pub attest: Vec<u8>,
    /// `TPMT_SIGNATURE`.
    pub signature: Vec<u8>,
    /// Values of the quoted PCRs.
    pub pcrs: PcrValues,
}

/// Evidence out of an envelope.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Imported {
    /// Ours: a CMW collection.
    Portcullis(Box<Evidence>),
    /// An SNP report with the host's certificates: a TSM report, or Trustee's.
    Snp {
        /// Report and certificate table; empty where certificates come apart.
        snp: SnpEvidence,
        /// Certificates that came beside it, PEM or DER.
        certificates: Vec<Vec<u8>>,
    },
    /// An Azure VM: Trustee's `az-snp-vtpm`.
    Azure {
        /// The HCL report.
        hcl: Vec<u8>,
        /// The quote.
        quote: Box<ArchivedQuote>,
        /// Certificates that came beside it, PEM or DER.
        certificates: Vec<Vec<u8>>,
    },
}

impl Imported {
    /// What the envelope is called.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Portcullis(_) => "portcullis evidence",
            Self::Snp { .. } => "SNP report",
            Self::Azure { .. } => "Azure SNP vTPM evidence",
        }
    }

    /// Reads an envelope of any known form.
    ///
    /// # Errors
    /// [`ImportError`].
    pub fn parse(bytes: &[u8]) -> Result<Self, ImportError> {
        if bytes.len() > MAX_LENGTH {
            return Err(ImportError::TooLong);
        }
        if bytes.trim_ascii_start().starts_with(b"{") {
            return trustee::parse(bytes);
        }
        if let Ok(evidence) = Evidence::parse(bytes) {
            return Ok(Self::Portcullis(Box::new(evidence)));
        }
        let snp = |snp| Self::Snp { snp, certificates: Vec::new() };
        if let Some(evidence) = read_snp_lenient(&cbor(bytes)?) {
            return Ok(snp(evidence));
        }
        let wrapper = Cmw::parse(bytes)?;
        let report = wrapper.find(TSM_REPORT).ok_or(ImportError::Unknown)?;
        read_snp_lenient(&cbor(report)?).map(snp).ok_or(ImportError::Part("TSM report"))
    }
}
