//! `TPMT_SIGNATURE` (TPM 2.0 Part 2, §11.3.4).

use super::key::KeyMaterial;
use super::pcr::Bank;
use crate::bytes::{Reader, Truncated};
use crate::crypto::{self, Scheme};

const RSASSA: u16 = 0x0014;
const RSAPSS: u16 = 0x0016;
const ECDSA: u16 = 0x0018;
/// Largest signature structure accepted: RSA-4096 with its header.
pub const MAX_LENGTH: usize = 520;

/// The form of a signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// RSASSA-PKCS1-v1_5.
    RsaSsa,
    /// RSASSA-PSS.
    RsaPss,
    /// ECDSA.
    Ecdsa,
}

/// A parsed signature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signature {
    /// Its form.
    pub form: Form,
    /// Its hash.
    pub hash: Bank,
    value: Value,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Value {
    Rsa(Vec<u8>),
    Ecdsa { r: Vec<u8>, s: Vec<u8> },
}

impl Signature {
    /// Parses a `TPMT_SIGNATURE` that fills `bytes`.
    ///
    /// # Errors
    /// [`Truncated`], also for unknown forms and hashes.
    pub fn parse(bytes: &[u8]) -> Result<Self, Truncated> {
        if bytes.len() > MAX_LENGTH {
            return Err(Truncated);
        }
        let mut r = Reader::new(bytes);
        let form = match r.u16_be()? {
            RSASSA => Form::RsaSsa,
            RSAPSS => Form::RsaPss,
            ECDSA => Form::Ecdsa,
            _ => return Err(Truncated),
        };
        let hash = Bank::from_id(r.u16_be()?).ok_or(Truncated)?;
        let value = match form {
            Form::RsaSsa | Form::RsaPss => Value::Rsa(r.tpm2b()?.to_vec()),
            Form::Ecdsa => Value::Ecdsa { r: r.tpm2b()?.to_vec(), s: r.tpm2b()?.to_vec() },
        };
        r.finish()?;
        Ok(Self { form, hash, value })
    }

    /// Form and hash, such as `ecdsa-sha256`.
    #[must_use]
    pub fn describe(&self) -> String {
        let form = match self.form {
            Form::RsaSsa => "rsassa",
            Form::RsaPss => "rsapss",
            Form::Ecdsa => "ecdsa",
        };
        format!("{form}-{}", self.hash)
    }

    /// The scheme under this key; `None` if it is not trusted (SHA-1) or does not match the
    /// key.
    #[must_use]
    pub const fn scheme(&self, key: &KeyMaterial) -> Option<Scheme> {
        match (self.form, self.hash, key) {
            (Form::RsaSsa, Bank::Sha256, KeyMaterial::Rsa(_)) => Some(Scheme::Pkcs1Sha256),
            (Form::RsaSsa, Bank::Sha384, KeyMaterial::Rsa(_)) => Some(Scheme::Pkcs1Sha384),
            (Form::RsaPss, Bank::Sha256, KeyMaterial::Rsa(_)) => Some(Scheme::PssSha256),
            (Form::RsaPss, Bank::Sha384, KeyMaterial::Rsa(_)) => Some(Scheme::PssSha384),
            (Form::Ecdsa, Bank::Sha256, KeyMaterial::P256(_)) => Some(Scheme::P256Sha256),
            (Form::Ecdsa, Bank::Sha384, KeyMaterial::P384(_)) => Some(Scheme::P384Sha384),
            _ => None,
        }
    }

    /// Whether the key made this signature over `message`.
    #[must_use]
    pub fn verifies(&self, key: &KeyMaterial, message: &[u8]) -> bool {
        let (KeyMaterial::Rsa(bytes) | KeyMaterial::P256(bytes) | KeyMaterial::P384(bytes)) = key;
        self.scheme(key).is_some_and(|scheme| {
            let size = if scheme == Scheme::P384Sha384 { 48 } else { 32 };
            self.fixed(size).is_some_and(|signature| crypto::verify(scheme, bytes, message, &signature))
        })
    }

    /// The bytes for verification: RSA unchanged, ECDSA as `r ‖ s`.
    fn fixed(&self, size: usize) -> Option<Vec<u8>> {
        match &self.value {
            Value::Rsa(bytes) => Some(bytes.clone()),
            Value::Ecdsa { r, s } => {
                let mut out = Vec::with_capacity(size.saturating_mul(2));
                for number in [r, s] {
                    out.resize(out.len().checked_add(size.checked_sub(number.len())?)?, 0);
                    out.extend_from_slice(number);
                }
                Some(out)
            }
        }
    }
}
