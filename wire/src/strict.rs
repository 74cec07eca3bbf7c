//! Decoding that accepts exactly one encoding of each value.

use crate::{Error, Integer, Value};

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
    match item(bytes, MAX_DEPTH)? {
        (value, []) => Ok(value),
        _ => Err(Error::Malformed),
    }
}

/// Reads one item and returns the bytes after it. Only the deterministic encoding of
/// the value is accepted.
fn item(bytes: &[u8], depth: usize) -> Result<(Value, &[u8]), Error> {
    let depth = depth.checked_sub(1).ok_or(Error::Malformed)?;
    let (initial, rest) = bytes.split_first().ok_or(Error::Malformed)?;
    let (major, additional) = (initial >> 5, initial & 0x1f);
    if major == 7 {
        // false, true, null; no undefined, no floats, no other simple values
        return match additional {
            20 => Ok((Value::Bool(false), rest)),
            21 => Ok((Value::Bool(true), rest)),
            22 => Ok((Value::Null, rest)),
            _ => Err(Error::NotDeterministic),
        };
    }
    let (argument, rest) = argument(additional, rest)?;
    match major {
        0 => Ok((Value::Integer(argument.into()), rest)),
        1 => {
            // -1 - n, which every CBOR negative integer is.
            let negative = Integer::try_from(!i128::from(argument)).map_err(|_| Error::Malformed)?;
            Ok((Value::Integer(negative), rest))
        }
        2 | 3 => {
            let length = usize::try_from(argument).map_err(|_| Error::Malformed)?;
            let (content, rest) = rest.split_at_checked(length).ok_or(Error::Malformed)?;
            if major == 2 {
                return Ok((Value::Bytes(content.to_vec()), rest));
            }
            let text = std::str::from_utf8(content).map_err(|_| Error::Malformed)?;
            Ok((Value::Text(text.to_owned()), rest))
        }
        4 => array(argument, rest, depth),
        5 => read_map(argument, rest, depth),
        // Bignum tags give integers a second encoding.
        _ if matches!(argument, 2 | 3) => Err(Error::NotDeterministic),
        _ => item(rest, depth).map(|(inner, rest)| (Value::Tag(argument, Box::new(inner)), rest)),
    }
}

/// Capacity for as many items as the input can hold, whatever length it claims.
fn room<T>(count: u64, bytes: &[u8]) -> Vec<T> {
    Vec::with_capacity(usize::try_from(count).unwrap_or(usize::MAX).min(bytes.len()).min(64))
}

fn array(count: u64, bytes: &[u8], depth: usize) -> Result<(Value, &[u8]), Error> {
    let (mut items, mut rest) = (room(count, bytes), bytes);
    for _ in 0..count {
        let (value, after) = item(rest, depth)?;
        items.push(value);
        rest = after;
    }
    Ok((Value::Array(items), rest))
}

/// Keys must ascend by their encoded bytes, which also rules out duplicates.
fn read_map(pairs: u64, bytes: &[u8], depth: usize) -> Result<(Value, &[u8]), Error> {
    let mut entries = room(pairs, bytes);
    let (mut rest, mut last): (&[u8], &[u8]) = (bytes, &[]);
    for _ in 0..pairs {
        let (key, after_key) = item(rest, depth)?;
        let length = rest.len().saturating_sub(after_key.len());
        let encoded = rest.get(..length).ok_or(Error::Malformed)?;
        if encoded <= last {
            return Err(Error::NotDeterministic);
        }
        last = encoded;
        let (value, after) = item(after_key, depth)?;
        entries.push((key, value));
        rest = after;
    }
    Ok((Value::Map(entries), rest))
}

/// The argument of an item's head, in its shortest form only.
fn argument(additional: u8, bytes: &[u8]) -> Result<(u64, &[u8]), Error> {
    fn read<const N: usize>(bytes: &[u8]) -> Result<([u8; N], &[u8]), Error> {
        bytes.split_first_chunk().map(|(head, rest)| (*head, rest)).ok_or(Error::Malformed)
    }
    let (value, rest, least) = match additional {
        0..=23 => return Ok((u64::from(additional), bytes)),
        24 => read(bytes).map(|(n, rest)| (u64::from(u8::from_be_bytes(n)), rest, 24))?,
        25 => read(bytes).map(|(n, rest)| (u64::from(u16::from_be_bytes(n)), rest, 0x100))?,
        26 => read(bytes).map(|(n, rest)| (u64::from(u32::from_be_bytes(n)), rest, 0x1_0000))?,
        27 => read(bytes).map(|(n, rest)| (u64::from_be_bytes(n), rest, 0x1_0000_0000))?,
        // 31 is an indefinite length; 28 to 30 are reserved
        _ => return Err(Error::NotDeterministic),
    };
    if value >= least { Ok((value, rest)) } else { Err(Error::NotDeterministic) }
}

