#![cfg(test)]
//! Real evidence of Azure VMs, with the outcome that the manifest states.

mod common;

use std::path::Path;

use data_encoding::BASE64URL_NOPAD;
use portcullis_attest::azure::{AzureInput, HclError, HclReport, RuntimeData, UserData, verify};
use portcullis_attest::check::Checks;
use portcullis_attest::eventlog::Unlogged;
use portcullis_attest::snp::collateral::Collateral;
use portcullis_attest::snp::roots::Roots;
use portcullis_attest::snp::verify::{Presented, SnpVerifier};
use portcullis_attest::tpm::key::KeyMaterial;
use portcullis_attest::tpm::pcr::{Bank, PcrValues};
use portcullis_attest::tpm::verify::{KeySource, QuoteInput, SelectionRule};
use portcullis_wire::hex::unhex;
use serde_json::Value;

/// When the VCEKs were valid, and the Milan CRL of 2025 was current.
const AT: u64 = 1_760_000_000;

struct Sample {
    hcl: Vec<u8>,
    vcek: Vec<u8>,
    message: Vec<u8>,
    signature: Vec<u8>,
    pcrs: PcrValues,
}

/// A raw RSASSA signature with SHA-256, as `TPMT_SIGNATURE`.
fn rsassa(signature: &[u8]) -> Vec<u8> {
    [&[0, 0x14, 0, 0x0b][..], &u16::try_from(signature.len()).unwrap().to_be_bytes(), signature].concat()
}

fn bytes_of(value: &Value) -> Vec<u8> {
    match value {
        Value::Array(items) => items.iter().map(|item| u8::try_from(item.as_u64().unwrap()).unwrap()).collect(),
        text => unhex(text.as_str().unwrap()).unwrap(),
    }
}

fn pcrs_of(value: &Value) -> PcrValues {
    let mut pcrs = PcrValues::default();
    for (number, value) in value.as_array().unwrap().iter().enumerate() {
        assert!(pcrs.insert(Bank::Sha256, u8::try_from(number).unwrap(), bytes_of(value)));
    }
    pcrs
}

fn quote_of(quote: &Value, hcl: Vec<u8>, vcek: Vec<u8>) -> Sample {
    Sample {
        hcl,
        vcek,
        message: bytes_of(&quote["message"]),
        signature: rsassa(&bytes_of(&quote["signature"])),
        pcrs: pcrs_of(&quote["pcrs"]),
    }
}

fn json(path: &Path) -> Value {
    serde_json::from_slice(&common::read(path)).unwrap()
}

fn samples(root: &Path) -> Vec<Sample> {
    let v0 = json(&root.join("trustee-v0-v1/evidence-v0.json"));
    let v1 = json(&root.join("trustee-v0-v1/evidence-v1.json"));
    let raw = root.join("trustee-raw");
    let base64 =
        |value: &Value| BASE64URL_NOPAD.decode(value.as_str().unwrap().trim_end_matches('=').as_bytes()).unwrap();
    vec![
        quote_of(&v0["quote"], bytes_of(&v0["report"]), v0["vcek"].as_str().unwrap().as_bytes().to_vec()),
        quote_of(&v1["tpm_quote"], base64(&v1["hcl_report"]), base64(&v1["vcek"])),
        quote_of(
            &json(&raw.join("tpm-quote-v1.json")),
            common::read(&raw.join("hcl-report.bin")),
            common::read(&raw.join("vcek.pem")),
        ),
    ]
}

fn verifier(root: &Path) -> SnpVerifier {
    let crl = common::read(&root.join("../snp/amd-crl/milan_2025-05-06.crl.der"));
    SnpVerifier::new(Roots::amd().unwrap(), Collateral::parse(&crl).unwrap())
}

/// PEM of the key that the runtime data name.
fn ak_pem(hcl: &[u8]) -> Vec<u8> {
    let report = HclReport::parse(hcl).unwrap();
    pem(&RuntimeData::parse(report.json).unwrap().ak)
}

