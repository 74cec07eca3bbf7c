//! COSE receipts (RFC 9942) over the RFC 9162 tree.
//!
//! One signature over the root serves a whole batch: receipts of a batch differ only in
//! their inclusion path. If a node has named the largest tree it has seen, a
//! consistency receipt for the same root is added.

use std::fmt;

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, UnparsedPublicKey};
use portcullis_wire::{Digest, Error, Fields, Integer, Sign1, Value, bstr, decode, encode, map, merkle, sha256, sign1};

use crate::checkpoint::public_half;
use crate::put::{ARRAY, BYTES, MAP, NEGATIVE, NULL, TAG, UNSIGNED, put_head, put_string};
use crate::tree::{Tree, TreeError};

/// Header label of receipts (RFC 9942 §4.2).
pub const RECEIPTS_LABEL: i64 = 394;
const ALG: i64 = 1;
const KID: i64 = 4;
const VDS: i64 = 395;
const VDP: i64 = 396;
const RFC9162_SHA256: i64 = 1;
/// CBOR tag of COSE_Sign1.
const COSE_SIGN1: u64 = 18;
const INCLUSION: i64 = -1;
const CONSISTENCY: i64 = -2;
const ED25519_ALG: i64 = -19;
const MAX_RECEIPT: usize = 8 * 1024;

/// Why receipts were refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReceiptError {
    /// There is no receipt.
    Absent,
    /// Malformed receipt.
    Malformed(Error),
    /// Algorithm, tree type or key are not the log's.
    Foreign(&'static str),
    /// The path does not fit index and size.
    Path,
    /// The signature over the root that the path leads to does not verify.
    Signature,
    /// The root is not shown to extend the one seen before.
    Inconsistent {
        /// Size of the tree seen before.
        seen: u64,
        /// Size of the tree of the receipt.
        size: u64,
    },
}

impl fmt::Display for ReceiptError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Absent => f.write_str("no receipt"),
            Self::Malformed(error) => write!(f, "malformed receipt: {error}"),
            Self::Foreign(what) => write!(f, "receipt of another {what}"),
            Self::Path => f.write_str("inclusion path does not fit index and size"),
            Self::Signature => f.write_str("signature over the root does not verify"),
            Self::Inconsistent { seen, size } => write!(f, "tree of {size} is not shown to extend the tree of {seen}"),
        }
    }
}

impl std::error::Error for ReceiptError {}

impl From<Error> for ReceiptError {
    fn from(error: Error) -> Self {
        Self::Malformed(error)
    }
}

/// The public key of a log's receipts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReceiptKey([u8; 32]);

impl ReceiptKey {
    /// An Ed25519 public key.
    #[must_use]
    pub const fn new(public: [u8; 32]) -> Self {
        Self(public)
    }

    /// The public key.
    #[must_use]
    pub const fn public(&self) -> &[u8; 32] {
        &self.0
    }

    /// Key id: COSE key thumbprint (RFC 9679) of the OKP key.
    #[must_use]
    pub fn thumbprint(&self) -> Digest {
        sha256(&[&encode(&map([(1, 1.into()), (-1, 6.into()), (-2, bstr(self.0))]))])
    }
}

fn protected(key: &ReceiptKey) -> Vec<(i64, Value)> {
    vec![(ALG, ED25519_ALG.into()), (KID, bstr(key.thumbprint())), (VDS, RFC9162_SHA256.into())]
}

/// A root with the receipt key's signature: a receipt without its proof.
#[derive(Clone, Debug)]
pub struct SignedRoot {
    size: u64,
    root: Digest,
    object: Sign1,
    frame: Frame,
}

/// The parts that all receipts of one root share: the bytes before a proof and after
/// it.
#[derive(Clone, Debug)]
struct Frame {
    before: Vec<u8>,
    after: Vec<u8>,
}

impl Frame {
    /// `18([ protected, { 396: { kind: [ proof ] } }, null, signature ])`, up to the
    /// kind, and from the end of the proof on.
    fn of(object: &Sign1) -> Self {
        let (mut before, mut after) = (Vec::new(), vec![NULL]);
        put_head(&mut before, TAG, COSE_SIGN1);
        put_head(&mut before, ARRAY, 4);
        put_string(&mut before, BYTES, object.protected_bytes());
        put_head(&mut before, MAP, 1);
        put_head(&mut before, UNSIGNED, VDP.unsigned_abs());
        put_head(&mut before, MAP, 1);
        put_string(&mut after, BYTES, object.signature());
        Self { before, after }
    }

