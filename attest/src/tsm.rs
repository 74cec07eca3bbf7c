//! The TSM report: the attributes that configfs-tsm of Linux returns for one request
//! (Documentation/ABI/testing/configfs-tsm-report), as one message.
//!
//! ```text
//! tsm-report = { outblob, provider, ? auxblob, ? service_provider, ? manifestblob }
//! ```
//!
//! Attributes of configfs end with a newline, and most programs archive them unchanged:
//! `sev_guest` and `sev_guest
//! ` are the same provider. In CBOR the blobs are byte strings; in JSON they are
//! base64url (RFC 4648 §5) or, in older programs, base64, both with or without padding.

use std::fmt;

use data_encoding::{BASE64_NOPAD, BASE64URL_NOPAD};
use portcullis_wire::Value;
use serde::Deserialize;

use crate::cmw::{self, CmwError};
use crate::evidence::{SnpEvidence, SvsmEvidence};
use crate::snp::report;

/// Media types of a TSM report in wrappers: the registered one, and the one that
/// Veraison's programs used before.
pub const MEDIA_TYPES: [&str; 4] = [
    CBOR,
    "application/vnd.veraison.tsm-report+json",
    "application/vnd.veraison.configfs-tsm+cbor",
    "application/vnd.veraison.configfs-tsm+json",
];
/// The form that Portcullis writes.
pub const CBOR: &str = "application/vnd.veraison.tsm-report+cbor";
/// The provider of AMD SEV-SNP reports.
pub const SEV_GUEST: &str = "sev_guest";
/// The service provider for a module at VMPL 0.
pub const SVSM: &str = "svsm";

/// Longest name of a provider that a message repeats.
const SHOWN: usize = 32;

/// Why a TSM report is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TsmError {
    /// Not a map of members, or a member occurs twice.
    Form,
    /// A member that is invalid or missing.
    Member(&'static str),
    /// An undefined member, in a report that must not have any.
    Unknown(String),
    /// A report of another kind of machine.
    Provider(String),
    /// A report of another kind of service.
    Service(String),
}

impl fmt::Display for TsmError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Form => f.write_str("no map, or a member that is there twice"),
            Self::Member(name) => write!(f, "member {name} is missing, or of another form"),
            Self::Unknown(name) => write!(f, "unknown member {name:?}"),
            Self::Provider(name) => write!(f, "provider {name:?} is not supported; {SEV_GUEST} is"),
            Self::Service(name) => write!(f, "service provider {name:?} is not supported; {SVSM} is"),
        }
    }
}

impl std::error::Error for TsmError {}

/// The requester of a report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TsmReport {
    /// The guest's own.
    Guest(SnpEvidence),
    /// A service module's, bound to its manifest.
    Service(SvsmEvidence),
}

/// The treatment of undefined members.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Others {
    /// They are ignored.
    PassedOver,
    /// The report is refused.
    Refused,
}

impl TsmReport {
    /// Reads a report in CBOR or JSON: JSON begins with a brace.
    ///
    /// # Errors
    /// [`TsmError`].
    pub fn parse(bytes: &[u8]) -> Result<Self, TsmError> {
        if bytes.trim_ascii_start().first() == Some(&b'{') {
            return Self::from_json(bytes);
        }
        let value = cmw::cbor(bytes).map_err(|_: CmwError| TsmError::Form)?;
        Self::from_cbor(value, Others::PassedOver)
    }

    /// Whether a map looks like a TSM report, so that a fault in it should be reported.
    #[must_use]
    pub fn is_meant_by(value: &Value) -> bool {
        let Some(entries) = value.as_map() else { return false };
        let has = |name: &str| entries.iter().any(|(key, _)| key.as_text() == Some(name));
        has("outblob") && has("provider")
    }

    /// Reads a report in CBOR.
    ///
    /// # Errors
    /// [`TsmError`].
    pub fn from_cbor(value: Value, others: Others) -> Result<Self, TsmError> {
        let mut members = Members::default();
        members.take(value, others)?;
        members.report()
    }

    fn from_json(bytes: &[u8]) -> Result<Self, TsmError> {
        // This deserializer refuses a member that occurs twice.
        let json: Json = serde_json::from_slice(bytes).map_err(|_| TsmError::Form)?;
        let service = json.service.unwrap_or_default();
        let text = |text: Option<String>| text.map(|text| name_of(&text));
        Members {
            outblob: blob("outblob", json.outblob)?,
            auxblob: blob("auxblob", json.auxblob)?,
            manifestblob: blob("manifestblob", json.manifestblob.or(service.manifestblob))?,
            provider: text(json.provider),
            service_provider: text(json.service_provider.or(service.service_provider)),
        }
        .report()
    }
}

/// The members, from either form.
#[derive(Default)]
struct Members {
    outblob: Option<Vec<u8>>,
    auxblob: Option<Vec<u8>>,
    manifestblob: Option<Vec<u8>>,
    provider: Option<String>,
    service_provider: Option<String>,
}

