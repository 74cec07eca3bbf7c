//! COSE objects and status lists that others made.
#![cfg(test)]

use std::path::{Path, PathBuf};

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, RSA_PSS_2048_8192_SHA256, RSA_PSS_2048_8192_SHA512,
    RsaPublicKeyComponents, UnparsedPublicKey, VerificationAlgorithm,
};
use ciborium::Value as Cbor;
use coset::{Header, ProtectedHeader, SignatureContext, sig_structure_data};
use data_encoding::{BASE64URL_NOPAD, HEXLOWER_PERMISSIVE};
use portcullis_lineage::{ReceiptError, ReceiptKey, verify_receipts};
use portcullis_permit::{Clock, Kind, PermitError, SigningKey, Status, StatusList, Suite, claims, statement};
use portcullis_vectors::vectors;
use portcullis_wire::{Error, Sign1, Value, encode, map};
use serde_json::Value as Json;
use x509_cert::Certificate;
use x509_cert::der::Decode;

const LIMIT: usize = 1 << 16;
/// Within the validity of the draft's examples.
const CLOCK: Clock = Clock { now: 1_700_000_000, skew: 1 };

fn read(path: &Path) -> Json {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn unhex(text: &str) -> Vec<u8> {
    HEXLOWER_PERMISSIVE.decode(text.as_bytes()).unwrap()
}

/// A member of a key: base64url, or hex under another name.
fn member(key: &Json, name: &str) -> Option<Vec<u8>> {
    let hex = |name: String| key[&name].as_str().map(unhex);
    let text = key[name].as_str().map(|text| BASE64URL_NOPAD.decode(text.as_bytes()).unwrap());
    text.or_else(|| hex(format!("{name}_hex")))
}

/// Whether the key of a vector made a signature, by the algorithm that the
/// object names. Elsewhere in Portcullis the key says which algorithm it is for.
fn verifies(key: &Json, object: &Sign1, external: &[u8]) -> bool {
    // Ours has no external data: what was signed is put together by hand.
    let header = ProtectedHeader { original_data: Some(object.protected_bytes().to_vec()), header: Header::default() };
    let payload = object.payload().unwrap();
    let signed = sig_structure_data(SignatureContext::CoseSign1, header, None, external, payload);
    if external.is_empty() {
        assert_eq!(signed, object.to_be_signed(None));
    }
    let point = || [vec![4], member(key, "x").unwrap(), member(key, "y").unwrap()].concat();
    let by = |algorithm: &'static dyn VerificationAlgorithm| {
        UnparsedPublicKey::new(algorithm, point()).verify(&signed, object.signature()).is_ok()
    };
    let rsa = |parameters| {
        let key = RsaPublicKeyComponents { n: member(key, "n").unwrap(), e: member(key, "e").unwrap() };
        key.verify(parameters, &signed, object.signature()).is_ok()
    };
    match object.algorithm() {
        -7 => by(&ECDSA_P256_SHA256_FIXED),
        -35 => by(&ECDSA_P384_SHA384_FIXED),
        -37 => rsa(&RSA_PSS_2048_8192_SHA256),
        -39 => rsa(&RSA_PSS_2048_8192_SHA512),
        _ => false,
    }
}

/// What is to become of an object.
#[derive(Debug, PartialEq)]
enum Outcome {
    Verifies,
    /// It can be read, and the signature is of something else.
    Signature,
    Refused(Error),
}

