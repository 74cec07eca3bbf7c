//! Real SNP reports, each with the outcome that the manifest of the vectors
//! demands.
#![cfg(test)]

mod common;

use std::path::Path;

use portcullis_attest::check::{Checks, Outcome, Verdict};
use portcullis_attest::snp::certificate::Certificate;
use portcullis_attest::snp::collateral::Collateral;
use portcullis_attest::snp::generation::Generation;
use portcullis_attest::snp::roots::{Roots, known_asks};
use portcullis_attest::snp::tcb::Tcb;
use portcullis_attest::snp::verify::{Presented, SnpVerifier, VerifiedSnpReport};

/// 2026-03-01, when every VCEK of the vectors is valid and Milan's CRL current.
const MARCH_2026: u64 = 1_772_323_200;
/// 2025-06-01: the AWS VLEK is valid, and both CRLs are current.
const JUNE_2025: u64 = 1_748_736_000;
/// 2026-07-01: after the dstack VCEK was issued, and after Milan's CRL expired.
const JULY_2026: u64 = 1_782_864_000;
/// 2026-11-22: every CRL of the vectors has expired.
const NOVEMBER_2026: u64 = 1_795_305_600;

struct Bundle {
    report: &'static str,
    certificates: &'static [&'static str],
    crl: Option<&'static str>,
    at: u64,
}

const MILAN_CRL: Option<&str> = Some("amd-crl/milan_2025-05-06.crl.der");
const GENOA_CRL: Option<&str> = Some("amd-crl/genoa_2024-10-23.crl.der");

/// Bundles that the manifest calls VALID.
const VALID: &[Bundle] = &[
    Bundle {
        report: "milan-v2-gsg/report.bin",
        certificates: &["milan-v2-gsg/vcek.der", "milan-v2-gsg/ask_ark.pem", "milan-v2-gsg/asvk_ark.pem"],
        crl: MILAN_CRL,
        at: JUNE_2025,
    },
    Bundle {
        report: "milan-v2-trustee/report.bin",
        certificates: &["milan-v2-trustee/vcek.der"],
        crl: MILAN_CRL,
        at: JUNE_2025,
    },
    Bundle {
        report: "milan-v3-vlek-aws/report.bin",
        certificates: &["milan-v3-vlek-aws/vlek.der", "amd-roots/milan_ask_ark_asvk.pem"],
        crl: MILAN_CRL,
        at: JUNE_2025,
    },
    Bundle {
        report: "milan-v3-ms-aci/report.bin",
        certificates: &["milan-v3-ms-aci/vcek.pem", "milan-v3-ms-aci/ask.pem", "milan-v3-ms-aci/ark.pem"],
        crl: MILAN_CRL,
        at: MARCH_2026,
    },
    Bundle {
        report: "genoa-v3-ms-aci/report.bin",
        certificates: &["genoa-v3-ms-aci/vcek.pem", "genoa-v3-ms-aci/ask.pem"],
        crl: GENOA_CRL,
        at: MARCH_2026,
    },
    Bundle {
        report: "turin-v5-ms-aci/report.bin",
        certificates: &["turin-v5-ms-aci/vcek.pem", "turin-v5-ms-aci/ark.pem", "turin-v5-ms-aci/ask.pem"],
        crl: None,
        at: MARCH_2026,
    },
    Bundle {
        report: "milan-v3-oak-staging/report.bin",
        certificates: &["milan-v3-oak-staging/vcek.der"],
        crl: MILAN_CRL,
        at: MARCH_2026,
    },
    Bundle {
        report: "genoa-v5-baremetal/live-report-v5-genoa.bin",
        certificates: &["genoa-v5-baremetal/live-vcek-genoa.der"],
        crl: GENOA_CRL,
        at: MARCH_2026,
    },
    Bundle {
        report: "milan-v3-dstack/report.bin",
        certificates: &["milan-v3-dstack/vcek.pem", "milan-v3-dstack/ask.pem"],
        crl: MILAN_CRL,
        at: JULY_2026,
    },
];

