//! X.509 certificates of AMD's profile, over the received bytes.
//!
//! Parsing accepts only forms that the profile allows (KDS specification 57230, chapter
//! 3): v3, RSASSA-PSS with SHA-384 and a salt of 48, known critical extensions, each
//! extension once. An accepted certificate is a claim until
//! [`Certificate::is_signed_by`] verifies its signature.

use std::fmt;

use const_oid::ObjectIdentifier;
use der::{Decode, Encode, Reader as _, SliceReader};
use x509_cert::ext::pkix::{BasicConstraints, KeyUsage, KeyUsages};

use super::tcb::Tcb;
use crate::crypto::{self, Scheme};

/// Largest certificate or CRL accepted, in bytes; AMD's are below 2 KiB.
pub const MAX_LENGTH: usize = 16 * 1024;

const RSA_ENCRYPTION: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
const EC_PUBLIC_KEY: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
const SECP384R1: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.132.0.34");
const BASIC_CONSTRAINTS: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.19");
const KEY_USAGE: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.15");
const AMD_STRUCT_VERSION: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.3704.1.1");
const AMD_PRODUCT: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.3704.1.2");
const AMD_BOOT_LOADER: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.3704.1.3.1");
const AMD_TEE: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.3704.1.3.2");
const AMD_SNP: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.3704.1.3.3");
const AMD_MICROCODE: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.3704.1.3.8");
const AMD_FMC: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.3704.1.3.9");
const AMD_HWID: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.3704.1.4");
const AMD_CSP_ID: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.3704.1.5");

/// `AlgorithmIdentifier` of RSASSA-PSS, SHA-384, MGF1 with SHA-384, salt 48, with the
/// default trailer field omitted: AMD's VCEKs and CRLs.
pub const PSS_SHA384: &[u8] = &[
    0x30, 0x41, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0a, 0x30, 0x34, 0xa0, 0x0f, 0x30, 0x0d,
    0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x02, 0x05, 0x00, 0xa1, 0x1c, 0x30, 0x1a, 0x06, 0x09,
    0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x08, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03,
    0x04, 0x02, 0x02, 0x05, 0x00, 0xa2, 0x03, 0x02, 0x01, 0x30,
];
/// The same with an explicit trailer field: AMD's ASKs and ARKs.
const PSS_SHA384_TRAILER: &[u8] = &[
    0x30, 0x46, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0a, 0x30, 0x39, 0xa0, 0x0f, 0x30, 0x0d,
    0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x02, 0x05, 0x00, 0xa1, 0x1c, 0x30, 0x1a, 0x06, 0x09,
    0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x08, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03,
    0x04, 0x02, 0x02, 0x05, 0x00, 0xa2, 0x03, 0x02, 0x01, 0x30, 0xa3, 0x03, 0x02, 0x01, 0x01,
];

/// Why a certificate or CRL was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CertificateError {
    /// Not X.509 in strict DER, or longer than [`MAX_LENGTH`].
    Malformed,
    /// A signature algorithm other than RSASSA-PSS with SHA-384 and salt 48,
    /// or two different ones inside and outside the signed part.
    Algorithm,
    /// A key that is neither RSA nor ECDSA P-384.
    Key,
    /// An unknown critical extension.
    CriticalExtension(String),
    /// The same extension twice.
    DuplicateExtension(String),
    /// An extension with a malformed value.
    Extension(&'static str),
}

impl fmt::Display for CertificateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed => f.write_str("malformed x.509"),
            Self::Algorithm => f.write_str("signature algorithm is not RSASSA-PSS with SHA-384 and salt 48"),
            Self::Key => f.write_str("public key is neither RSA nor ECDSA P-384"),
            Self::CriticalExtension(oid) => write!(f, "unknown critical extension {oid}"),
            Self::DuplicateExtension(oid) => write!(f, "duplicate extension {oid}"),
            Self::Extension(name) => write!(f, "malformed extension {name}"),
        }
    }
}

impl std::error::Error for CertificateError {}

