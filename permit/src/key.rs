//! Signing keys of the two suites, and their public halves as COSE keys.

use std::fmt;
use std::sync::{Arc, OnceLock};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair, ML_DSA_65, ML_DSA_65_SIGNING,
    ParsedPublicKey, PqdsaKeyPair, VerificationAlgorithm,
};
use data_encoding::BASE64;
use portcullis_wire::{Digest, Error, Fields, Value, bstr, decode, encode, map, sha256};
use zeroize::Zeroizing;

use crate::filekind::{FileKind, private_hint, public_hint};

const KTY: i64 = 1;
const ALG: i64 = 3;
const EC2: u64 = 2;
const AKP: u64 = 7;
const P256: u64 = 1;
const MAX_KEY: usize = 4096;

/// A set of algorithms for permits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Suite {
    /// ECDSA P-256 with SHA-256 (ESP256, RFC 9864).
    Classic,
    /// ML-DSA-65 (RFC 9964).
    Pq,
}

impl Suite {
    /// Both suites.
    pub const ALL: [Self; 2] = [Self::Classic, Self::Pq];

    /// `classic` or `pq`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Classic => "classic",
            Self::Pq => "pq",
        }
    }

    /// The suite with this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|suite| suite.name() == name)
    }

    /// COSE algorithm: ESP256 -9, ML-DSA-65 -49.
    #[must_use]
    pub const fn algorithm(self) -> i64 {
        match self {
            Self::Classic => -9,
            Self::Pq => -49,
        }
    }

    /// Whether a foreign signature's COSE algorithm is equivalent to this suite's: ES256
    /// (-7) with a P-256 key is ESP256 (RFC 9864, §2.1).
    #[must_use]
    pub const fn signs_as(self, algorithm: i64) -> bool {
        algorithm == self.algorithm() || (matches!(self, Self::Classic) && algorithm == -7)
    }
}

/// Why a key was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyError {
    /// Malformed CBOR.
    Malformed(Error),
    /// Not a COSE_Key of a known suite.
    Unknown,
    /// Not a PKCS#8 private key of a known suite.
    Private,
    /// The file is not a private key.
    NotPrivate(FileKind),
    /// The file is not a public key.
    NotPublic(FileKind),
    /// The system provided no key or no randomness.
    Generation,
}

impl fmt::Display for KeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed(error) => write!(f, "malformed key: {error}"),
            Self::Unknown => f.write_str("not a P-256 or ML-DSA-65 COSE_Key"),
            Self::Private => f.write_str("not a PKCS#8 private key for P-256 or ML-DSA-65"),
            Self::NotPrivate(found) => {
                let hint = private_hint(*found);
                write!(f, "{found}; required a private key for P-256 or ML-DSA-65 in PEM (PKCS#8): {hint}")
            }
            Self::NotPublic(found) => {
                let hint = public_hint(*found);
                write!(f, "{found}; required a public key for P-256 or ML-DSA-65 (COSE_Key): {hint}")
            }
            Self::Generation => f.write_str("key generation failed"),
        }
    }
}

impl std::error::Error for KeyError {}

impl From<Error> for KeyError {
    fn from(error: Error) -> Self {
        Self::Malformed(error)
    }
}

/// A public key that verifies statements.
#[derive(Clone)]
pub struct PublicKey {
    suite: Suite,
    /// Uncompressed P-256 point (65 bytes), or an ML-DSA-65 key (1952 bytes).
    bytes: Vec<u8>,
    thumbprint: Digest,
    /// The key in the form that the cryptography needs, computed at its first use. `None`
    /// if these bytes are not a key; then no signature verifies.
    decoded: Arc<OnceLock<Option<ParsedPublicKey>>>,
}

impl PartialEq for PublicKey {
    fn eq(&self, other: &Self) -> bool {
        (self.suite, &self.bytes) == (other.suite, &other.bytes)
    }
}

impl Eq for PublicKey {}

impl PublicKey {
    fn new(suite: Suite, bytes: Vec<u8>) -> Self {
        let members = map(required_members(suite, &bytes));
        Self { suite, thumbprint: sha256(&[&encode(&members)]), bytes, decoded: Arc::default() }
    }