fn run(root: &Path, bundle: &Bundle, at: u64) -> (Checks, Option<VerifiedSnpReport>) {
    let mut certificates = Vec::new();
    for file in bundle.certificates {
        certificates.extend(Collateral::parse(&common::read(&root.join(file))).unwrap().certificates);
    }
    let collateral =
        bundle.crl.map_or_else(Collateral::default, |file| Collateral::parse(&common::read(&root.join(file))).unwrap());
    let verifier = SnpVerifier::new(Roots::amd().unwrap(), collateral);
    let mut checks = Checks::all();
    let report = common::read(&root.join(bundle.report));
    let verified = verifier.verify(&report, Presented::certificates(&certificates), at, &mut checks);
    (checks, verified)
}

fn refused(checks: &Checks) -> Vec<(&str, Outcome)> {
    checks.refused().map(|c| (c.id.as_ref(), c.outcome)).collect()
}

#[test]
fn every_valid_bundle_verifies_where_a_crl_of_its_time_exists() {
    let Some(root) = common::vectors("snp") else { return };
    for bundle in VALID {
        let (checks, verified) = run(&root, bundle, bundle.at);
        let crl_covers = match bundle.crl {
            MILAN_CRL => bundle.at < JULY_2026,
            GENOA_CRL => bundle.at <= JUNE_2025,
            _ => false,
        };
        if crl_covers {
            assert_eq!(refused(&checks), [], "{}", bundle.report);
            assert!(verified.is_some(), "{}", bundle.report);
        } else {
            assert_eq!(refused(&checks), [("snp.crl", Outcome::Missing)], "{}", bundle.report);
            assert!(verified.is_none(), "a missing CRL is no proof: {}", bundle.report);
        }
    }
}

#[test]
fn every_valid_bundle_is_undetermined_once_all_crls_have_expired() {
    let Some(root) = common::vectors("snp") else { return };
    for bundle in VALID.iter().filter(|b| !b.report.contains("vlek")) {
        let (checks, verified) = run(&root, bundle, NOVEMBER_2026);
        assert_eq!(refused(&checks), [("snp.crl", Outcome::Missing)], "{}", bundle.report);
        assert_eq!(checks.verdict(), Verdict::Undetermined);
        assert!(verified.is_none());
    }
}

#[test]
fn patch_levels_and_generations_are_those_of_the_manifest() {
    let Some(root) = common::vectors("snp") else { return };
    let tcb = |fmc, boot_loader, tee, snp, microcode| Tcb { fmc, boot_loader, tee, snp, microcode };
    let expected = [
        (1, Generation::Milan, tcb(None, 3, 0, 8, 115)),
        (2, Generation::Milan, tcb(None, 4, 0, 24, 217)),
        (3, Generation::Milan, tcb(None, 4, 0, 24, 219)),
    ];
    for (at, generation, reported) in expected {
        let (_, verified) = run(&root, &VALID[at], VALID[at].at);
        let verified = verified.unwrap();
        assert_eq!(verified.generation(), generation, "{}", VALID[at].report);
        assert_eq!(verified.tcbs()[2], ("reported", reported), "{}", VALID[at].report);
    }
}

#[test]
fn debug_and_old_firmware_are_readable_for_appraisal() {
    let Some(root) = common::vectors("snp") else { return };
    let (_, verified) = run(&root, &VALID[0], VALID[0].at);
    let verified = verified.unwrap();
    assert!(verified.report().policy.debug_allowed());
    let (_, reported) = verified.tcbs()[2];
    assert_eq!((reported.boot_loader, reported.snp, reported.microcode), (2, 5, 68));
}

