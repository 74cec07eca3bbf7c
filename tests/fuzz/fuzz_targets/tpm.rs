//! Structures of a TPM: quotes, keys, signatures, certificates.
#![no_main]
use libfuzzer_sys::fuzz_target;
use portcullis_attest::check::Checks;
use portcullis_attest::tpm::attest::Quote;
use portcullis_attest::tpm::certificate::{Certified, VendorChains, verify};
use portcullis_attest::tpm::credential::{Credential, EndorsementKey};
use portcullis_attest::tpm::key::AttestationKey;
use portcullis_attest::tpm::signature::Signature;

fuzz_target!(|data: &[u8]| {
    drop((Quote::parse(data), Signature::parse(data)));
    if let Ok(key) = AttestationKey::parse(data) {
        let _spki = key.key().to_spki();
    }
    if let Ok(key) = EndorsementKey::from_area(data) {
        let _digest = key.digest();
        drop(Credential::make(&key, b"name", &[0; 32]));
    }
    let chains = VendorChains { intermediates: Vec::new(), roots: vec![data.to_vec()] };
    let _key = verify(data, Certified::Endorsement, None, &chains, 0, &mut Checks::all());
});
