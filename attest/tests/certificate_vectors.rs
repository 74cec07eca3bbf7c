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
    let of_another_kind = ["tpm.certificate.purpose", "tpm.certificate.usage"];
    assert_eq!(refused(&sound, Certified::Endorsement, AT), of_another_kind);
    assert_eq!(refused(&google(&root), Certified::Endorsement, AT), of_another_kind);
    let foreign = Files { root: google(&root).root, ..azure(&root, "03") };
    assert_eq!(refused(&foreign, Certified::Attestation, AT), ["tpm.certificate.chain"]);
    // Without any root nothing is trusted, and nothing is called forged either.
    let mut checks = Checks::refusals();
    let none = VendorChains::default();
    assert!(verify(&sound.certificate, Certified::Attestation, None, &none, AT, &mut checks).is_none());
    assert_eq!(checks.verdict(), portcullis_attest::check::Verdict::Undetermined);
}

/// Every byte of the certificate counts, and nothing behind it in the NV index.
#[test]
fn no_changed_byte_of_a_certificate_passes() {
    let Some(root) = common::vectors("") else { return };
    let length = 1009;
    for at in 0..length {
        let mut changed = azure(&root, "03");
        changed.certificate[at] ^= 1;
        assert!(judge(&changed, Certified::Attestation, AT).0.is_none(), "byte {at}");
    }
    let sound = azure(&root, "03");
    let der = &sound.certificate[..length];
    let shorter = [&[0x30, 0x82, 0x01, 0x00][..], &[0x5a; 60]].concat();
    for behind in [&[][..], &[0; 3087], &[0xff; 3087], &[1], b"-----END", &[0x30], &[0x30, 0x82, 0xff, 0xff], &shorter]
    {
        let left_over = Files { certificate: [der, behind].concat(), ..azure(&root, "03") };
        assert_eq!(judge(&left_over, Certified::Attestation, AT).1, Vec::<String>::new(), "{behind:02x?}");
    }
    // PEM in an NV index, and chains there: one certificate behind the other.
    let pem = der::pem::encode_string("CERTIFICATE", der::pem::LineEnding::LF, der).unwrap();
    for behind in [&[0; 100][..], &[0xff; 100]] {
        let left_over = Files { certificate: [pem.as_bytes(), behind].concat(), ..azure(&root, "03") };
        assert_eq!(judge(&left_over, Certified::Attestation, AT).1, Vec::<String>::new());
    }
    let ders = |file: &[u8]| der::pem::decode_vec(file).unwrap().1;
    let between = [ders(&azure(&root, "01").between), ders(&sound.between), vec![0xff; 50]].concat();
    let chained = Files { between, root: [ders(&sound.root), vec![0; 9]].concat(), ..azure(&root, "03") };
    assert_eq!(judge(&chained, Certified::Attestation, AT).1, Vec::<String>::new());
    // What is cut off is no certificate.
    for cut in [0, 1, 4, 500, length - 1] {
        let files = Files { certificate: der[..cut].to_vec(), ..azure(&root, "03") };
        assert_eq!(judge(&files, Certified::Attestation, AT).1, ["tpm.certificate"], "{cut} bytes");
    }
    let none = VendorChains::read(&[&[0; 40]], &[]);
    assert!(none.is_err(), "a root that is none");
}

/// 2027-12-01: the certificates of swtpm and openssl are valid.
const LATER: u64 = 1_827_619_200;

fn made(name: &str) -> Vec<u8> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tpm-certificates");
    common::read(&folder.join(format!("{name}.der")))
}

/// What `swtpm_setup` certifies: endorsement keys and a platform, none of which is
/// an attestation key.
#[test]
fn endorsement_and_platform_certificates_are_no_attestation_keys() {
    let (root, issuer) = (made("swtpm-root"), made("swtpm-issuer"));
    let refused = |name: &str, kind| {
        let files = Files { certificate: made(name), root: root.clone(), between: issuer.clone() };
        judge(&files, kind, LATER).1
    };
    for name in ["swtpm-ek-rsa2048", "swtpm-ek-secp384r1"] {
        assert_eq!(refused(name, Certified::Endorsement), Vec::<String>::new(), "{name}");
        assert_eq!(
            refused(name, Certified::Attestation),
            ["tpm.certificate.purpose", "tpm.certificate.usage"],
            "{name}"
        );
    }
    // The platform's purpose is none that a path of a TPM's key may have.
    for kind in [Certified::Attestation, Certified::Endorsement] {
        let found = refused("swtpm-platform", kind);
        assert!(found.starts_with(&["tpm.certificate.chain".into(), "tpm.certificate.purpose".into()]), "{found:?}");
    }
}

/// Purpose (EKU), usage and CA flag, each in turn, of certificates that openssl made.
#[test]
fn what_a_certificate_is_for_decides() {
    use Certified::{Attestation, Endorsement};
    let refused = |name: &str, between: Option<&str>, root: &str, kind| {
        let between = between.map(made);
        let others: Vec<&[u8]> = between.iter().map(Vec::as_slice).collect();
        let chains = VendorChains::read(&[&made(root)], &others).unwrap();
        let mut checks = Checks::refusals();
        verify(&made(name), kind, None, &chains, LATER, &mut checks);
        checks.refused().map(|check| check.id.trim_start_matches("tpm.certificate.").to_owned()).collect::<Vec<_>>()
    };
    for (name, kind, expected) in [
        ("ak", Attestation, &[][..]),
        ("ak-purpose-absent", Attestation, &[]),
        ("ak-usage-absent", Attestation, &[]),
        ("ak-usage-and-purpose-absent", Attestation, &["usage"]),
        ("ak-for-encipherment", Attestation, &["usage"]),
        ("ak-is-ca", Attestation, &["chain", "usage"]),
        ("ak-and-ek", Attestation, &["purpose"]),
        ("ek", Attestation, &["purpose", "usage"]),
        ("ek-purpose-absent", Attestation, &["usage"]),
        ("ek-signs-too", Attestation, &["usage"]),
        ("ek-usage-absent", Attestation, &["purpose"]),
        ("ek-for-signing", Attestation, &["purpose"]),
        ("ek", Endorsement, &[]),
        ("ek-usage-absent", Endorsement, &["usage"]),
        ("ek-for-signing", Endorsement, &["usage"]),
        ("ek-purpose-absent", Endorsement, &["purpose"]),
        ("ak", Endorsement, &["purpose", "usage"]),
        ("ak-and-ek", Endorsement, &["purpose", "usage"]),
    ] {
        assert_eq!(refused(name, None, "root", kind), expected, "{name} as {kind:?}");
    }
    // Issuers and roots must be allowed to issue.
    for (name, between, root) in [
        ("ak-under-issuer-without-keycertsign", Some("issuer-without-keycertsign"), "root"),
        ("ak-under-issuer-is-ek", Some("issuer-is-ek"), "root"),
        ("ak-under-root-without-keycertsign", None, "root-without-keycertsign"),
    ] {
        assert_eq!(refused(name, between, root, Attestation), ["chain"], "{name}");
    }
}
