//! Deterministic CBOR: what is accepted is the one encoding of its value.
#![no_main]
use libfuzzer_sys::fuzz_target;
use portcullis_wire::{Sign1, decode, encode};

fuzz_target!(|data: &[u8]| {
    if let Ok(value) = decode(data, 1 << 16) {
        assert_eq!(encode(&value), data);
    }
    let _object = Sign1::parse(data, 1 << 16);
});
