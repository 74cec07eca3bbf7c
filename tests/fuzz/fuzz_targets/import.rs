//! Envelopes of others.
#![no_main]
use libfuzzer_sys::fuzz_target;
use portcullis_attest::cmw::Cmw;
use portcullis_attest::import::Envelope;

fuzz_target!(|data: &[u8]| {
    drop((Cmw::parse(data), Envelope::open(data)));
});
