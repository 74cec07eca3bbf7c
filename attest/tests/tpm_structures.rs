#![cfg(test)]
//! Structures of a TPM, written by the crate `tpm2-protocol` and by `tpm2-tools`, and
//! read here; and what is written here, read by them.

mod common;

use std::fs;
use std::process::Command;

use aws_lc_rs::agreement::{ECDH_P256, EphemeralPrivateKey};
use aws_lc_rs::rand::SystemRandom;
use portcullis_attest::crypto::sha256;
use portcullis_attest::tpm::attest::Quote;
use portcullis_attest::tpm::credential::{Credential, EndorsementKey};
use portcullis_attest::tpm::key::{AttestationKey, KeyMaterial};
use portcullis_attest::tpm::pcr::{Bank, PcrSet, Selection};
use tpm2_protocol::data::{
    Tpm2bDigest, TpmAlgId, TpmSt, TpmaObject, TpmlPcrSelection, TpmsAttest, TpmsClockInfo, TpmtPublic, TpmuAttest,
    TpmuPublicId,
};
use tpm2_protocol::{TpmBuild, TpmParse, TpmWriter};

fn build(value: &impl TpmBuild) -> Vec<u8> {
    let mut buffer = [0; 4096];
    let mut writer = TpmWriter::new(&mut buffer);
    value.build(&mut writer).unwrap();
    let length = writer.len();
    buffer[..length].to_vec()
}

/// The public area of a real attestation key (Google Cloud, RSA), read and written
/// by another implementation.
#[test]
fn public_areas_read_as_another_crate_reads_them() {
    let Some(root) = common::vectors("tpm-quote/gce-cos-85-nonce9009") else { return };
    let area = common::read(&root.join("ak.tpmt_public"));
    let (theirs, rest) = TpmtPublic::parse(&area).unwrap();
    assert!(rest.is_empty());
    assert_eq!(build(&theirs), area, "their encoding of it");
    let AttestationKey::Area { key, attributes, name } = AttestationKey::from_area(&area).unwrap() else {
        panic!("a bare key")
    };
    assert_eq!(attributes.0, theirs.object_attributes.bits());
    let expected = TpmaObject::FIXED_TPM | TpmaObject::FIXED_PARENT | TpmaObject::SENSITIVE_DATA_ORIGIN;
    let expected = expected | TpmaObject::RESTRICTED | TpmaObject::SIGN_ENCRYPT;
    assert!(theirs.object_attributes.contains(expected) && attributes.are_of_an_attestation_key());
    // Part 1, §16: the name is the algorithm and the digest of the area.
    assert_eq!(theirs.name_alg, TpmAlgId::Sha256);
    assert_eq!(name, [&[0x00, 0x0b][..], &sha256(&[&area])].concat());
    let TpmuPublicId::Rsa(modulus) = &theirs.unique else { panic!("RSA") };
    let KeyMaterial::Rsa(pkcs1) = &key else { panic!("RSA") };
    assert!(pkcs1.windows(modulus.len()).any(|window| window == &modulus[..]));
    // The same key in PEM came with it, made by another program.
    let pem = AttestationKey::parse(&common::read(&root.join("ak.pem"))).unwrap();
    assert_eq!(*pem.key(), key);
}

/// A quote that another implementation writes, and what is not one.
#[test]
fn quotes_of_another_implementation_are_read() {
    let selection = Selection(vec![(Bank::Sha256, PcrSet::of([0, 7, 11])), (Bank::Sha384, PcrSet::of([16, 23]))]);
    let (mut list, rest) =
        TpmlPcrSelection::parse(&[0, 0, 0, 2, 0x00, 0x0b, 3, 0x81, 0x08, 0x00, 0x00, 0x0c, 3, 0x00, 0x00, 0x81])
            .unwrap();
    assert!(rest.is_empty());
    let write = |list: TpmlPcrSelection, kind: TpmSt| {
        build(&TpmsAttest {
            magic: 0xff54_4347,
            attest_type: kind,
            qualified_signer: (&[0x0b; 34][..]).try_into().unwrap(),
            extra_data: (&[7; 32][..]).try_into().unwrap(),
            clock_info: TpmsClockInfo {
                clock: 0x0102_0304_0506_0708,
                reset_count: 9,
                restart_count: 0x0a0b_0c0d,
                safe: tpm2_protocol::data::TpmiYesNo(true),
            },
            firmware_version: 0x2023_0126_0000_0000,
            attested: TpmuAttest::Quote(tpm2_protocol::data::TpmsQuoteInfo {
                pcr_select: list,
                pcr_digest: Tpm2bDigest::try_from(&[3; 32][..]).unwrap(),
            }),
        })
    };
    let bytes = write(list, TpmSt::AttestQuote);
    let quote = Quote::parse(&bytes).unwrap();
    assert_eq!((quote.extra_data.as_slice(), quote.pcr_digest.as_slice()), (&[7; 32][..], &[3; 32][..]));
    assert_eq!((quote.clock.clock, quote.clock.reset_count), (0x0102_0304_0506_0708, 9));
    assert_eq!((quote.clock.restart_count, quote.clock.safe), (0x0a0b_0c0d, true));
    assert_eq!((quote.firmware_version, &quote.selection), (0x2023_0126_0000_0000, &selection));
    assert!(Quote::parse(&write(list, TpmSt::AttestCertify)).is_err(), "another kind of attestation");
    for (what, at, byte) in [("magic", 0, 0xfe), ("safe", 4 + 2 + 36 + 34 + 16, 2)] {
        let mut bad = bytes.clone();
        bad[at] = byte;
        assert!(Quote::parse(&bad).is_err(), "{what}");
    }
    list = TpmlPcrSelection::parse(&[0, 0, 0, 1, 0x00, 0x0b, 3, 0x00, 0x08, 0x81]).unwrap().0;
    let other = Quote::parse(&write(list, TpmSt::AttestQuote)).unwrap();
    assert_ne!(other.selection, selection, "the bytes of a selection in another order");
}

