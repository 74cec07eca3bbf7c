//! The cryptography for evidence, from `aws-lc-rs`: hashes, and verification of exactly
//! the signature forms that AMD and the TCG define.

use aws_lc_rs::digest;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256,
    RSA_PKCS1_2048_8192_SHA384, RSA_PSS_2048_8192_SHA256, RSA_PSS_2048_8192_SHA384, VerificationAlgorithm,
};

pub use portcullis_wire::sha256;

/// SHA-384.
#[must_use]
pub fn sha384(parts: &[&[u8]]) -> [u8; 48] {
    hash(&digest::SHA384, parts)
}

/// SHA-512.
#[must_use]
pub fn sha512(parts: &[&[u8]]) -> [u8; 64] {
    hash(&digest::SHA512, parts)
}

/// SHA-1: only to replay old event logs for display. No check trusts it.
#[must_use]
pub fn sha1(parts: &[&[u8]]) -> [u8; 20] {
    hash(&digest::SHA1_FOR_LEGACY_USE_ONLY, parts)
}

fn hash<const N: usize>(algorithm: &'static digest::Algorithm, parts: &[&[u8]]) -> [u8; N] {
    let mut context = digest::Context::new(algorithm);
    parts.iter().for_each(|part| context.update(part));
    let mut out = [0; N];
    // The algorithm and N are paired by the callers above.
    out.iter_mut().zip(context.finish().as_ref()).for_each(|(to, from)| *to = *from);
    out
}

/// A signature scheme that evidence may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// ECDSA P-384 with SHA-384, `r ‖ s` big-endian, 96 bytes.
    P384Sha384,
    /// ECDSA P-256 with SHA-256, `r ‖ s` big-endian, 64 bytes.
    P256Sha256,
    /// RSASSA-PSS with SHA-384 and a salt of 48 bytes.
    PssSha384,
    /// RSASSA-PSS with SHA-256 and a salt of 32 bytes.
    PssSha256,
    /// RSASSA-PKCS1-v1_5 with SHA-384.
    Pkcs1Sha384,
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    Pkcs1Sha256,
}

impl Scheme {
    fn algorithm(self) -> &'static dyn VerificationAlgorithm {
        match self {
            Self::P384Sha384 => &ECDSA_P384_SHA384_FIXED,
            Self::P256Sha256 => &ECDSA_P256_SHA256_FIXED,
            Self::PssSha384 => &RSA_PSS_2048_8192_SHA384,
            Self::PssSha256 => &RSA_PSS_2048_8192_SHA256,
            Self::Pkcs1Sha384 => &RSA_PKCS1_2048_8192_SHA384,
            Self::Pkcs1Sha256 => &RSA_PKCS1_2048_8192_SHA256,
        }
    }
}

/// Whether the key made `signature` over `message`.
///
/// `key` is an uncompressed point for ECDSA and a PKCS#1 `RSAPublicKey` for RSA.
/// A malformed key verifies nothing.
#[must_use]
pub fn verify(scheme: Scheme, key: &[u8], message: &[u8], signature: &[u8]) -> bool {
    scheme.algorithm().verify_sig(key, message, signature).is_ok()
}

/// A P-384 public key that is decoded once and verifies many reports.
pub(crate) struct PreparedP384(ParsedPublicKey);

impl PreparedP384 {
    pub(crate) fn new(point: &[u8]) -> Option<Self> {
        ParsedPublicKey::new(&ECDSA_P384_SHA384_FIXED, point).ok().map(Self)
    }

    pub(crate) fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        self.0.verify_sig(message, signature).is_ok()
    }
}
