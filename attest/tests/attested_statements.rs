#![cfg(test)]
//! Statements of a signing service whose key an SNP report attests
//! (did:attestedsvc), verified end to end: our verifier for the report, bare
//! COSE for what surrounds it.

mod common;

use coset::{CborSerializable, CoseSign1, TaggedCborSerializable};
use der::{Decode, Encode};
use portcullis_attest::check::Checks;
use portcullis_attest::crypto::{Scheme, sha256, verify};
use portcullis_attest::snp::collateral::Collateral;
use portcullis_attest::snp::generation::Generation;
use portcullis_attest::snp::report::Report;
use portcullis_attest::snp::roots::Roots;
use portcullis_attest::snp::verify::{Presented, SnpVerifier};
use portcullis_wire::Value;
use portcullis_wire::hex::hex;
use x509_cert::Certificate;

/// 2025-06-01: the chips' certificates are valid, and so is Milan's CRL.
const JUNE_2025: u64 = 1_748_736_000;
const X5CHAIN: i64 = 33;

/// What the protected header of a statement holds.
struct Statement {
    cose: CoseSign1,
    protected: Value,
}

impl Statement {
    fn parse(bytes: &[u8]) -> Self {
        let cose = CoseSign1::from_tagged_slice(bytes).unwrap();
        let protected = Value::from_slice(cose.protected.original_data.as_ref().unwrap()).unwrap();
        Self { cose, protected }
    }

    fn verifies(&self, scheme: Scheme, key: &[u8]) -> bool {
        verify(scheme, key, &self.cose.tbs_data(&[]), &self.cose.signature)
    }

    /// The member that holds the evidence, which each version names otherwise.
    fn attested(&self) -> &Value {
        let members = self.protected.as_map().unwrap().iter().map(|(_, value)| value);
        members.into_iter().find(|value| value.is_map() && member(value, "attestation").is_some()).unwrap()
    }
}

fn member<'a>(map: &'a Value, name: &str) -> Option<&'a Value> {
    map.as_map()?.iter().find(|(key, _)| key.as_text() == Some(name)).map(|(_, value)| value)
}

fn numbered(map: &Value, number: i64) -> &Value {
    let key = Value::from(number);
    map.as_map().unwrap().iter().find(|(found, _)| *found == key).map(|(_, value)| value).unwrap()
}

fn bytes<'a>(map: &'a Value, name: &str) -> &'a [u8] {
    member(map, name).unwrap().as_bytes().unwrap()
}

/// The uncompressed point of an EC2 key.
fn point(key: &Value) -> Vec<u8> {
    [&[4][..], numbered(key, -2).as_bytes().unwrap(), numbered(key, -3).as_bytes().unwrap()].concat()
}

/// Key bits of a certificate, as the signature library takes them.
fn key_bits(certificate: &Certificate) -> Vec<u8> {
    certificate.tbs_certificate.subject_public_key_info.subject_public_key.raw_bytes().to_vec()
}

/// The vendor's endorsement of a launch measurement: its signature, its chain to
/// a root of its own, and what it says.
fn endorsed_measurement(endorsement: &[u8]) -> String {
    let statement = Statement::parse(endorsement);
    let chain: Vec<Certificate> = numbered(&statement.protected, X5CHAIN)
        .as_array()
        .unwrap()
        .iter()
        .map(|der| Certificate::from_der(der.as_bytes().unwrap()).unwrap())
        .collect();
    assert!(statement.verifies(Scheme::PssSha384, &key_bits(&chain[0])), "signature of the endorsement");
    assert!(!statement.verifies(Scheme::PssSha384, &key_bits(&chain[1])));
    for (certificate, issuer) in chain.iter().zip(chain.iter().skip(1).chain(chain.last())) {
        let tbs = certificate.tbs_certificate.to_der().unwrap();
        assert_eq!(certificate.tbs_certificate.issuer, issuer.tbs_certificate.subject);
        assert!(verify(Scheme::Pkcs1Sha384, &key_bits(issuer), &tbs, certificate.signature.raw_bytes()));
    }
    let body: serde_json::Value = serde_json::from_slice(statement.cose.payload.as_ref().unwrap()).unwrap();
    assert_eq!(body["x-ms-sevsnpvm-guestsvn"], "101");
    body["x-ms-sevsnpvm-launchmeasurement"].as_str().unwrap().to_owned()
}

#[test]
fn statements_under_attested_keys_verify_end_to_end() {
    let Some(root) = common::vectors("snp") else { return };
    let crl = Collateral::parse(&common::read(&root.join("amd-crl/milan_2025-05-06.crl.der"))).unwrap();
    let mut seen = Vec::new();
    for entry in std::fs::read_dir(root.join("attested-cose-css")).unwrap() {
        let statement = Statement::parse(&common::read(&entry.unwrap().path()));
        let attested = statement.attested();
        let key = member(attested, "cose_key").unwrap();
        let kid = statement.cose.protected.header.key_id.clone();
        assert_eq!(kid, sha256(&[&key.clone().to_vec().unwrap()]), "the key's id is its digest");

        let scheme = match numbered(&statement.protected, 1).as_integer().map(i128::from) {
            Some(-35) => Scheme::P384Sha384,
            Some(-7) => Scheme::P256Sha256,
            other => panic!("algorithm {other:?}"),
        };
        assert!(statement.verifies(scheme, &point(key)), "signature of the statement");
        let mut other = statement.cose.clone();
        other.payload.as_mut().unwrap()[0] ^= 1;
        assert!(!verify(scheme, &point(key), &other.tbs_data(&[]), &other.signature));

        let report = bytes(attested, "attestation");
        let presented = Collateral::parse(bytes(attested, "snp_endorsements")).unwrap().certificates;
        let verifier = SnpVerifier::new(Roots::amd().unwrap(), crl.clone());
        let mut checks = Checks::all();
        let verified = verifier.verify(report, Presented::certificates(&presented), JUNE_2025, &mut checks);
        let verified = verified.unwrap_or_else(|| panic!("{:?}", checks.refused().collect::<Vec<_>>()));
        let Report { report_data, measurement, .. } = verified.report();
        assert_eq!((&report_data[..32], &report_data[32..]), (&kid[..], &[0; 32][..]), "the report is for the key");
        assert_eq!(hex(measurement), endorsed_measurement(bytes(attested, "uvm_endorsements")));
        assert_eq!(verified.generation(), Generation::Milan);
        seen.push(hex(&kid));
    }
    seen.dedup();
    assert_eq!(seen.len(), 2, "two statements under two keys");
}
