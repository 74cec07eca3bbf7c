//! The encodings that every crate of Portcullis shares: core deterministic
//! CBOR, the strict reading of COSE_Sign1, lower-case hex, times for people, and
//! the proofs of an RFC 9162 Merkle tree.
//!
//! Every signed or hashed object of Portcullis is core deterministic CBOR
//! (RFC 8949 §4.2.1). Two encodings of one value would be two digests of one
//! statement, so whatever is not deterministic is refused on input: duplicate
//! or unsorted keys, non-shortest lengths, indefinite lengths, trailing bytes.
//!
//! ```
//! use portcullis_wire::{Fields, Value, decode, encode, map};
//!
//! let bytes = encode(&map([(2, Value::from("b")), (1, Value::from(7))]));
//! let mut fields = Fields::of(decode(&bytes, 64)?)?;
//! assert_eq!(fields.uint(1)?, 7);
//! assert_eq!(fields.text(2)?, "b");
//! fields.finish()?; // a key that nobody asked for is refused
//! # Ok::<(), portcullis_wire::Error>(())
//! ```
//!
//! It does not verify signatures (the crates that own the keys do) and does not accept
//! floating point, which no Portcullis format uses.

mod error;
mod fields;
pub mod hex;
pub mod merkle;
mod sign1;
mod strict;
mod time;

use std::io::{self, Read};

use aws_lc_rs::digest::{Context, SHA256, digest};
pub use ciborium::Value;
pub use ciborium::value::Integer;
pub use error::Error;
pub use fields::Fields;
pub use sign1::{Headers, Sign1, sign1};
pub use strict::{decode, encode};
pub use time::rfc3339;

/// A SHA-256 digest.
pub type Digest = [u8; 32];

/// SHA-256 over the parts, one after another.
#[must_use]
pub fn sha256(parts: &[&[u8]]) -> Digest {
    if let [whole] = parts {
        return sized(&digest(&SHA256, whole));
    }
    let mut context = Context::new(&SHA256);
    parts.iter().for_each(|part| context.update(part));
    sized(&context.finish())
}

/// SHA-256 over everything that a reader returns.
///
/// # Errors
/// The reader's.
pub fn sha256_of(mut reader: impl Read) -> io::Result<Digest> {
    let mut context = Context::new(&SHA256);
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let count = reader.read(&mut buffer)?;
        match buffer.get(..count) {
            Some([]) | None => return Ok(sized(&context.finish())),
            Some(part) => context.update(part),
        }
    }
}

fn sized(digest: &aws_lc_rs::digest::Digest) -> Digest {
    let mut out = [0; 32];
    out.iter_mut().zip(digest.as_ref()).for_each(|(to, from)| *to = *from);
    out
}

/// A CBOR map with integer keys, in any order; [`encode`] sorts it.
#[must_use]
pub fn map(entries: impl IntoIterator<Item = (i64, Value)>) -> Value {
    Value::Map(entries.into_iter().map(|(key, value)| (Value::from(key), value)).collect())
}

/// A CBOR byte string.
#[must_use]
pub fn bstr(bytes: impl AsRef<[u8]>) -> Value {
    Value::Bytes(bytes.as_ref().to_vec())
}

/// The value, or CBOR `null` if there is none.
#[must_use]
pub fn or_null(value: Option<Value>) -> Value {
    value.unwrap_or(Value::Null)
}
