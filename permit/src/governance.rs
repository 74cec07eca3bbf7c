//! Governors: m of n people whose signatures change what an authority does.

use std::collections::BTreeSet;
use std::fmt;

use portcullis_wire::{Digest, Error, Fields, Sign1, Value, bstr, decode, encode, hex, map, sha256, sign1};

use crate::key::{PublicKey, SigningKey};

const ALG: i64 = 1;
const KID: i64 = 4;
const TYP: i64 = 16;
/// Hash envelope (RFC 9995): hash algorithm, and content type of the preimage.
const PAYLOAD_HASH_ALG: i64 = 258;
const PREIMAGE_CONTENT_TYPE: i64 = 259;
/// COSE algorithm of SHA-256.
const SHA_256: i64 = -16;
const SIGNATURE_TYP: &str = "application/vnd.portcullis.governor-signature+cose";
/// Most governors.
const MAX_GOVERNORS: usize = 32;
const MAX_SIGNATURE: usize = 8 * 1024;
const MAX_DETACHED: usize = MAX_GOVERNORS * MAX_SIGNATURE;
const DETACHED: &str = "portcullis/signatures/1";

/// Why a governed document was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GovernanceError {
    /// Malformed CBOR or COSE.
    Malformed(Error),
    /// A threshold of zero or above the number of governors, a governor twice,
    /// or too many.
    Set,
    /// Not signed as this type of document.
    ContentType {
        /// The required type.
        required: &'static str,
    },
    /// Nobody signed.
    Unsigned,
    /// One governor signed twice.
    Twice,
    /// Fewer distinct governors signed than the threshold demands.
    Threshold {
        /// Distinct governors with a valid signature.
        found: usize,
        /// The threshold.
        required: usize,
    },
    /// The signatures are for another document.
    OtherDocument,
    /// Signing failed.
    Signing,
}

impl fmt::Display for GovernanceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed(error) => error.fmt(f),
            Self::Set => f.write_str("not a set of distinct governors with a threshold that they can reach"),
            Self::ContentType { required } => write!(f, "not signed as {required}"),
            Self::Unsigned => f.write_str("nobody signed"),
            Self::Twice => f.write_str("one governor signed twice"),
            Self::Threshold { found, required } => {
                write!(f, "valid signatures of {found} governors, required {required}")
            }
            Self::OtherDocument => f.write_str("the signatures are for another document"),
            Self::Signing => f.write_str("signing failed"),
        }
    }
}

impl std::error::Error for GovernanceError {}

impl From<Error> for GovernanceError {
    fn from(error: Error) -> Self {
        Self::Malformed(error)
    }
}

/// The governors' keys and how many must sign: the root of trust of a deployment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Governance {
    threshold: usize,
    keys: Vec<PublicKey>,
}

impl Governance {
    /// A set of distinct keys with a threshold of at least one that it can reach.
    ///
    /// # Errors
    /// [`GovernanceError::Set`].
    pub fn new(threshold: usize, mut keys: Vec<PublicKey>) -> Result<Self, GovernanceError> {
        keys.sort_by(|a, b| a.thumbprint().cmp(b.thumbprint()));
        let distinct: BTreeSet<&Digest> = keys.iter().map(PublicKey::thumbprint).collect();
        let sound = threshold >= 1 && threshold <= keys.len() && distinct.len() == keys.len();
        if sound && keys.len() <= MAX_GOVERNORS { Ok(Self { threshold, keys }) } else { Err(GovernanceError::Set) }
    }

    /// How many governors must sign.
    #[must_use]
    pub const fn threshold(&self) -> usize {
        self.threshold
    }

    /// The governors' keys, by thumbprint.
    #[must_use]
    pub fn keys(&self) -> &[PublicKey] {
        &self.keys
    }

    /// The deterministic encoding.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let keys = self.keys.iter().map(|key| bstr(key.to_cose())).collect();
        encode(&map([(1, (self.threshold as u64).into()), (2, Value::Array(keys))]))
    }

    /// Reads the deterministic encoding.
    ///
    /// # Errors
    /// [`GovernanceError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, GovernanceError> {
        let mut fields = Fields::of(decode(bytes, 128 * 1024)?)?;
        let threshold = usize::try_from(fields.uint(1)?).map_err(|_| GovernanceError::Set)?;
        let keys = fields.items(2)?.into_iter().map(|key| {
            let bytes = key.into_bytes().map_err(|_| Error::WrongType(2))?;
            PublicKey::from_cose(&bytes).map_err(|_| Error::WrongType(2))
        });
        let keys = keys.collect::<Result<_, _>>()?;
        fields.finish()?;
        Self::new(threshold, keys)
    }

    /// SHA-256 of the encoding: the governance root.
    #[must_use]
    pub fn root(&self) -> Digest {
        sha256(&[&self.encode()])
    }

    /// The governance root in hex.
    #[must_use]
    pub fn root_hex(&self) -> String {
        hex::hex(&self.root())
    }
}

/// A document with governors' signatures: det-CBOR [document, [COSE_Sign1 hash
/// envelope, ...]].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quorum {
    document: Vec<u8>,
    signatures: Vec<Vec<u8>>,
}

