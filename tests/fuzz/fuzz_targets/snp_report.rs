//! Reports: parsed or refused, and never verified under AMD's roots.
#![no_main]
use libfuzzer_sys::fuzz_target;
use portcullis_attest::check::Checks;
use portcullis_attest::snp::report::Report;

fuzz_target!(|data: &[u8]| {
    let mut checks = Checks::all();
    assert_eq!(Report::parse(data, &mut checks).is_some(), checks.passed());
});