fn pem(key: &KeyMaterial) -> Vec<u8> {
    der::pem::encode_string("PUBLIC KEY", der::pem::LineEnding::LF, &key.to_spki().unwrap()).unwrap().into_bytes()
}

fn refused(root: &Path, sample: &Sample, ak: &[u8], nonce: &[u8]) -> Vec<String> {
    refused_with(root, sample, KeySource::Presented(ak), nonce, None)
}

fn refused_with(
    root: &Path,
    sample: &Sample,
    ak: KeySource<'_>,
    nonce: &[u8],
    expected: Option<&PcrValues>,
) -> Vec<String> {
    let certificates = Collateral::parse(&sample.vcek).unwrap().certificates;
    let quote = QuoteInput {
        attest: &sample.message,
        signature: &sample.signature,
        ak,
        pcrs: Some(&sample.pcrs),
        expected,
        event_log: None,
        user_space_log: None,
        unlogged: Unlogged::Refused,
        measured_files: None,
        nonce: Some(nonce),
        selection: SelectionRule::NotEmpty,
    };
    let input = AzureInput {
        hcl: &sample.hcl,
        certificates: Presented::certificates(&certificates),
        quote: Some(quote),
        user_data: UserData::Exactly(&[0; 64]),
    };
    let mut checks = Checks::all();
    verify(&input, &verifier(root), AT, &mut checks);
    checks.refused().map(|check| check.id.to_string()).collect()
}

/// What an archive of others leaves open: a bare key, and no event log.
const OPEN: [&str; 2] = ["tpm.ak.attributes", "tpm.eventlog"];

#[test]
fn azure_evidence_verifies_end_to_end() {
    let Some(root) = common::vectors("azure-vtpm") else { return };
    for sample in samples(&root) {
        let ak = ak_pem(&sample.hcl);
        let mut open = refused(&root, &sample, &ak, b"challenge");
        // The oldest sample was made before the paravisor repeated user data.
        open.retain(|id| id != "azure.user_data");
        assert_eq!(open, OPEN);
        assert_eq!(refused(&root, &sample, &ak, b"other")[0], "tpm.nonce");
    }
}

/// The runtime data name the key, and the values are known: nothing is open.
#[test]
fn the_key_is_taken_from_the_runtime_data() {
    let Some(root) = common::vectors("azure-vtpm") else { return };
    let all = samples(&root);
    for sample in &all {
        let run = |expected| refused_with(&root, sample, KeySource::Platform, b"challenge", expected);
        assert_eq!(run(Some(&sample.pcrs)), Vec::<String>::new());
        assert_eq!(run(None), ["tpm.eventlog"]);
        // Values of another boot, and values of fewer PCRs than were quoted.
        let mut other = PcrValues::default();
        let mut fewer = PcrValues::default();
        for (bank, pcr, value) in sample.pcrs.iter() {
            assert!(other.insert(bank, pcr, if pcr == 7 { vec![1; 32] } else { value.to_vec() }));
            assert!(pcr == 7 || fewer.insert(bank, pcr, value.to_vec()));
        }
        assert_eq!(run(Some(&other)), ["tpm.expected.7"]);
        assert_eq!(run(Some(&fewer)), ["tpm.eventlog"]);
    }
    // A quote of another key than the one that is named, and a bare quote.
    let mut stray = samples(&root).remove(2);
    stray.message = common::read(&root.join("trustee-raw/tpm-quote.msg"));
    stray.signature = rsassa(&common::read(&root.join("trustee-raw/tpm-quote.sig")));
    let ids = refused_with(&root, &stray, KeySource::Platform, b"challenge", Some(&stray.pcrs));
    assert!(ids.contains(&"tpm.signature".to_owned()), "{ids:?}");
    // A platform that nobody vouches for says nothing of what its key may sign.
    let mut foreign = samples(&root).remove(2);
    foreign.vcek = common::read(&root.join("kinvolk/certs.pem"));
    let ids = refused_with(&root, &foreign, KeySource::Platform, b"challenge", Some(&foreign.pcrs));
    assert!(ids.contains(&"snp.signature".to_owned()) && ids.contains(&"tpm.ak.attributes".to_owned()), "{ids:?}");
    let mut checks = Checks::refusals();
    let input = QuoteInput {
        attest: &all[0].message,
        signature: &all[0].signature,
        ak: KeySource::Platform,
        pcrs: Some(&all[0].pcrs),
        expected: Some(&all[0].pcrs),
        event_log: None,
        user_space_log: None,
        unlogged: Unlogged::Refused,
        measured_files: None,
        nonce: Some(b"challenge"),
        selection: SelectionRule::NotEmpty,
    };
    assert!(portcullis_attest::tpm::verify::verify(&input, &mut checks).is_none());
    assert_eq!(checks.refused().map(|check| check.id.as_ref()).collect::<Vec<_>>(), ["tpm.ak"]);
}

