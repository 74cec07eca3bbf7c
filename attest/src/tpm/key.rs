//! Attestation keys: `TPMT_PUBLIC` (TPM 2.0 Part 2, §12.2.4), or a bare PEM key.

use der::{Decode, Encode};

use super::pcr::Bank;
use crate::bytes::{Reader, Truncated};

const TYPE_RSA: u16 = 0x0001;
const TYPE_ECC: u16 = 0x0023;
const ALG_NULL: u16 = 0x0010;
const ALG_ECDAA: u16 = 0x001a;
const CURVE_P256: u16 = 0x0003;
const CURVE_P384: u16 = 0x0004;
/// Largest public area accepted, in bytes.
const MAX_LENGTH: usize = 2048;

/// `TPMA_OBJECT` bits (TPM 2.0 Part 2, §8.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attributes(pub u32);

impl Attributes {
    const NAMED: [(u32, &'static str); 6] = [
        (1, "fixedTPM"),
        (4, "fixedParent"),
        (5, "sensitiveDataOrigin"),
        (16, "restricted"),
        (17, "decrypt"),
        (18, "sign"),
    ];
    /// fixedTPM, fixedParent, sensitiveDataOrigin, restricted, sign; not decrypt.
    const OF_AK: u32 = 1 << 1 | 1 << 4 | 1 << 5 | 1 << 16 | 1 << 18;
    const JUDGED: u32 = Self::OF_AK | 1 << 17;

    /// Whether a key with these attributes signs only what its TPM made.
    #[must_use]
    pub const fn are_of_an_attestation_key(self) -> bool {
        self.0 & Self::JUDGED == Self::OF_AK
    }

    /// The attributes of an attestation key.
    #[must_use]
    pub const fn of_an_attestation_key() -> Self {
        Self(Self::OF_AK)
    }

    /// The names of those that matter here.
    #[must_use]
    pub fn describe(self) -> String {
        let set: Vec<&str> =
            Self::NAMED.iter().filter(|(bit, _)| self.0 >> bit & 1 == 1).map(|(_, name)| *name).collect();
        if set.is_empty() { "none".into() } else { set.join("|") }
    }
}

/// Key material in the form that verification takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyMaterial {
    /// PKCS#1 `RSAPublicKey`.
    Rsa(Vec<u8>),
    /// Uncompressed P-256 point.
    P256(Vec<u8>),
    /// Uncompressed P-384 point.
    P384(Vec<u8>),
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
    /// A bare public key: nothing is known of its attributes.
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

    /// The TPM name, where the public area is known.
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
    /// [`Truncated`] where it is none of them, or a kind of key that cannot
    /// sign quotes here.
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
        let mut r = Reader::new(area);
        let kind = r.u16_be()?;
        let name_algorithm = Bank::from_id(r.u16_be()?).ok_or(Truncated)?;
        let attributes = Attributes(r.u32_be()?);
        let _policy = r.tpm2b()?;
        skip_symmetric(&mut r)?;
        skip_scheme(&mut r)?;
        let key = match kind {
            TYPE_RSA => {
                let _bits = r.u16_be()?;
                let exponent = match r.u32_be()? {
                    0 => 65537,
                    other => other,
                };
                KeyMaterial::Rsa(rsa_public_key(r.tpm2b()?, exponent)?)
            }
            TYPE_ECC => {
                let curve = r.u16_be()?;
                skip_scheme(&mut r)?; // key derivation
                let (x, y) = (r.tpm2b()?, r.tpm2b()?);
                match curve {
                    CURVE_P256 => KeyMaterial::P256(point(x, y, 32)?),
                    CURVE_P384 => KeyMaterial::P384(point(x, y, 48)?),
                    _ => return Err(Truncated),
                }
            }
            _ => return Err(Truncated),
        };
        r.finish()?;
        let mut name = name_algorithm.id().to_be_bytes().to_vec();
        name.extend(name_algorithm.hash(&[area]));
        Ok(Self::Area { key, attributes, name })
    }
}

fn skip_symmetric(r: &mut Reader<'_>) -> Result<(), Truncated> {
    if r.u16_be()? != ALG_NULL {
        r.take(4)?; // key bits, mode
    }
    Ok(())
}

fn skip_scheme(r: &mut Reader<'_>) -> Result<(), Truncated> {
    match r.u16_be()? {
        ALG_NULL => {}
        ALG_ECDAA => {
            r.take(4)?; // hash, count
        }
        _ => {
            r.take(2)?; // hash
        }
    }
    Ok(())
}

/// An uncompressed point; the TPM may leave out leading zeroes.
fn point(x: &[u8], y: &[u8], size: usize) -> Result<Vec<u8>, Truncated> {
    let mut out = vec![4];
    for coordinate in [x, y] {
        let padding = size.checked_sub(coordinate.len()).ok_or(Truncated)?;
        out.resize(out.len().saturating_add(padding), 0);
        out.extend_from_slice(coordinate);
    }
    Ok(out)
}

fn rsa_public_key(modulus: &[u8], exponent: u32) -> Result<Vec<u8>, Truncated> {
    let exponent = exponent.to_be_bytes();
    let parts = || -> der::Result<Vec<u8>> {
        let mut body = der::asn1::UintRef::new(modulus)?.to_der()?;
        body.extend(der::asn1::UintRef::new(&exponent)?.to_der()?);
        der::Any::new(der::Tag::Sequence, body)?.to_der()
    };
    parts().map_err(|_| Truncated)
}

fn from_pem(bytes: &[u8]) -> Result<KeyMaterial, Truncated> {
    use x509_cert::spki::SubjectPublicKeyInfoOwned;
    let (label, der) = der::pem::decode_vec(bytes).map_err(|_| Truncated)?;
    if label != "PUBLIC KEY" {
        return Err(Truncated);
    }
    let info = SubjectPublicKeyInfoOwned::from_der(&der).map_err(|_| Truncated)?;
    let key = info.subject_public_key.as_bytes().ok_or(Truncated)?.to_vec();
    match (info.algorithm.oid.to_string().as_str(), key.len()) {
        ("1.2.840.113549.1.1.1", _) => Ok(KeyMaterial::Rsa(key)),
        ("1.2.840.10045.2.1", 65) => Ok(KeyMaterial::P256(key)),
        ("1.2.840.10045.2.1", 97) => Ok(KeyMaterial::P384(key)),
        _ => Err(Truncated),
    }
}
