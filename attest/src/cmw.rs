//! Conceptual message wrappers (RFC 9999) from other systems, in CBOR and in JSON:
//! records, tagged records, collections, and one form inside the other. Our own
//! evidence is parsed more strictly, see [`crate::evidence`].

use std::fmt;

use portcullis_wire::{Integer, Value};
use serde::Deserialize;
use serde::de::{Deserializer, Error as _, MapAccess, SeqAccess, Visitor};

use crate::tsm::base64;

/// Largest wrapper read, in bytes, and deepest nesting.
const MAX_LENGTH: usize = 4 << 20;
const MAX_DEPTH: usize = 16;
/// The tags of content formats 0 to 65,024 (RFC 9277, appendix B): in each page of
/// 256 tags, 255 formats.
const TAG_BASE: u64 = 0x6374_0101;
const TAG_PAGE: u64 = 256;
const FORMAT_PAGE: u64 = 255;
/// Largest content format (RFC 7252, §12.3), and largest indicator: four bytes.
const MAX_FORMAT: u64 = 0xffff;
const MAX_INDICATOR: u64 = 0xffff_ffff;
/// `__cmwc_t`.
const COLLECTION_TYPE: &str = "__cmwc_t";
/// Types of records that carry a wrapper in the other form: CBOR in JSON, and JSON in
/// CBOR.
const CBOR_IN_JSON: &str = "#cmw-c2j-tunnel";
const JSON_IN_CBOR: &str = "#cmw-j2c-tunnel";

/// Why bytes are not a wrapper.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CmwError {
    /// Longer than 4 MiB.
    TooLong,
    /// Not CBOR, or followed by trailing bytes.
    Cbor,
    /// Not JSON, or followed by trailing bytes.
    Json,
    /// Well-formed, but neither record nor collection.
    Form,
    /// A label occurs twice in one collection.
    Label,
}

impl fmt::Display for CmwError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TooLong => "longer than 4 MiB",
            Self::Cbor => "no CBOR item that fills its bytes",
            Self::Json => "no JSON text that fills its bytes",
            Self::Form => "neither record nor collection",
            Self::Label => "a label that stands twice",
        })
    }
}

impl std::error::Error for CmwError {}

/// The type of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MessageType {
    /// A content format (CoAP registry).
    Format(u64),
    /// A media type.
    Media(String),
}

/// The label of an item in its collection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Label {
    /// An integer.
    Number(i128),
    /// A text.
    Text(String),
}

/// A wrapper.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cmw {
    /// One message.
    Record {
        /// Its type.
        kind: MessageType,
        /// The message.
        message: Vec<u8>,
        /// Purpose of the message, as bits; absent if not stated.
        indicator: Option<u64>,
    },
    /// Several wrappers.
    Collection {
        /// `__cmwc_t`.
        kind: Option<String>,
        /// The items, in the order given.
        items: Vec<(Label, Self)>,
    },
}

impl Cmw {
    /// Reads a wrapper that fills `bytes`. Bytes that begin with a bracket or a brace are
    /// JSON, because no wrapper in CBOR begins with these.
    ///
    /// # Errors
    /// [`CmwError`].
    pub fn parse(bytes: &[u8]) -> Result<Self, CmwError> {
        match bytes.trim_ascii_start().first() {
            Some(b'[' | b'{') => Self::from_json(bytes),
            _ => Self::of(cbor(bytes)?),
        }
    }

    fn from_json(bytes: &[u8]) -> Result<Self, CmwError> {
        if bytes.len() > MAX_LENGTH {
            return Err(CmwError::TooLong);
        }
        serde_json::from_slice::<Json>(bytes).map_err(|_| CmwError::Json)?.wrapper()
    }

    fn of(value: Value) -> Result<Self, CmwError> {
        match value {
            Value::Array(parts) => record(parts),
            Value::Map(entries) => collection(entries),
            Value::Tag(tag, inner) => match (format_of_tag(tag), *inner) {
                (Some(format), Value::Bytes(message)) => {
                    Ok(Self::Record { kind: MessageType::Format(format), message, indicator: None })
                }
                _ => Err(CmwError::Form),
            },
            _ => Err(CmwError::Form),
        }
    }

    /// The messages of these media types, in a collection or in one inside it.
    /// Parameters and case of a type do not matter (RFC 9110 §8.3.1).
    #[must_use]
    pub fn messages(&self, media_types: &[&str]) -> Vec<&[u8]> {
        match self {
            Self::Record { kind: MessageType::Media(found), message, .. } => {
                let found = found.split(';').next().unwrap_or_default().trim();
                let fits = media_types.iter().any(|known| known.eq_ignore_ascii_case(found));
                if fits { vec![message] } else { Vec::new() }
            }
            Self::Record { .. } => Vec::new(),
            Self::Collection { items, .. } => items.iter().flat_map(|(_, item)| item.messages(media_types)).collect(),
        }
    }
}

/// One item that fills the bytes. Encodings of other systems need not be deterministic:
/// nothing that is read here is signed or hashed again.
pub(crate) fn cbor(bytes: &[u8]) -> Result<Value, CmwError> {
    if bytes.len() > MAX_LENGTH {
        return Err(CmwError::TooLong);
    }
    let mut rest = bytes;
    let value = ciborium::de::from_reader_with_recursion_limit(&mut rest, MAX_DEPTH).map_err(|_| CmwError::Cbor)?;
    if !rest.is_empty() {
        return Err(CmwError::Cbor);
    }
    Ok(value)
}

