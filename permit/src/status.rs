//! Token status list (approved draft-21): one bit pattern for each permit.

use std::io::{Read, Write};

use flate2::Compression;
use flate2::read::ZlibDecoder;
use flate2::write::ZlibEncoder;
use portcullis_wire::{Error, Fields, Value, bstr, decode, encode, map, rfc3339};

use crate::claims::{EXP, IAT, STATUS_LIST, SUB, TTL};
use crate::clock::Clock;
use crate::error::PermitError;
use crate::key::{PublicKey, SigningKey};
use crate::statement::{self, Kind};

/// Bits for each permit: values 0 to 3.
const BITS: u64 = 2;
/// Entries for each byte.
const PER_BYTE: u64 = 8 / BITS;
/// Most entries in a list.
pub(crate) const MAX_ENTRIES: u64 = 1 << 20;
const MAX_TOKEN: usize = 1 << 20;

/// Status of a permit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// Value 0.
    Valid,
    /// Value 1: withdrawn permanently.
    Invalid,
    /// Value 2: withdrawn temporarily.
    Suspended,
}

impl Status {
    const fn value(self) -> u8 {
        match self {
            Self::Valid => 0,
            Self::Invalid => 1,
            Self::Suspended => 2,
        }
    }

    /// `valid`, `invalid` or `suspended`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Valid => "valid",
            Self::Invalid => "invalid",
            Self::Suspended => "suspended",
        }
    }
}

/// Place of a permit's status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatusReference {
    /// The list.
    pub uri: String,
    /// Position in the list.
    pub index: u64,
}

impl StatusReference {
    pub(crate) fn to_value(&self) -> Value {
        let list = Value::Map(vec![("idx".into(), self.index.into()), ("uri".into(), self.uri.as_str().into())]);
        Value::Map(vec![("status_list".into(), list)])
    }

    pub(crate) fn from_value(value: Value) -> Result<Self, Error> {
        let refused = || Error::Shape("a status list reference");
        let Value::Map(outer) = value else { return Err(refused()) };
        let [(Value::Text(name), Value::Map(inner))] = outer.as_slice() else { return Err(refused()) };
        let [(idx, Value::Integer(index)), (uri, Value::Text(value))] = inner.as_slice() else { return Err(refused()) };
        if name != "status_list" || *idx != "idx".into() || *uri != "uri".into() {
            return Err(refused());
        }
        Ok(Self { uri: value.clone(), index: u64::try_from(*index).map_err(|_| refused())? })
    }
}

/// A list of statuses with its period of validity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatusList {
    /// URI, which is also its subject.
    pub uri: String,
    /// Unix seconds.
    pub issued: u64,
    /// Unix seconds, exclusive.
    pub expires: u64,
    packed: Vec<u8>,
}

impl StatusList {
    /// A list of `entries` valid permits, rounded up to whole bytes.
    #[must_use]
    pub fn new(uri: &str, entries: u64, issued: u64, expires: u64) -> Self {
        let bytes = usize::try_from(entries.min(MAX_ENTRIES).div_ceil(PER_BYTE)).unwrap_or(0);
        Self { uri: uri.to_owned(), issued, expires, packed: vec![0; bytes] }
    }

    /// The same statuses with another period of validity.
    #[must_use]
    pub fn valid_for(&self, issued: u64, expires: u64) -> Self {
        Self { issued, expires, ..self.clone() }
    }

    /// Seconds for which the list is valid, counted from the request for it.
    #[must_use]
    pub const fn validity(&self) -> u64 {
        self.expires.saturating_sub(self.issued)
    }

    /// Number of entries.
    #[must_use]
    pub fn size(&self) -> u64 {
        (self.packed.len() as u64).saturating_mul(PER_BYTE)
    }

    fn place(&self, index: u64) -> Result<(usize, u32), PermitError> {
        let range = PermitError::StatusRange { index, size: self.size() };
        let byte = usize::try_from(index / PER_BYTE).map_err(|_| range.clone())?;
        let shift = u32::try_from((index % PER_BYTE).saturating_mul(BITS)).map_err(|_| range.clone())?;
        if byte < self.packed.len() { Ok((byte, shift)) } else { Err(range) }
    }

    /// Sets a status.
    ///
    /// # Errors
    /// [`PermitError::StatusRange`].
    pub fn set(&mut self, index: u64, status: Status) -> Result<(), PermitError> {
        let (at, shift) = self.place(index)?;
        if let Some(byte) = self.packed.get_mut(at) {
            *byte = *byte & !(3 << shift) | status.value() << shift;
        }
        Ok(())
    }

    /// The status at an index; the value that the draft leaves undefined counts
    /// as invalid.
    ///
    /// # Errors
    /// [`PermitError::StatusRange`].
    pub fn status(&self, index: u64) -> Result<Status, PermitError> {
        let (at, shift) = self.place(index)?;
        Ok(match self.packed.get(at).copied().unwrap_or(u8::MAX) >> shift & 3 {
            0 => Status::Valid,
            2 => Status::Suspended,
            _ => Status::Invalid,
        })
    }

    /// Signs the list as a status list token.
    ///
    /// # Errors
    /// [`PermitError::Signing`].
    pub fn sign(&self, key: &SigningKey, issuer: &str) -> Result<Vec<u8>, PermitError> {
        let list = map_text([("bits", BITS.into()), ("lst", bstr(deflate(&self.packed)?))]);
        let ttl = self.expires.saturating_sub(self.issued);
        let claims = map([
            (SUB, self.uri.as_str().into()),
            (IAT, self.issued.into()),
            (EXP, self.expires.into()),
            (TTL, ttl.into()),
            (STATUS_LIST, list),
        ]);
        statement::sign(Kind::StatusList, key, issuer, &self.uri, &encode(&claims))
    }

