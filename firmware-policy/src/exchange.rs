//! The first exchange on the wire: a node's challenge, the authority's answer.

use portcullis_attest::binding::BatchProof;
use portcullis_attest::evidence;
use portcullis_wire::{Digest, Error, Fields, Value, bstr, decode, encode, map, merkle, or_null};

use crate::authority::AuthorityAnswer;

/// Largest challenge accepted, in bytes.
pub const MAX_CHALLENGE: usize = 256;
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
    /// What the authority shows.
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

fn digests(items: Vec<Value>, key: i64) -> Result<Vec<Digest>, Error> {
    if items.len() > merkle::MAX_PROOF {
        return Err(Error::WrongType(key));
    }
    let digest = |item: Value| item.into_bytes().ok().and_then(|bytes| bytes.try_into().ok());
    items.into_iter().map(digest).collect::<Option<_>>().ok_or(Error::WrongType(key))
}
