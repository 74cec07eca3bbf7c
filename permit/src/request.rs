//! What a node asks: signed by its proof-of-possession key, over the request
//! and the evidence together.

use portcullis_wire::{Digest, Fields, Sign1, Value, bstr, decode, encode, map, or_null, sha256};

use crate::error::PermitError;
use crate::key::{PublicKey, SigningKey};
use crate::permit::{PermitId, Workload};
use crate::statement::{self, Kind};

/// Largest request, in bytes, without its evidence.
const MAX_REQUEST: usize = 8 * 1024;
/// Longest name of a node or authority, in bytes.
const MAX_NAME: usize = 128;

/// A request for a permit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PermitRequest {
    /// Origin of the authority's log: whom the request is for.
    pub audience: String,
    /// Name under which the node is enrolled.
    pub node: String,
    /// Key that the permit shall be bound to.
    pub confirmation: PublicKey,
    /// The authority's nonce.
    pub nonce: [u8; 32],
    /// SHA-256 of the authority statement that the node has verified.
    pub statement: Digest,
    /// What shall run.
    pub workload: Workload,
    /// Largest checkpoint that the node has seen, as the log signed it. An
    /// authority that contradicts it has proof against itself.
    pub seen: Option<String>,
    /// The permit that this one shall renew.
    pub parent: Option<PermitId>,
}

impl PermitRequest {
    /// The deterministic encoding, which evidence is bound to.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        encode(&map([
            (1, self.audience.as_str().into()),
            (2, self.node.as_str().into()),
            (3, bstr(self.confirmation.to_cose())),
            (4, bstr(self.nonce)),
            (5, bstr(self.statement)),
            (6, self.workload.to_value()),
            (7, or_null(self.seen.as_deref().map(Value::from))),
            (8, or_null(self.parent.map(|id| bstr(id.bytes())))),
        ]))
    }

    fn decode(bytes: &[u8]) -> Result<Self, PermitError> {
        let mut fields = Fields::of(decode(bytes, MAX_REQUEST)?)?;
        let name = |fields: &mut Fields, key| {
            let name = fields.text(key)?;
            let printable = !name.is_empty() && name.len() <= MAX_NAME && name.chars().all(|c| c.is_ascii_graphic());
            if printable { Ok(name) } else { Err(portcullis_wire::Error::WrongType(key)) }
        };
        let request = Self {
            audience: name(&mut fields, 1)?,
            node: name(&mut fields, 2)?,
            confirmation: PublicKey::from_cose(&fields.bytes(3)?).map_err(|_| portcullis_wire::Error::WrongType(3))?,
            nonce: fields.array(4)?,
            statement: fields.array(5)?,
            workload: Workload::from_value(fields.required(6)?)?,
            seen: fields.maybe(7, Fields::text)?,
            parent: fields.maybe(8, |fields, key| fields.array(key).map(PermitId::from_bytes))?,
        };
        fields.finish()?;
        Ok(request)
    }

    /// Signs the request together with evidence that is bound to it.
    ///
    /// # Errors
    /// [`PermitError::Signing`].
    pub fn sign(&self, key: &SigningKey, evidence: &[u8]) -> Result<Vec<u8>, PermitError> {
        let payload = encode(&Value::Array(vec![bstr(self.encode()), bstr(evidence)]));
        statement::sign(Kind::Request, key, &self.node, &self.audience, &payload)
    }
}

/// A request whose signature by its own confirmation key was verified: the
/// asker holds that key. Only [`ReceivedRequest::verify`] makes one.
#[derive(Clone, Debug)]
pub struct ReceivedRequest {
    request: PermitRequest,
    encoded: Vec<u8>,
    evidence: Vec<u8>,
    envelope: Vec<u8>,
}

impl ReceivedRequest {
    /// Verifies a signed request: the key is the one that it asks to bind to.
    ///
    /// # Errors
    /// [`PermitError`].
    pub fn verify(bytes: &[u8]) -> Result<Self, PermitError> {
        let object = Sign1::parse(bytes, statement::MAX_LENGTH)?;
        let (encoded, evidence) = split(object.payload().unwrap_or_default())?;
        let request = PermitRequest::decode(&encoded)?;
        let envelope = encode(&Value::Array(vec![bstr(object.protected_bytes()), bstr(object.signature())]));
        statement::verify_object(object, Kind::Request, &request.confirmation)?;
        Ok(Self { request, encoded, evidence, envelope })
    }

    /// Verifies an archived request: its encoding, its evidence, and
    /// [`Self::envelope`].
    ///
    /// # Errors
    /// [`PermitError`].
    pub fn rejoin(envelope: &[u8], encoded: &[u8], evidence: &[u8]) -> Result<Self, PermitError> {
        let parts = decode(envelope, MAX_REQUEST)?.into_array().ok().and_then(|p| <[Value; 2]>::try_from(p).ok());
        let Some([Value::Bytes(protected), Value::Bytes(signature)]) = parts else {
            return Err(portcullis_wire::Error::Shape("the signature of a request").into());
        };
        let payload = encode(&Value::Array(vec![bstr(encoded), bstr(evidence)]));
        let request = PermitRequest::decode(encoded)?;
        let object = Sign1::from_parts(protected, payload, signature)?;
        statement::verify_object(object, Kind::Request, &request.confirmation)?;
        Ok(Self { request, encoded: encoded.to_vec(), evidence: evidence.to_vec(), envelope: envelope.to_vec() })
    }

    /// The signature of the request without its payload: det-CBOR [protected header,
    /// signature].
    #[must_use]
    pub fn envelope(&self) -> &[u8] {
        &self.envelope
    }

    /// The request.
    #[must_use]
    pub const fn request(&self) -> &PermitRequest {
        &self.request
    }

    /// Its encoding as received.
    #[must_use]
    pub fn encoded(&self) -> &[u8] {
        &self.encoded
    }

    /// The evidence as received.
    #[must_use]
    pub fn evidence(&self) -> &[u8] {
        &self.evidence
    }

    /// SHA-256 of the encoded request: the context of the node's evidence.
    #[must_use]
    pub fn digest(&self) -> Digest {
        sha256(&[&self.encoded])
    }

    /// The id that a permit for this request will have.
    #[must_use]
    pub fn permit_id(&self) -> PermitId {
        PermitId::of_request(&self.encoded)
    }
}

fn split(payload: &[u8]) -> Result<(Vec<u8>, Vec<u8>), PermitError> {
    let parts = decode(payload, statement::MAX_LENGTH)?.into_array().ok().and_then(|p| <[Value; 2]>::try_from(p).ok());
    match parts {
        Some([Value::Bytes(request), Value::Bytes(evidence)]) => Ok((request, evidence)),
        _ => Err(portcullis_wire::Error::Shape("a request and its evidence").into()),
    }
}