    /// Reads a deterministic COSE_Key (RFC 9052 §7, RFC 9964).
    ///
    /// # Errors
    /// [`KeyError`].
    pub fn from_cose(bytes: &[u8]) -> Result<Self, KeyError> {
        let mut fields = Fields::of(decode(bytes, MAX_KEY)?)?;
        let (kty, alg) = (fields.uint(KTY)?, fields.required(ALG)?);
        let suite = Suite::ALL.into_iter().find(|suite| alg == suite.algorithm().into()).ok_or(KeyError::Unknown)?;
        let bytes = match (suite, kty) {
            (Suite::Classic, EC2) => {
                if fields.uint(-1)? != P256 {
                    return Err(KeyError::Unknown);
                }
                let (x, y): ([u8; 32], [u8; 32]) = (fields.array(-2)?, fields.array(-3)?);
                [&[4][..], &x, &y].concat()
            }
            (Suite::Pq, AKP) => fields.bytes(-1)?,
            _ => return Err(KeyError::Unknown),
        };
        fields.finish()?;
        if suite == Suite::Pq && bytes.len() != 1952 {
            return Err(KeyError::Unknown);
        }
        Ok(Self::new(suite, bytes))
    }

    /// Reads a file that should be a public key.
    ///
    /// # Errors
    /// [`KeyError::NotPublic`], which names the actual content.
    pub fn from_file(bytes: &[u8]) -> Result<Self, KeyError> {
        Self::from_cose(bytes).map_err(|_| KeyError::NotPublic(FileKind::of(bytes)))
    }

    /// The deterministic COSE_Key.
    #[must_use]
    pub fn to_cose(&self) -> Vec<u8> {
        let mut members = required_members(self.suite, &self.bytes);
        if self.suite == Suite::Classic {
            members.push((ALG, self.suite.algorithm().into()));
        }
        encode(&map(members))
    }

    /// The suite.
    #[must_use]
    pub const fn suite(&self) -> Suite {
        self.suite
    }

    /// COSE key thumbprint (RFC 9679), SHA-256.
    #[must_use]
    pub const fn thumbprint(&self) -> &Digest {
        &self.thumbprint
    }

    /// Whether `signature` over `message` was made by this key.
    #[must_use]
    pub fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        let algorithm: &'static dyn VerificationAlgorithm = match self.suite {
            Suite::Classic => &ECDSA_P256_SHA256_FIXED,
            Suite::Pq => &ML_DSA_65,
        };
        let decoded = self.decoded.get_or_init(|| ParsedPublicKey::new(algorithm, &self.bytes).ok());
        decoded.as_ref().is_some_and(|key| key.verify_sig(message, signature).is_ok())
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({} {})", self.suite.name(), portcullis_wire::hex::hex(&self.thumbprint))
    }
}

/// The members that a thumbprint covers (RFC 9679 §4, RFC 9964 §4).
fn required_members(suite: Suite, bytes: &[u8]) -> Vec<(i64, Value)> {
    match suite {
        Suite::Classic => {
            let (x, y) = bytes.get(1..).unwrap_or_default().split_at_checked(32).unwrap_or_default();
            vec![(KTY, EC2.into()), (-1, P256.into()), (-2, bstr(x)), (-3, bstr(y))]
        }
        Suite::Pq => vec![(KTY, AKP.into()), (ALG, suite.algorithm().into()), (-1, bstr(bytes))],
    }
}

enum Pair {
    Classic(EcdsaKeyPair),
    Pq(PqdsaKeyPair),
}

/// A private key. It is never printed.
pub struct SigningKey {
    pair: Pair,
    public: PublicKey,
}

