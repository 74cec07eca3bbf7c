//! Decoding that accepts exactly one encoding of each value.

use crate::{Error, Value};

/// Deepest nesting of any Portcullis format, with room to spare.
const MAX_DEPTH: usize = 16;

/// Decodes one deterministically encoded item that fills `bytes` exactly.
///
/// # Errors
/// [`Error::TooLong`] above `limit` bytes (checked before anything is parsed),
/// [`Error::Malformed`], [`Error::NotDeterministic`].
pub fn decode(bytes: &[u8], limit: usize) -> Result<Value, Error> {
    if bytes.len() > limit {
        return Err(Error::TooLong { found: bytes.len(), limit });
    }
    let mut rest = bytes;
    let value: Value =
        ciborium::de::from_reader_with_recursion_limit(&mut rest, MAX_DEPTH).map_err(|_| Error::Malformed)?;
    if !rest.is_empty() {
        return Err(Error::Malformed);
    }
    // Encoding is a function: if the one deterministic encoding of the value
    // is not what came in, what came in was another encoding of it.
    if encode(&value) == bytes { Ok(value) } else { Err(Error::NotDeterministic) }
}

/// The core deterministic encoding of `value`: maps sorted by encoded key.
///
/// A duplicate key is dropped, so that [`decode`] refuses what held it.
#[must_use]
pub fn encode(value: &Value) -> Vec<u8> {
    let mut out = Vec::with_capacity(256);
    write(value, &mut out);
    out
}

fn write(value: &Value, out: &mut Vec<u8>) {
    match value {
        Value::Integer(n) => {
            let n = i128::from(*n);
            match u64::try_from(n) {
                Ok(unsigned) => head(0, unsigned, out),
                // -1 - n, which fits for every CBOR negative integer
                Err(_) => head(1, u64::try_from(!n).unwrap_or(u64::MAX), out),
            }
        }
        Value::Bytes(bytes) => {
            head(2, bytes.len() as u64, out);
            out.extend_from_slice(bytes);
        }
        Value::Text(text) => {
            head(3, text.len() as u64, out);
            out.extend_from_slice(text.as_bytes());
        }
        Value::Array(items) => {
            head(4, items.len() as u64, out);
            items.iter().for_each(|item| write(item, out));
        }
        Value::Map(entries) => {
            let mut sorted: Vec<(Vec<u8>, &Value)> = entries.iter().map(|(key, value)| (encode(key), value)).collect();
            sorted.sort_by(|a, b| a.0.cmp(&b.0));
            sorted.dedup_by(|a, b| a.0 == b.0);
            head(5, sorted.len() as u64, out);
            for (key, value) in sorted {
                out.extend_from_slice(&key);
                write(value, out);
            }
        }
        Value::Tag(tag, inner) => {
            head(6, *tag, out);
            write(inner, out);
        }
        Value::Bool(false) => out.push(0xf4),
        Value::Bool(true) => out.push(0xf5),
        Value::Null => out.push(0xf6),
        // Floats and future simple values: encoded as `undefined`, which no
        // decoder of ours produces, so `decode` refuses them.
        _ => out.push(0xf7),
    }
}

/// Initial byte and argument in the shortest form (RFC 8949 §3).
fn head(major: u8, argument: u64, out: &mut Vec<u8>) {
    let major = major << 5;
    let bytes = argument.to_be_bytes();
    let [.., b4, b5, b6, b7] = bytes;
    match argument {
        0..=23 => out.push(major | b7),
        24..=0xff => out.extend_from_slice(&[major | 24, b7]),
        0x100..=0xffff => out.extend_from_slice(&[major | 25, b6, b7]),
        0x1_0000..=0xffff_ffff => out.extend_from_slice(&[major | 26, b4, b5, b6, b7]),
        _ => {
            out.push(major | 27);
            out.extend_from_slice(&bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn refuses_every_other_encoding_of_a_value() {
        for (bytes, what) in [
            (&[0x18, 0x01][..], "non-shortest integer"),
            (&[0x58, 0x01, 0x00], "non-shortest length"),
            (&[0x5f, 0x41, 0x00, 0xff], "indefinite byte string"),
            (&[0x9f, 0xff], "indefinite array"),
            (&[0xa2, 0x02, 0x00, 0x01, 0x00], "unsorted keys"),
            (&[0xa2, 0x01, 0x00, 0x01, 0x00], "duplicate key"),
            (&[0xf9, 0x3c, 0x00], "float"),
            (&[0xc2, 0x41, 0x01], "bignum that fits an integer"),
        ] {
            assert_eq!(decode(bytes, 64), Err(Error::NotDeterministic), "{what}");
        }
    }

    #[test]
    fn refuses_trailing_bytes_depth_and_length() {
        assert_eq!(decode(&[0x01, 0x01], 64), Err(Error::Malformed));
        assert_eq!(decode(&[0x81; 40], 64), Err(Error::Malformed));
        assert_eq!(decode(&[0x01, 0x01], 1), Err(Error::TooLong { found: 2, limit: 1 }));
        assert_eq!(decode(&[], 64), Err(Error::Malformed));
        // a length that promises far more than there is must not allocate it
        assert_eq!(decode(&[0x5b, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff], 64), Err(Error::Malformed));
    }

    fn any_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            any::<i64>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            any::<bool>().prop_map(Value::from),
            proptest::collection::vec(any::<u8>(), 0..300).prop_map(Value::Bytes),
            ".{0,20}".prop_map(Value::Text),
            Just(Value::Null),
        ];
        leaf.prop_recursive(4, 32, 6, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..6).prop_map(Value::Array),
                proptest::collection::btree_map(any::<i32>(), inner, 0..6)
                    .prop_map(|m| Value::Map(m.into_iter().map(|(k, v)| (Value::from(k), v)).collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_we_encode_we_decode(value in any_value()) {
            let bytes = encode(&value);
            let back = decode(&bytes, 1 << 20).expect("own encoding");
            prop_assert_eq!(encode(&back), bytes.clone());
            // and ciborium, an independent decoder, reads the same bytes
            let theirs: Value = ciborium::from_reader(&bytes[..]).expect("ciborium reads it");
            prop_assert_eq!(theirs, back);
        }

        #[test]
        fn no_input_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode(&bytes, 1 << 20);
        }
    }
}