/// The public key of a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PublicKey {
    /// PKCS#1 `RSAPublicKey` and the length of its modulus in bits.
    Rsa {
        /// DER of the `RSAPublicKey`.
        der: Vec<u8>,
        /// Modulus length in bits.
        bits: usize,
    },
    /// Uncompressed point on P-384.
    P384(Vec<u8>),
}

/// Whether a certificate may sign others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Authority {
    /// CA flag set, and key usage, if given, allows signing certificates.
    Ca,
    /// CA flag set, and a key usage that does not allow it: neither a CA nor an end entity.
    Contradictory,
    /// No CA flag.
    EndEntity,
}

/// AMD's extensions in a VCEK or VLEK certificate (KDS specification, table 8).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AmdExtensions {
    /// Structure version.
    pub structure: Option<u8>,
    /// Product name, such as `Milan-B0` or `Turin`.
    pub product: Option<String>,
    /// Boot loader patch level.
    pub boot_loader: Option<u8>,
    /// TEE patch level.
    pub tee: Option<u8>,
    /// SNP patch level.
    pub snp: Option<u8>,
    /// Microcode patch level.
    pub microcode: Option<u8>,
    /// FMC patch level (Turin).
    pub fmc: Option<u8>,
    /// Hardware id: 64 bytes, on Turin 8.
    pub hwid: Option<Vec<u8>>,
    /// Cloud provider id, in VLEKs.
    pub csp_id: Option<String>,
}

impl AmdExtensions {
    /// The TCB version for which the key was derived; `None` if incomplete.
    #[must_use]
    pub fn tcb(&self) -> Option<Tcb> {
        Some(Tcb {
            fmc: self.fmc,
            boot_loader: self.boot_loader?,
            tee: self.tee?,
            snp: self.snp?,
            microcode: self.microcode?,
        })
    }
}

/// A parsed certificate. Its signature has not been checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    der: Vec<u8>,
    signed: Vec<u8>,
    signature: Vec<u8>,
    /// DER of the subject name.
    pub subject: Vec<u8>,
    /// DER of the issuer name.
    pub issuer: Vec<u8>,
    /// Last `CN` of the subject.
    pub common_name: String,
    /// Serial number, big-endian, without leading zeroes.
    pub serial: Vec<u8>,
    /// Start of validity, Unix seconds.
    pub not_before: u64,
    /// End of validity, Unix seconds, inclusive.
    pub not_after: u64,
    /// Whether it may sign certificates.
    pub authority: Authority,
    /// Whether its key may sign data other than certificates: no key usage is named, as in
    /// AMD's VCEKs and VLEKs, or digital signatures are among the named usages.
    pub signs_reports: bool,
    /// Public key.
    pub key: PublicKey,
    /// AMD's extensions.
    pub amd: AmdExtensions,
}

impl Certificate {
    /// Parses one DER certificate that fills `der`.
    ///
    /// # Errors
    /// [`CertificateError`].
    pub fn parse(der: &[u8]) -> Result<Self, CertificateError> {
        let (signed, algorithm, signature) = signed_parts(der)?;
        let tbs = x509_cert::TbsCertificate::from_der(&signed).map_err(|_| CertificateError::Malformed)?;
        if encoded(&tbs.signature)? != algorithm {
            return Err(CertificateError::Algorithm);
        }
        if tbs.version != x509_cert::Version::V3 {
            return Err(CertificateError::Malformed);
        }
        let mut extensions = Extensions { is_ca: false, usage: None, amd: AmdExtensions::default() };
        let list = tbs.extensions.as_deref().unwrap_or_default();
        for (at, extension) in list.iter().enumerate() {
            if list.iter().take(at).any(|other| other.extn_id == extension.extn_id) {
                return Err(CertificateError::DuplicateExtension(extension.extn_id.to_string()));
            }
            extensions.read(extension)?;
        }
        let may = |bit: KeyUsages| extensions.usage.is_none_or(|usage| usage.0.contains(bit));
        let authority = match (extensions.is_ca, may(KeyUsages::KeyCertSign)) {
            (false, _) => Authority::EndEntity,
            (true, true) => Authority::Ca,
            (true, false) => Authority::Contradictory,
        };
        let signs_reports = may(KeyUsages::DigitalSignature);
        Ok(Self {
            der: der.to_vec(),
            signature,
            subject: encoded(&tbs.subject)?,
            issuer: encoded(&tbs.issuer)?,
            common_name: common_name(&tbs.subject).unwrap_or_default(),
            serial: serial(&tbs.serial_number),
            not_before: tbs.validity.not_before.to_unix_duration().as_secs(),
            not_after: tbs.validity.not_after.to_unix_duration().as_secs(),
            authority,
            signs_reports,
            key: public_key(&tbs.subject_public_key_info)?,
            amd: extensions.amd,
            signed,
        })
    }

