//! Public areas of TPM keys: `TPMT_PUBLIC` (TPM 2.0 Part 2, §12.2.4).

use der::Encode;

use super::key::KeyMaterial;
use super::pcr::Bank;
use crate::bytes::{Reader, Truncated};

const TYPE_RSA: u16 = 0x0001;
const TYPE_ECC: u16 = 0x0023;
const ALG_AES: u16 = 0x0006;
const ALG_NULL: u16 = 0x0010;
const ALG_ECDAA: u16 = 0x001a;
const ALG_CFB: u16 = 0x0043;
const CURVE_P256: u16 = 0x0003;
const CURVE_P384: u16 = 0x0004;
/// Largest public area accepted, in bytes.
pub(super) const MAX_LENGTH: usize = 2048;

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
    /// fixedTPM, fixedParent, sensitiveDataOrigin, restricted, decrypt; not sign.
    const OF_EK: u32 = 1 << 1 | 1 << 4 | 1 << 5 | 1 << 16 | 1 << 17;
    const JUDGED: u32 = Self::OF_AK | Self::OF_EK;

    /// Whether a key with these attributes signs only data that its TPM made.
    #[must_use]
    pub const fn are_of_an_attestation_key(self) -> bool {
        self.0 & Self::JUDGED == Self::OF_AK
    }

    /// Whether a key with these attributes decrypts only credentials.
    #[must_use]
    pub const fn are_of_an_endorsement_key(self) -> bool {
        self.0 & Self::JUDGED == Self::OF_EK
    }

    /// The attributes of an attestation key.
    #[must_use]
    pub const fn of_an_attestation_key() -> Self {
        Self(Self::OF_AK)
    }

    /// Names of the relevant attributes.
    #[must_use]
    pub fn describe(self) -> String {
        let set: Vec<&str> =
            Self::NAMED.iter().filter(|(bit, _)| self.0 >> bit & 1 == 1).map(|(_, name)| *name).collect();
        if set.is_empty() { "none".into() } else { set.join("|") }
    }
}

/// A parsed public area.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PublicArea {
    pub(super) key: KeyMaterial,
    pub(super) attributes: Attributes,
    pub(super) name_algorithm: Bank,
    /// Key size of AES-CFB, in bits, if the key protects others.
    pub(super) aes_bits: Option<u16>,
    /// Name algorithm id, then the digest of the area (Part 1, §16).
    pub(super) name: Vec<u8>,
}

impl PublicArea {
    /// Reads a `TPMT_PUBLIC` that fills `area`.
    pub(super) fn parse(area: &[u8]) -> Result<Self, Truncated> {
        if area.len() > MAX_LENGTH {
            return Err(Truncated);
        }
        let mut r = Reader::new(area);
        let kind = r.u16_be()?;
        let name_algorithm = Bank::from_id(r.u16_be()?).ok_or(Truncated)?;
        let attributes = Attributes(r.u32_be()?);
        let _policy = r.tpm2b()?;
        let aes_bits = symmetric(&mut r)?;
        skip_scheme(&mut r)?;
        let key = match kind {
            TYPE_RSA => {
                let _bits = r.u16_be()?;
                let exponent = match r.u32_be()? {
                    0 => 65537,
                    other => other,
                };
                KeyMaterial::Rsa(rsa_public_key(r.tpm2b()?, &exponent.to_be_bytes())?)
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
        Ok(Self { key, attributes, name_algorithm, aes_bits, name })
    }
}

/// `TPMT_SYM_DEF_OBJECT`: none, or AES-CFB.
fn symmetric(r: &mut Reader<'_>) -> Result<Option<u16>, Truncated> {
    match r.u16_be()? {
        ALG_NULL => Ok(None),
        ALG_AES => {
            let bits = r.u16_be()?;
            if r.u16_be()? == ALG_CFB { Ok(Some(bits)) } else { Err(Truncated) }
        }
        _ => Err(Truncated),
    }
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

/// An uncompressed point; the TPM may omit leading zeroes.
fn point(x: &[u8], y: &[u8], size: usize) -> Result<Vec<u8>, Truncated> {
    let mut out = vec![4];
    for coordinate in [x, y] {
        let padding = size.checked_sub(coordinate.len()).ok_or(Truncated)?;
        out.resize(out.len().saturating_add(padding), 0);
        out.extend_from_slice(coordinate);
    }
    Ok(out)
}

/// PKCS#1 `RSAPublicKey` of big-endian integers.
pub(super) fn rsa_public_key(modulus: &[u8], exponent: &[u8]) -> Result<Vec<u8>, Truncated> {
    let parts = || -> der::Result<Vec<u8>> {
        let mut body = der::asn1::UintRef::new(modulus)?.to_der()?;
        body.extend(der::asn1::UintRef::new(exponent)?.to_der()?);
        der::Any::new(der::Tag::Sequence, body)?.to_der()
    };
    parts().map_err(|_| Truncated)
}