impl Quorum {
    /// A document that nobody has signed yet.
    #[must_use]
    pub const fn unsigned(document: Vec<u8>) -> Self {
        Self { document, signatures: Vec::new() }
    }

    /// Reads a document with its signatures. Nothing is verified.
    ///
    /// # Errors
    /// [`GovernanceError::Malformed`].
    pub fn decode(bytes: &[u8], limit: usize) -> Result<Self, GovernanceError> {
        let shape = || Error::Shape("a document and its signatures");
        let parts = decode(bytes, limit)?.into_array().ok().and_then(|p| <[Value; 2]>::try_from(p).ok());
        let Some([Value::Bytes(document), Value::Array(signatures)]) = parts else { return Err(shape().into()) };
        if signatures.len() > MAX_GOVERNORS {
            return Err(shape().into());
        }
        let signatures =
            signatures.into_iter().map(|s| s.into_bytes().map_err(|_| shape())).collect::<Result<_, _>>()?;
        Ok(Self { document, signatures })
    }

    /// The encoding.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let signatures = self.signatures.iter().map(bstr).collect();
        encode(&Value::Array(vec![bstr(&self.document), Value::Array(signatures)]))
    }

    /// The document, unverified.
    #[must_use]
    pub fn unverified_document(&self) -> &[u8] {
        &self.document
    }

    /// SHA-256 of the document.
    #[must_use]
    pub fn digest(&self) -> Digest {
        sha256(&[&self.document])
    }

    /// The signatures alone, to be carried to where they are joined: det-CBOR
    /// [label, SHA-256 of the document, [COSE_Sign1 hash envelope, ...]].
    #[must_use]
    pub fn detached(&self) -> Vec<u8> {
        let signatures = self.signatures.iter().map(bstr).collect();
        encode(&Value::Array(vec![DETACHED.into(), bstr(self.digest()), Value::Array(signatures)]))
    }

    /// Joins signatures that were made elsewhere. They are not verified; those of
    /// governors who have signed already take the place of the earlier ones.
    ///
    /// # Errors
    /// [`GovernanceError::Malformed`]; [`GovernanceError::OtherDocument`].
    pub fn attach(&mut self, detached: &[u8]) -> Result<(), GovernanceError> {
        let shape = || Error::Shape("a set of signatures");
        let parts = decode(detached, MAX_DETACHED)?.into_array().ok().and_then(|p| <[Value; 3]>::try_from(p).ok());
        let Some([label, Value::Bytes(digest), Value::Array(signatures)]) = parts else { return Err(shape().into()) };
        if label != DETACHED.into() || signatures.len() > MAX_GOVERNORS {
            return Err(shape().into());
        }
        if digest != self.digest() {
            return Err(GovernanceError::OtherDocument);
        }
        for signature in signatures {
            let bytes = signature.into_bytes().map_err(|_| shape())?;
            let kid = Sign1::parse(&bytes, MAX_SIGNATURE)?.protected(KID).cloned();
            self.put(bytes, kid.as_ref());
        }
        Ok(())
    }

    /// Puts a signature in place of an earlier one under the same key.
    fn put(&mut self, signature: Vec<u8>, kid: Option<&Value>) {
        let by_key = |bytes: &[u8]| Sign1::parse(bytes, MAX_SIGNATURE).is_ok_and(|s| s.protected(KID) == kid);
        self.signatures.retain(|bytes| !by_key(bytes));
        self.signatures.push(signature);
    }

    /// The governors whose valid signatures these are, and how many others
    /// there are.
    #[must_use]
    pub fn signers<'g>(&self, governance: &'g Governance) -> (Vec<&'g PublicKey>, usize) {
        let digest = self.digest();
        let signer = |bytes: &Vec<u8>| {
            let object = Sign1::parse(bytes, MAX_SIGNATURE).ok()?;
            governance.keys.iter().find(|key| signed_by(&object, key, &digest))
        };
        let signers: Vec<&PublicKey> = self.signatures.iter().filter_map(signer).collect();
        let others = self.signatures.len().saturating_sub(signers.len());
        (signers, others)
    }

    /// How many signatures there are, whoever made them.
    #[must_use]
    pub const fn signatures(&self) -> usize {
        self.signatures.len()
    }

    /// Adds a governor's signature, in place of an earlier one by the same key.
    ///
    /// # Errors
    /// [`GovernanceError::Signing`].
    pub fn sign(&mut self, content_type: &'static str, key: &SigningKey) -> Result<(), GovernanceError> {
        let headers = vec![
            (ALG, key.public().suite().algorithm().into()),
            (KID, bstr(key.public().thumbprint())),
            (TYP, SIGNATURE_TYP.into()),
            (PAYLOAD_HASH_ALG, SHA_256.into()),
            (PREIMAGE_CONTENT_TYPE, content_type.into()),
        ];
        let signed = sign1(headers, &self.digest(), false, |tbs| key.sign(tbs).map_err(|_| GovernanceError::Signing))?;
        self.put(signed, Some(&bstr(key.public().thumbprint())));
        Ok(())
    }

    /// The document, if enough distinct governors signed it as this type.
    ///
    /// Signatures by others are passed over; a malformed one, and a second one
    /// under the same key, refuse the whole.
    ///
    /// # Errors
    /// [`GovernanceError`].
    pub fn verify(&self, content_type: &'static str, governance: &Governance) -> Result<&[u8], GovernanceError> {
        let digest = self.digest();
        let mut signers: BTreeSet<&Digest> = BTreeSet::new();
        let mut named = BTreeSet::new();
        if self.signatures.is_empty() {
            return Err(GovernanceError::Unsigned);
        }
        for bytes in &self.signatures {
            let object = Sign1::parse(bytes, MAX_SIGNATURE)?;
            object.only_labels(&[ALG, KID, TYP, PAYLOAD_HASH_ALG, PREIMAGE_CONTENT_TYPE], &[])?;
            let typed = object.protected(TYP) == Some(&SIGNATURE_TYP.into())
                && object.protected(PAYLOAD_HASH_ALG) == Some(&SHA_256.into())
                && object.protected(PREIMAGE_CONTENT_TYPE) == Some(&content_type.into());
            if !typed {
                return Err(GovernanceError::ContentType { required: content_type });
            }
            let kid = object.protected(KID).and_then(Value::as_bytes).cloned();
            if !named.insert(kid) {
                return Err(GovernanceError::Twice);
            }
            let signer = governance.keys.iter().find(|key| signed_by(&object, key, &digest));
            signers.extend(signer.map(PublicKey::thumbprint));
        }
        if signers.len() >= governance.threshold {
            Ok(&self.document)
        } else {
            Err(GovernanceError::Threshold { found: signers.len(), required: governance.threshold })
        }
    }
}

