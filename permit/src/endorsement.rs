//! Which authority nodes may trust: the governors' endorsement of one instance,
//! and the authority's statement of what it is.

use portcullis_lineage::{ReceiptKey, VerifyingKey};
use portcullis_wire::{Digest, Error, Fields, bstr, decode, encode, map, or_null, sha256};

use crate::governance::{Governance, GovernanceError, Quorum};
use crate::key::PublicKey;
use crate::succession::Predecessor;

const MAX_STATEMENT: usize = 64 * 1024;

/// One authority, as m of n governors endorse it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endorsement {
    /// Checkpoint key with the log's origin.
    pub checkpoint_key: VerifyingKey,
    /// Permit key.
    pub permit_key: PublicKey,
    /// Receipt key.
    pub receipt_key: ReceiptKey,
    /// Chip id of the machine, 64 bytes.
    pub chip_id: Vec<u8>,
    /// Launch measurement, 48 bytes.
    pub measurement: Vec<u8>,
    /// Lowest bundle version that the instance may serve.
    pub bundle_version: u64,
    /// End of validity, Unix seconds, exclusive.
    pub expires: u64,
    /// The preceding authority, if there was one.
    pub predecessor: Option<Predecessor>,
}

impl Endorsement {
    /// Type of the document that governors sign.
    pub const CONTENT_TYPE: &'static str = "application/vnd.portcullis.endorsement+cbor";

    /// The document.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        encode(&map([
            (1, self.checkpoint_key.to_string().into()),
            (2, bstr(self.permit_key.to_cose())),
            (3, bstr(self.receipt_key.public())),
            (4, bstr(&self.chip_id)),
            (5, bstr(&self.measurement)),
            (6, self.bundle_version.into()),
            (7, self.expires.into()),
            (8, or_null(self.predecessor.as_ref().map(Predecessor::to_value))),
        ]))
    }

    /// Reads a document without verifying a signature: to show it to a governor.
    ///
    /// # Errors
    /// [`GovernanceError::Malformed`].
    pub fn decode(bytes: &[u8]) -> Result<Self, GovernanceError> {
        let mut fields = Fields::of(decode(bytes, MAX_STATEMENT)?)?;
        let endorsement = Self {
            checkpoint_key: VerifyingKey::parse(&fields.text(1)?).map_err(|_| Error::WrongType(1))?,
            permit_key: PublicKey::from_cose(&fields.bytes(2)?).map_err(|_| Error::WrongType(2))?,
            receipt_key: ReceiptKey::new(fields.array(3)?),
            chip_id: fields.bytes(4)?,
            measurement: fields.bytes(5)?,
            bundle_version: fields.uint(6)?,
            expires: fields.uint(7)?,
            predecessor: fields.maybe(8, Predecessor::from_fields)?,
        };
        fields.finish()?;
        Ok(endorsement)
    }

    /// The endorsement, if enough governors signed it.
    ///
    /// # Errors
    /// [`GovernanceError`].
    pub fn verify(signed: &[u8], governance: &Governance) -> Result<Self, GovernanceError> {
        let quorum = Quorum::decode(signed, MAX_STATEMENT)?;
        Self::decode(quorum.verify(Self::CONTENT_TYPE, governance)?)
    }

    /// Name of the instance: the origin of its log.
    #[must_use]
    pub fn origin(&self) -> &str {
        self.checkpoint_key.origin()
    }
}

/// What an authority says of itself. It is bound to evidence by its digest, so
/// it needs no signature of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthorityStatement {
    /// The endorsement with the governors' signatures.
    pub endorsement: Vec<u8>,
    /// Governance root.
    pub governance_root: Digest,
    /// SHA-256 of the active bundle.
    pub bundle: Digest,
    /// Version of the active bundle.
    pub bundle_version: u64,
    /// Latest checkpoint, a signed note.
    pub checkpoint: String,
}

impl AuthorityStatement {
    /// The deterministic encoding.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        encode(&map([
            (1, bstr(&self.endorsement)),
            (2, bstr(self.governance_root)),
            (3, bstr(self.bundle)),
            (4, self.bundle_version.into()),
            (5, self.checkpoint.as_str().into()),
        ]))
    }

    /// Reads a statement.
    ///
    /// # Errors
    /// [`Error`].
    pub fn decode(bytes: &[u8]) -> Result<Self, Error> {
        let mut fields = Fields::of(decode(bytes, MAX_STATEMENT)?)?;
        let statement = Self {
            endorsement: fields.bytes(1)?,
            governance_root: fields.array(2)?,
            bundle: fields.array(3)?,
            bundle_version: fields.uint(4)?,
            checkpoint: fields.text(5)?,
        };
        fields.finish()?;
        Ok(statement)
    }

    /// SHA-256 of an encoded statement: the context of the authority's evidence.
    #[must_use]
    pub fn digest(encoded: &[u8]) -> Digest {
        sha256(&[encoded])
    }
}