    /// The receipt with a proof `[ first, second, [ hash, ... ] ]`.
    fn receipt(&self, kind: i64, first: u64, second: u64, path: &[Digest]) -> Vec<u8> {
        let mut proof = Vec::with_capacity(path.len().saturating_mul(34).saturating_add(24));
        put_head(&mut proof, ARRAY, 3);
        put_head(&mut proof, UNSIGNED, first);
        put_head(&mut proof, UNSIGNED, second);
        put_head(&mut proof, ARRAY, path.len() as u64);
        path.iter().for_each(|hash| put_string(&mut proof, BYTES, hash));
        let around = self.before.len().saturating_add(self.after.len()).saturating_add(16);
        let mut receipt = Vec::with_capacity(proof.len().saturating_add(around));
        receipt.extend_from_slice(&self.before);
        put_head(&mut receipt, NEGATIVE, kind.unsigned_abs().saturating_sub(1));
        put_head(&mut receipt, ARRAY, 1);
        put_string(&mut receipt, BYTES, &proof);
        receipt.extend_from_slice(&self.after);
        receipt
    }
}

impl SignedRoot {
    /// Signs the root of the tree.
    pub(crate) fn sign(key: &Ed25519KeyPair, size: u64, root: Digest) -> Result<Self, Error> {
        let public = ReceiptKey(public_half(key));
        let sign = |tbs: &[u8]| Ok::<_, Error>(key.sign(tbs).as_ref().to_vec());
        let object = Sign1::parse(&sign1(protected(&public), &root, true, sign)?, MAX_RECEIPT)?;
        Ok(Self { size, root, frame: Frame::of(&object), object })
    }

    /// The signed object: a receipt without its proof. With it and the tiles, anybody can
    /// make receipts for every entry.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        self.object.signed_part()
    }

    /// Verifies [`SignedRoot::bytes`] for a tree.
    ///
    /// # Errors
    /// [`ReceiptError`].
    pub fn verify(bytes: &[u8], key: &ReceiptKey, size: u64, root: Digest) -> Result<Self, ReceiptError> {
        let object = read_receipt(bytes, key, &[])?;
        verify_root(&object, key, &root)?;
        Ok(Self { size, root, frame: Frame::of(&object), object })
    }

    /// Size of the tree.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// Its root.
    #[must_use]
    pub const fn root(&self) -> &Digest {
        &self.root
    }

    /// The value of header 394: an inclusion receipt for the entry at `index`
    /// and, for a node that has seen a smaller tree, a consistency receipt.
    ///
    /// # Errors
    /// [`TreeError`].
    pub fn receipts(&self, tree: &Tree, index: u64, seen: Option<u64>) -> Result<Value, TreeError> {
        let inclusion = self.frame.receipt(INCLUSION, self.size, index, &tree.inclusion(index, self.size)?);
        let mut receipts = vec![Value::Bytes(inclusion)];
        if let Some(seen) = seen.filter(|seen| (1..self.size).contains(seen)) {
            let path = tree.consistency(seen, self.size)?;
            receipts.push(Value::Bytes(self.frame.receipt(CONSISTENCY, seen, self.size, &path)));
        }
        Ok(Value::Array(receipts))
    }
}

/// Proof that an entry is in a tree whose root the log signed. Only
/// [`verify_receipts`] makes one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VerifiedInclusion {
    index: u64,
    size: u64,
    root: Digest,
}

impl VerifiedInclusion {
    /// Position of the entry.
    #[must_use]
    pub const fn index(&self) -> u64 {
        self.index
    }

    /// Size of the tree.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// Root of the tree.
    #[must_use]
    pub const fn root(&self) -> &Digest {
        &self.root
    }
}

/// Verifies the value of header 394 for an entry.
///
/// `seen` is the largest tree that the verifier has accepted before; the receipts must
/// show that the tree extends it.
///
/// # Errors
/// [`ReceiptError`].
pub fn verify_receipts(
    receipts: Option<&Value>,
    entry: &[u8],
    key: &ReceiptKey,
    seen: Option<(u64, Digest)>,
) -> Result<VerifiedInclusion, ReceiptError> {
    let Some(Value::Array(list)) = receipts else { return Err(ReceiptError::Absent) };
    let mut parts = list.iter();
    let inclusion = verify_inclusion(parts.next().ok_or(ReceiptError::Absent)?, entry, key)?;
    let consistency = parts.next();
    if parts.next().is_some() {
        return Err(ReceiptError::Malformed(Error::Shape("at most two receipts")));
    }
    if let Some((size, root)) = seen {
        let shown = match consistency {
            None => size == inclusion.size && root == inclusion.root,
            Some(receipt) => {
                let (old, new, path) = read_proof(receipt, key, CONSISTENCY)?.1;
                old == size && new == inclusion.size && merkle::is_consistent(old, &root, new, &inclusion.root, &path)
            }
        };
        if !shown {
            return Err(ReceiptError::Inconsistent { seen: size, size: inclusion.size });
        }
    }
    Ok(inclusion)
}

