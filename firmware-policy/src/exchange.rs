//! The exchanges before a request: a node's challenge and the authority's
//! answer; a credential and its secret.

use portcullis_attest::binding::BatchProof;
use portcullis_attest::evidence;
use portcullis_attest::tpm::credential::Credential;
use portcullis_wire::{Digest, Error, Fields, Value, bstr, decode, encode, map, merkle, or_null};

use crate::authority::AuthorityAnswer;

/// Largest challenge accepted, in bytes.
pub const MAX_CHALLENGE: usize = 256;
/// Largest message of an activation accepted, in bytes.
const MAX_ACTIVATION: usize = 8 * 1024;
/// Largest answer accepted, in bytes.
pub const MAX_ANSWER: usize = evidence::MAX_LENGTH + 256 * 1024;

/// `POST /v1/attest`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AttestRequest {
    /// The node's nonce.
    pub nonce: [u8; 32],
    /// Size of the largest tree that the node has seen.
    pub seen_size: Option<u64>,
}

impl AttestRequest {
    /// The deterministic encoding.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        encode(&map([(1, bstr(self.nonce)), (2, or_null(self.seen_size.map(Value::from)))]))
    }

    /// Reads a challenge.
    ///
    /// # Errors
    /// [`Error`].
    pub fn decode(bytes: &[u8]) -> Result<Self, Error> {
        let mut fields = Fields::of(decode(bytes, MAX_CHALLENGE)?)?;
        let request = Self { nonce: fields.array(1)?, seen_size: fields.maybe(2, Fields::uint)? };
        fields.finish()?;
        Ok(request)
    }
}

/// The answer, with the nonce for the node.
#[derive(Clone, Debug)]
pub struct AttestResponse {
    /// The authority's statement, evidence and paths.
    pub answer: AuthorityAnswer,
    /// The nonce that the node's first request must carry.
    pub nonce: [u8; 32],
}

impl AttestResponse {
    /// The deterministic encoding.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let path = |path: &[Digest]| Value::Array(path.iter().map(bstr).collect());
        let AuthorityAnswer { statement, evidence, batch, consistency } = &self.answer;
        encode(&map([
            (1, bstr(statement)),
            (2, bstr(evidence)),
            (3, Value::Array(vec![batch.index.into(), batch.size.into(), path(&batch.path)])),
            (4, path(consistency)),
            (5, bstr(self.nonce)),
        ]))
    }

    /// Reads an answer. Nothing is verified.
    ///
    /// # Errors
    /// [`Error`].
    pub fn decode(bytes: &[u8]) -> Result<Self, Error> {
        let mut fields = Fields::of(decode(bytes, MAX_ANSWER)?)?;
        let (statement, evidence) = (fields.bytes(1)?, fields.bytes(2)?);
        let batch = <[Value; 3]>::try_from(fields.items(3)?).map_err(|_| Error::WrongType(3))?;
        let [Value::Integer(index), Value::Integer(size), Value::Array(path)] = batch else {
            return Err(Error::WrongType(3));
        };
        let wrong = |_| Error::WrongType(3);
        let batch = BatchProof {
            index: u64::try_from(index).map_err(wrong)?,
            size: u64::try_from(size).map_err(wrong)?,
            path: digests(path, 3)?,
        };
        let consistency = digests(fields.items(4)?, 4)?;
        let response =
            Self { answer: AuthorityAnswer { statement, evidence, batch, consistency }, nonce: fields.array(5)? };
        fields.finish()?;
        Ok(response)
    }
}

/// `POST /v1/activate`: the keys first, then the secret that came with them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ActivateRequest {
    /// Asks for a credential for two keys of one TPM.
    Keys {
        /// `TPMT_PUBLIC` of the endorsement key.
        ek: Vec<u8>,
        /// `TPMT_PUBLIC` of the attestation key.
        ak: Vec<u8>,
    },
    /// Shows that the TPM released the secret.
    Secret([u8; 32]),
}

impl ActivateRequest {
    /// The deterministic encoding.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        encode(&match self {
            Self::Keys { ek, ak } => map([(1, bstr(ek)), (2, bstr(ak))]),
            Self::Secret(secret) => map([(3, bstr(secret))]),
        })
    }

    /// Reads a request.
    ///
    /// # Errors
    /// [`Error`].
    pub fn decode(bytes: &[u8]) -> Result<Self, Error> {
        let mut fields = Fields::of(decode(bytes, MAX_ACTIVATION)?)?;
        let request = match fields.optional(3) {
            Some(secret) => {
                Self::Secret(secret.into_bytes().ok().and_then(|s| s.try_into().ok()).ok_or(Error::WrongType(3))?)
            }
            None => Self::Keys { ek: fields.bytes(1)?, ak: fields.bytes(2)? },
        };
        fields.finish()?;
        Ok(request)
    }
}

/// The answer to [`ActivateRequest::Keys`]: a credential for both keys.
#[must_use]
pub fn encode_credential(credential: &Credential) -> Vec<u8> {
    encode(&map([(1, bstr(&credential.id_object)), (2, bstr(&credential.encrypted_seed))]))
}

/// Reads a credential.
///
/// # Errors
/// [`Error`].
pub fn decode_credential(bytes: &[u8]) -> Result<Credential, Error> {
    let mut fields = Fields::of(decode(bytes, MAX_ACTIVATION)?)?;
    let credential = Credential { id_object: fields.bytes(1)?, encrypted_seed: fields.bytes(2)? };
    fields.finish()?;
    Ok(credential)
}

fn digests(items: Vec<Value>, key: i64) -> Result<Vec<Digest>, Error> {
    if items.len() > merkle::MAX_PROOF {
        return Err(Error::WrongType(key));
    }
    let digest = |item: Value| item.into_bytes().ok().and_then(|bytes| bytes.try_into().ok());
    items.into_iter().map(digest).collect::<Option<_>>().ok_or(Error::WrongType(key))
}
