//! Bundles and the messages of the exchange.
#![no_main]
use libfuzzer_sys::fuzz_target;
use portcullis_firmware_policy::ear::Ear;
use portcullis_firmware_policy::{ActivateRequest, AttestRequest, AttestResponse, decode_credential, pack, unpack};

fuzz_target!(|data: &[u8]| {
    if let Ok(files) = unpack(data) {
        assert_eq!(pack(&files).unwrap(), data);
    }
    drop((AttestRequest::decode(data), AttestResponse::decode(data)));
    if let Ok(ear) = Ear::decode(data) {
        assert_eq!(ear.encode(), data);
    }
    drop((ActivateRequest::decode(data), decode_credential(data)));
});
