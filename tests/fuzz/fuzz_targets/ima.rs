//! Measurement lists.
#![no_main]
use libfuzzer_sys::fuzz_target;
use portcullis_attest::check::Checks;
use portcullis_attest::ima::{AllowList, verify};
use portcullis_attest::tpm::pcr::{Bank, PcrValues};

fuzz_target!(|data: &[u8]| {
    let allow = AllowList::parse(data).ok();
    let mut values = PcrValues::default();
    for pcr in 0..=10 {
        assert!(values.insert(Bank::Sha256, pcr, Bank::Sha256.initial(pcr)));
    }
    let _list = verify(data, Bank::Sha256, &values, allow.as_ref(), &mut Checks::all());
});