fn verify_inclusion(receipt: &Value, entry: &[u8], key: &ReceiptKey) -> Result<VerifiedInclusion, ReceiptError> {
    let (object, (size, index, path)) = read_proof(receipt, key, INCLUSION)?;
    let leaf = merkle::leaf_hash(entry);
    let root = merkle::root_from_inclusion(&leaf, index, size, &path).ok_or(ReceiptError::Path)?;
    verify_root(&object, key, &root)?;
    Ok(VerifiedInclusion { index, size, root })
}

fn verify_root(object: &Sign1, key: &ReceiptKey, root: &Digest) -> Result<(), ReceiptError> {
    let verified = UnparsedPublicKey::new(&ED25519, key.0).verify(&object.to_be_signed(Some(root)), object.signature());
    verified.map_err(|_| ReceiptError::Signature)
}

/// A receipt by this key, with these unprotected headers.
fn read_receipt(bytes: &[u8], key: &ReceiptKey, unprotected: &[i64]) -> Result<Sign1, ReceiptError> {
    let object = Sign1::parse(bytes, MAX_RECEIPT)?;
    object.only_labels(&[ALG, KID, VDS], unprotected)?;
    if object.algorithm() != ED25519_ALG {
        return Err(ReceiptError::Foreign("algorithm"));
    }
    if object.protected(VDS) != Some(&RFC9162_SHA256.into()) {
        return Err(ReceiptError::Foreign("kind of tree"));
    }
    if object.protected(KID) != Some(&bstr(key.thumbprint())) {
        return Err(ReceiptError::Foreign("key"));
    }
    if object.payload().is_some() {
        return Err(Error::Shape("a detached root").into());
    }
    Ok(object)
}

type Proof = (u64, u64, Vec<Digest>);

fn read_proof(receipt: &Value, key: &ReceiptKey, kind: i64) -> Result<(Sign1, Proof), ReceiptError> {
    let Value::Bytes(bytes) = receipt else { return Err(Error::Shape("a receipt in a byte string").into()) };
    let object = read_receipt(bytes, key, &[VDP])?;
    let mut proofs = Fields::of(object.unprotected(VDP).cloned().ok_or(Error::Missing(VDP))?)?;
    let list = proofs.items(kind)?;
    proofs.finish()?;
    let [Value::Bytes(proof)] = list.as_slice() else { return Err(Error::Shape("one proof").into()) };
    let proof = decode(proof, MAX_RECEIPT)?.into_array().ok().and_then(|p| <[Value; 3]>::try_from(p).ok());
    let Some([Value::Integer(first), Value::Integer(second), Value::Array(path)]) = proof else {
        return Err(Error::Shape("a proof").into());
    };
    let number = |n: Integer| u64::try_from(n).map_err(|_| Error::WrongType(kind));
    let path = path.into_iter().map(|hash| hash.into_bytes().ok().and_then(|h| h.try_into().ok()));
    let path = path.collect::<Option<Vec<Digest>>>().ok_or(Error::WrongType(kind))?;
    Ok((object, (number(first)?, number(second)?, path)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Receipts are written by hand for speed. Their bytes equal the encoder's for the same
    /// values, for paths and numbers of every width.
    #[test]
    fn receipts_are_what_the_encoder_makes_of_them() {
        let key = Ed25519KeyPair::from_seed_unchecked(&[1; 32]).unwrap();
        let root = SignedRoot::sign(&key, 9, [2; 32]).unwrap();
        for (kind, first, second, length) in [
            (INCLUSION, 9, 0, 0),
            (INCLUSION, 300, 23, 9),
            (CONSISTENCY, 24, 70_000, 17),
            (CONSISTENCY, 1 << 40, 255, 40),
        ] {
            let path: Vec<Digest> = (0..length).map(|n| [n; 32]).collect();
            let hashes = Value::Array(path.iter().map(bstr).collect());
            let proof = encode(&Value::Array(vec![first.into(), second.into(), hashes]));
            let proofs = map([(kind, Value::Array(vec![bstr(proof)]))]);
            let expected = root.object.with_unprotected(vec![(VDP, proofs)]);
            assert_eq!(root.frame.receipt(kind, first, second, &path), expected, "{kind} {first} {second}");
        }
    }
}
