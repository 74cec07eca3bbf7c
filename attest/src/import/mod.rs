//! Converts evidence that other systems archived into the form that is verified here.
//! Parsing an envelope proves nothing; it only locates the evidence.

mod report;
mod trustee;

use std::fmt;

use portcullis_wire::{Error, Sign1, Value};

use crate::cmw::{Cmw, CmwError, MessageType, cbor};
use crate::evidence::{COLLECTION_TYPE, Evidence, SnpEvidence, SvsmEvidence};
use crate::tpm::pcr::PcrValues;
use crate::tsm::{self, TsmError, TsmReport};

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
    /// Not a known form.
    Unknown,
    /// A known form with a part that cannot be read.
    Part(&'static str),
    /// A TSM report that is refused.
    Tsm(TsmError),
    /// A collection of Portcullis evidence that is refused.
    Portcullis(Error),
    /// A wrapper without a TSM report, or with several.
    Wrapper {
        /// Number of TSM reports.
        reports: usize,
        /// Types of the messages in it.
        types: String,
    },
}

impl fmt::Display for ImportError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong => f.write_str("an envelope of more than 4 MiB"),
            Self::Unknown => f.write_str(
                "an envelope of no known form: neither evidence of Portcullis, a TSM report, a wrapper of one, \
                 nor JSON of Trustee",
            ),
            Self::Part(what) => write!(f, "an envelope whose {what} cannot be read"),
            Self::Tsm(error) => write!(f, "a TSM report that is refused: {error}"),
            Self::Portcullis(error) => write!(f, "evidence of Portcullis that is refused: {error}"),
            Self::Wrapper { reports, types } => {
                write!(f, "a wrapper with {reports} TSM reports, required one; its messages are {types}")
            }
        }
    }
}

impl std::error::Error for ImportError {}

impl From<CmwError> for ImportError {
    fn from(_: CmwError) -> Self {
        Self::Unknown
    }
}

impl From<TsmError> for ImportError {
    fn from(error: TsmError) -> Self {
        Self::Tsm(error)
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
    /// The contents.
    pub evidence: Imported,
    /// The signature, not verified yet; `None` if the envelope is unsigned.
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

/// Evidence from an envelope.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Imported {
    /// Ours: a CMW collection.
    Portcullis(Box<Evidence>),
    /// An SNP report with the host's certificates: a TSM report, or one from Trustee.
    Snp {
        /// Report and certificate table; empty if the certificates are separate.
        snp: SnpEvidence,
        /// Separate certificates, PEM or DER.
        certificates: Vec<Vec<u8>>,
    },
    /// The report of a service module, with its manifest: a TSM report.
    Svsm(SvsmEvidence),
    /// An Azure VM: Trustee's `az-snp-vtpm`.
    Azure {
        /// The HCL report.
        hcl: Vec<u8>,
        /// The quote.
        quote: Box<ArchivedQuote>,
        /// Separate certificates, PEM or DER.
        certificates: Vec<Vec<u8>>,
    },
}

impl Imported {
    /// Name of the envelope's form.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Portcullis(_) => "portcullis evidence",
            Self::Snp { .. } => "SNP report",
            Self::Svsm(_) => "SNP report of a service module",
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
        match bytes.trim_ascii_start().first() {
            Some(b'{') => json(bytes),
            Some(b'[') => in_wrapper(&Cmw::parse(bytes)?),
            _ => binary(bytes),
        }
    }
}

fn binary(bytes: &[u8]) -> Result<Imported, ImportError> {
    let own = match Evidence::parse(bytes) {
        Ok(evidence) => return Ok(Imported::Portcullis(Box::new(evidence))),
        Err(error) => error,
    };
    let value = cbor(bytes)?;
    if TsmReport::is_meant_by(&value) {
        return Ok(imported(TsmReport::from_cbor(value, tsm::Others::PassedOver)?));
    }
    let wrapper = Cmw::parse(bytes)?;
    // If a part of our own evidence is refused, the rest is not accepted as the whole.
    match &wrapper {
        Cmw::Collection { kind: Some(kind), .. } if kind == COLLECTION_TYPE => Err(ImportError::Portcullis(own)),
        _ => in_wrapper(&wrapper),
    }
}

fn json(bytes: &[u8]) -> Result<Imported, ImportError> {
    let value: serde_json::Value = serde_json::from_slice(bytes).map_err(|_| ImportError::Unknown)?;
    if value.get("outblob").is_some() && value.get("provider").is_some() {
        return Ok(imported(TsmReport::parse(bytes)?));
    }
    // An attestation token of Veraison's ratsd: the wrapper is one of its claims.
    match value.get("cmw") {
        Some(serde_json::Value::String(text)) => {
            let wrapper = tsm::base64(text).ok_or(ImportError::Part("claim cmw"))?;
            return in_wrapper(&Cmw::parse(&wrapper).map_err(|_| ImportError::Part("claim cmw"))?);
        }
        Some(claim) => {
            let wrapper = claim.to_string();
            return in_wrapper(&Cmw::parse(wrapper.as_bytes()).map_err(|_| ImportError::Part("claim cmw"))?);
        }
        None => {}
    }
    match trustee::parse(&value) {
        Err(ImportError::Unknown) => in_wrapper(&Cmw::parse(bytes)?),
        read => read,
    }
}

/// The TSM report in a wrapper. Several reports are refused, because the right one
/// cannot be guessed.
fn in_wrapper(wrapper: &Cmw) -> Result<Imported, ImportError> {
    match wrapper.messages(&tsm::MEDIA_TYPES).as_slice() {
        [report] => Ok(imported(TsmReport::parse(report)?)),
        others => Err(ImportError::Wrapper { reports: others.len(), types: types(wrapper) }),
    }
}

fn imported(report: TsmReport) -> Imported {
    match report {
        TsmReport::Guest(snp) => Imported::Snp { snp, certificates: Vec::new() },
        TsmReport::Service(svsm) => Imported::Svsm(svsm),
    }
}

/// Names of the types in a wrapper, shortened to fit in a message.
fn types(wrapper: &Cmw) -> String {
    const SHOWN: usize = 300;
    let text = match wrapper {
        Cmw::Record { kind: MessageType::Media(media), .. } => format!("{media:?}"),
        Cmw::Record { kind: MessageType::Format(format), .. } => format!("content format {format}"),
        Cmw::Collection { items, .. } => items.iter().map(|(_, item)| types(item)).collect::<Vec<_>>().join(", "),
    };
    text.chars().take(SHOWN).collect()
}