impl Members {
    /// Takes the members of a map; those of a service may be in a nested map, as older
    /// programs write them.
    fn take(&mut self, value: Value, others: Others) -> Result<(), TsmError> {
        for (key, value) in value.into_map().map_err(|_| TsmError::Form)? {
            let twice = match key.as_text() {
                Some("outblob") => self.outblob.replace(bytes("outblob", value)?).is_some(),
                Some("auxblob") => self.auxblob.replace(bytes("auxblob", value)?).is_some(),
                Some("manifestblob") => self.manifestblob.replace(bytes("manifestblob", value)?).is_some(),
                Some("provider") => self.provider.replace(text("provider", value)?).is_some(),
                Some("service_provider") => self.service_provider.replace(text("service_provider", value)?).is_some(),
                Some("service") if others == Others::PassedOver && value.is_map() => {
                    self.take(value, others)?;
                    false
                }
                Some(other) if others == Others::Refused => return Err(TsmError::Unknown(shown(other))),
                None if others == Others::Refused => return Err(TsmError::Form),
                Some(_) | None => false,
            };
            if twice {
                return Err(TsmError::Form);
            }
        }
        Ok(())
    }

    fn report(self) -> Result<TsmReport, TsmError> {
        match self.provider.as_deref() {
            Some(SEV_GUEST) => {}
            Some("") | None => return Err(TsmError::Member("provider")),
            Some(other) => return Err(TsmError::Provider(shown(other))),
        }
        // An empty member of configfs counts as absent.
        let filled = |blob: Option<Vec<u8>>| blob.filter(|blob| !blob.is_empty());
        let report = filled(self.outblob).filter(|report| report.len() <= report::LENGTH.saturating_mul(2));
        let snp = SnpEvidence {
            report: report.ok_or(TsmError::Member("outblob"))?,
            certificates: self.auxblob.unwrap_or_default(),
        };
        match (self.service_provider.as_deref(), filled(self.manifestblob)) {
            (None | Some(""), None) => Ok(TsmReport::Guest(snp)),
            (Some(SVSM), Some(manifest)) => Ok(TsmReport::Service(SvsmEvidence { snp, manifest })),
            (Some(SVSM), None) => Err(TsmError::Member("manifestblob")),
            (None | Some(""), Some(_)) => Err(TsmError::Member("service_provider")),
            (Some(other), _) => Err(TsmError::Service(shown(other))),
        }
    }
}

/// A report in JSON.
#[derive(Deserialize)]
struct Json {
    outblob: Option<Blob>,
    auxblob: Option<Blob>,
    manifestblob: Option<Blob>,
    provider: Option<String>,
    service_provider: Option<String>,
    service: Option<JsonService>,
}

#[derive(Default, Deserialize)]
struct JsonService {
    manifestblob: Option<Blob>,
    service_provider: Option<String>,
}

/// Bytes in JSON.
#[derive(Deserialize)]
#[serde(untagged)]
enum Blob {
    Text(String),
    Numbers(Vec<u8>),
}

fn blob(name: &'static str, blob: Option<Blob>) -> Result<Option<Vec<u8>>, TsmError> {
    match blob {
        None => Ok(None),
        Some(Blob::Numbers(bytes)) => Ok(Some(bytes)),
        Some(Blob::Text(text)) => base64(&text).map(Some).ok_or(TsmError::Member(name)),
    }
}

/// Base64url or base64, with or without padding; lines may be broken, as the
/// command-line tools of that name do.
pub(crate) fn base64(text: &str) -> Option<Vec<u8>> {
    let text: String = text.chars().filter(|c| !c.is_ascii_whitespace()).collect();
    let bare = text.trim_end_matches('=').as_bytes();
    let padding = text.len().checked_sub(bare.len())?;
    // Padding completes a group of four characters, or is omitted.
    if padding > 2 || (padding > 0 && !text.len().is_multiple_of(4)) {
        return None;
    }
    BASE64URL_NOPAD.decode(bare).or_else(|_| BASE64_NOPAD.decode(bare)).ok()
}

fn bytes(name: &'static str, value: Value) -> Result<Vec<u8>, TsmError> {
    value.into_bytes().map_err(|_| TsmError::Member(name))
}

/// A name, as text or as the bytes of the attribute.
fn text(name: &'static str, value: Value) -> Result<String, TsmError> {
    match value {
        Value::Text(text) => Ok(name_of(&text)),
        Value::Bytes(bytes) => match std::str::from_utf8(&bytes) {
            Ok(text) => Ok(name_of(text)),
            Err(_) => Err(TsmError::Member(name)),
        },
        _ => Err(TsmError::Member(name)),
    }
}

/// The value of an attribute, without the newline that configfs appends.
fn name_of(attribute: &str) -> String {
    attribute.trim_ascii_end().to_owned()
}

fn shown(name: &str) -> String {
    name.chars().take(SHOWN).collect()
}