#[test]
fn threat_14_stale_or_foreign_parts_are_refused_by_name() {
    let Some(root) = common::vectors("azure-vtpm") else { return };
    let all = samples(&root);
    let sample = || samples(&root).remove(2);
    let ak = ak_pem(&sample().hcl);
    let first = |sample: &Sample, ak: &[u8]| refused(&root, sample, ak, b"challenge");
    // The manifest's own negatives.
    let mut changed = sample();
    changed.hcl[0x1a6] = 0;
    assert!(first(&changed, &ak).iter().any(|id| id.starts_with("snp.tcb")), "{:?}", first(&changed, &ak));
    let mut changed = sample();
    changed.hcl[0x6e0] = changed.hcl[0x6e0].wrapping_add(1);
    assert_eq!(first(&changed, &ak), ["azure.runtime_data"]);
    let mut changed = sample();
    changed.hcl[0x540] = 0;
    assert_eq!(first(&changed, &ak), ["azure.runtime_data"]);
    let mut changed = sample();
    changed.signature[6] ^= 1;
    assert_eq!(first(&changed, &ak)[0], "tpm.signature");
    let mut changed = sample();
    let mut pcr0 = changed.pcrs.value(Bank::Sha256, 0).unwrap().to_vec();
    pcr0[0] ^= 1;
    let mut pcrs = PcrValues::default();
    for (bank, pcr, value) in changed.pcrs.iter() {
        assert!(pcrs.insert(bank, pcr, if pcr == 0 { pcr0.clone() } else { value.to_vec() }));
    }
    changed.pcrs = pcrs;
    assert_eq!(first(&changed, &ak)[0], "tpm.pcr_digest");
    // A quote of another VM's key under this report, and this quote under another's.
    let stray = root.join("trustee-raw");
    let mut changed = sample();
    changed.message = common::read(&stray.join("tpm-quote.msg"));
    changed.signature = rsassa(&common::read(&stray.join("tpm-quote.sig")));
    assert!(first(&changed, &ak).contains(&"tpm.signature".to_owned()));
    let other = ak_pem(&all[0].hcl);
    assert_eq!(first(&sample(), &other)[..2], ["azure.ak", "tpm.signature"]);
    let mut mixed = sample();
    mixed.hcl.clone_from(&all[0].hcl);
    assert!(first(&mixed, &ak).contains(&"azure.ak".to_owned()));
    // A report that was made before the verifier's user data were written.
    let required = [7; 64];
    let certificates = Collateral::parse(&sample().vcek).unwrap().certificates;
    let stale = sample();
    let input = AzureInput {
        hcl: &stale.hcl,
        certificates: Presented::certificates(&certificates),
        quote: None,
        user_data: UserData::Exactly(&required),
    };
    let mut checks = Checks::all();
    verify(&input, &verifier(&root), AT, &mut checks);
    let ids: Vec<&str> = checks.refused().map(|check| check.id.as_ref()).collect();
    assert_eq!(ids, ["azure.user_data", "tpm.attest"]);
}

