//! Evidence on the wire: a CMW collection (RFC 9999 §4) whose records are a TSM
//! report and a TPM quote.

use std::fmt;

use portcullis_wire::{Error, Fields, Value, bstr, decode, encode, map};

use crate::crypto::sha256;
use crate::eventlog;
use crate::tpm::pcr::{Bank, PcrValues};
use crate::tsm::{self, Others, TsmError, TsmReport};

/// Largest evidence accepted, in bytes: report, certificates, quote, event log.
pub const MAX_LENGTH: usize = 512 * 1024;

/// `__cmwc_t`: the type of the collection.
pub(crate) const COLLECTION_TYPE: &str = "tag:portcullis.invalid,2026:evidence#1";
const AZURE_HCL: &str = "application/vnd.portcullis.azure-hcl+cbor";
const TPM_QUOTE: &str = "application/vnd.portcullis.tpm-quote+cbor";
/// CMW indicator: bit 2, evidence.
const IND_EVIDENCE: u64 = 1 << 2;

/// Class of the evidence that a machine can give. `docs/threat-model.md` describes what
/// each class proves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EvidenceClass {
    /// A TPM alone.
    Tpm,
    /// An SNP report alone.
    Snp,
    /// An SNP report and the quote of a TPM outside the TEE.
    SnpTpm,
    /// An SNP report made by Azure's paravisor, and the quote of its vTPM.
    SnpAzureVtpm,
    /// An SNP report made by a service module at VMPL 0, and the quote of its vTPM.
    SnpSvsmVtpm,
}

impl EvidenceClass {
    /// All classes, the weakest first.
    pub const ALL: [Self; 5] = [Self::Tpm, Self::Snp, Self::SnpTpm, Self::SnpAzureVtpm, Self::SnpSvsmVtpm];

    /// `snp+svsm-vtpm`, `snp+azure-vtpm`, `snp+tpm`, `snp` or `tpm`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tpm => "tpm",
            Self::Snp => "snp",
            Self::SnpTpm => "snp+tpm",
            Self::SnpAzureVtpm => "snp+azure-vtpm",
            Self::SnpSvsmVtpm => "snp+svsm-vtpm",
        }
    }

    /// The class with this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|class| class.name() == name)
    }

    /// Whether this class proves everything that `minimum` requires. Two kinds of TPM do
    /// not replace each other, and neither do `tpm` and `snp`.
    #[must_use]
    pub const fn satisfies(self, minimum: Self) -> bool {
        match minimum {
            Self::Tpm => matches!(self, Self::Tpm | Self::SnpTpm),
            Self::Snp => !matches!(self, Self::Tpm),
            Self::SnpTpm => matches!(self, Self::SnpTpm),
            Self::SnpAzureVtpm => matches!(self, Self::SnpAzureVtpm),
            Self::SnpSvsmVtpm => matches!(self, Self::SnpSvsmVtpm),
        }
    }
}

impl fmt::Display for EvidenceClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A TSM report: `outblob` and `auxblob` of configfs-tsm.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnpEvidence {
    /// The attestation report.
    pub report: Vec<u8>,
    /// The host's certificate table; empty if it has none.
    pub certificates: Vec<u8>,
}

/// The evidence from Azure's paravisor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AzureEvidence {
    /// The HCL report.
    pub hcl: Vec<u8>,
    /// A certificate table; empty if the verifier has the certificates.
    pub certificates: Vec<u8>,
}

/// A service module's evidence of its vTPM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SvsmEvidence {
    /// The module's report.
    pub snp: SnpEvidence,
    /// The vTPM's manifest.
    pub manifest: Vec<u8>,
}

/// A TPM quote with the inputs for its verification.
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
    /// IMA measurement list, if PCR 10 was quoted and Linux has one.
    pub measured_files: Option<Vec<u8>>,
    /// Measurements of user space: systemd's `tpm2-measure.log`, if there is one.
    pub user_space_log: Option<Vec<u8>>,
}

