//! Credential activation (TPM 2.0 Part 1, §24): a secret that only the TPM with
//! one endorsement key releases, and only while it holds one attestation key.
//!
//! [`Credential::make`] is `TPM2_MakeCredential` in software. An answer with the secret
//! proves that the attestation key with that name and the endorsement key are in one
//! TPM.

use aws_lc_rs::agreement::{self, ECDH_P256, ECDH_P384, EphemeralPrivateKey, UnparsedPublicKey};
use aws_lc_rs::cipher::{AES_128, AES_256, EncryptingKey, EncryptionContext, UnboundCipherKey};
use aws_lc_rs::error::Unspecified;
use aws_lc_rs::hmac;
use aws_lc_rs::iv::FixedLength;
use aws_lc_rs::rand::{self, SystemRandom};
use aws_lc_rs::rsa::{
    OAEP_SHA256_MGF1SHA256, OAEP_SHA384_MGF1SHA384, OAEP_SHA512_MGF1SHA512, OaepPublicEncryptingKey,
    PublicEncryptingKey,
};
use zeroize::Zeroizing;

use super::area::PublicArea;
use super::key::KeyMaterial;
use super::pcr::Bank;
use crate::bytes::Truncated;

/// Ends with a zero byte, which is part of it (Part 1, annexes B.10.4 and C.6.4).
const IDENTITY: &[u8] = b"IDENTITY\0";

/// An endorsement key, which only decrypts credentials.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndorsementKey {
    key: KeyMaterial,
    name_algorithm: Bank,
    aes_bits: u16,
}

impl EndorsementKey {
    /// Reads a `TPMT_PUBLIC`: restricted, decrypting, fixed to its TPM; RSA, P-256 or
    /// P-384; AES-CFB of 128 or 256 bits; the name algorithm is not SHA-1.
    ///
    /// # Errors
    /// [`Truncated`] if it is anything else.
    pub fn from_area(area: &[u8]) -> Result<Self, Truncated> {
        let PublicArea { key, attributes, name_algorithm, aes_bits, .. } = PublicArea::parse(area)?;
        let aes_bits = aes_bits.filter(|bits| matches!(bits, 128 | 256)).ok_or(Truncated)?;
        if !attributes.are_of_an_endorsement_key() || name_algorithm == Bank::Sha1 {
            return Err(Truncated);
        }
        Ok(Self { key, name_algorithm, aes_bits })
    }

    /// SHA-256 of its `SubjectPublicKeyInfo`, which governors enrol. It does not depend on
    /// the template, so it can be computed from the EK certificate.
    #[must_use]
    pub fn digest(&self) -> Option<[u8; 32]> {
        self.key.to_spki().map(|spki| crate::crypto::sha256(&[&spki]))
    }
}

/// The message to the TPM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credential {
    /// Contents of `TPM2B_ID_OBJECT`: HMAC, then the encrypted secret.
    pub id_object: Vec<u8>,
    /// Contents of `TPM2B_ENCRYPTED_SECRET`: the seed, for the endorsement key.
    pub encrypted_seed: Vec<u8>,
}

impl Credential {
    /// Wraps `secret` for the TPM with this endorsement key and an object named
    /// `ak_name`.
    ///
    /// # Errors
    /// [`Unspecified`] if the cryptographic library does not accept the key.
    pub fn make(ek: &EndorsementKey, ak_name: &[u8], secret: &[u8; 32]) -> Result<Self, Unspecified> {
        let hash = ek.name_algorithm;
        let (seed, encrypted_seed) = match &ek.key {
            KeyMaterial::Rsa(key) => rsa_seed(key, hash)?,
            KeyMaterial::P256(point) => ecdh_seed(&ECDH_P256, point, hash)?,
            KeyMaterial::P384(point) => ecdh_seed(&ECDH_P384, point, hash)?,
        };
        let aes_key = kdfa(hash, &seed, b"STORAGE\0", ak_name, ek.aes_bits);
        let encrypted = aes_cfb(&aes_key, &sized(secret))?;
        let bits = u16::try_from(hash.length().saturating_mul(8)).map_err(|_| Unspecified)?;
        let hmac_key = kdfa(hash, &seed, b"INTEGRITY\0", &[], bits);
        let mut id_object = sized(&hmac(hash, &hmac_key, &[&encrypted, ak_name]));
        id_object.extend(encrypted);
        Ok(Self { id_object, encrypted_seed })
    }
}

