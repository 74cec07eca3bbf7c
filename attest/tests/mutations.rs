#![cfg(test)]
//! One valid sample of each kind, changed byte by byte and field by field.

mod common;

use portcullis_attest::check::{Checks, Outcome};
use portcullis_attest::eventlog::Unlogged;
use portcullis_attest::snp::collateral::Collateral;
use portcullis_attest::snp::roots::Roots;
use portcullis_attest::snp::verify::{Presented, SnpVerifier};
use portcullis_attest::tpm::pcr::{Bank, PcrValues};
use portcullis_attest::tpm::verify::{KeySource, QuoteInput, SelectionRule, verify};
use portcullis_wire::hex::unhex;

/// 2026-03-01: the Milan CRL at hand was current.
const AT: u64 = 1_772_323_200;

struct Sample {
    report: Vec<u8>,
    certificates: Collateral,
    verifier: SnpVerifier,
}

fn milan() -> Option<Sample> {
    let root = common::vectors("snp")?;
    let read = |file: &str| common::read(&root.join(file));
    let mut certificates = Collateral::parse(&read("milan-v3-ms-aci/vcek.pem")).unwrap();
    certificates.extend(Collateral::parse(&read("milan-v3-ms-aci/ask.pem")).unwrap());
    let crl = Collateral::parse(&read("amd-crl/milan_2025-05-06.crl.der")).unwrap();
    let verifier = SnpVerifier::new(Roots::amd().unwrap(), crl);
    Some(Sample { report: read("milan-v3-ms-aci/report.bin"), certificates, verifier })
}

impl Sample {
    fn failed(&self, report: &[u8]) -> Vec<String> {
        let mut checks = Checks::all();
        let presented = Presented::certificates(&self.certificates.certificates);
        self.verifier.verify(report, presented, AT, &mut checks);
        checks.list().iter().filter(|c| c.outcome == Outcome::Fail).map(|c| c.id.to_string()).collect()
    }
}

/// Field, offset, bit, and what is refused beside the signature.
const MATRIX: [(&str, usize, u8, &[&str]); 37] = [
    ("version", 0x00, 0x80, &["snp.version"]),
    ("guest SVN", 0x04, 1, &[]),
    ("policy", 0x08, 1, &[]),
    ("policy, bit 17", 0x0a, 2, &["snp.reserved"]),
    ("policy, reserved", 0x0c, 1, &["snp.reserved"]),
    ("family id", 0x10, 1, &[]),
    ("image id", 0x20, 1, &[]),
    ("VMPL", 0x30, 1, &[]),
    ("signature algorithm", 0x34, 2, &["snp.signature_algorithm"]),
    ("current TCB, reserved", 0x3a, 1, &["snp.tcb.form"]),
    ("current TCB, boot loader", 0x38, 4, &["snp.tcb.order"]),
    ("platform info", 0x40, 1, &[]),
    ("platform info, reserved", 0x47, 1, &["snp.reserved"]),
    ("key info, masked", 0x48, 2, &["snp.chip_key"]),
    ("key info, VLEK", 0x48, 4, &[]),
    ("key info, reserved", 0x4b, 1, &["snp.reserved"]),
    ("reserved after key info", 0x4c, 1, &["snp.reserved"]),
    ("report data", 0x50, 1, &[]),
    ("measurement", 0x90, 1, &[]),
    ("host data", 0xc0, 1, &[]),
    ("ID key digest", 0xe0, 1, &[]),
    ("author key digest", 0x110, 1, &[]),
    ("report id", 0x140, 1, &[]),
    ("migration agent's report id", 0x160, 1, &[]),
    ("reported TCB", 0x180, 1, &["snp.tcb.order", "snp.tcb.certificate"]),
    ("CPUID family", 0x188, 3, &["snp.product"]),
    ("reserved after CPUID", 0x18b, 1, &["snp.reserved"]),
    ("chip id", 0x1a0, 1, &["snp.chip_id"]),
    ("committed TCB", 0x1e0, 1, &["snp.tcb.order"]),
    ("current firmware version", 0x1e8, 1, &[]),
    ("reserved after it", 0x1eb, 1, &["snp.reserved"]),
    ("launch TCB", 0x1f0, 1, &["snp.tcb.order"]),
    ("reserved at the end", 0x210, 1, &["snp.reserved"]),
    ("last signed byte", 0x29f, 1, &["snp.reserved"]),
    ("r", 0x2a0, 1, &[]),
    ("padding of r", 0x2d0, 1, &["snp.signature.form"]),
    ("behind the signature", 0x49f, 1, &["snp.signature.form"]),
];