#[test]
fn a_vlek_needs_its_own_issuer_and_expires() {
    let Some(root) = common::vectors("snp") else { return };
    let (checks, _) = run(&root, &VALID[2], NOVEMBER_2026);
    assert_eq!(refused(&checks)[0], ("snp.validity", Outcome::Fail));

    let without_asvk = Bundle { certificates: &["milan-v3-vlek-aws/vlek.der"], ..VALID[2] };
    let (checks, _) = run(&root, &without_asvk, JUNE_2025);
    assert_eq!(refused(&checks), [("snp.issuer", Outcome::Missing)]);

    let vcek_only = Bundle { certificates: &["milan-v3-ms-aci/vcek.pem"], ..VALID[2] };
    let (checks, _) = run(&root, &vcek_only, JUNE_2025);
    assert_eq!(refused(&checks), [("snp.vek", Outcome::Missing)]);

    let (_, verified) = run(&root, &VALID[2], JUNE_2025);
    let verified = verified.unwrap();
    assert_eq!(verified.csp_id(), Some("CN=cc-us-east-2.amazonaws.com"));
    assert_eq!(verified.report().chip_id, [0; 64]);
}

#[test]
fn reissued_certificates_of_one_key_both_verify() {
    let Some(root) = common::vectors("snp") else { return };
    let live: serde_json::Value =
        serde_json::from_slice(&common::read(&root.join("genoa-v5-baremetal/live-evidence-genoa.json"))).unwrap();
    let bytes = |value: &serde_json::Value| -> Vec<u8> {
        let text = value.as_str().expect("a base64 string");
        data_encoding::BASE64.decode(text.as_bytes()).unwrap()
    };
    let report = bytes(&live["evidence"]["attestation_report"]);
    let reissued = Certificate::parse(&bytes(&live["evidence"]["cert_chain"]["vcek"])).unwrap();
    let first = Certificate::parse(&common::read(&root.join("genoa-v5-baremetal/live-vcek-genoa.der"))).unwrap();
    assert_eq!(reissued.key, first.key);
    assert_ne!(reissued.not_before, first.not_before);
    let older = common::read(&root.join("genoa-v5-baremetal/live-report-v5-genoa.bin"));
    for report in [&report, &older] {
        for vcek in [&reissued, &first] {
            let verifier = SnpVerifier::new(Roots::amd().unwrap(), Collateral::default());
            let mut checks = Checks::all();
            verifier.verify(report, Presented::certificates(std::slice::from_ref(vcek)), NOVEMBER_2026, &mut checks);
            assert_eq!(refused(&checks), [("snp.crl", Outcome::Missing)]);
        }
    }
}

#[test]
fn forged_vceks_fail_in_chain_identity_and_signature() {
    let Some(root) = common::vectors("snp") else { return };
    for forged in ["milan-v2-trustee/vcek-invalid-legacy.der", "milan-v2-trustee/vcek-invalid-new.der"] {
        let certificates = Collateral::parse(&common::read(&root.join(forged))).unwrap().certificates;
        let crl = Collateral::parse(&common::read(&root.join(MILAN_CRL.unwrap()))).unwrap();
        let verifier = SnpVerifier::new(Roots::amd().unwrap(), crl);
        let mut checks = Checks::all();
        let report = common::read(&root.join("milan-v2-trustee/report.bin"));
        assert!(verifier.verify(&report, Presented::certificates(&certificates), JUNE_2025, &mut checks).is_none());
        let ids: Vec<&str> = checks.refused().map(|c| c.id.as_ref()).collect();
        for required in ["snp.chain.vek", "snp.chip_id", "snp.tcb.certificate", "snp.signature"] {
            assert!(ids.contains(&required), "{forged}: {ids:?}");
        }
    }
}