/// Whether a key made this signature over a digest.
fn signed_by(object: &Sign1, key: &PublicKey, digest: &Digest) -> bool {
    object.protected(KID) == Some(&bstr(key.thumbprint()))
        && object.algorithm() == key.suite().algorithm()
        && object.payload() == Some(digest)
        && key.verifies(&object.to_be_signed(None), object.signature())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::Suite;

    const TYPE: &str = "application/example";

    fn governors(count: usize) -> Vec<SigningKey> {
        (0..count).map(|_| SigningKey::generate(Suite::Classic).unwrap()).collect()
    }

    fn set(threshold: usize, keys: &[SigningKey]) -> Governance {
        Governance::new(threshold, keys.iter().map(|k| k.public().clone()).collect()).unwrap()
    }

    #[test]
    fn distinct_governors_reach_the_threshold_and_nobody_else() {
        let keys = governors(3);
        let governance = set(2, &keys);
        let mut quorum = Quorum::unsigned(b"document".to_vec());
        let short = |found| Err(GovernanceError::Threshold { found, required: 2 });
        assert_eq!(quorum.verify(TYPE, &governance), Err(GovernanceError::Unsigned));
        quorum.sign(TYPE, &keys[0]).unwrap();
        quorum.sign(TYPE, &keys[0]).unwrap();
        quorum.sign(TYPE, &governors(1)[0]).unwrap();
        assert_eq!(quorum.verify(TYPE, &governance), short(1));
        // the same signature twice, in a hand-made file
        let mut doubled = quorum.clone();
        doubled.signatures.push(doubled.signatures[0].clone());
        assert_eq!(doubled.verify(TYPE, &governance), Err(GovernanceError::Twice));
        quorum.sign(TYPE, &keys[2]).unwrap();
        let read = Quorum::decode(&quorum.encode(), 1 << 20).unwrap();
        assert_eq!(read.verify(TYPE, &governance), Ok(&b"document"[..]));
        let other = Err(GovernanceError::ContentType { required: "application/other" });
        assert_eq!(read.verify("application/other", &governance), other);
        let mut joined = Quorum::unsigned(b"document".to_vec());
        for key in [&keys[0], &keys[2]] {
            let mut alone = Quorum::unsigned(b"document".to_vec());
            alone.sign(TYPE, key).unwrap();
            joined.attach(&alone.detached()).unwrap();
        }
        assert_eq!(joined.verify(TYPE, &governance), Ok(&b"document"[..]));
        let elsewhere = Quorum::unsigned(b"another".to_vec()).detached();
        assert_eq!(joined.attach(&elsewhere), Err(GovernanceError::OtherDocument));
        let moved = Quorum { document: b"another".to_vec(), ..read };
        assert_eq!(moved.verify(TYPE, &governance), short(0));
    }

    #[test]
    fn refuses_sets_that_cannot_govern() {
        let keys = governors(2);
        let public = |n: usize| keys[n].public().clone();
        assert_eq!(Governance::new(0, vec![public(0)]), Err(GovernanceError::Set));
        assert_eq!(Governance::new(2, vec![public(0)]), Err(GovernanceError::Set));
        assert_eq!(Governance::new(1, vec![public(0), public(0)]), Err(GovernanceError::Set));
        let governance = set(2, &keys);
        assert_eq!(Governance::decode(&governance.encode()), Ok(governance.clone()));
        assert_ne!(set(1, &keys).root(), governance.root());
    }
}