/// A seed encrypted with RSA-OAEP, with the hash of the key's name algorithm.
fn rsa_seed(key: &[u8], hash: Bank) -> Result<(Zeroizing<Vec<u8>>, Vec<u8>), Unspecified> {
    let algorithm = match hash {
        Bank::Sha256 => &OAEP_SHA256_MGF1SHA256,
        Bank::Sha384 => &OAEP_SHA384_MGF1SHA384,
        Bank::Sha512 => &OAEP_SHA512_MGF1SHA512,
        Bank::Sha1 => return Err(Unspecified),
    };
    let spki = KeyMaterial::Rsa(key.to_vec()).to_spki().ok_or(Unspecified)?;
    let key = PublicEncryptingKey::from_der(&spki).map_err(|_| Unspecified)?;
    let key = OaepPublicEncryptingKey::new(key)?;
    let mut seed = Zeroizing::new(vec![0; hash.length()]);
    rand::fill(&mut seed)?;
    let mut out = vec![0; key.ciphertext_size()];
    let encrypted = key.encrypt(algorithm, &seed, &mut out, Some(IDENTITY))?.to_vec();
    Ok((seed, encrypted))
}

/// A seed agreed upon with an ephemeral key, whose point is sent.
fn ecdh_seed(
    curve: &'static agreement::Algorithm,
    point: &[u8],
    hash: Bank,
) -> Result<(Zeroizing<Vec<u8>>, Vec<u8>), Unspecified> {
    let ephemeral = EphemeralPrivateKey::generate(curve, &SystemRandom::new())?;
    let public = ephemeral.compute_public_key()?;
    let coordinates = |point: &[u8]| {
        let (_, xy) = point.split_first().ok_or(Unspecified)?;
        let (x, y) = xy.split_at_checked(xy.len() / 2).ok_or(Unspecified)?;
        Ok::<_, Unspecified>((x.to_vec(), y.to_vec()))
    };
    let ((own_x, own_y), (peer_x, _)) = (coordinates(public.as_ref())?, coordinates(point)?);
    let seed = agreement::agree_ephemeral(ephemeral, UnparsedPublicKey::new(curve, point), Unspecified, |z| {
        Ok(kdfe(hash, z, IDENTITY, &own_x, &peer_x))
    })?;
    Ok((seed, [sized(&own_x), sized(&own_y)].concat()))
}

/// `KDFa` (Part 1, §11.4.10.2) for outputs of at most one hash.
fn kdfa(hash: Bank, key: &[u8], label: &[u8], context: &[u8], bits: u16) -> Zeroizing<Vec<u8>> {
    let mut out = hmac(hash, key, &[&1_u32.to_be_bytes(), label, context, &u32::from(bits).to_be_bytes()]);
    out.truncate(usize::from(bits / 8));
    Zeroizing::new(out)
}

/// `KDFe` (Part 1, §11.4.10.3) for an output of one hash.
fn kdfe(hash: Bank, z: &[u8], label: &[u8], party_u: &[u8], party_v: &[u8]) -> Zeroizing<Vec<u8>> {
    Zeroizing::new(hash.hash(&[&1_u32.to_be_bytes(), z, label, party_u, party_v]))
}

fn hmac(hash: Bank, key: &[u8], parts: &[&[u8]]) -> Vec<u8> {
    let algorithm = match hash {
        Bank::Sha1 => hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY,
        Bank::Sha256 => hmac::HMAC_SHA256,
        Bank::Sha384 => hmac::HMAC_SHA384,
        Bank::Sha512 => hmac::HMAC_SHA512,
    };
    let mut context = hmac::Context::with_key(&hmac::Key::new(algorithm, key));
    parts.iter().for_each(|part| context.update(part));
    context.sign().as_ref().to_vec()
}

/// AES-CFB with a zero IV, because every key encrypts once.
fn aes_cfb(key: &[u8], plain: &[u8]) -> Result<Vec<u8>, Unspecified> {
    let algorithm = if key.len() == 16 { &AES_128 } else { &AES_256 };
    let key = EncryptingKey::cfb128(UnboundCipherKey::new(algorithm, key)?)?;
    let mut text = plain.to_vec();
    key.less_safe_encrypt(&mut text, EncryptionContext::Iv128(FixedLength::from([0; 16])))?;
    Ok(text)
}

/// A `TPM2B`.
fn sized(bytes: &[u8]) -> Vec<u8> {
    let length = u16::try_from(bytes.len()).unwrap_or(u16::MAX);
    [&length.to_be_bytes(), bytes].concat()
}