fn outcome(key: &Json, bytes: &[u8], external: &[u8]) -> Outcome {
    match Sign1::parse(bytes, LIMIT) {
        Ok(object) if verifies(key, &object, external) => Outcome::Verifies,
        Ok(_) => Outcome::Signature,
        Err(error) => Outcome::Refused(error),
    }
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

fn name(path: &Path) -> &str {
    path.file_name().unwrap().to_str().unwrap()
}

/// Every folder that is there has a test below, and a new one fails here.
#[test]
fn no_folder_is_without_a_test() {
    let expected = [
        ("cose", vec!["cose-wg", "go-cose-negative", "gluecose", "hash-envelope", "microsoft-signed"]),
        ("statuslist", vec!["draft-examples"]),
    ];
    for (part, mut expected) in expected {
        let Some(root) = vectors(part) else { return };
        expected.sort_unstable();
        let folders: Vec<PathBuf> = files(&root).into_iter().filter(|path| path.is_dir()).collect();
        assert_eq!(folders.iter().map(|path| name(path)).collect::<Vec<_>>(), expected, "{part}");
    }
}

#[test]
fn objects_of_the_cose_working_group_verify_or_are_refused_by_name() {
    let Some(root) = vectors("cose").map(|root| root.join("cose-wg")) else { return };
    let tagged = || Outcome::Refused(Error::Shape("a tagged COSE_Sign1"));
    let mut seen = 0;
    for path in files(&root.join("sign1-tests")).into_iter().chain(files(&root.join("CWT"))) {
        let vector = read(&path);
        let (input, bytes) = (&vector["input"]["sign0"], unhex(vector["output"]["cbor"].as_str().unwrap()));
        let external = input["external"].as_str().map(unhex).unwrap_or_default();
        let expected = match name(&path) {
            "A_3.json" | "sign-pass-02.json" => Outcome::Verifies,
            // An object without a tag, and one whose algorithm nobody signed, are
            // sound for others. Here they are not.
            "sign-pass-01.json" => Outcome::Refused(Error::Missing(1)),
            "sign-pass-03.json" => tagged(),
            "sign-fail-02.json" | "sign-fail-03.json" => Outcome::Signature,
            "sign-fail-04.json" => Outcome::Refused(Error::Missing(1)),
            "sign-fail-06.json" | "sign-fail-07.json" => Outcome::Signature,
            // Other tags: something else, a MAC, something encrypted.
            "sign-fail-01.json" | "A_4.json" | "A_5.json" | "A_6.json" | "A_7.json" => tagged(),
            other => panic!("{other} is new"),
        };
        assert_eq!(outcome(&input["key"], &bytes, &external), expected, "{}", path.display());
        if expected == Outcome::Verifies && !external.is_empty() {
            assert_eq!(outcome(&input["key"], &bytes, &[]), Outcome::Signature, "nothing is signed but the object");
        }
        assert!(vector["fail"] != true || expected != Outcome::Verifies);
        seen += 1;
    }
    assert_eq!(seen, 14);
}

#[test]
fn objects_of_other_implementations_verify_or_are_refused_by_name() {
    let Some(root) = vectors("cose") else { return };
    let mut verified = 0;
    for path in files(&root.join("gluecose")) {
        let vector = read(&path);
        let object = &vector["sign1::verify"];
        let bytes = unhex(object["taggedCOSESign1"]["cborHex"].as_str().unwrap());
        let external = object["external"].as_str().map(unhex).unwrap_or_default();
        assert_eq!(object["shouldVerify"], true);
        assert_eq!(outcome(&vector["key"], &bytes, &external), Outcome::Verifies, "{}", path.display());
        // Nothing of it can be changed: 1 bit in every 7th byte.
        for at in (0..bytes.len()).step_by(7) {
            let mut bad = bytes.clone();
            bad[at] ^= 1;
            let changed = Sign1::parse(&bad, LIMIT).is_ok_and(|object| {
                let same = Sign1::parse(&bytes, LIMIT).unwrap().signed_part() == object.signed_part();
                !same && object.payload().is_some() && verifies(&vector["key"], &object, &external)
            });
            assert!(!changed, "{} byte {at}", path.display());
        }
        verified += 1;
    }
    assert_eq!(verified, 4);
    let vector = read(&root.join("go-cose-negative/sign1-verify-negative-0000.json"));
    let bytes = unhex(vector["sign1::verify"]["taggedCOSESign1"]["cborHex"].as_str().unwrap());
    let refused = Outcome::Refused(Error::Shape("a COSE_Sign1 with a protected header and a signature"));
    assert_eq!(outcome(&vector["key"], &bytes, &[]), refused);
}

/// A hash envelope of the draft, with labels that are not those of RFC 9995 and
/// `undefined` for a header, is not read. A statement with a receipt of before RFC
/// 9942 is; the signature verifies, and the receipt is none.
#[test]
fn what_came_before_the_standards_is_not_believed() {
    let Some(root) = vectors("cose") else { return };
    let bytes = std::fs::read(root.join("hash-envelope/hash-envelope.cbor")).unwrap();
    assert_eq!(Sign1::parse(&bytes, LIMIT).unwrap_err(), Error::NotDeterministic);
    let protected: Cbor = ciborium::from_reader(&bytes[4..]).unwrap();
    let labels: Vec<i128> =
        protected.as_map().unwrap().iter().map(|(label, _)| label.as_integer().unwrap().into()).collect();
    assert_eq!(labels, [1, -6800, -6802, -6801], "RFC 9995 has 258 to 260");

    let bytes = std::fs::read(root.join("microsoft-signed/cts-hashv-cwtclaims-b64url.cose")).unwrap();
    let object = Sign1::parse(&bytes, LIMIT).map_err(|error| error.to_string()).unwrap();
    assert_eq!(object.algorithm(), -37);
    let chain = object.protected(33).and_then(Value::as_array).unwrap();
    let leaf = Certificate::from_der(chain[0].as_bytes().unwrap()).unwrap();
    let key = leaf.tbs_certificate.subject_public_key_info.subject_public_key.raw_bytes();
    let signature = UnparsedPublicKey::new(&RSA_PSS_2048_8192_SHA256, key);
    assert!(signature.verify(&object.to_be_signed(None), object.signature()).is_ok());
    let receipts = object.unprotected(394);
    let outcome = verify_receipts(receipts, &object.signed_part(), &ReceiptKey::new([0; 32]), None);
    assert_eq!(outcome.map(|_| ()).unwrap_err(), ReceiptError::Malformed(Error::Shape("a tagged COSE_Sign1")));
}

/// The CBOR of a draft's example, as its text has it.
fn example(text: &str) -> Vec<(String, Cbor)> {
    let digits: String = text.rsplit("encoded:").next().unwrap().split_whitespace().collect();
    let Cbor::Map(entries) = ciborium::from_reader(unhex(&digits).as_slice()).unwrap() else { panic!("a map") };
    entries.into_iter().map(|(key, value)| (key.into_text().unwrap(), value)).collect()
}

/// A token by a key of ours around a list of others.
fn token(key: &SigningKey, bits: u64, packed: Vec<u8>) -> Vec<u8> {
    let list = Value::Map(vec![("lst".into(), Value::Bytes(packed)), ("bits".into(), bits.into())]);
    let uri = "https://example.com/statuslists/1";
    let claims = map([
        (claims::SUB, uri.into()),
        (claims::IAT, 1_686_920_170_u64.into()),
        (claims::EXP, 2_291_720_170_u64.into()),
        (claims::TTL, 43_200_u64.into()),
        (claims::STATUS_LIST, list),
    ]);
    statement::sign(Kind::StatusList, key, "https://example.com", uri, &encode(&claims)).unwrap()
}

fn list(key: &SigningKey, bits: u64, packed: Vec<u8>) -> Result<StatusList, PermitError> {
    StatusList::verify(&token(key, bits, packed), key.public(), "https://example.com/statuslists/1", CLOCK)
}

/// Lists of the draft say here what they say there. Lists of one bit are not
/// ours, and are refused.
#[test]
fn status_lists_of_the_draft_say_what_the_draft_says() {
    let Some(root) = vectors("statuslist").map(|root| root.join("draft-examples")) else { return };
    let text = |name: &str| std::fs::read_to_string(root.join(name)).unwrap();
    let key = SigningKey::generate(Suite::Classic).unwrap();
    let refused = PermitError::Malformed(Error::Shape("a status list"));

    for (file, bits, bytes) in [
        ("status_list_encoding_cbor.md", 1, Some(&[0xb9, 0xa3][..])),
        ("status_list_encoding2_cbor.md", 2, Some(&[0xc9, 0x44, 0xf9][..])),
        ("status_list_encoding1_long_cbor.md", 1, None),
    ] {
        let entries = example(&text(file));
        assert_eq!(entries[0], ("bits".into(), Cbor::from(bits)), "{file}");
        let packed = entries[1].1.as_bytes().unwrap().clone();
        match list(&key, bits, packed) {
            Err(error) => assert!(bits == 1 && error == refused, "{file}: {error}"),
            Ok(list) => {
                let value = |n: u64| bytes.unwrap()[usize::try_from(n / 4).unwrap()] >> (n % 4 * 2) & 3;
                for n in 0..list.size() {
                    let expected = match value(n) {
                        0 => Status::Valid,
                        2 => Status::Suspended,
                        // The draft leaves 3 to the application.
                        _ => Status::Invalid,
                    };
                    assert_eq!(list.status(n).unwrap(), expected, "{file} {n}");
                }
            }
        }
    }

    // The long one: everything is valid but what its table lists.
    let json: Json = serde_json::from_str(&text("status_list_encoding2_long_json.md").replace("\n  ", "")).unwrap();
    let packed = BASE64URL_NOPAD.decode(json["lst"].as_str().unwrap().as_bytes()).unwrap();
    let list = list(&key, 2, packed).unwrap();
    assert_eq!(list.size(), 1 << 20);
    let others: Vec<(u64, Status)> =
        (0..list.size()).map(|n| (n, list.status(n).unwrap())).filter(|(_, status)| *status != Status::Valid).collect();
    let (invalid, suspended) = (Status::Invalid, Status::Suspended);
    let expected = [
        (0, invalid),
        (1993, suspended),
        (25_460, invalid),
        (159_495, invalid),
        (495_669, invalid),
        (554_353, invalid),
        (645_645, suspended),
        (723_232, invalid),
        (854_545, invalid),
        (934_534, suspended),
        (1_000_345, invalid),
    ];
    assert_eq!(others, expected);

    // The draft's JWT carries the list of one bit; its key is not one for tokens.
    let jwt: String = text("status_list_jwt_raw.md").split_whitespace().collect();
    let refused = StatusList::verify(jwt.as_bytes(), key.public(), "https://example.com/statuslists/1", CLOCK);
    assert_eq!(refused.unwrap_err().check(), "permit.form");
}
