//! Evidence as other systems archive it, brought into the form that is verified
//! here. Reading an envelope proves nothing; it only says where the evidence is.

mod report;
mod trustee;

use std::fmt;

use portcullis_wire::{Sign1, Value};

use crate::cmw::{Cmw, CmwError, cbor};
use crate::evidence::{Evidence, SnpEvidence, TSM_REPORT, read_snp_lenient};
use crate::tpm::pcr::PcrValues;

/// Largest envelope accepted, in bytes.
pub const MAX_LENGTH: usize = 4 << 20;
/// First byte of a tagged COSE_Sign1.
const SIGN1: u8 = 0xd2;
/// Content type of a signed wrapper (RFC 9999, §3.3), and its content format.
const CONTENT_TYPE: i64 = 3;
const CMW: &str = "application/cmw+cbor";
const CMW_FORMAT: u64 = 273;

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

/// An envelope that was opened.
#[derive(Clone, Debug)]
pub struct Envelope {
    /// What is in it.
    pub evidence: Imported,
    /// Its signature, which nobody has verified yet; none where it has none.
    pub signed: Option<Sign1>,
}

impl Envelope {
    /// Opens an envelope of any known form, or a signed conceptual message
    /// wrapper (RFC 9999, §3.3) around one.
    ///
    /// # Errors
    /// [`ImportError`].
    pub fn open(bytes: &[u8]) -> Result<Self, ImportError> {
        if bytes.first() != Some(&SIGN1) {
            return Ok(Self { evidence: Imported::parse(bytes)?, signed: None });
        }
        let signed = Sign1::parse(bytes, MAX_LENGTH).map_err(|_| ImportError::Part("COSE_Sign1"))?;
        let kind = signed.protected(CONTENT_TYPE);
        if kind != Some(&CMW.into()) && kind != Some(&Value::from(CMW_FORMAT)) {
            return Err(ImportError::Part("content type"));
        }
        let evidence = Imported::parse(signed.payload().ok_or(ImportError::Part("payload"))?)?;
        Ok(Self { evidence, signed: Some(signed) })
    }
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

    /// Reads an unsigned envelope of any known form.
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
