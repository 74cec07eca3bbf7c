//! COSE_Sign1 (RFC 9052 §4.2) as Portcullis uses it: tagged, deterministic, with the
//! algorithm and all relevant values in the protected header.

use coset::{AsCborValue, CoseSign1, Header, ProtectedHeader, SignatureContext, sig_structure_data};

use crate::{Error, Fields, Value, decode, encode, map};

/// CBOR tag of COSE_Sign1.
const TAG: u64 = 18;
const ALG: i64 = 1;
const CRIT: i64 = 2;

/// The entries of a protected header, by integer label.
pub type Headers = Vec<(i64, Value)>;

/// A COSE_Sign1 whose form was checked and whose signature was not.
#[derive(Clone, Debug)]
pub struct Sign1 {
    inner: CoseSign1,
    algorithm: i64,
    protected: Headers,
    unprotected: Headers,
}

impl Sign1 {
    /// Parses a tagged COSE_Sign1 that fills `bytes`.
    ///
    /// # Errors
    /// Any [`Error`]; `crit` (label 2) is refused, since no critical extension
    /// is defined for Portcullis.
    pub fn parse(bytes: &[u8], limit: usize) -> Result<Self, Error> {
        let Value::Tag(TAG, item) = decode(bytes, limit)? else {
            return Err(Error::Shape("a tagged COSE_Sign1"));
        };
        let Value::Array(parts) = *item else { return Err(Error::Shape("a COSE_Sign1 array")) };
        let [Value::Bytes(protected_bytes), unprotected, payload, Value::Bytes(signature)] =
            <[Value; 4]>::try_from(parts).map_err(|_| Error::Shape("the four parts of a COSE_Sign1"))?
        else {
            return Err(Error::Shape("a COSE_Sign1 with a protected header and a signature"));
        };
        let payload = match payload {
            Value::Null => None,
            Value::Bytes(bytes) => Some(bytes),
            _ => return Err(Error::Shape("a byte string or null as the COSE_Sign1 payload")),
        };

        Self::of(protected_bytes, labels(unprotected)?, payload, signature, limit)
    }

    /// A COSE_Sign1 from separately stored parts: with an empty unprotected header and the
    /// payload attached.
    ///
    /// # Errors
    /// As [`Sign1::parse`].
    pub fn from_parts(protected: Vec<u8>, payload: Vec<u8>, signature: Vec<u8>) -> Result<Self, Error> {
        let limit = protected.len();
        Self::of(protected, Headers::new(), Some(payload), signature, limit)
    }

    fn of(
        protected_bytes: Vec<u8>,
        unprotected: Headers,
        payload: Option<Vec<u8>>,
        signature: Vec<u8>,
        limit: usize,
    ) -> Result<Self, Error> {
        let protected = labels(decode(&protected_bytes, limit)?)?;
        if protected.iter().chain(&unprotected).any(|(label, _)| *label == CRIT) {
            return Err(Error::UnknownKey("crit".into()));
        }
        if unprotected.iter().any(|(label, _)| protected.iter().any(|(other, _)| other == label)) {
            return Err(Error::Shape("header labels in one of the two headers only"));
        }
        let algorithm = protected
            .iter()
            .find(|(label, _)| *label == ALG)
            .and_then(|(_, value)| value.as_integer())
            .and_then(|n| i64::try_from(n).ok())
            .ok_or(Error::Missing(ALG))?;
        let inner = CoseSign1 {
            protected: ProtectedHeader { original_data: Some(protected_bytes), header: Header::default() },
            unprotected: Header::default(),
            payload,
            signature,
        };
        Ok(Self { inner, algorithm, protected, unprotected })
    }

    /// The COSE algorithm (protected label 1).
    #[must_use]
    pub const fn algorithm(&self) -> i64 {
        self.algorithm
    }

    /// A protected header value.
    #[must_use]
    pub fn protected(&self, label: i64) -> Option<&Value> {
        self.protected.iter().find(|(l, _)| *l == label).map(|(_, value)| value)
    }

    /// An unprotected header value: not covered by the signature.
    #[must_use]
    pub fn unprotected(&self, label: i64) -> Option<&Value> {
        self.unprotected.iter().find(|(l, _)| *l == label).map(|(_, value)| value)
    }

    /// Refuses protected or unprotected labels outside these sets.
    ///
    /// # Errors
    /// [`Error::UnknownKey`].
    pub fn only_labels(&self, protected: &[i64], unprotected: &[i64]) -> Result<(), Error> {
        let stray =
            |have: &Headers, known: &[i64]| have.iter().map(|(label, _)| *label).find(|label| !known.contains(label));
        match stray(&self.protected, protected).or_else(|| stray(&self.unprotected, unprotected)) {
            None => Ok(()),
            Some(label) => Err(Error::UnknownKey(format!("header {label}"))),
        }
    }