impl SigningKey {
    /// Generates a new key.
    ///
    /// # Errors
    /// [`KeyError::Generation`].
    pub fn generate(suite: Suite) -> Result<Self, KeyError> {
        let pair = match suite {
            Suite::Classic => EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).map(Pair::Classic),
            Suite::Pq => PqdsaKeyPair::generate(&ML_DSA_65_SIGNING).map(Pair::Pq),
        };
        pair.map(Self::of).map_err(|_| KeyError::Generation)
    }

    /// Reads a PKCS#8 key.
    ///
    /// # Errors
    /// [`KeyError::Private`].
    pub fn from_pkcs8(der: &[u8]) -> Result<Self, KeyError> {
        EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, der)
            .map(Pair::Classic)
            .or_else(|_| PqdsaKeyPair::from_pkcs8(&ML_DSA_65_SIGNING, der).map(Pair::Pq))
            .map(Self::of)
            .map_err(|_| KeyError::Private)
    }

    /// Reads a file that should be a private key: PKCS#8 in PEM.
    ///
    /// # Errors
    /// [`KeyError::NotPrivate`], which names the actual content.
    pub fn from_pem(bytes: impl AsRef<[u8]>) -> Result<Self, KeyError> {
        let bytes = bytes.as_ref();
        Self::in_pem(bytes).map_err(|_| KeyError::NotPrivate(FileKind::of(bytes)))
    }

    fn in_pem(bytes: &[u8]) -> Result<Self, KeyError> {
        let text = std::str::from_utf8(bytes).map_err(|_| KeyError::Private)?;
        let inner = text.trim().strip_prefix(PEM_BEGIN).and_then(|rest| rest.strip_suffix(PEM_END));
        let inner: Zeroizing<String> = Zeroizing::new(inner.ok_or(KeyError::Private)?.split_whitespace().collect());
        let der = Zeroizing::new(BASE64.decode(inner.as_bytes()).map_err(|_| KeyError::Private)?);
        Self::from_pkcs8(&der)
    }

    fn of(pair: Pair) -> Self {
        let public = match &pair {
            Pair::Classic(pair) => PublicKey::new(Suite::Classic, pair.public_key().as_ref().to_vec()),
            Pair::Pq(pair) => PublicKey::new(Suite::Pq, pair.public_key().as_ref().to_vec()),
        };
        Self { pair, public }
    }

    /// The key as PKCS#8.
    ///
    /// # Errors
    /// [`KeyError::Private`].
    pub fn to_pkcs8(&self) -> Result<Zeroizing<Vec<u8>>, KeyError> {
        match &self.pair {
            Pair::Classic(pair) => pair.to_pkcs8v1().map(|der| der.as_ref().to_vec()),
            Pair::Pq(pair) => pair.to_pkcs8v1().map(|der| der.as_ref().to_vec()),
        }
        .map(Zeroizing::new)
        .map_err(|_| KeyError::Private)
    }

    /// The key as PKCS#8 in PEM.
    ///
    /// # Errors
    /// [`KeyError::Private`].
    pub fn to_pem(&self) -> Result<Zeroizing<String>, KeyError> {
        let der = self.to_pkcs8()?;
        let body = Zeroizing::new(BASE64.encode(&der));
        let mut pem = Zeroizing::new(format!("{PEM_BEGIN}\n"));
        for line in body.as_bytes().chunks(64) {
            pem.push_str(std::str::from_utf8(line).unwrap_or_default());
            pem.push('\n');
        }
        pem.push_str(PEM_END);
        pem.push('\n');
        Ok(pem)
    }

    /// The public half.
    #[must_use]
    pub const fn public(&self) -> &PublicKey {
        &self.public
    }

    /// Signs a message.
    ///
    /// # Errors
    /// [`KeyError::Generation`] if the system provides no randomness.
    pub fn sign(&self, message: &[u8]) -> Result<Vec<u8>, KeyError> {
        match &self.pair {
            Pair::Classic(pair) => {
                pair.sign(&SystemRandom::new(), message).map(|s| s.as_ref().to_vec()).map_err(|_| KeyError::Generation)
            }
            Pair::Pq(pair) => {
                let mut signature = vec![0; pair.algorithm().signature_len()];
                pair.sign(message, &mut signature).map_err(|_| KeyError::Generation)?;
                Ok(signature)
            }
        }
    }
}

const PEM_BEGIN: &str = "-----BEGIN PRIVATE KEY-----";
const PEM_END: &str = "-----END PRIVATE KEY-----";

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey(of {:?})", self.public)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_suites_sign_verify_and_travel() {
        for suite in Suite::ALL {
            let key = SigningKey::generate(suite).unwrap();
            let signature = key.sign(b"message").unwrap();
            let public = PublicKey::from_cose(&key.public().to_cose()).unwrap();
            assert_eq!(&public, key.public());
            assert!(public.verifies(b"message", &signature));
            assert!(!public.verifies(b"other", &signature));
            let again = SigningKey::from_pem(key.to_pem().unwrap().as_bytes()).unwrap();
            assert_eq!(again.public(), key.public());
            let other = SigningKey::generate(suite).unwrap();
            assert!(!other.public().verifies(b"message", &signature));
            assert_ne!(other.public().thumbprint(), key.public().thumbprint());
        }
    }

    #[test]
    fn no_key_prints_its_secret() {
        let key = SigningKey::generate(Suite::Classic).unwrap();
        assert!(format!("{key:?}").starts_with("SigningKey(of PublicKey(classic "));
        assert_eq!(SigningKey::from_pem("garbage").unwrap_err(), KeyError::NotPrivate(FileKind::Text));
    }
}
