//! Why bytes were refused.

use std::fmt;

/// A refusal of malformed input. Safe to log: it never carries input bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Error {
    /// The input is longer than the format allows.
    TooLong {
        /// Length of the input, in bytes.
        found: usize,
        /// Largest length that the format allows, in bytes.
        limit: usize,
    },
    /// The bytes are not CBOR, are nested too deeply, or further bytes follow the item.
    Malformed,
    /// Valid CBOR, but not the core deterministic encoding (RFC 8949 §4.2.1).
    NotDeterministic,
    /// A key that the format requires is absent.
    Missing(i64),
    /// The value under this key has another type or range.
    WrongType(i64),
    /// A key that the format does not define.
    UnknownKey(String),
    /// The item does not have the shape that the format requires.
    Shape(&'static str),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong { found, limit } => write!(f, "{found} bytes, at most {limit} allowed"),
            Self::Malformed => f.write_str("malformed cbor"),
            Self::NotDeterministic => f.write_str("cbor is not in core deterministic encoding"),
            Self::Missing(key) => write!(f, "required key {key} is missing"),
            Self::WrongType(key) => write!(f, "key {key} has the wrong type or range"),
            Self::UnknownKey(key) => write!(f, "unknown key {key}"),
            Self::Shape(what) => write!(f, "expected {what}"),
        }
    }
}

impl std::error::Error for Error {}
