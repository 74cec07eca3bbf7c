//! OVMF images and their metadata. The parser is private to the policy tool, so
//! its file is compiled in here.
#![no_main]
use libfuzzer_sys::fuzz_target;

#[allow(dead_code, reason = "the tool uses more of it")]
#[path = "../../../firmware-policy/tool/src/measure/firmware.rs"]
mod firmware;
use firmware::Firmware;

fuzz_target!(|data: &[u8]| {
    drop((Firmware::read(data.to_vec()), Firmware::read_metadata(data)));
});