#[test]
fn a_tdx_report_is_refused_by_name() {
    let Some(root) = common::vectors("azure-vtpm") else { return };
    let bytes = common::read(&root.join("neg-tdx/hcl-report-tdx.bin"));
    assert_eq!(HclReport::parse(&bytes), Err(HclError::Tdx));
}

#[test]
fn kinvolks_quote_verifies_and_its_mix_ups_do_not() {
    let Some(root) = common::vectors("azure-vtpm") else { return };
    let folder = root.join("kinvolk");
    let bytes = common::read(&folder.join("quote.bin"));
    let mut rest = bytes.as_slice();
    let mut counted = || {
        let (length, tail) = rest.split_first_chunk::<8>().unwrap();
        let (part, tail) = tail.split_at(usize::try_from(u64::from_le_bytes(*length)).unwrap());
        rest = tail;
        part.to_vec()
    };
    let (signature, message) = (counted(), counted());
    let values = counted_pcrs(rest);
    let hcl = common::read(&folder.join("hcl-report-snp.bin"));
    let sample = Sample {
        hcl,
        vcek: common::read(&folder.join("certs.pem")),
        message,
        signature: rsassa(&signature),
        pcrs: values,
    };
    // The quote itself is good; key and certificates are of other machines.
    let ids = refused(&root, &sample, &common::read(&folder.join("akpub.pem")), b"challenge");
    assert!(ids.iter().any(|id| id == "azure.ak") && ids.iter().any(|id| id == "snp.signature"), "{ids:?}");
    assert!(!ids.iter().any(|id| ["tpm.signature", "tpm.nonce", "tpm.pcr_digest"].contains(&id.as_str())), "{ids:?}");
    assert!(!ids.contains(&"azure.runtime_data".to_owned()), "{ids:?}");
}

/// 24 values of 32 bytes, perhaps after a count.
fn counted_pcrs(rest: &[u8]) -> PcrValues {
    let (_, values) = rest.split_at(rest.len().checked_sub(24 * 32).unwrap());
    let mut pcrs = PcrValues::default();
    for (number, value) in values.chunks(32).enumerate() {
        assert!(pcrs.insert(Bank::Sha256, u8::try_from(number).unwrap(), value.to_vec()));
    }
    pcrs
}

/// No changed byte of what is signed, hashed or counted passes.
#[test]
fn no_changed_byte_of_an_hcl_report_passes() {
    let Some(root) = common::vectors("azure-vtpm") else { return };
    let sample = samples(&root).remove(2);
    let certificates = Collateral::parse(&sample.vcek).unwrap().certificates;
    let verifier = verifier(&root);
    let ids = |hcl: &[u8]| {
        let input = AzureInput {
            hcl,
            certificates: Presented::certificates(&certificates),
            quote: None,
            user_data: UserData::Unknown,
        };
        let mut checks = Checks::refusals();
        verify(&input, &verifier, AT, &mut checks);
        checks.refused().map(|check| check.id.to_string()).collect::<Vec<_>>()
    };
    let unchanged = ids(&sample.hcl);
    // In the header, report size, status and reserved bytes say nothing that
    // anybody relies on; in that of the runtime data, its version.
    // Behind the runtime data NV memory holds whatever was there before.
    let json = HclReport::parse(&sample.hcl).unwrap().json.len();
    let behind = 0x4d4 + json..sample.hcl.len();
    assert!(behind.len() > 100, "{behind:?}");
    let free: Vec<usize> = (8..12).chain(16..32).chain(0x4c4..0x4c8).chain(behind.clone()).collect();
    let mut left_over = sample.hcl.clone();
    left_over[behind].fill(0xff);
    assert_eq!(ids(&left_over), unchanged);
    for at in (0..sample.hcl.len()).filter(|at| !free.contains(at)) {
        let mut changed = sample.hcl.clone();
        changed[at] ^= 1;
        assert_ne!(ids(&changed), unchanged, "byte {at:#x}");
    }
}