#[test]
fn malformed_reports_fail_and_a_report_without_vcek_is_undetermined() {
    let Some(root) = common::vectors("snp") else { return };
    let verdict = |file: &str| {
        let bundle =
            VALID.first().map(|_| Bundle { report: "", certificates: &[], crl: MILAN_CRL, at: JUNE_2025 }).unwrap();
        let collateral = Collateral::parse(&common::read(&root.join(bundle.crl.unwrap()))).unwrap();
        let verifier = SnpVerifier::new(Roots::amd().unwrap(), collateral);
        let mut checks = Checks::all();
        verifier.verify(&common::read(&root.join(file)), Presented::certificates(&[]), bundle.at, &mut checks);
        refused(&checks).into_iter().map(|(id, outcome)| (id.to_owned(), outcome)).collect::<Vec<_>>()
    };
    assert_eq!(verdict("neg-malformed-lit/guest_report.bin"), [("snp.vek".to_owned(), Outcome::Missing)]);
    assert_eq!(verdict("neg-malformed-lit/guest_report_bad_sig.bin"), [("snp.length".to_owned(), Outcome::Fail)]);
    assert_eq!(verdict("neg-malformed-lit/guest_report_corrupt.bin"), [("snp.length".to_owned(), Outcome::Fail)]);
}

#[test]
fn the_genoa_crl_revokes_the_replaced_ask_only() {
    let Some(root) = common::vectors("snp") else { return };
    let crl = Collateral::parse(&common::read(&root.join(GENOA_CRL.unwrap()))).unwrap().crls.remove(0);
    assert_eq!(crl.revoked, [vec![2, 0, 1]]);
    let roots = Roots::amd().unwrap();
    assert!(crl.is_signed_by(&roots.arks()[1]) && !crl.is_signed_by(&roots.arks()[0]));
    assert!(known_asks().iter().all(|ask| !crl.lists(ask)));
}

#[test]
fn a_turin_vcek_has_fmc_and_a_short_hwid_under_the_pinned_chain() {
    let Some(root) = common::vectors("snp") else { return };
    let vcek = Certificate::parse(&common::read(&root.join("turin-vcek-virtee/vcek.der"))).unwrap();
    let ask = &known_asks()[2];
    assert!(vcek.is_signed_by(ask) && vcek.issuer == ask.subject);
    assert_eq!(vcek.amd.structure, Some(1));
    assert!(vcek.amd.fmc.is_some());
    assert_eq!(vcek.amd.hwid.as_deref(), Some(&[0x1e, 0x55, 0x0a, 0x8e, 0xe5, 0xcf, 0x9f, 0x4d][..]));
}

#[test]
fn the_pinned_roots_are_those_that_amd_publishes() {
    let Some(root) = common::vectors("snp") else { return };
    for (name, pinned) in ["milan", "genoa", "turin"].into_iter().zip(Roots::amd().unwrap().arks()) {
        let published =
            Collateral::parse(&common::read(&root.join(format!("amd-roots/{name}_ask_ark_asvk.pem")))).unwrap();
        assert!(published.certificates.contains(pinned), "{name}");
    }
}

/// THREATS row 9, on real evidence: every single-byte change is refused.
#[test]
fn threat_09_no_flipped_byte_of_a_real_report_verifies() {
    let Some(root) = common::vectors("snp") else { return };
    for bundle in [&VALID[0], &VALID[3]] {
        let mut certificates = Vec::new();
        for file in bundle.certificates {
            certificates.extend(Collateral::parse(&common::read(&root.join(file))).unwrap().certificates);
        }
        let collateral = Collateral::parse(&common::read(&root.join(bundle.crl.unwrap()))).unwrap();
        let verifier = SnpVerifier::new(Roots::amd().unwrap(), collateral);
        let good = common::read(&root.join(bundle.report));
        let verifies = |bytes: &[u8]| {
            let mut checks = Checks::refusals();
            verifier.verify(bytes, Presented::certificates(&certificates), bundle.at, &mut checks).is_some()
        };
        assert!(verifies(&good));
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1 << (at % 8);
            assert!(!verifies(&bad), "byte {at:#x} of {}", bundle.report);
        }
    }
}
