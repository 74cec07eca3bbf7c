//! Checkpoints and receipts.
#![no_main]
use libfuzzer_sys::fuzz_target;
use portcullis_lineage::Checkpoint;

fuzz_target!(|data: &[u8]| {
    if let Ok(text) = std::str::from_utf8(data) {
        let _checkpoint = Checkpoint::unverified(text);
    }
});
