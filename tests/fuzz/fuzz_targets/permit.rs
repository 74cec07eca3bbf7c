//! Everything that an authority, a gate or a governor signs.
#![no_main]
use libfuzzer_sys::fuzz_target;
use portcullis_permit::{
    AuthorityStatement, Endorsement, Governance, Permit, PublicKey, Quorum, ReceivedRequest, Revocation,
};

fuzz_target!(|data: &[u8]| {
    drop((Permit::decode(data), Endorsement::decode(data), AuthorityStatement::decode(data)));
    drop((Governance::decode(data), Revocation::decode(data), Quorum::decode(data, 1 << 16)));
    drop((PublicKey::from_cose(data), ReceivedRequest::verify(data)));
});
