//! A refusal as a concise problem detail (RFC 9290), signed and logged.

use portcullis_wire::{Digest, Error, Fields, Sign1, Value, bstr, decode, encode, map, or_null};

use crate::error::PermitError;
use crate::key::{PublicKey, SigningKey};
use crate::permit::PermitId;
use crate::statement::{self, Kind};

/// Standard problem details (RFC 9290 §2).
const TITLE: i64 = -1;
const DETAIL: i64 = -2;
const RESPONSE_CODE: i64 = -4;
/// CoAP's 4.03 Forbidden as one byte, class and detail (RFC 7252 §3); RFC 9290
/// takes no HTTP status here.
const FORBIDDEN: u64 = 4 << 5 | 3;
/// The custom problem detail that holds this project's members. IANA assigns negative
/// keys, so a custom entry is a map under a URI (RFC 9290 §3.2).
const OWN: &str = "tag:portcullis.invalid,2026:denial#1";
const ID: i64 = 1;
const TIME: i64 = 2;
const REFUSALS: i64 = 3;
const EVIDENCE: i64 = 4;
const BUNDLE: i64 = 5;
const FACTS: i64 = 6;
const MAX_DENIAL: usize = 60 * 1024;
/// Longest text in a denial, in bytes.
const MAX_TEXT: usize = 1024;
/// Bytes of all texts together: with ids and a signature an entry fits the log.
const ALL_TEXTS: usize = 44 * 1024;

/// One check that did not pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Stable dotted id.
    pub check: String,
    /// What was found.
    pub found: Option<String>,
    /// What was required.
    pub required: Option<String>,
    /// What to do about it.
    pub remedy: Option<String>,
}

impl Refusal {
    /// The check id alone, which is all that a stranger receives.
    #[must_use]
    pub fn id_only(check: &str) -> Self {
        Self { check: check.to_owned(), found: None, required: None, remedy: None }
    }
}

/// A logged refusal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denial {
    /// Origin of the authority's log.
    pub issuer: String,
    /// Node that asked, as it calls itself.
    pub subject: String,
    /// Id that the permit would have had.
    pub id: PermitId,
    /// Unix seconds.
    pub time: u64,
    /// Failed checks, the most important first.
    pub refusals: Vec<Refusal>,
    /// SHA-256 of the evidence.
    pub evidence: Digest,
    /// SHA-256 of the bundle.
    pub bundle: Digest,
    /// SHA-256 of the recorded facts.
    pub facts: Digest,
}

impl Denial {
    /// Most refusals that a denial may have.
    pub const MAX_REFUSALS: usize = 96;

    /// When the authority made the denial with this payload, Unix seconds.
    pub(crate) fn time_of(payload: &[u8]) -> Option<u64> {
        parts(payload).ok()?.1.uint(TIME).ok()
    }

    /// Whether the requester is a stranger. A stranger receives one check id and nothing
    /// else.
    #[must_use]
    pub fn is_of_stranger(&self) -> bool {
        matches!(self.refusals.as_slice(), [only] if *only == Refusal::id_only(&only.check))
    }

