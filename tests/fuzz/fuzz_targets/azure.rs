//! HCL reports and their runtime data.
#![no_main]
use libfuzzer_sys::fuzz_target;
use portcullis_attest::azure::{HclReport, RuntimeData};

fuzz_target!(|data: &[u8]| {
    if let Ok(report) = HclReport::parse(data) {
        let _data = report.report_data();
    }
    drop(RuntimeData::parse(data));
});
