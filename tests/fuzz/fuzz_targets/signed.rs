//! Payloads that only the authority signs: what it reads back, and what a gate reads,
//! behind a signature that holds.
#![no_main]
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use portcullis_permit::{Clock, Denial, Event, Kind, SigningKey, StatusList, Suite, statement};

static KEY: LazyLock<SigningKey> = LazyLock::new(|| SigningKey::generate(Suite::Classic).unwrap());

fuzz_target!(|data: &[u8]| {
    let signed = |kind| statement::sign(kind, &KEY, "log.fuzz/1", "subject", data).unwrap();
    if let Ok(list) = StatusList::verify(&signed(Kind::StatusList), KEY.public(), "/v1/status/0", Clock { now: 0, skew: 0 }) {
        assert!((0..list.size()).all(|index| list.status(index).is_ok()) && list.status(list.size()).is_err());
    }
    drop((Event::verify(&signed(Kind::Event), KEY.public()), Denial::verify(&signed(Kind::Denial), KEY.public())));
    drop(Denial::unverified(data));
});
