//! Measurement lists.
#![no_main]
use libfuzzer_sys::fuzz_target;
use portcullis_attest::check::Checks;
use portcullis_attest::ima::{AllowList, verify};
use portcullis_attest::tpm::pcr::Bank;

fuzz_target!(|data: &[u8]| {
    let allow = std::str::from_utf8(data).ok().and_then(|text| AllowList::parse(text).ok());
    let quoted = Bank::Sha256.initial(10);
    let _list = verify(data, Bank::Sha256, Some(&quoted), allow.as_ref(), &mut Checks::all());
});
