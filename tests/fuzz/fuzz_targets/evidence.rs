//! Our evidence: what is accepted encodes to the same bytes.
#![no_main]
use libfuzzer_sys::fuzz_target;
use portcullis_attest::evidence::Evidence;

fuzz_target!(|data: &[u8]| {
    if let Ok(evidence) = Evidence::parse(data) {
        assert_eq!(Evidence::of(evidence.collected().clone()).bytes(), data);
    }
});
