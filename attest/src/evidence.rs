//! Evidence on the wire: a CMW collection (RFC 9999 §4) whose records are a TSM
//! report and a TPM quote.

use std::fmt;

use portcullis_wire::{Error, Fields, Value, bstr, decode, encode, map};

use crate::eventlog;
use crate::snp::report;
use crate::tpm::pcr::{Bank, PcrValues};

/// Largest evidence accepted, in bytes: report, certificates, quote, event log.
pub const MAX_LENGTH: usize = 512 * 1024;

/// `__cmwc_t`: the type of the collection.
const COLLECTION_TYPE: &str = "tag:portcullis.invalid,2026:evidence#1";
/// Shape of a TSM report record (draft of the ratsd token, as in Veraison).
pub(crate) const TSM_REPORT: &str = "application/vnd.veraison.tsm-report+cbor";
const TSM_PROVIDER: &str = "sev_guest";
const TPM_QUOTE: &str = "application/vnd.portcullis.tpm-quote+cbor";
/// CMW indicator: bit 2, evidence.
const IND_EVIDENCE: u64 = 1 << 2;

/// What a machine can show. What a class is worth is written in
/// `docs/threat-model.md`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EvidenceClass {
    /// A TPM alone.
    Tpm,
    /// An SNP report alone.
    Snp,
    /// An SNP report and the quote of a TPM outside the TEE.
    SnpTpm,
}

impl EvidenceClass {
    /// All classes, the weakest first.
    pub const ALL: [Self; 3] = [Self::Tpm, Self::Snp, Self::SnpTpm];

    /// `snp+tpm`, `snp` or `tpm`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tpm => "tpm",
            Self::Snp => "snp",
            Self::SnpTpm => "snp+tpm",
        }
    }

    /// The class with this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|class| class.name() == name)
    }

    /// Whether this class shows everything that `minimum` asks for. `tpm` and
    /// `snp` do not stand in for each other.
    #[must_use]
    pub const fn satisfies(self, minimum: Self) -> bool {
        matches!((self, minimum), (Self::SnpTpm, _) | (Self::Snp, Self::Snp) | (Self::Tpm, Self::Tpm))
    }
}

impl fmt::Display for EvidenceClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A TSM report: what configfs-tsm calls `outblob` and `auxblob`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnpEvidence {
    /// The attestation report.
    pub report: Vec<u8>,
    /// The host's certificate table; empty where it has none.
    pub certificates: Vec<u8>,
}

/// A TPM quote with what is needed to judge it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TpmEvidence {
    /// `TPMS_ATTEST`.
    pub attest: Vec<u8>,
    /// `TPMT_SIGNATURE`.
    pub signature: Vec<u8>,
    /// `TPMT_PUBLIC` of the attestation key.
    pub ak: Vec<u8>,
    /// Values of the quoted PCRs.
    pub pcrs: PcrValues,
    /// Event log.
    pub event_log: Vec<u8>,
}

/// What a machine collects, before it is encoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Collected {
    /// An SNP report and the quote of a TPM.
    SnpTpm(SnpEvidence, TpmEvidence),
    /// An SNP report.
    Snp(SnpEvidence),
    /// The quote of a TPM.
    Tpm(TpmEvidence),
}

impl Collected {
    /// The class.
    #[must_use]
    pub const fn class(&self) -> EvidenceClass {
        match self {
            Self::SnpTpm(..) => EvidenceClass::SnpTpm,
            Self::Snp(_) => EvidenceClass::Snp,
            Self::Tpm(_) => EvidenceClass::Tpm,
        }
    }

    /// The SNP part.
    #[must_use]
    pub const fn snp(&self) -> Option<&SnpEvidence> {
        match self {
            Self::SnpTpm(snp, _) | Self::Snp(snp) => Some(snp),
            Self::Tpm(_) => None,
        }
    }

    /// The TPM part.
    #[must_use]
    pub const fn tpm(&self) -> Option<&TpmEvidence> {
        match self {
            Self::SnpTpm(_, tpm) | Self::Tpm(tpm) => Some(tpm),
            Self::Snp(_) => None,
        }
    }
}

/// Parsed evidence, together with the bytes that it came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Evidence {
    bytes: Vec<u8>,
    collected: Collected,
}

impl Evidence {
    /// Parses a CMW collection that fills `bytes`.
    ///
    /// # Errors
    /// Any [`Error`] of the encoding; a collection without a record, with an
    /// unknown record, or of another type.
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        let Value::Map(entries) = decode(bytes, MAX_LENGTH)? else { return Err(Error::Shape("a CMW collection")) };
        let (mut snp, mut tpm, mut typed) = (None, None, false);
        for (label, value) in entries {
            match label.as_text().ok_or(Error::Shape("text labels in a CMW collection"))? {
                "__cmwc_t" => typed = value.as_text() == Some(COLLECTION_TYPE),
                "snp" => snp = Some(read_snp(&record(value, TSM_REPORT)?)?),
                "tpm" => tpm = Some(read_tpm(&record(value, TPM_QUOTE)?)?),
                other => return Err(Error::UnknownKey(other.chars().take(32).collect())),
            }
        }
        let collected = match (typed, snp, tpm) {
            (false, ..) => return Err(Error::Shape("a CMW collection of Portcullis evidence")),
            (true, Some(snp), Some(tpm)) => Collected::SnpTpm(snp, tpm),
            (true, Some(snp), None) => Collected::Snp(snp),
            (true, None, Some(tpm)) => Collected::Tpm(tpm),
            (true, None, None) => return Err(Error::Shape("at least one record in the CMW collection")),
        };
        Ok(Self { bytes: bytes.to_vec(), collected })
    }

    /// Encodes what a machine collected.
    #[must_use]
    pub fn of(collected: Collected) -> Self {
        let mut entries = vec![(Value::from("__cmwc_t"), Value::from(COLLECTION_TYPE))];
        if let Some(snp) = collected.snp() {
            entries.push((Value::from("snp"), to_record(TSM_REPORT, &snp_value(snp))));
        }
        if let Some(tpm) = collected.tpm() {
            entries.push((Value::from("tpm"), to_record(TPM_QUOTE, &tpm_value(tpm))));
        }
        Self { bytes: encode(&Value::Map(entries)), collected }
    }

    /// The encoded collection.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The parts.
    #[must_use]
    pub const fn collected(&self) -> &Collected {
        &self.collected
    }

    /// The class.
    #[must_use]
    pub const fn class(&self) -> EvidenceClass {
        self.collected.class()
    }
}