/// The collected evidence of a machine, before it is encoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Collected {
    /// An SNP report and the quote of a TPM.
    SnpTpm(SnpEvidence, TpmEvidence),
    /// An SNP report.
    Snp(SnpEvidence),
    /// The quote of a TPM.
    Tpm(TpmEvidence),
    /// An HCL report and the quote of Azure's vTPM.
    AzureVtpm(AzureEvidence, TpmEvidence),
    /// The report of a service module and the quote of its vTPM.
    SvsmVtpm(SvsmEvidence, TpmEvidence),
}

impl Collected {
    /// The class.
    #[must_use]
    pub const fn class(&self) -> EvidenceClass {
        match self {
            Self::SnpTpm(..) => EvidenceClass::SnpTpm,
            Self::Snp(_) => EvidenceClass::Snp,
            Self::Tpm(_) => EvidenceClass::Tpm,
            Self::AzureVtpm(..) => EvidenceClass::SnpAzureVtpm,
            Self::SvsmVtpm(..) => EvidenceClass::SnpSvsmVtpm,
        }
    }

    /// The SNP part, if the guest itself requested it.
    #[must_use]
    pub const fn snp(&self) -> Option<&SnpEvidence> {
        match self {
            Self::SnpTpm(snp, _) | Self::Snp(snp) => Some(snp),
            Self::Tpm(_) | Self::AzureVtpm(..) | Self::SvsmVtpm(..) => None,
        }
    }

    /// The TPM part.
    #[must_use]
    pub const fn tpm(&self) -> Option<&TpmEvidence> {
        match self {
            Self::SnpTpm(_, tpm) | Self::Tpm(tpm) | Self::AzureVtpm(_, tpm) | Self::SvsmVtpm(_, tpm) => Some(tpm),
            Self::Snp(_) => None,
        }
    }
}

