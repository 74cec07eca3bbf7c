//! The one form of every signed statement, and the one way to verify it.

use std::fmt;

use portcullis_wire::{Sign1, Value, bstr, encode, map, sign1};

use crate::error::PermitError;
use crate::key::{PublicKey, SigningKey};
use crate::witnessed::WITNESSED_LABEL;

const ALG: i64 = 1;
const KID: i64 = 4;
/// CWT claims in headers (RFC 9597).
const CWT_CLAIMS: i64 = 15;
/// `typ` (RFC 9596).
const TYP: i64 = 16;
/// CoAP content format of `application/statuslist+cwt`, as `typ` names it.
const STATUS_LIST: u64 = 279;
/// Largest statement accepted, in bytes: a request with its evidence.
pub const MAX_LENGTH: usize = 640 * 1024;

/// What a signed statement is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A node asks, by its proof-of-possession key.
    Request,
    /// The authority permits.
    Permit,
    /// The authority refuses.
    Denial,
    /// The authority tells which permits were withdrawn.
    StatusList,
    /// The authority tells that something happened.
    Event,
    /// The first entry of a log.
    Genesis,
    /// The authority started.
    Boot,
    /// A bundle took effect.
    Policy,
    /// An endorsement took effect.
    Instance,
    /// A revocation took effect.
    Revocation,
    /// A gate reports what it ran, by its proof-of-possession key.
    Execution,
    /// The authority recorded a gate's report.
    ExecutionRecord,
    /// The authority stopped signing.
    Trip,
    /// The authority sums up what follows from its log so far.
    Snapshot,
    /// The authority counts denials that it did not log one by one.
    DenialCount,
    /// The authority takes evidence out of its archive.
    Retention,
    /// The authority follows on one that was retired for it.
    Rotation,
    /// The authority follows on one that was lost.
    Recovery,
}

impl Kind {
    /// All kinds.
    pub const ALL: [Self; 18] = [
        Self::Request,
        Self::Permit,
        Self::Denial,
        Self::StatusList,
        Self::Event,
        Self::Genesis,
        Self::Boot,
        Self::Policy,
        Self::Instance,
        Self::Revocation,
        Self::Execution,
        Self::ExecutionRecord,
        Self::Trip,
        Self::Snapshot,
        Self::DenialCount,
        Self::Retention,
        Self::Rotation,
        Self::Recovery,
    ];

    /// The media type in `typ`.
    #[must_use]
    pub const fn media_type(self) -> &'static str {
        match self {
            Self::Request => "application/vnd.portcullis.request+cose",
            Self::Permit => "application/vnd.portcullis.permit+cwt",
            Self::Denial => "application/vnd.portcullis.denial+cose",
            Self::StatusList => "application/statuslist+cwt",
            Self::Event => "application/vnd.portcullis.event+cose",
            Self::Genesis => "application/vnd.portcullis.genesis+cose",
            Self::Boot => "application/vnd.portcullis.boot+cose",
            Self::Policy => "application/vnd.portcullis.policy-activation+cose",
            Self::Instance => "application/vnd.portcullis.instance-activation+cose",
            Self::Revocation => "application/vnd.portcullis.revocation+cose",
            Self::Execution => "application/vnd.portcullis.execution+cose",
            Self::ExecutionRecord => "application/vnd.portcullis.execution-record+cose",
            Self::Trip => "application/vnd.portcullis.trip+cose",
            Self::Snapshot => "application/vnd.portcullis.snapshot+cose",
            Self::DenialCount => "application/vnd.portcullis.denial-count+cose",
            Self::Retention => "application/vnd.portcullis.retention+cose",
            Self::Rotation => "application/vnd.portcullis.rotation+cose",
            Self::Recovery => "application/vnd.portcullis.recovery+cose",
        }
    }

    /// The value of `typ`: the registered content format where there is one.
    fn typ(self) -> Value {
        match self {
            Self::StatusList => STATUS_LIST.into(),
            other => other.media_type().into(),
        }
    }

    /// Whether this is the value of `typ`.
    fn is(self, typ: &Value) -> bool {
        match (self, typ) {
            (Self::StatusList, Value::Integer(number)) => *number == STATUS_LIST.into(),
            (Self::StatusList, _) => false,
            (other, typ) => typ.as_text() == Some(other.media_type()),
        }
    }

    /// The kind that a statement says to be.
    #[must_use]
    pub fn of(object: &Sign1) -> Option<Self> {
        let typ = object.protected(TYP)?;
        Self::ALL.into_iter().find(|kind| kind.is(typ))
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.media_type())
    }
}

/// A statement whose kind, key and signature were verified. Only [`verify`]
/// makes one.
#[derive(Clone, Debug)]
pub struct VerifiedStatement {
    object: Sign1,
}

impl VerifiedStatement {
    /// What was signed.
    #[must_use]
    pub fn payload(&self) -> &[u8] {
        self.object.payload().unwrap_or_default()
    }

