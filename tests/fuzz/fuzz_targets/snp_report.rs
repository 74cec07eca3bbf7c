//! Reports: fields come out where length and version let them be read, and
//! every signature that is accepted as canonical encodes back to its bytes.
#![no_main]
use libfuzzer_sys::fuzz_target;
use portcullis_attest::check::Checks;
use portcullis_attest::snp::report::Report;

fuzz_target!(|data: &[u8]| {
    let mut checks = Checks::all();
    let report = Report::parse(data, &mut checks);
    assert!(report.is_some() || !checks.passed());
    if let Some(signature) = report.as_ref().and_then(Report::signature_big_endian) {
        let (r, s) = signature.split_at(48);
        assert!(r.iter().rev().eq(&data[0x2a0..0x2d0]) && s.iter().rev().eq(&data[0x2e8..0x318]));
    }
});
