//! A refusal as a concise problem detail (RFC 9290), signed and logged.

use portcullis_wire::{Digest, Error, Fields, Sign1, Value, bstr, decode, encode, map, or_null};

use crate::error::PermitError;
use crate::key::{PublicKey, SigningKey};
use crate::permit::PermitId;
use crate::statement::{self, Kind};

const TITLE: i64 = -1;
const DETAIL: i64 = -2;
const RESPONSE_CODE: i64 = -4;
const ID: i64 = -70_010;
const TIME: i64 = -70_011;
const REFUSALS: i64 = -70_012;
const EVIDENCE: i64 = -70_013;
const BUNDLE: i64 = -70_014;
const FACTS: i64 = -70_015;
const FORBIDDEN: u64 = 403;
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
    /// Only the id: what strangers learn.
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
    /// What did not pass, the most important first.
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

    /// When the denial with this payload was made, Unix seconds.
    pub(crate) fn time_of(payload: &[u8]) -> Option<u64> {
        Fields::of(decode(payload, MAX_DENIAL).ok()?).ok()?.uint(TIME).ok()
    }

    /// Whether whoever asked is a stranger, who learns one check id and no more.
    #[must_use]
    pub fn is_of_stranger(&self) -> bool {
        matches!(self.refusals.as_slice(), [only] if *only == Refusal::id_only(&only.check))
    }

    /// What is signed. The texts of many refusals are shortened, never left out.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let texts = self.refusals.len().saturating_mul(3).max(1);
        let longest = ALL_TEXTS.checked_div(texts).unwrap_or(0).min(MAX_TEXT);
        let short = |text: &Option<String>| or_null(text.as_ref().map(|text| shorten(text, longest).into()));
        let refusals = self.refusals.iter().take(Self::MAX_REFUSALS).map(|r| {
            Value::Array(vec![r.check.as_str().into(), short(&r.found), short(&r.required), short(&r.remedy)])
        });
        let first = self.refusals.first().map_or("", |r| r.check.as_str());
        encode(&map([
            (TITLE, "permit denied".into()),
            (DETAIL, first.into()),
            (RESPONSE_CODE, FORBIDDEN.into()),
            (ID, bstr(self.id.bytes())),
            (TIME, self.time.into()),
            (REFUSALS, Value::Array(refusals.collect())),
            (EVIDENCE, bstr(self.evidence)),
            (BUNDLE, bstr(self.bundle)),
            (FACTS, bstr(self.facts)),
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

    /// Reads a denial without looking at who signed it: to show it to people.
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
        let mut fields = Fields::of(decode(object.payload().unwrap_or_default(), MAX_DENIAL)?)?;
        let (_title, _detail) = (fields.text(TITLE)?, fields.text(DETAIL)?);
        if fields.uint(RESPONSE_CODE)? != FORBIDDEN {
            return Err(Error::WrongType(RESPONSE_CODE).into());
        }
        let denial = Self {
            issuer: names.text(1)?,
            subject: names.text(2)?,
            id: PermitId::from_bytes(fields.array(ID)?),
            time: fields.uint(TIME)?,
            refusals: fields.items(REFUSALS)?.into_iter().map(refusal).collect::<Result<_, _>>()?,
            evidence: fields.array(EVIDENCE)?,
            bundle: fields.array(BUNDLE)?,
            facts: fields.array(FACTS)?,
        };
        fields.finish()?;
        Ok(denial)
    }
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