    /// The object, for its unprotected headers.
    #[must_use]
    pub const fn object(&self) -> &Sign1 {
        &self.object
    }
}

fn headers(kind: Kind, key: &PublicKey, issuer: &str, subject: &str) -> portcullis_wire::Headers {
    vec![
        (ALG, key.suite().algorithm().into()),
        (KID, bstr(key.thumbprint())),
        (CWT_CLAIMS, map([(1, issuer.into()), (2, subject.into())])),
        (TYP, kind.typ()),
    ]
}

/// The protected header of a statement, as [`sign`] encodes it: together with
/// the payload, all that is signed.
#[must_use]
pub fn protected(kind: Kind, key: &PublicKey, issuer: &str, subject: &str) -> Vec<u8> {
    encode(&map(headers(kind, key, issuer, subject)))
}

/// Signs a statement. `issuer` and `subject` also go into header 15, which makes
/// it a SCITT signed statement (RFC 9943 §5.1).
///
/// # Errors
/// [`PermitError::Signing`].
pub fn sign(kind: Kind, key: &SigningKey, issuer: &str, subject: &str, payload: &[u8]) -> Result<Vec<u8>, PermitError> {
    let headers = headers(kind, key.public(), issuer, subject);
    sign1(headers, payload, false, |tbs| key.sign(tbs).map_err(|_| PermitError::Signing))
}

/// Verifies that `bytes` is a statement of this kind by this key.
///
/// Unprotected headers other than receipts (394) and a cosigned checkpoint, which
/// prove themselves, are refused: nothing unsigned travels with a statement.
///
/// # Errors
/// [`PermitError`].
pub fn verify(bytes: &[u8], kind: Kind, key: &PublicKey) -> Result<VerifiedStatement, PermitError> {
    verify_object(Sign1::parse(bytes, MAX_LENGTH)?, kind, key)
}

/// As [`verify`], for an object that was parsed already.
///
/// # Errors
/// [`PermitError`].
pub fn verify_object(object: Sign1, kind: Kind, key: &PublicKey) -> Result<VerifiedStatement, PermitError> {
    if !object.protected(TYP).is_some_and(|typ| kind.is(typ)) {
        return Err(PermitError::Kind { required: kind });
    }
    object.only_labels(&[ALG, KID, CWT_CLAIMS, TYP], &[portcullis_lineage::RECEIPTS_LABEL, WITNESSED_LABEL])?;
    let required = key.suite().algorithm();
    if object.algorithm() != required {
        return Err(PermitError::Algorithm { found: object.algorithm(), required });
    }
    if object.protected(KID) != Some(&bstr(key.thumbprint())) {
        return Err(PermitError::Key);
    }
    if !key.verifies(&object.to_be_signed(None), object.signature()) {
        return Err(PermitError::Signature);
    }
    if object.payload().is_none() {
        return Err(portcullis_wire::Error::Shape("an attached payload").into());
    }
    Ok(VerifiedStatement { object })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::Suite;

    /// THREATS row 48, for everything that the authority and gates sign.
    #[test]
    fn threat_48_no_kind_is_accepted_in_place_of_another() {
        let key = SigningKey::generate(Suite::Classic).unwrap();
        for made in Kind::ALL {
            let bytes = sign(made, &key, "iss", "sub", b"payload").unwrap();
            for wanted in Kind::ALL {
                let outcome = verify(&bytes, wanted, key.public()).map(|s| s.payload().to_vec());
                let expected =
                    if made == wanted { Ok(b"payload".to_vec()) } else { Err(PermitError::Kind { required: wanted }) };
                assert_eq!(outcome, expected, "{made} offered as {wanted}");
            }
        }
    }

    #[test]
    fn refuses_other_keys_suites_and_unsigned_extras() {
        let (classic, pq) = (SigningKey::generate(Suite::Classic).unwrap(), SigningKey::generate(Suite::Pq).unwrap());
        let other = SigningKey::generate(Suite::Classic).unwrap();
        let bytes = sign(Kind::Permit, &classic, "iss", "sub", b"p").unwrap();
        assert_eq!(verify(&bytes, Kind::Permit, other.public()).unwrap_err(), PermitError::Key);
        assert_eq!(
            verify(&bytes, Kind::Permit, pq.public()).unwrap_err(),
            PermitError::Algorithm { found: -9, required: -49 }
        );
        let extra = Sign1::parse(&bytes, 4096).unwrap().with_unprotected(vec![(99, Value::Null)]);
        assert!(matches!(verify(&extra, Kind::Permit, classic.public()).unwrap_err(), PermitError::Malformed(_)));
        for at in 0..bytes.len() {
            let mut bad = bytes.clone();
            bad[at] ^= 1;
            assert!(verify(&bad, Kind::Permit, classic.public()).is_err(), "byte {at}");
        }
    }
}