    /// The payload to sign. If there are many refusals, their texts are shortened; no
    /// refusal is omitted.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let texts = self.refusals.len().saturating_mul(3).max(1);
        let longest = ALL_TEXTS.checked_div(texts).unwrap_or(0).min(MAX_TEXT);
        let short = |text: &Option<String>| or_null(text.as_ref().map(|text| shorten(text, longest).into()));
        let refusals = self.refusals.iter().take(Self::MAX_REFUSALS).map(|r| {
            Value::Array(vec![r.check.as_str().into(), short(&r.found), short(&r.required), short(&r.remedy)])
        });
        let first = self.refusals.first().map_or("", |r| r.check.as_str());
        let own = map([
            (ID, bstr(self.id.bytes())),
            (TIME, self.time.into()),
            (REFUSALS, Value::Array(refusals.collect())),
            (EVIDENCE, bstr(self.evidence)),
            (BUNDLE, bstr(self.bundle)),
            (FACTS, bstr(self.facts)),
        ]);
        encode(&Value::Map(vec![
            (TITLE.into(), "permit denied".into()),
            (DETAIL.into(), first.into()),
            (RESPONSE_CODE.into(), FORBIDDEN.into()),
            (OWN.into(), own),
        ]))
    }

    /// Signs the denial.
    ///
    /// # Errors
    /// [`PermitError::Signing`].
    pub fn sign(&self, key: &SigningKey) -> Result<Vec<u8>, PermitError> {
        statement::sign(Kind::Denial, key, &self.issuer, &self.subject, &self.encode())
    }

    /// Verifies a signed denial. Issuer and subject are those of header 15.
    ///
    /// # Errors
    /// [`PermitError`].
    pub fn verify(bytes: &[u8], key: &PublicKey) -> Result<Self, PermitError> {
        let statement = statement::verify(bytes, Kind::Denial, key)?;
        Self::read(statement.object())
    }

    /// Reads a denial for display, without verifying its signature.
    ///
    /// # Errors
    /// [`PermitError::Malformed`].
    pub fn unverified(bytes: &[u8]) -> Result<Self, PermitError> {
        let object = Sign1::parse(bytes, MAX_DENIAL)?;
        if Kind::of(&object) != Some(Kind::Denial) {
            return Err(Error::Shape("a denial").into());
        }
        Self::read(&object)
    }

    /// As [`Self::unverified`], of an object that was parsed already.
    ///
    /// # Errors
    /// [`PermitError::Malformed`].
    pub fn read(object: &Sign1) -> Result<Self, PermitError> {
        let mut names = Fields::of(object.protected(15).cloned().ok_or(Error::Missing(15))?)?;
        let (mut standard, mut own) = parts(object.payload().unwrap_or_default())?;
        let (_title, _detail) = (standard.text(TITLE)?, standard.text(DETAIL)?);
        if standard.uint(RESPONSE_CODE)? != FORBIDDEN {
            return Err(Error::WrongType(RESPONSE_CODE).into());
        }
        let denial = Self {
            issuer: names.text(1)?,
            subject: names.text(2)?,
            id: PermitId::from_bytes(own.array(ID)?),
            time: own.uint(TIME)?,
            refusals: own.items(REFUSALS)?.into_iter().map(refusal).collect::<Result<_, _>>()?,
            evidence: own.array(EVIDENCE)?,
            bundle: own.array(BUNDLE)?,
            facts: own.array(FACTS)?,
        };
        standard.finish()?;
        own.finish()?;
        Ok(denial)
    }
}

/// The standard details of a payload, and what is ours.
fn parts(payload: &[u8]) -> Result<(Fields, Fields), Error> {
    let Value::Map(entries) = decode(payload, MAX_DENIAL)? else { return Err(Error::Shape("problem details")) };
    let (own, standard): (Vec<_>, Vec<_>) = entries.into_iter().partition(|(key, _)| key.as_text() == Some(OWN));
    let [(_, own)] = <[(Value, Value); 1]>::try_from(own).map_err(|_| Error::Shape("the details of a denial"))?;
    Ok((Fields::of(Value::Map(standard))?, Fields::of(own)?))
}

/// The beginning of a text, in whole characters.
fn shorten(text: &str, longest: usize) -> &str {
    let ends = text.char_indices().map(|(at, c)| at.saturating_add(c.len_utf8()));
    let end = ends.take_while(|end| *end <= longest).last().unwrap_or(0);
    text.get(..end).unwrap_or_default()
}

fn refusal(value: Value) -> Result<Refusal, Error> {
    let refused = || Error::WrongType(REFUSALS);
    let parts = value.into_array().ok().and_then(|p| <[Value; 4]>::try_from(p).ok());
    let Some([Value::Text(check), found, required, remedy]) = parts else { return Err(refused()) };
    let text = |value: Value| match value {
        Value::Null => Ok(None),
        Value::Text(text) => Ok(Some(text)),
        _ => Err(refused()),
    };
    Ok(Refusal { check, found: text(found)?, required: text(required)?, remedy: text(remedy)? })
}
