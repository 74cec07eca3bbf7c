#![cfg(test)]
//! Project Wycheproof's vectors through the functions that verify evidence, and
//! through the library for the algorithms of logs and permits.

mod common;

use std::io::Read;

use aws_lc_rs::signature::{ED25519, ML_DSA_44, VerificationAlgorithm};
use der::asn1::UintRef;
use der::{Decode, Reader, SliceReader};
use portcullis_attest::crypto::{Scheme, verify};
use portcullis_attest::tpm::key::{KeyMaterial, rsa_key};
use portcullis_wire::hex::unhex;
use serde_json::Value;

fn load(file: &str) -> Option<Value> {
    let bytes = common::read(&common::vectors("crypto/wycheproof")?.join(file));
    let mut text = String::new();
    flate2::read::GzDecoder::new(bytes.as_slice()).read_to_string(&mut text).unwrap();
    Some(serde_json::from_str(&text).unwrap())
}

fn bytes(value: &Value) -> Vec<u8> {
    unhex(value.as_str().unwrap()).unwrap()
}

/// Runs every test of a file; `judge` gets group, message and signature.
fn run(file: &str, judge: impl Fn(&Value, &[u8], &[u8]) -> bool) {
    let Some(json) = load(file) else { return };
    let mut counted = 0;
    for group in json["testGroups"].as_array().unwrap() {
        for test in group["tests"].as_array().unwrap() {
            let found = judge(group, &bytes(&test["msg"]), &bytes(&test["sig"]));
            let id = (file, test["tcId"].as_u64(), test["comment"].as_str());
            match test["result"].as_str().unwrap() {
                "valid" => assert!(found, "{id:?}"),
                "invalid" => assert!(!found, "{id:?}"),
                other => assert_eq!(other, "acceptable"),
            }
            counted = u64::saturating_add(counted, 1);
        }
    }
    assert_eq!(json["numberOfTests"].as_u64(), Some(counted));
}

/// `r ‖ s` of a DER signature; evidence carries no DER, so what is not canonical
/// cannot even be expressed.
fn fixed(signature: &[u8], size: usize) -> Option<Vec<u8>> {
    let mut reader = SliceReader::new(signature).ok()?;
    let (r, s) = reader.sequence(|inner| Ok((UintRef::decode(inner)?, UintRef::decode(inner)?))).ok()?;
    reader.finish(()).ok()?;
    let mut out = Vec::new();
    for part in [r.as_bytes(), s.as_bytes()] {
        out.resize(out.len().checked_add(size.checked_sub(part.len())?)?, 0);
        out.extend_from_slice(part);
    }
    Some(out)
}

#[test]
fn ecdsa() {
    for (file, scheme, size) in [
        ("ecdsa_secp256r1_sha256_test.json.gz", Scheme::P256Sha256, 32),
        ("ecdsa_secp384r1_sha384_test.json.gz", Scheme::P384Sha384, 48),
    ] {
        run(file, |group, message, signature| {
            let key = bytes(&group["publicKey"]["uncompressed"]);
            fixed(signature, size).is_some_and(|signature| verify(scheme, &key, message, &signature))
        });
    }
}

#[test]
fn rsa_pss_as_amd_signs() {
    run("rsa_pss_4096_sha384_mgf1_48_test.json.gz", |group, message, signature| {
        let key = &group["publicKey"];
        let KeyMaterial::Rsa(key) = rsa_key(&bytes(&key["modulus"]), &bytes(&key["publicExponent"])).unwrap() else {
            panic!("no RSA key")
        };
        verify(Scheme::PssSha384, &key, message, signature)
    });
}

#[test]
fn ed25519_of_checkpoints_and_receipts() {
    run("ed25519_test.json.gz", |group, message, signature| {
        ED25519.verify_sig(&bytes(&group["publicKey"]["pk"]), message, signature).is_ok()
    });
}

#[test]
fn ml_dsa_44_of_witnesses() {
    let Some(json) = load("mldsa_44_verify_test.json.gz") else { return };
    for group in json["testGroups"].as_array().unwrap() {
        let key = bytes(&group["publicKey"]);
        for test in group["tests"].as_array().unwrap() {
            // A context is no part of anything here: only the empty one is used.
            if test.get("ctx").is_some_and(|context| context != "") {
                continue;
            }
            let found = ML_DSA_44.verify_sig(&key, &bytes(&test["msg"]), &bytes(&test["sig"])).is_ok();
            assert_eq!(found, test["result"] == "valid", "{:?} {}", test["tcId"], test["comment"]);
        }
    }
}
