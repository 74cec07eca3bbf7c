//! The HCL report, as stored in NV index 0x01400001 (layout as in Microsoft's "Azure
//! confidential VM guest attestation" and in the open-source tools that read it; the
//! tests confirm every value on real evidence).

use std::fmt;

use data_encoding::BASE64URL_NOPAD;
use portcullis_wire::hex::unhex;
use serde::Deserialize;

use crate::bytes::{Reader, Truncated};
use crate::snp::report;
use crate::tpm::key::{KeyMaterial, rsa_key};
use crate::tpm::pcr::Bank;

/// Largest HCL report accepted, in bytes.
pub const MAX_LENGTH: usize = 64 * 1024;
const SIGNATURE: [u8; 4] = *b"HCLA";
/// Supported header versions.
const VERSIONS: [u32; 2] = [1, 2];
/// A report on a confidential VM.
const REQUEST_CVM: u32 = 2;
const TYPE_SNP: u32 = 2;
const TYPE_TDX: u32 = 4;
/// Length of the header of the runtime data, in bytes.
const RUNTIME_HEADER: u32 = 20;
const AK_NAME: &str = "HCLAkPub";
const EK_NAME: &str = "HCLEkPub";

/// Why an HCL report is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HclError {
    /// A length does not fit, or the report is longer than [`MAX_LENGTH`].
    Truncated,
    /// Not an HCL report, or one of an unknown version.
    NotHcl,
    /// The report inside is of Intel TDX.
    Tdx,
    /// The report inside is of an unknown kind.
    Kind(u32),
    /// An unknown hash of the runtime data, or SHA-1.
    Hash(u32),
    /// The runtime data are not the expected JSON.
    RuntimeData(String),
    /// The runtime data have no RSA key with this name.
    Key(&'static str),
}

impl fmt::Display for HclError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Truncated => f.write_str("lengths that do not fit"),
            Self::NotHcl => f.write_str("no HCL report of a known version"),
            Self::Tdx => f.write_str("a TDX report: Intel TDX is not verified here"),
            Self::Kind(kind) => write!(f, "a report of unknown kind {kind}"),
            Self::Hash(hash) => write!(f, "runtime data under unknown hash {hash}"),
            Self::RuntimeData(why) => write!(f, "runtime data that cannot be read: {why}"),
            Self::Key(name) => write!(f, "runtime data without an RSA key {name}"),
        }
    }
}

impl std::error::Error for HclError {}

impl From<Truncated> for HclError {
    fn from(_: Truncated) -> Self {
        Self::Truncated
    }
}

/// A parsed HCL report. Nothing has been verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HclReport<'a> {
    /// The SNP report inside, 1184 bytes.
    pub snp: &'a [u8],
    /// Hash algorithm of the runtime data in REPORT_DATA.
    pub hash: Bank,
    /// The runtime data, as hashed.
    pub json: &'a [u8],
}

impl<'a> HclReport<'a> {
    /// Parses an HCL report. Bytes after the runtime data are left over in the NV index and
    /// ignored: neither signature nor hash covers them.
    ///
    /// # Errors
    /// [`HclError`].
    pub fn parse(bytes: &'a [u8]) -> Result<Self, HclError> {
        if bytes.len() > MAX_LENGTH {
            return Err(HclError::Truncated);
        }
        let mut r = Reader::new(bytes);
        let (signature, version) = (r.array::<4>()?, r.u32_le()?);
        let (_report_size, request) = (r.u32_le()?, r.u32_le()?);
        let (_status, _reserved) = (r.u32_le()?, r.array::<12>()?);
        if signature != SIGNATURE || !VERSIONS.contains(&version) || request != REQUEST_CVM {
            return Err(HclError::NotHcl);
        }
        let snp = r.take(report::LENGTH)?;
        let (size, _version) = (r.u32_le()?, r.u32_le()?);
        match r.u32_le()? {
            TYPE_SNP => {}
            TYPE_TDX => return Err(HclError::Tdx),
            other => return Err(HclError::Kind(other)),
        }
        let hash = match r.u32_le()? {
            1 => Bank::Sha256,
            2 => Bank::Sha384,
            3 => Bank::Sha512,
            other => return Err(HclError::Hash(other)),
        };
        let length = r.u32_le()?;
        if size.checked_sub(RUNTIME_HEADER) != Some(length) {
            return Err(HclError::Truncated);
        }
        let json = r.take(length as usize)?;
        Ok(Self { snp, hash, json })
    }