    /// The certificate as received.
    #[must_use]
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// Whether `issuer`'s RSA key made this certificate's signature. The caller checks
    /// names and flags.
    #[must_use]
    pub fn is_signed_by(&self, issuer: &Self) -> bool {
        issuer.signed(&self.signed, &self.signature)
    }

    /// Whether this certificate's RSA key signed `message`.
    pub(crate) fn signed(&self, message: &[u8], signature: &[u8]) -> bool {
        match &self.key {
            PublicKey::Rsa { der, .. } => crypto::verify(Scheme::PssSha384, der, message, signature),
            PublicKey::P384(_) => false,
        }
    }

    /// Whether `at` (Unix seconds) lies within the validity, which begins `skew`
    /// seconds early.
    #[must_use]
    pub const fn is_valid_at(&self, at: u64, skew: u64) -> bool {
        self.not_before <= at.saturating_add(skew) && at <= self.not_after
    }
}

/// The signed bytes, the algorithm's DER and the signature.
type SignedParts = (Vec<u8>, Vec<u8>, Vec<u8>);

/// The parts of a certificate or CRL that uses AMD's algorithm.
pub(crate) fn signed_parts(der: &[u8]) -> Result<SignedParts, CertificateError> {
    if der.len() > MAX_LENGTH {
        return Err(CertificateError::Malformed);
    }
    let split = |reader: &mut SliceReader<'_>| -> der::Result<_> {
        let parts = reader.sequence(|inner| {
            let signed = inner.tlv_bytes()?.to_vec();
            let algorithm = inner.tlv_bytes()?.to_vec();
            let signature = der::asn1::BitString::decode(inner)?;
            Ok((signed, algorithm, signature))
        })?;
        Ok(parts)
    };
    let mut reader = SliceReader::new(der).map_err(|_| CertificateError::Malformed)?;
    let (signed, algorithm, signature) = split(&mut reader).map_err(|_| CertificateError::Malformed)?;
    reader.finish(()).map_err(|_| CertificateError::Malformed)?;
    if algorithm != PSS_SHA384 && algorithm != PSS_SHA384_TRAILER {
        return Err(CertificateError::Algorithm);
    }
    let signature = signature.as_bytes().ok_or(CertificateError::Malformed)?.to_vec();
    Ok((signed, algorithm, signature))
}

pub(crate) fn encoded(value: &impl Encode) -> Result<Vec<u8>, CertificateError> {
    value.to_der().map_err(|_| CertificateError::Malformed)
}

pub(crate) fn serial(number: &x509_cert::serial_number::SerialNumber) -> Vec<u8> {
    number.as_bytes().iter().copied().skip_while(|b| *b == 0).collect()
}

/// Last `CN` of any certificate's subject, for messages about a refused certificate.
pub(crate) fn subject_name(der: &[u8]) -> Option<String> {
    let parsed = x509_cert::Certificate::from_der(der).ok()?;
    Some(common_name(&parsed.tbs_certificate.subject).unwrap_or_default())
}

fn common_name(name: &x509_cert::name::Name) -> Option<String> {
    const CN: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.3");
    let attribute = name.0.iter().rev().flat_map(|rdn| rdn.0.iter()).find(|a| a.oid == CN)?;
    String::from_utf8(attribute.value.value().to_vec()).ok()
}

