//! Event logs of all forms, replayed to values of their own, with their claims.
#![no_main]
use libfuzzer_sys::fuzz_target;
use portcullis_attest::check::Checks;
use portcullis_attest::eventlog::{EventLog, verify};
use portcullis_attest::tpm::pcr::{Bank, PcrValues, Selection};

fuzz_target!(|data: &[u8]| {
    drop((EventLog::parse_cel_tlv(data), EventLog::parse_cel_json(data)));
    let Ok(log) = EventLog::parse(data) else { return };
    let Ok(replayed) = log.replay(Bank::Sha256) else { return };
    let mut values = PcrValues::default();
    for pcr in 0..24 {
        assert!(values.insert(Bank::Sha256, pcr, replayed.value(pcr)));
    }
    let mut checks = Checks::refusals();
    let verified = verify(data, &values, &Selection::sha256(0..24), &mut checks).unwrap();
    let claims = verified.claims();
    assert!(claims.recomputed <= claims.covered);
});
