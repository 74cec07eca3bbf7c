#![cfg(test)]
//! Certificates of attestation keys on Google Cloud and Azure.

mod common;

use std::path::Path;

use portcullis_attest::check::Checks;
use portcullis_attest::tpm::certificate::{Certified, CertifiedKey, VendorChains, verify};

/// 2026-01-01: all of the certificates are valid.
const AT: u64 = 1_767_225_600;

struct Files {
    certificate: Vec<u8>,
    root: Vec<u8>,
    between: Vec<u8>,
}

fn google(folder: &Path) -> Files {
    let folder = folder.join("tpm-quote/gce-ak-certs");
    Files {
        certificate: common::read(&folder.join("gce_ak_cert.pem")),
        root: common::read(&folder.join("gce_ek_ak_root.pem")),
        between: common::read(&folder.join("gce_ak_intermediate_cert.pem")),
    }
}

fn azure(folder: &Path, issuer: &str) -> Files {
    let folder = folder.join("azure-vtpm/openpcc-akcert");
    Files {
        certificate: common::read(&folder.join("ak_cert_03_nv_padded.bin")),
        root: common::read(&folder.join("azure_tpm_root_2023.pem")),
        between: common::read(&folder.join(format!("azure_tpm_intermediate_{issuer}.pem"))),
    }
}

fn judge(files: &Files, kind: Certified, at: u64) -> (Option<CertifiedKey>, Vec<String>) {
    let chains = VendorChains::read(&[&files.root], &[&files.between]).unwrap();
    let mut checks = Checks::refusals();
    let key = verify(&files.certificate, kind, None, &chains, at, &mut checks);
    (key, checks.refused().map(|check| check.id.to_string()).collect())
}

#[test]
fn attestation_keys_of_clouds_chain_to_their_roots() {
    let Some(root) = common::vectors("") else { return };
    for files in [google(&root), azure(&root, "03")] {
        let (key, refused) = judge(&files, Certified::Attestation, AT);
        assert_eq!(refused, Vec::<String>::new());
        let key = key.unwrap();
        // and only for the key that the certificate names
        let chains = VendorChains::read(&[&files.root], &[&files.between]).unwrap();
        let mut checks = Checks::refusals();
        let other = judge(&google(&root), Certified::Attestation, AT).0.unwrap();
        let same = verify(&files.certificate, Certified::Attestation, Some(other.key()), &chains, AT, &mut checks);
        assert_eq!(same.is_some(), key == other);
    }
    let (key, _) = judge(&azure(&root, "03"), Certified::Attestation, AT);
    assert_eq!(key.unwrap().subject(), "CN=9b6eccb6c0a3.ConfidentialVM.Azure.windows.net");
}

#[test]
fn wrong_issuer_time_purpose_and_root_are_refused_by_name() {
    let Some(root) = common::vectors("") else { return };
    let refused = |files: &Files, kind, at| judge(files, kind, at).1;
    let sound = azure(&root, "03");
    assert_eq!(refused(&azure(&root, "01"), Certified::Attestation, AT), ["tpm.certificate.chain"]);
    for at in [AT - 86_400 * 365, AT + 86_400 * 365] {
        assert_eq!(refused(&sound, Certified::Attestation, at), ["tpm.certificate.chain"]);
    }
    assert_eq!(refused(&sound, Certified::Endorsement, AT), ["tpm.certificate.purpose"]);
    assert_eq!(refused(&google(&root), Certified::Endorsement, AT), ["tpm.certificate.purpose"]);
    let foreign = Files { root: google(&root).root, ..azure(&root, "03") };
    assert_eq!(refused(&foreign, Certified::Attestation, AT), ["tpm.certificate.chain"]);
    // Without any root nothing is trusted, and nothing is called forged either.
    let mut checks = Checks::refusals();
    let none = VendorChains::default();
    assert!(verify(&sound.certificate, Certified::Attestation, None, &none, AT, &mut checks).is_none());
    assert_eq!(checks.verdict(), portcullis_attest::check::Verdict::Undetermined);
}

/// What stands behind the certificate in the NV index must be zeroes, and every
/// byte of the certificate counts.
#[test]
fn no_changed_byte_of_a_certificate_passes() {
    let Some(root) = common::vectors("") else { return };
    let sound = azure(&root, "03");
    let length = 1009;
    for at in (0..length).chain([length, 4095]) {
        let mut changed = azure(&root, "03");
        changed.certificate[at] ^= 1;
        assert!(judge(&changed, Certified::Attestation, AT).0.is_none(), "byte {at}");
    }
    assert!(judge(&sound, Certified::Attestation, AT).0.is_some());
}