    /// The REPORT_DATA that a report over these runtime data carries.
    #[must_use]
    pub fn report_data(&self) -> [u8; 64] {
        let mut data = [0; 64];
        data.iter_mut().zip(self.hash.hash(&[self.json])).for_each(|(to, from)| *to = from);
        data
    }
}

/// The paravisor's statements about the VM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuntimeData {
    /// The vTPM's attestation key.
    pub ak: KeyMaterial,
    /// The vTPM's endorsement key, if it is named.
    pub ek: Option<KeyMaterial>,
    /// The guest's data in NV index 0x01400002, as the report repeats them.
    pub user_data: Vec<u8>,
    /// Whether Secure Boot is on, if the paravisor states it.
    pub secure_boot: Option<bool>,
    /// Whether the serial console is on, if the paravisor states it.
    pub console: Option<bool>,
    /// Azure's id of the VM.
    pub vm_id: Option<String>,
}

#[derive(Deserialize)]
struct Json {
    keys: Vec<Jwk>,
    #[serde(rename = "vm-configuration")]
    configuration: Option<Configuration>,
    #[serde(rename = "user-data")]
    user_data: Option<String>,
}

#[derive(Deserialize)]
struct Jwk {
    kid: String,
    kty: String,
    #[serde(default)]
    n: String,
    #[serde(default)]
    e: String,
}

#[derive(Deserialize)]
struct Configuration {
    #[serde(rename = "secure-boot")]
    secure_boot: Option<bool>,
    #[serde(rename = "console-enabled")]
    console: Option<bool>,
    #[serde(rename = "vmUniqueId")]
    vm_id: Option<String>,
}

impl RuntimeData {
    /// Reads the JSON. Unknown members are ignored: they are hashed, and no check uses
    /// them.
    ///
    /// # Errors
    /// [`HclError`]; two keys with one name are an error, too.
    pub fn parse(json: &[u8]) -> Result<Self, HclError> {
        let json: Json = serde_json::from_slice(json).map_err(|error| HclError::RuntimeData(error.to_string()))?;
        let user_data = match &json.user_data {
            None => Vec::new(),
            Some(text) => unhex(&text.to_lowercase()).ok_or_else(|| HclError::RuntimeData("user-data".into()))?,
        };
        let configuration = json.configuration.as_ref();
        Ok(Self {
            ak: key(&json.keys, AK_NAME)?.ok_or(HclError::Key(AK_NAME))?,
            ek: key(&json.keys, EK_NAME)?,
            user_data,
            secure_boot: configuration.and_then(|c| c.secure_boot),
            console: configuration.and_then(|c| c.console),
            vm_id: configuration.and_then(|c| c.vm_id.clone()),
        })
    }
}

/// The RSA key with a name (JWK, RFC 7518 §6.3).
fn key(keys: &[Jwk], name: &'static str) -> Result<Option<KeyMaterial>, HclError> {
    let mut named = keys.iter().filter(|key| key.kid == name);
    let (first, second) = (named.next(), named.next());
    let Some(jwk) = first else { return Ok(None) };
    let part = |text: &str| BASE64URL_NOPAD.decode(text.as_bytes()).map_err(|_| HclError::Key(name));
    let (modulus, exponent) = (part(&jwk.n)?, part(&jwk.e)?);
    if second.is_some() || jwk.kty != "RSA" || modulus.is_empty() || exponent.is_empty() || exponent.len() > 4 {
        return Err(HclError::Key(name));
    }
    rsa_key(&modulus, &exponent).map(Some).map_err(|_| HclError::Key(name))
}