#[test]
fn each_field_of_a_report_is_refused_by_its_own_check() {
    let Some(sample) = milan() else { return };
    assert_eq!(sample.failed(&sample.report), Vec::<String>::new());
    for (field, at, bit, required) in MATRIX {
        let mut changed = sample.report.clone();
        changed[at] ^= bit;
        let found = sample.failed(&changed);
        let named = |id: &str| found.iter().any(|f| f == id);
        assert!(required.iter().all(|id| named(id)), "{field}: {found:?}");
        // The signature tells, wherever the form lets it be looked at; another
        // kind of key has no certificate here.
        let unreadable = required.iter().any(|id| ["snp.version", "snp.signature.form"].contains(id));
        assert!(unreadable || field == "key info, VLEK" || named("snp.signature"), "{field}: {found:?}");
    }
}

#[test]
fn no_changed_byte_of_a_real_quote_passes() {
    let Some(root) = common::vectors("tpm-quote/gce-cos-85-nonce9009") else { return };
    let read = |file: &str| common::read(&root.join(file));
    let (attest, signature, ak) = (read("quote.sha256.msg"), read("quote.sha256.sig"), read("ak.tpmt_public"));
    let json: serde_json::Value = serde_json::from_slice(&read("pcrs.json")).unwrap();
    let mut pcrs = PcrValues::default();
    for (pcr, value) in json["sha256"].as_object().unwrap() {
        assert!(pcrs.insert(Bank::Sha256, pcr.parse().unwrap(), unhex(value.as_str().unwrap()).unwrap()));
    }
    let failed = |attest: &[u8], signature: &[u8], ak: &[u8]| {
        let input = QuoteInput {
            attest,
            signature,
            ak: KeySource::Presented(ak),
            pcrs: Some(&pcrs),
            expected: None,
            event_log: None,
            user_space_log: None,
            unlogged: Unlogged::Refused,
            measured_files: None,
            nonce: Some(&[0x90, 0x09]),
            selection: SelectionRule::NotEmpty,
        };
        let mut checks = Checks::all();
        verify(&input, &mut checks);
        checks.list().iter().filter(|c| c.outcome == Outcome::Fail).count()
    };
    assert_eq!(failed(&attest, &signature, &ak), 0);
    let changes = |bytes: &[u8], judge: &dyn Fn(&[u8]) -> usize, what: &str| {
        for at in 0..bytes.len() {
            let mut changed = bytes.to_vec();
            changed[at] ^= 1;
            assert_ne!(judge(&changed), 0, "{what}, byte {at}");
        }
    };
    changes(&attest, &|attest| failed(attest, &signature, &ak), "attest");
    changes(&signature, &|signature| failed(&attest, signature, &ak), "signature");
    // Of the key's area the modulus counts here; the name, which covers all of
    // it, is compared by the binding.
    let modulus = ak.len() - 256;
    changes(&ak[modulus..], &|part| failed(&attest, &signature, &[&ak[..modulus], part].concat()), "modulus");
}

/// What an independent parser reads out of the same quotes.
#[test]
fn quotes_read_as_another_crate_reads_them() {
    use portcullis_attest::tpm::attest::Quote;
    use tpm2_protocol::TpmParse;
    use tpm2_protocol::data::{TpmsAttest, TpmuAttest};
    let Some(root) = common::vectors("tpm-quote") else { return };
    let mut compared = 0;
    for folder in std::fs::read_dir(root).unwrap() {
        let Ok(files) = std::fs::read_dir(folder.unwrap().path()) else { continue };
        for path in files.map(|file| file.unwrap().path()) {
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            if !(name.starts_with("quote") && name.ends_with(".msg")) {
                continue;
            }
            let bytes = common::read(&path);
            let ours = Quote::parse(&bytes).unwrap();
            let (theirs, rest) = TpmsAttest::parse(&bytes).unwrap();
            assert!(rest.is_empty());
            let TpmuAttest::Quote(info) = &theirs.attested else { panic!("{name}") };
            assert_eq!(ours.extra_data, &theirs.extra_data[..], "{name}");
            assert_eq!(ours.pcr_digest, &info.pcr_digest[..], "{name}");
            assert_eq!(ours.clock.clock, theirs.clock_info.clock, "{name}");
            assert_eq!(ours.clock.reset_count, theirs.clock_info.reset_count, "{name}");
            assert_eq!(ours.firmware_version, theirs.firmware_version, "{name}");
            assert_eq!(ours.selection.0.len(), info.pcr_select.len(), "{name}");
            compared += 1;
        }
    }
    assert!(compared >= 7, "only {compared} quotes");
}
