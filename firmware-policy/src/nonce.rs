//! Nonces that cannot be minted in advance: they contain the latest checkpoint
//! root and the time, and live for ten seconds.

use portcullis_wire::{Digest, Error, Value, bstr, encode, sha256};

const LABEL: &str = "portcullis/nonce/1";
/// Most seconds for which a nonce is valid; bundles may set fewer.
pub const LIFETIME: u64 = 10;

/// The inputs of a nonce; archived with the decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoncePreimage {
    /// Root of the authority's latest checkpoint.
    pub root: Digest,
    /// Unix seconds.
    pub issued: u64,
    /// Fresh randomness.
    pub random: [u8; 32],
}

impl NoncePreimage {
    /// The nonce.
    #[must_use]
    pub fn nonce(&self) -> [u8; 32] {
        sha256(&[&encode(&self.to_value())])
    }

    pub(crate) fn to_value(self) -> Value {
        Value::Array(vec![LABEL.into(), bstr(self.root), self.issued.into(), bstr(self.random)])
    }

    pub(crate) fn from_value(value: Value) -> Result<Self, Error> {
        let refused = || Error::Shape("the preimage of a nonce");
        let parts = value.into_array().ok().and_then(|parts| <[Value; 4]>::try_from(parts).ok());
        let Some([label, Value::Bytes(root), Value::Integer(issued), Value::Bytes(random)]) = parts else {
            return Err(refused());
        };
        if label != LABEL.into() {
            return Err(refused());
        }
        let fixed = |bytes: Vec<u8>| bytes.try_into().map_err(|_| refused());
        Ok(Self { root: fixed(root)?, issued: issued.try_into().map_err(|_| refused())?, random: fixed(random)? })
    }
}