/// A credential for a P-256 endorsement key (TCG EK Credential Profile, template L-2):
/// another implementation reads its parts. That a TPM opens it, `activation` shows
/// on swtpm.
#[test]
fn credentials_are_read_by_another_implementation() {
    let pair = EphemeralPrivateKey::generate(&ECDH_P256, &SystemRandom::new()).unwrap();
    let point = pair.compute_public_key().unwrap();
    let point = point.as_ref();
    let area = [
        &[0x00, 0x23, 0x00, 0x0b, 0x00, 0x03, 0x00, 0xb2, 0x00, 0x00, 0x00, 0x06, 0x00, 0x80, 0x00, 0x43][..],
        &[0x00, 0x10, 0x00, 0x03, 0x00, 0x10, 0x00, 0x20],
        &point[1..33],
        &[0x00, 0x20],
        &point[33..],
    ]
    .concat();
    let (theirs, rest) = TpmtPublic::parse(&area).unwrap();
    assert!(rest.is_empty() && theirs.object_attributes.contains(TpmaObject::RESTRICTED | TpmaObject::DECRYPT));
    let key = EndorsementKey::from_area(&area).unwrap();
    let name = [&[0x00, 0x0b][..], &[5; 32]].concat();
    let credential = Credential::make(&key, &name, &[9; 32]).unwrap();
    // The HMAC with its length; then the secret, whose length is encrypted with it.
    let (hmac, rest) = Tpm2bDigest::parse(&credential.id_object).unwrap();
    assert_eq!((hmac.len(), rest.len()), (32, 2 + 32));
    let (seed, rest) = tpm2_protocol::data::TpmsEccPoint::parse(&credential.encrypted_seed).unwrap();
    assert_eq!((seed.x.len(), seed.y.len(), rest.len()), (32, 32, 0));
}

/// `tpm2_checkquote` verifies the quotes of real TPMs that are verified here, under
/// the same keys, and refuses them under another nonce.
#[test]
fn tpm2_checkquote_agrees_on_real_quotes() {
    let Some(root) = common::vectors("tpm-quote/gce-cos-85-nonce9009") else { return };
    let folder = tempfile::tempdir().unwrap();
    let pem = folder.path().join("ak.pem");
    let ak = AttestationKey::parse(&common::read(&root.join("ak.tpmt_public"))).unwrap();
    // The key as we write it.
    fs::write(&pem, ak.key().to_pem().unwrap()).unwrap();
    for bank in ["sha256", "sha384"] {
        let quote = root.join(format!("quote.{bank}.msg"));
        let nonce = Quote::parse(&common::read(&quote)).unwrap().extra_data;
        let check = |nonce: &[u8]| {
            let signature = root.join(format!("quote.{bank}.sig"));
            let output = Command::new("tpm2_checkquote")
                .arg("-u")
                .arg(&pem)
                .arg("-m")
                .arg(&quote)
                .arg("-s")
                .arg(signature)
                .args(["-g", "sha256", "-q", &portcullis_wire::hex::hex(nonce)])
                .output();
            output.map(|output| output.status.success())
        };
        let Ok(accepted) = check(&nonce) else {
            eprintln!("SKIPPED: tpm2_checkquote is not installed; nothing was compared with it");
            return;
        };
        assert!(accepted, "{bank}");
        assert!(!check(&[0; 4]).unwrap(), "{bank}, another nonce");
    }
}
