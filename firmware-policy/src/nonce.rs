//! Nonces that cannot be minted in advance: they contain the latest checkpoint
//! root and the time, and live for ten seconds.

use portcullis_wire::{Digest, Value, bstr, encode, sha256};

/// Seconds for which a nonce is good.
pub const LIFETIME: u64 = 10;

/// What a nonce was made of; archived with the decision.
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
        Value::Array(vec!["portcullis/nonce/1".into(), bstr(self.root), self.issued.into(), bstr(self.random)])
    }
}