fn public_key(info: &x509_cert::spki::SubjectPublicKeyInfoOwned) -> Result<PublicKey, CertificateError> {
    let bits = info.subject_public_key.as_bytes().ok_or(CertificateError::Key)?;
    if info.algorithm.oid == RSA_ENCRYPTION {
        let modulus_bits = rsa_modulus_bits(bits).map_err(|_| CertificateError::Key)?;
        return Ok(PublicKey::Rsa { der: bits.to_vec(), bits: modulus_bits });
    }
    let curve = info.algorithm.parameters.as_ref().and_then(|p| p.decode_as::<ObjectIdentifier>().ok());
    if info.algorithm.oid == EC_PUBLIC_KEY && curve == Some(SECP384R1) && bits.len() == 97 {
        return Ok(PublicKey::P384(bits.to_vec()));
    }
    Err(CertificateError::Key)
}

fn rsa_modulus_bits(der: &[u8]) -> der::Result<usize> {
    let mut reader = SliceReader::new(der)?;
    let modulus_bytes = reader.sequence(|inner| {
        let modulus = der::asn1::Uint::decode(inner)?;
        let _exponent = der::asn1::Uint::decode(inner)?;
        let leading = modulus.as_bytes().first().map_or(0, |b| b.leading_zeros());
        let bits = modulus.as_bytes().len().saturating_mul(8);
        Ok(bits.saturating_sub(usize::try_from(leading).unwrap_or(0)))
    })?;
    reader.finish(modulus_bytes)
}

struct Extensions {
    is_ca: bool,
    usage: Option<KeyUsage>,
    amd: AmdExtensions,
}

impl Extensions {
    fn read(&mut self, extension: &x509_cert::ext::Extension) -> Result<(), CertificateError> {
        let value = extension.extn_value.as_bytes();
        match extension.extn_id {
            BASIC_CONSTRAINTS => {
                let constraints =
                    BasicConstraints::from_der(value).map_err(|_| CertificateError::Extension("basicConstraints"))?;
                self.is_ca = constraints.ca;
            }
            KEY_USAGE => {
                let usage = KeyUsage::from_der(value).map_err(|_| CertificateError::Extension("keyUsage"))?;
                self.usage = Some(usage);
            }
            AMD_STRUCT_VERSION => self.amd.structure = Some(small(value, "structVersion")?),
            AMD_PRODUCT => self.amd.product = Some(ia5(value, "productName")?),
            AMD_BOOT_LOADER => self.amd.boot_loader = Some(small(value, "blSPL")?),
            AMD_TEE => self.amd.tee = Some(small(value, "teeSPL")?),
            AMD_SNP => self.amd.snp = Some(small(value, "snpSPL")?),
            AMD_MICROCODE => self.amd.microcode = Some(small(value, "ucodeSPL")?),
            AMD_FMC => self.amd.fmc = Some(small(value, "fmcSPL")?),
            AMD_HWID => self.amd.hwid = Some(hwid(value)?),
            AMD_CSP_ID => self.amd.csp_id = Some(ia5(value, "cspID")?),
            other if extension.critical => return Err(CertificateError::CriticalExtension(other.to_string())),
            _ => {}
        }
        Ok(())
    }
}

fn small(value: &[u8], name: &'static str) -> Result<u8, CertificateError> {
    u8::from_der(value).map_err(|_| CertificateError::Extension(name))
}

fn ia5(value: &[u8], name: &'static str) -> Result<String, CertificateError> {
    der::asn1::Ia5StringRef::from_der(value)
        .map(|text| text.as_str().to_owned())
        .map_err(|_| CertificateError::Extension(name))
}

/// The hardware id is the bare extension value; some certificates wrap it in an OCTET
/// STRING.
fn hwid(value: &[u8]) -> Result<Vec<u8>, CertificateError> {
    let bare = |bytes: &[u8]| matches!(bytes.len(), 8 | 64);
    if bare(value) {
        return Ok(value.to_vec());
    }
    der::asn1::OctetStringRef::from_der(value)
        .map(|octets| octets.as_bytes().to_vec())
        .ok()
        .filter(|octets| bare(octets))
        .ok_or(CertificateError::Extension("hwID"))
}