    /// The payload; `None` where it is detached.
    #[must_use]
    pub fn payload(&self) -> Option<&[u8]> {
        self.inner.payload.as_deref()
    }

    /// The protected header as it was signed.
    #[must_use]
    pub fn protected_bytes(&self) -> &[u8] {
        self.inner.protected.original_data.as_deref().unwrap_or_default()
    }

    /// The signature bytes.
    #[must_use]
    pub fn signature(&self) -> &[u8] {
        &self.inner.signature
    }

    /// The bytes that were signed, over the attached payload or `detached`.
    #[must_use]
    pub fn to_be_signed(&self, detached: Option<&[u8]>) -> Vec<u8> {
        let payload = detached.or(self.inner.payload.as_deref()).unwrap_or_default();
        sig_structure_data(SignatureContext::CoseSign1, self.inner.protected.clone(), None, &[], payload)
    }

    /// This object with an empty unprotected header: the form that is logged.
    #[must_use]
    pub fn signed_part(&self) -> Vec<u8> {
        self.with_unprotected(Vec::new())
    }

    /// This object with another unprotected header.
    #[must_use]
    pub fn with_unprotected(&self, headers: Headers) -> Vec<u8> {
        let part = |bytes: Option<&Vec<u8>>| bytes.cloned().map_or(Value::Null, Value::Bytes);
        encode(&Value::Tag(
            TAG,
            Box::new(Value::Array(vec![
                part(self.inner.protected.original_data.as_ref()),
                map(headers),
                part(self.inner.payload.as_ref()),
                Value::Bytes(self.inner.signature.clone()),
            ])),
        ))
    }
}

fn labels(value: Value) -> Result<Headers, Error> {
    let mut fields = Fields::of(value)?;
    let mut headers = Headers::new();
    while let Some(entry) = fields.pop() {
        headers.push(entry);
    }
    Ok(headers)
}

/// Signs `payload` under `protected`, which must name the algorithm.
///
/// With `detached`, the payload is signed but not carried.
///
/// # Errors
/// The error of `sign`.
pub fn sign1<E>(
    protected: Headers,
    payload: &[u8],
    detached: bool,
    sign: impl FnOnce(&[u8]) -> Result<Vec<u8>, E>,
) -> Result<Vec<u8>, E> {
    let protected = ProtectedHeader { original_data: Some(encode(&map(protected))), header: Header::default() };
    let tbs = sig_structure_data(SignatureContext::CoseSign1, protected.clone(), None, &[], payload);
    let object = CoseSign1 {
        protected,
        unprotected: Header::default(),
        payload: (!detached).then(|| payload.to_vec()),
        signature: sign(&tbs)?,
    };
    // Our header maps always convert; every reader would refuse `null`.
    let value = object.to_cbor_value().unwrap_or(Value::Null);
    Ok(encode(&Value::Tag(TAG, Box::new(value))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bstr;
    use std::convert::Infallible;

    fn object(protected: Headers) -> Vec<u8> {
        sign1(protected, b"payload", false, |tbs| Ok::<_, Infallible>(tbs.to_vec())).unwrap()
    }

    #[test]
    fn signs_what_the_reader_verifies() {
        let bytes = object(vec![(4, bstr(b"kid")), (1, Value::from(-9))]);
        let read = Sign1::parse(&bytes, 1024).unwrap();
        assert_eq!(read.algorithm(), -9);
        assert_eq!(read.signature(), read.to_be_signed(None));
        assert_eq!(read.signed_part(), bytes);
        let carried = read.with_unprotected(vec![(394, Value::Array(vec![]))]);
        assert_eq!(Sign1::parse(&carried, 1024).unwrap().signed_part(), bytes);
    }

    #[test]
    fn coset_reads_the_same_object() {
        use coset::TaggedCborSerializable;
        let bytes = object(vec![(1, Value::from(-9)), (4, bstr(b"kid"))]);
        let theirs = CoseSign1::from_tagged_slice(&bytes).unwrap();
        assert_eq!(theirs.tbs_data(&[]), Sign1::parse(&bytes, 1024).unwrap().to_be_signed(None));
        assert_eq!(theirs.protected.header.key_id, b"kid");
    }

    #[test]
    fn refuses_crit_and_a_missing_algorithm() {
        let crit = object(vec![(1, Value::from(-9)), (2, Value::Array(vec![Value::from(99)]))]);
        assert_eq!(Sign1::parse(&crit, 1024).unwrap_err(), Error::UnknownKey("crit".into()));
        assert_eq!(Sign1::parse(&object(vec![]), 1024).unwrap_err(), Error::Missing(1));
        let untagged = &object(vec![(1, Value::from(-9))])[1..];
        assert_eq!(Sign1::parse(untagged, 1024).unwrap_err(), Error::Shape("a tagged COSE_Sign1"));
    }
}