/// The core deterministic encoding of `value`: maps sorted by encoded key.
///
/// A duplicate key is dropped, so that [`decode`] refuses what held it.
#[must_use]
pub fn encode(value: &Value) -> Vec<u8> {
    let mut out = Vec::with_capacity(size_hint(value));
    write(value, &mut out);
    out
}

/// Approximate length of the encoding, for one allocation.
fn size_hint(value: &Value) -> usize {
    const HEAD: usize = 9;
    let content = match value {
        Value::Bytes(bytes) => bytes.len(),
        Value::Text(text) => text.len(),
        Value::Array(items) => items.iter().map(size_hint).fold(0, usize::saturating_add),
        Value::Map(entries) => {
            entries.iter().map(|(k, v)| size_hint(k).saturating_add(size_hint(v))).fold(0, usize::saturating_add)
        }
        Value::Tag(_, inner) => size_hint(inner),
        _ => 0,
    };
    content.saturating_add(HEAD)
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

    /// The decoder accepts only bytes that ciborium decodes to the same value.
    #[test]
    fn agrees_with_ciborium() {
        let texts = [
            "00",
            "17",
            "1818",
            "1b7fffffffffffffff",
            "1bffffffffffffffff",
            "20",
            "3818",
            "3b7fffffffffffffff",
            "3bffffffffffffffff",
            "40",
            "4401020304",
            "60",
            "63e282ac",
            "80",
            "830102f6",
            "a0",
            "a2016161f4f5",
            "c101",
            "d9a1a100",
            "d201",
            "a301018102a1412080f6",
        ];
        for text in texts {
            let Some(bytes) = crate::hex::unhex(text) else { panic!("{text}") };
            let theirs: Result<Value, _> = ciborium::from_reader(bytes.as_slice());
            if let Ok(ours) = decode(&bytes, 64) {
                assert_eq!(Some(ours), theirs.ok(), "{text}");
            }
        }
    }

    #[test]
    fn refuses_trailing_bytes_depth_and_length() {
        assert_eq!(decode(&[0x01, 0x01], 64), Err(Error::Malformed));
        assert_eq!(decode(&[0x81; 40], 64), Err(Error::Malformed));
        assert_eq!(decode(&[0x01, 0x01], 1), Err(Error::TooLong { found: 2, limit: 1 }));
        assert_eq!(decode(&[], 64), Err(Error::Malformed));
        // A length that exceeds the input must not be allocated.
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

    /// Checks the decoder against the definition: an encoding is deterministic if the
    /// encoder produces it from the value that an independent decoder reads.
    fn by_definition(bytes: &[u8]) -> bool {
        let mut rest = bytes;
        let value: Result<Value, _> = ciborium::from_reader(&mut rest);
        value.is_ok_and(|value| rest.is_empty() && encode(&value) == bytes && no_floats(&value))
    }

    fn no_floats(value: &Value) -> bool {
        match value {
            Value::Float(_) => false,
            Value::Array(items) => items.iter().all(no_floats),
            Value::Map(entries) => entries.iter().all(|(k, v)| no_floats(k) && no_floats(v)),
            Value::Tag(_, inner) => no_floats(inner),
            _ => true,
        }
    }

    proptest! {
        #[test]
        fn the_walk_agrees_with_the_definition(value in any_value(), at in any::<prop::sample::Index>(), flip in 0_u8..8) {
            let good = encode(&value);
            prop_assert!(decode(&good, 1 << 20).is_ok() && by_definition(&good));
            let mut bad = good.clone();
            let at = at.index(bad.len());
            bad[at] ^= 1 << flip;
            prop_assert_eq!(decode(&bad, 1 << 20).is_ok(), by_definition(&bad), "{:02x?}", bad);
        }

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