fn format_of_tag(tag: u64) -> Option<u64> {
    let offset = tag.checked_sub(TAG_BASE)?;
    let (page, within) = (offset / TAG_PAGE, offset % TAG_PAGE);
    let known = page < FORMAT_PAGE && within < FORMAT_PAGE;
    known.then(|| page.saturating_mul(FORMAT_PAGE).saturating_add(within))
}

fn number_in(least: u64, number: Integer, most: u64) -> Result<u64, CmwError> {
    u64::try_from(number).ok().filter(|number| (least..=most).contains(number)).ok_or(CmwError::Form)
}

fn record(parts: Vec<Value>) -> Result<Cmw, CmwError> {
    let mut parts = parts.into_iter();
    let kind = match parts.next() {
        Some(Value::Integer(number)) => MessageType::Format(number_in(0, number, MAX_FORMAT)?),
        Some(Value::Text(media)) => MessageType::Media(media),
        _ => return Err(CmwError::Form),
    };
    let Some(Value::Bytes(message)) = parts.next() else { return Err(CmwError::Form) };
    if kind == MessageType::Media(JSON_IN_CBOR.into()) {
        return Cmw::from_json(&message);
    }
    let indicator = match parts.next() {
        None => None,
        // An indicator without any bit is encoded by omitting it.
        Some(Value::Integer(bits)) => Some(number_in(1, bits, MAX_INDICATOR)?),
        Some(_) => return Err(CmwError::Form),
    };
    if parts.next().is_some() {
        return Err(CmwError::Form);
    }
    Ok(Cmw::Record { kind, message, indicator })
}

fn collection(entries: Vec<(Value, Value)>) -> Result<Cmw, CmwError> {
    let (mut kind, mut items): (Option<String>, Vec<(Label, Cmw)>) = (None, Vec::new());
    for (label, value) in entries {
        let label = match label {
            Value::Text(text) if text == COLLECTION_TYPE => {
                let text = value.into_text().map_err(|_| CmwError::Form)?;
                if kind.replace(text).is_some() {
                    return Err(CmwError::Label);
                }
                continue;
            }
            Value::Text(text) => Label::Text(text),
            Value::Integer(number) => Label::Number(number.into()),
            _ => return Err(CmwError::Form),
        };
        if items.iter().any(|(known, _)| *known == label) {
            return Err(CmwError::Label);
        }
        items.push((label, Cmw::of(value)?));
    }
    if items.is_empty() { Err(CmwError::Form) } else { Ok(Cmw::Collection { kind, items }) }
}

/// A wrapper in JSON.
enum Json {
    Record(Vec<serde_json::Value>),
    Collection(Vec<(String, Self)>),
    /// The type of a collection.
    Text(String),
}

impl Json {
    fn wrapper(self) -> Result<Cmw, CmwError> {
        match self {
            Self::Record(parts) => json_record(parts),
            Self::Collection(entries) => json_collection(entries),
            Self::Text(_) => Err(CmwError::Form),
        }
    }
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Shape;
        impl<'de> Visitor<'de> for Shape {
            type Value = Json;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a record, a collection, or the type of one")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Json, E> {
                Ok(Json::Text(text.to_owned()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut parts: A) -> Result<Json, A::Error> {
                let mut record = Vec::new();
                while let Some(part) = parts.next_element()? {
                    record.push(part);
                }
                Ok(Json::Record(record))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Json, A::Error> {
                let mut collection: Vec<(String, Json)> = Vec::new();
                while let Some((label, item)) = entries.next_entry::<String, Json>()? {
                    if collection.iter().any(|(known, _)| *known == label) {
                        return Err(A::Error::custom("a label that stands twice"));
                    }
                    collection.push((label, item));
                }
                Ok(Json::Collection(collection))
            }
        }
        deserializer.deserialize_any(Shape)
    }
}

fn json_record(parts: Vec<serde_json::Value>) -> Result<Cmw, CmwError> {
    let kind = match parts.first() {
        Some(serde_json::Value::String(media)) => MessageType::Media(media.clone()),
        Some(other) => {
            MessageType::Format(other.as_u64().filter(|format| *format <= MAX_FORMAT).ok_or(CmwError::Form)?)
        }
        None => return Err(CmwError::Form),
    };
    let message = parts.get(1).and_then(serde_json::Value::as_str).and_then(base64).ok_or(CmwError::Form)?;
    if kind == MessageType::Media(CBOR_IN_JSON.into()) {
        return Cmw::of(cbor(&message)?);
    }
    let bits = |bits: &serde_json::Value| {
        bits.as_u64().filter(|bits| (1..=MAX_INDICATOR).contains(bits)).ok_or(CmwError::Form)
    };
    let indicator = parts.get(2).map(bits).transpose()?;
    if parts.len() > 3 {
        return Err(CmwError::Form);
    }
    Ok(Cmw::Record { kind, message, indicator })
}

fn json_collection(entries: Vec<(String, Json)>) -> Result<Cmw, CmwError> {
    let (mut kind, mut items) = (None, Vec::new());
    for (label, item) in entries {
        match (label.as_str(), item) {
            (COLLECTION_TYPE, Json::Text(text)) => kind = Some(text),
            (COLLECTION_TYPE, _) => return Err(CmwError::Form),
            (_, item) => items.push((Label::Text(label), item.wrapper()?)),
        }
    }
    if items.is_empty() { Err(CmwError::Form) } else { Ok(Cmw::Collection { kind, items }) }
}