    /// Verifies a status list token for a URI. The signer's clock may differ by the
    /// tolerance. A caller that acts on a list must therefore count its validity only from
    /// its own request for the list ([`StatusList::validity`]).
    ///
    /// # Errors
    /// [`PermitError`]: the claim `permit.status.expired` for an expired list,
    /// `permit.status.issued` for a list issued in the future.
    pub fn verify(bytes: &[u8], key: &PublicKey, uri: &str, clock: Clock) -> Result<Self, PermitError> {
        let statement = statement::verify(bytes, Kind::StatusList, key)?;
        let mut fields = Fields::of(decode(statement.payload(), MAX_TOKEN)?)?;
        let (subject, issued, expires) = (fields.text(SUB)?, fields.uint(IAT)?, fields.uint(EXP)?);
        let _ttl = fields.uint(TTL)?;
        let packed = inflate(fields.required(STATUS_LIST)?)?;
        fields.finish()?;
        let claim = |check, found: String, required: String| Err(PermitError::Claim { check, found, required });
        if subject != uri {
            return claim("permit.status.uri", subject, uri.to_owned());
        }
        if !clock.has_reached(issued) {
            let required = format!("at most {} s after {}", clock.skew, rfc3339(clock.now));
            return claim("permit.status.issued", rfc3339(issued), required);
        }
        if clock.is_past_everywhere(expires) {
            let required = format!("later than {} s before {}", clock.skew, rfc3339(clock.now));
            return claim("permit.status.expired", rfc3339(expires), required);
        }
        Ok(Self { uri: subject, issued, expires, packed })
    }
}

fn map_text<const N: usize>(entries: [(&str, Value); N]) -> Value {
    Value::Map(entries.into_iter().map(|(key, value)| (key.into(), value)).collect())
}

fn deflate(bytes: &[u8]) -> Result<Vec<u8>, PermitError> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).and_then(|()| encoder.finish()).map_err(|_| PermitError::Signing)
}

/// Decompresses `lst`, one zlib stream. It stops at the size of the largest list, so a
/// zip bomb does no harm.
fn inflate(list: Value) -> Result<Vec<u8>, PermitError> {
    let refused = || Error::Shape("a status list");
    let Value::Map(entries) = list else { return Err(refused().into()) };
    // Deterministic order: "lst" is shorter than "bits", so it comes first.
    let [(lst, Value::Bytes(packed)), (bits, width)] = entries.as_slice() else { return Err(refused().into()) };
    if *bits != "bits".into() || *width != Value::from(BITS) || *lst != "lst".into() {
        return Err(refused().into());
    }
    let limit = MAX_ENTRIES / PER_BYTE;
    let (mut out, mut decoder) = (Vec::new(), ZlibDecoder::new(packed.as_slice()));
    decoder.by_ref().take(limit.saturating_add(1)).read_to_end(&mut out).map_err(|_| refused())?;
    let whole = decoder.total_in() == packed.len() as u64;
    if out.len() as u64 > limit || !whole { Err(refused().into()) } else { Ok(out) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::Suite;

    #[test]
    fn tells_each_status_until_it_expires() {
        let key = SigningKey::generate(Suite::Classic).unwrap();
        let mut list = StatusList::new("/v1/status/0", 1000, 100, 130);
        list.set(7, Status::Invalid).unwrap();
        list.set(8, Status::Suspended).unwrap();
        let token = list.sign(&key, "authority").unwrap();
        let at = |now| Clock { now, skew: 5 };
        let read = StatusList::verify(&token, key.public(), "/v1/status/0", at(129)).unwrap();
        assert_eq!(read, list);
        let statuses: Vec<_> = (6..10).map(|n| read.status(n).unwrap()).collect();
        assert_eq!(statuses, [Status::Valid, Status::Invalid, Status::Suspended, Status::Valid]);
        assert_eq!(read.status(1000), Err(PermitError::StatusRange { index: 1000, size: 1000 }));
        let expired = StatusList::verify(&token, key.public(), "/v1/status/0", at(135)).unwrap_err();
        assert_eq!(
            expired.to_string(),
            "permit.status.expired: found 1970-01-01T00:02:10Z, required later than 5 s before 1970-01-01T00:02:15Z"
        );
        // The clock may be ahead or behind by the tolerance. The period of validity does not
        // depend on it.
        for now in [95, 134] {
            let read = StatusList::verify(&token, key.public(), "/v1/status/0", at(now)).unwrap();
            assert_eq!(read.validity(), 30);
        }
        let future = StatusList::verify(&token, key.public(), "/v1/status/0", at(94)).unwrap_err();
        assert_eq!(future.check(), "permit.status.issued");
        let other = StatusList::verify(&token, key.public(), "/v1/status/1", at(129)).unwrap_err();
        assert_eq!(other.check(), "permit.status.uri");
    }

    #[test]
    fn a_list_is_one_stream_and_nothing_behind_it() {
        let list = |packed: Vec<u8>| inflate(map_text([("lst", bstr(packed)), ("bits", BITS.into())]));
        let packed = deflate(&[0xc9, 0x44, 0xf9]).unwrap();
        assert_eq!(list(packed.clone()).unwrap(), [0xc9, 0x44, 0xf9]);
        assert!(list([packed.clone(), vec![0]].concat()).is_err());
        assert!(list(packed[..packed.len() - 1].to_vec()).is_err(), "without its checksum");
    }

    #[test]
    fn a_compressed_bomb_stops_at_the_limit() {
        let bomb = deflate(&vec![0; 8 << 20]).unwrap();
        let list = map_text([("lst", bstr(&bomb)), ("bits", BITS.into())]);
        let list = decode(&encode(&list), 1 << 20).unwrap();
        assert!(inflate(list).is_err());
    }
}