/// Parsed evidence, together with its original bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Evidence {
    bytes: Vec<u8>,
    digest: [u8; 32],
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
        let (mut snp, mut azure, mut tpm, mut typed) = (None, None, None, false);
        for (label, value) in entries {
            match label.as_text().ok_or(Error::Shape("text labels in a CMW collection"))? {
                "__cmwc_t" => typed = value.as_text() == Some(COLLECTION_TYPE),
                "snp" => snp = Some(read_snp(&record(value, tsm::CBOR)?)?),
                "azure" => azure = Some(read_azure(&record(value, AZURE_HCL)?)?),
                "tpm" => tpm = Some(read_tpm(&record(value, TPM_QUOTE)?)?),
                other => return Err(Error::UnknownKey(other.chars().take(32).collect())),
            }
        }
        if !typed {
            return Err(Error::Shape("a CMW collection of Portcullis evidence"));
        }
        let collected = match (snp, azure, tpm) {
            (Some(TsmReport::Guest(snp)), None, Some(tpm)) => Collected::SnpTpm(snp, tpm),
            (Some(TsmReport::Guest(snp)), None, None) => Collected::Snp(snp),
            (Some(TsmReport::Service(svsm)), None, Some(tpm)) => Collected::SvsmVtpm(svsm, tpm),
            (None, Some(azure), Some(tpm)) => Collected::AzureVtpm(azure, tpm),
            (None, None, Some(tpm)) => Collected::Tpm(tpm),
            _ => return Err(Error::Shape("records of one evidence class in the CMW collection")),
        };
        Ok(Self { bytes: bytes.to_vec(), digest: sha256(&[bytes]), collected })
    }

    /// Encodes collected evidence.
    #[must_use]
    pub fn of(collected: Collected) -> Self {
        let mut entries = vec![(Value::from("__cmwc_t"), Value::from(COLLECTION_TYPE))];
        match &collected {
            Collected::SnpTpm(snp, _) | Collected::Snp(snp) => {
                entries.push(("snp".into(), to_record(tsm::CBOR, &snp_value(snp, None))));
            }
            Collected::SvsmVtpm(SvsmEvidence { snp, manifest }, _) => {
                entries.push(("snp".into(), to_record(tsm::CBOR, &snp_value(snp, Some(manifest)))));
            }
            Collected::AzureVtpm(azure, _) => entries.push(("azure".into(), to_record(AZURE_HCL, &azure_value(azure)))),
            Collected::Tpm(_) => {}
        }
        if let Some(tpm) = collected.tpm() {
            entries.push((Value::from("tpm"), to_record(TPM_QUOTE, &tpm_value(tpm))));
        }
        let bytes = encode(&Value::Map(entries));
        Self { digest: sha256(&[&bytes]), bytes, collected }
    }

    /// The encoded collection.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// SHA-256 of the encoded collection.
    #[must_use]
    pub const fn digest(&self) -> &[u8; 32] {
        &self.digest
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

fn azure_value(azure: &AzureEvidence) -> Value {
    map([(1, bstr(&azure.hcl)), (2, bstr(&azure.certificates))])
}

fn read_azure(bytes: &[u8]) -> Result<AzureEvidence, Error> {
    let mut fields = Fields::of(decode(bytes, MAX_LENGTH)?)?;
    let azure = AzureEvidence { hcl: fields.bytes(1)?, certificates: fields.bytes(2)? };
    fields.finish()?;
    Ok(azure)
}

fn snp_value(snp: &SnpEvidence, manifest: Option<&Vec<u8>>) -> Value {
    let mut members = vec![
        ("auxblob".into(), bstr(&snp.certificates)),
        ("outblob".into(), bstr(&snp.report)),
        ("provider".into(), tsm::SEV_GUEST.into()),
    ];
    if let Some(manifest) = manifest {
        members.push(("manifestblob".into(), bstr(manifest)));
        members.push(("service_provider".into(), tsm::SVSM.into()));
    }
    Value::Map(members)
}

/// A TSM report with defined members only.
fn read_snp(bytes: &[u8]) -> Result<TsmReport, Error> {
    TsmReport::from_cbor(decode(bytes, MAX_LENGTH)?, Others::Refused).map_err(|error| match error {
        TsmError::Unknown(name) => Error::UnknownKey(name),
        TsmError::Form | TsmError::Member(_) => Error::Shape("the members of a TSM report"),
        TsmError::Provider(_) | TsmError::Service(_) => Error::Shape("a TSM report of provider sev_guest"),
    })
}

fn tpm_value(tpm: &TpmEvidence) -> Value {
    let pcrs = tpm.pcrs.iter();
    let pcrs = pcrs
        .map(|(bank, pcr, value)| Value::Array(vec![u64::from(bank.id()).into(), u64::from(pcr).into(), bstr(value)]));
    let members = [
        (1, bstr(&tpm.attest)),
        (2, bstr(&tpm.signature)),
        (3, bstr(&tpm.ak)),
        (4, Value::Array(pcrs.collect())),
        (5, bstr(&tpm.event_log)),
    ];
    let optional = [(6, &tpm.measured_files), (7, &tpm.user_space_log)];
    let optional = optional.into_iter().filter_map(|(key, bytes)| Some((key, bstr(bytes.as_ref()?))));
    map(members.into_iter().chain(optional))
}

fn read_tpm(bytes: &[u8]) -> Result<TpmEvidence, Error> {
    let mut fields = Fields::of(decode(bytes, MAX_LENGTH)?)?;
    let evidence = TpmEvidence {
        attest: fields.bytes(1)?,
        signature: fields.bytes(2)?,
        ak: fields.bytes(3)?,
        pcrs: read_pcrs(fields.items(4)?)?,
        event_log: fields.bytes(5)?,
        measured_files: optional_bytes(&mut fields, 6)?,
        user_space_log: optional_bytes(&mut fields, 7)?,
    };
    fields.finish()?;
    if evidence.event_log.len() > eventlog::MAX_LENGTH {
        return Err(Error::WrongType(5));
    }
    Ok(evidence)
}

fn optional_bytes(fields: &mut Fields, key: i64) -> Result<Option<Vec<u8>>, Error> {
    fields.optional(key).map(|value| value.into_bytes().map_err(|_| Error::WrongType(key))).transpose()
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
