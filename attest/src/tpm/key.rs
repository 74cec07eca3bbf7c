//! Attestation keys: a public area, or a bare PEM key.

use const_oid::ObjectIdentifier;
use const_oid::db::rfc5912::{ID_EC_PUBLIC_KEY as EC_PUBLIC_KEY, RSA_ENCRYPTION, SECP_256_R_1, SECP_384_R_1};
use der::asn1::BitString;
use der::{Any, Decode, Encode};
use x509_cert::spki::{AlgorithmIdentifierOwned, SubjectPublicKeyInfoOwned};

use super::area::{MAX_LENGTH, PublicArea, rsa_public_key};
use crate::bytes::{Reader, Truncated};

pub use super::area::Attributes;

/// Key material in the form that verification uses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyMaterial {
    /// PKCS#1 `RSAPublicKey`.
    Rsa(Vec<u8>),
    /// Uncompressed P-256 point.
    P256(Vec<u8>),
    /// Uncompressed P-384 point.
    P384(Vec<u8>),
}

impl KeyMaterial {
    /// Reads a `SubjectPublicKeyInfo` in DER.
    ///
    /// # Errors
    /// [`Truncated`] if it is not RSA, P-256 or P-384.
    pub fn from_spki(der: &[u8]) -> Result<Self, Truncated> {
        let info = SubjectPublicKeyInfoOwned::from_der(der).map_err(|_| Truncated)?;
        let key = info.subject_public_key.as_bytes().ok_or(Truncated)?.to_vec();
        // Other curves have points of the same length, so the named curve decides.
        let curve = info.algorithm.parameters.as_ref().and_then(|any| any.decode_as::<ObjectIdentifier>().ok());
        match (info.algorithm.oid, curve, key.len()) {
            (RSA_ENCRYPTION, None, _) => Ok(Self::Rsa(key)),
            (EC_PUBLIC_KEY, Some(SECP_256_R_1), 65) => Ok(Self::P256(key)),
            (EC_PUBLIC_KEY, Some(SECP_384_R_1), 97) => Ok(Self::P384(key)),
            _ => Err(Truncated),
        }
    }

    /// `SubjectPublicKeyInfo` in PEM.
    #[must_use]
    pub fn to_pem(&self) -> Option<Vec<u8>> {
        let spki = self.to_spki()?;
        let pem = der::pem::encode_string("PUBLIC KEY", der::pem::LineEnding::LF, &spki);
        pem.ok().map(String::into_bytes)
    }

    /// `SubjectPublicKeyInfo` in DER: rsaEncryption, or id-ecPublicKey with a
    /// named curve (RFC 3279 §2.3, RFC 5480 §2.1.1).
    #[must_use]
    pub fn to_spki(&self) -> Option<Vec<u8>> {
        let (oid, parameters, key) = match self {
            Self::Rsa(key) => (RSA_ENCRYPTION, Any::null(), key),
            Self::P256(key) => (EC_PUBLIC_KEY, Any::encode_from(&SECP_256_R_1).ok()?, key),
            Self::P384(key) => (EC_PUBLIC_KEY, Any::encode_from(&SECP_384_R_1).ok()?, key),
        };
        let algorithm = AlgorithmIdentifierOwned { oid, parameters: Some(parameters) };
        let subject_public_key = BitString::from_bytes(key).ok()?;
        SubjectPublicKeyInfoOwned { algorithm, subject_public_key }.to_der().ok()
    }
}

/// An RSA key from a big-endian modulus and exponent.
///
/// # Errors
/// [`Truncated`] if DER cannot encode them.
pub fn rsa_key(modulus: &[u8], exponent: &[u8]) -> Result<KeyMaterial, Truncated> {
    rsa_public_key(modulus, exponent).map(KeyMaterial::Rsa)
}

/// An attestation key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AttestationKey {
    /// From a TPM's public area: attributes and name are known.
    Area {
        /// Key material.
        key: KeyMaterial,
        /// Object attributes.
        attributes: Attributes,
        /// Name: algorithm id, then the digest of the public area.
        name: Vec<u8>,
    },
    /// A bare public key, with unknown attributes.
    Bare(KeyMaterial),
}

impl AttestationKey {
    /// The key material.
    #[must_use]
    pub const fn key(&self) -> &KeyMaterial {
        match self {
            Self::Area { key, .. } | Self::Bare(key) => key,
        }
    }

    /// The TPM name, if the public area is known.
    #[must_use]
    pub fn name(&self) -> Option<&[u8]> {
        match self {
            Self::Area { name, .. } => Some(name),
            Self::Bare(_) => None,
        }
    }

    /// Reads PEM, `TPM2B_PUBLIC` or `TPMT_PUBLIC`.
    ///
    /// # Errors
    /// [`Truncated`] if it is none of them, or a kind of key that is not supported for
    /// quotes.
    pub fn parse(bytes: &[u8]) -> Result<Self, Truncated> {
        if bytes.len() > MAX_LENGTH {
            return Err(Truncated);
        }
        if bytes.starts_with(b"-----BEGIN ") {
            return from_pem(bytes).map(Self::Bare);
        }
        Self::from_area(bytes).or_else(|_| {
            let mut r = Reader::new(bytes);
            let area = r.tpm2b()?;
            r.finish()?;
            Self::from_area(area)
        })
    }

    /// Reads a `TPMT_PUBLIC` that fills `area`.
    ///
    /// # Errors
    /// [`Truncated`].
    pub fn from_area(area: &[u8]) -> Result<Self, Truncated> {
        let PublicArea { key, attributes, name, .. } = PublicArea::parse(area)?;
        Ok(Self::Area { key, attributes, name })
    }
}

fn from_pem(bytes: &[u8]) -> Result<KeyMaterial, Truncated> {
    let (label, der) = der::pem::decode_vec(bytes).map_err(|_| Truncated)?;
    if label != "PUBLIC KEY" {
        return Err(Truncated);
    }
    KeyMaterial::from_spki(&der)
}
