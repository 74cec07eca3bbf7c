//! A document that governors sign, and their signatures.

use std::collections::BTreeSet;

use portcullis_wire::{Digest, Error, Sign1, Value, bstr, decode, encode, sha256, sign1};

use super::{Governance, GovernanceError, Governor, MAX_GOVERNORS, Other, Signatures};
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
const MAX_SIGNATURE: usize = 8 * 1024;
const MAX_DETACHED: usize = MAX_GOVERNORS * MAX_SIGNATURE;
const DETACHED: &str = "portcullis/signatures/1";

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

    /// Whose signatures these are.
    #[must_use]
    pub fn signatures_by<'g>(&self, governance: &'g Governance) -> Signatures<'g> {
        let digest = self.digest();
        let mut all = Signatures { governors: Vec::new(), others: Vec::new() };
        for bytes in &self.signatures {
            match signer(bytes, governance, &digest) {
                Ok(governor) => all.governors.push(governor),
                Err(other) => all.others.push(other),
            }
        }
        all
    }

    /// Number of signatures, whoever made them.
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
            signers.extend(signer(bytes, governance, &digest).ok().map(|governor| governor.key().thumbprint()));
        }
        if signers.len() >= governance.threshold() {
            return Ok(&self.document);
        }
        let Signatures { governors, others } = self.signatures_by(governance);
        let signers = governors.into_iter().map(Governor::to_string).collect();
        Err(GovernanceError::Threshold { signers, required: governance.threshold(), others })
    }
}

/// The governor whose signature this is, or whose else.
fn signer<'g>(bytes: &[u8], governance: &'g Governance, digest: &Digest) -> Result<&'g Governor, Other> {
    let object = Sign1::parse(bytes, MAX_SIGNATURE).map_err(|_| Other::Malformed)?;
    let named = object.protected(KID).and_then(Value::as_bytes).ok_or(Other::Malformed)?;
    let governor = governance.governors().iter().find(|governor| governor.key().thumbprint().as_slice() == named);
    let governor = governor.ok_or_else(|| Other::Stranger { thumbprint: named.clone() })?;
    if signed_by(&object, governor.key(), digest) {
        Ok(governor)
    } else {
        Err(Other::Invalid { governor: governor.to_string() })
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
    use portcullis_wire::hex::hex;

    use super::*;
    use crate::key::Suite;

    const TYPE: &str = "application/example";

    fn governors(count: usize) -> Vec<SigningKey> {
        (0..count).map(|_| SigningKey::generate(Suite::Classic).unwrap()).collect()
    }

    fn set(threshold: usize, keys: &[SigningKey]) -> Governance {
        Governance::new(threshold, keys.iter().map(|k| k.public().clone())).unwrap()
    }

    #[test]
    fn distinct_governors_reach_the_threshold_and_nobody_else() {
        let keys = governors(3);
        let governance = set(2, &keys);
        let mut quorum = Quorum::unsigned(b"document".to_vec());
        assert_eq!(quorum.verify(TYPE, &governance), Err(GovernanceError::Unsigned));
        quorum.sign(TYPE, &keys[0]).unwrap();
        quorum.sign(TYPE, &keys[0]).unwrap();
        let stranger = &governors(1)[0];
        quorum.sign(TYPE, stranger).unwrap();
        let one = vec![hex(keys[0].public().thumbprint())];
        let thumbprint = stranger.public().thumbprint().to_vec();
        let others = vec![Other::Stranger { thumbprint }];
        let short = GovernanceError::Threshold { signers: one, required: 2, others };
        assert_eq!(quorum.verify(TYPE, &governance), Err(short));
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
        let Err(GovernanceError::Threshold { signers, others, .. }) = moved.verify(TYPE, &governance) else { panic!() };
        assert!(signers.is_empty());
        let invalid = |key: &SigningKey| Other::Invalid { governor: hex(key.public().thumbprint()) };
        assert!(others.contains(&invalid(&keys[0])) && others.contains(&invalid(&keys[2])), "{others:?}");
    }

    /// A person reads who signed, and whose signature does not count and why.
    #[test]
    fn whose_signatures_there_are_is_told_by_name_and_thumbprint() {
        let keys = governors(3);
        let named = |name: &str, key: &SigningKey| Governor::named(name, key.public().clone()).unwrap();
        let governance = Governance::new(2, [named("alice", &keys[0]), named("bob", &keys[1])]).unwrap();
        let mut quorum = Quorum::unsigned(b"document".to_vec());
        quorum.sign(TYPE, &keys[0]).unwrap();
        quorum.sign(TYPE, &keys[2]).unwrap();
        let print = |key: &SigningKey| hex(key.public().thumbprint());
        let said = quorum.verify(TYPE, &governance).unwrap_err().to_string();
        let expected = format!(
            "signed by 1 of 2 governors needed: alice ({}); the signature by the key {} does not count: it is no governor's",
            print(&keys[0]),
            print(&keys[2])
        );
        assert_eq!(said, expected);
        // Bob's name on a signature over something else.
        let mut elsewhere = Quorum::unsigned(b"another".to_vec());
        elsewhere.sign(TYPE, &keys[1]).unwrap();
        quorum.signatures.push(elsewhere.signatures.remove(0));
        quorum.signatures.push(b"noise".to_vec());
        let Signatures { governors, others } = quorum.signatures_by(&governance);
        assert_eq!(governors.iter().map(|g| g.name()).collect::<Vec<_>>(), [Some("alice")]);
        let invalid = Other::Invalid { governor: format!("bob ({})", print(&keys[1])) };
        let stranger = Other::Stranger { thumbprint: keys[2].public().thumbprint().to_vec() };
        assert_eq!(others, [stranger, invalid, Other::Malformed]);
    }
}