/// A CMW record `[type, bytes, ind]`.
fn record(value: Value, kind: &str) -> Result<Vec<u8>, Error> {
    let parts = value.into_array().ok().and_then(|parts| <[Value; 3]>::try_from(parts).ok());
    let Some([found, Value::Bytes(bytes), ind]) = parts else { return Err(Error::Shape("a CMW record")) };
    if found.as_text() != Some(kind) || ind != Value::from(IND_EVIDENCE) {
        return Err(Error::Shape("a CMW record of the type that its label says"));
    }
    Ok(bytes)
}

fn to_record(kind: &str, value: &Value) -> Value {
    Value::Array(vec![kind.into(), bstr(encode(value)), IND_EVIDENCE.into()])
}

fn snp_value(snp: &SnpEvidence) -> Value {
    Value::Map(vec![
        ("auxblob".into(), bstr(&snp.certificates)),
        ("outblob".into(), bstr(&snp.report)),
        ("provider".into(), TSM_PROVIDER.into()),
    ])
}

fn read_snp(bytes: &[u8]) -> Result<SnpEvidence, Error> {
    let Value::Map(entries) = decode(bytes, MAX_LENGTH)? else { return Err(Error::Shape("a TSM report")) };
    let (mut report, mut certificates, mut provided) = (None, Vec::new(), false);
    for (key, value) in entries {
        match (key.as_text(), value) {
            (Some("outblob"), Value::Bytes(bytes)) => report = Some(bytes),
            (Some("auxblob"), Value::Bytes(bytes)) => certificates = bytes,
            (Some("provider"), Value::Text(name)) => provided = name == TSM_PROVIDER,
            _ => return Err(Error::Shape("the members of a TSM report")),
        }
    }
    match report {
        Some(report) if provided && report.len() <= report::LENGTH.saturating_mul(2) => {
            Ok(SnpEvidence { report, certificates })
        }
        _ => Err(Error::Shape("a TSM report of provider sev_guest")),
    }
}

/// A TSM report of anybody: its members in any order, and members that matter
/// only to others passed over.
pub(crate) fn read_snp_lenient(value: &Value) -> Option<SnpEvidence> {
    let entries = value.as_map()?;
    let member = |name: &str| entries.iter().find(|(key, _)| key.as_text() == Some(name)).map(|(_, value)| value);
    // A report by way of a service provider is bound to that provider's manifest.
    if member("provider")?.as_text() != Some(TSM_PROVIDER) || member("service_provider").is_some() {
        return None;
    }
    let report = member("outblob")?.as_bytes()?.clone();
    let certificates = member("auxblob").and_then(Value::as_bytes).cloned().unwrap_or_default();
    Some(SnpEvidence { report, certificates })
}

fn tpm_value(tpm: &TpmEvidence) -> Value {
    let pcrs = tpm.pcrs.iter();
    let pcrs = pcrs
        .map(|(bank, pcr, value)| Value::Array(vec![u64::from(bank.id()).into(), u64::from(pcr).into(), bstr(value)]));
    map([
        (1, bstr(&tpm.attest)),
        (2, bstr(&tpm.signature)),
        (3, bstr(&tpm.ak)),
        (4, Value::Array(pcrs.collect())),
        (5, bstr(&tpm.event_log)),
    ])
}

fn read_tpm(bytes: &[u8]) -> Result<TpmEvidence, Error> {
    let mut fields = Fields::of(decode(bytes, MAX_LENGTH)?)?;
    let evidence = TpmEvidence {
        attest: fields.bytes(1)?,
        signature: fields.bytes(2)?,
        ak: fields.bytes(3)?,
        pcrs: read_pcrs(fields.items(4)?)?,
        event_log: fields.bytes(5)?,
    };
    fields.finish()?;
    if evidence.event_log.len() > eventlog::MAX_LENGTH {
        return Err(Error::WrongType(5));
    }
    Ok(evidence)
}

fn read_pcrs(items: Vec<Value>) -> Result<PcrValues, Error> {
    let mut values = PcrValues::default();
    for item in items {
        let parts = item.into_array().ok().and_then(|parts| <[Value; 3]>::try_from(parts).ok());
        let Some([Value::Integer(bank), Value::Integer(pcr), Value::Bytes(value)]) = parts else {
            return Err(Error::WrongType(4));
        };
        let bank = u16::try_from(bank).ok().and_then(Bank::from_id).ok_or(Error::WrongType(4))?;
        let pcr = u8::try_from(pcr).map_err(|_| Error::WrongType(4))?;
        if values.value(bank, pcr).is_some() || !values.insert(bank, pcr, value) {
            return Err(Error::WrongType(4));
        }
    }
    Ok(values)
}
