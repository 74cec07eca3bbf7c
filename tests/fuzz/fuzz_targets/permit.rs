//! Everything that an authority, a gate or a governor signs.
#![no_main]
use libfuzzer_sys::fuzz_target;
use portcullis_permit::{
    AuthorityStatement, BootRecord, DenialCountRecord, Endorsement, GenesisRecord, Governance, Permit, PolicyRecord,
    PublicKey, Quorum, ReceivedRequest, RetentionRecord, Revocation, SnapshotRecord, SuccessionRecord, TripRecord, Witnessed,
    names, recorded_time,
};
use portcullis_wire::{Sign1, decode};

fuzz_target!(|data: &[u8]| {
    drop((Permit::decode(data), Endorsement::decode(data), AuthorityStatement::decode(data)));
    drop((Governance::decode(data), Revocation::decode(data), Quorum::decode(data, 1 << 16)));
    drop((PublicKey::from_cose(data), ReceivedRequest::verify(data)));
    drop((GenesisRecord::decode(data), BootRecord::decode(data), PolicyRecord::decode(data), TripRecord::decode(data)));
    drop((SnapshotRecord::decode(data), DenialCountRecord::decode(data), RetentionRecord::decode(data)));
    drop(SuccessionRecord::decode(data));
    drop(decode(data, 1 << 16).map(|value| Witnessed::from_value(&value)));
    if let Ok(object) = Sign1::parse(data, 1 << 16) {
        let _read = (recorded_time(&object), names(&object, data));
    }
});
