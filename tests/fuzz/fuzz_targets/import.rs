//! Envelopes of others.
#![no_main]
use libfuzzer_sys::fuzz_target;
use portcullis_attest::cmw::Cmw;
use portcullis_attest::import::Imported;

fuzz_target!(|data: &[u8]| {
    drop((Cmw::parse(data), Imported::parse(data)));
});
