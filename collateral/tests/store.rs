#![cfg(test)]
//! AMD's own certificates and lists in a store.

use std::path::Path;

use portcullis_attest::check::Checks;
use portcullis_attest::snp::generation::Generation;
use portcullis_attest::snp::report::Report;
use portcullis_attest::snp::roots::Roots;
use portcullis_attest::snp::verify::{Presented, SnpVerifier};
use portcullis_collateral::{Store, StoreError};
use portcullis_vectors::vectors;

fn read(root: &Path, file: &str) -> Vec<u8> {
    std::fs::read(root.join(file)).unwrap()
}

#[test]
fn what_is_kept_verifies_a_report_of_its_chip() {
    let Some(root) = vectors("snp") else { return };
    let folder = tempfile::tempdir().unwrap();
    let (store, roots) = (Store::open(&folder.path().join("cache")), Roots::amd().unwrap());
    let bytes = read(&root, "milan-v3-ms-aci/report.bin");
    let report = Report::parse(&bytes, &mut Checks::refusals()).unwrap();
    assert!(!store.has_vcek(&report, Generation::Milan).unwrap());
    for file in [
        "milan-v3-ms-aci/vcek.pem",
        "genoa-v3-ms-aci/vcek.pem",
        "turin-v5-ms-aci/vcek.pem",
        "amd-roots/milan_ask_ark_asvk.pem",
        "amd-crl/milan_2025-05-06.crl.der",
    ] {
        assert!(!store.import(&read(&root, file), &roots).unwrap().is_empty(), "{file}");
    }
    assert_eq!(store.items().unwrap().len(), 3 + 3 + 1);
    assert!(store.has_vcek(&report, Generation::Milan).unwrap());
    let collateral = store.collateral_for(&report).unwrap();
    assert_eq!(collateral.certificates.iter().filter(|c| c.common_name == "SEV-VCEK").count(), 1, "its own alone");
    let certificates = collateral.certificates.clone();
    let verifier = SnpVerifier::new(roots, collateral);
    let presented = Presented::certificates(&certificates);
    assert!(verifier.verify(&bytes, presented, 1_772_323_200, &mut Checks::refusals()).is_some());
    let turin = read(&root, "turin-v5-ms-aci/report.bin");
    let turin = Report::parse(&turin, &mut Checks::refusals()).unwrap();
    assert!(store.has_vcek(&turin, Generation::Turin).unwrap(), "eight bytes of the chip id");
    // Importing again changes nothing.
    store.import(&read(&root, "milan-v3-ms-aci/vcek.pem"), &Roots::amd().unwrap()).unwrap();
    assert_eq!(store.items().unwrap().len(), 7);
}

#[test]
fn lists_are_checked_on_the_way_in() {
    let Some(root) = vectors("snp") else { return };
    let folder = tempfile::tempdir().unwrap();
    let (store, roots) = (Store::open(folder.path()), Roots::amd().unwrap());
    let crl = read(&root, "amd-crl/milan_2025-05-06.crl.der");
    let mut forged = crl.clone();
    *forged.last_mut().unwrap() ^= 1;
    assert!(matches!(store.import(&forged, &roots), Err(StoreError::UnsignedList)));
    let nobody = Roots::given(Vec::new());
    assert!(matches!(store.import(&crl, &nobody), Err(StoreError::UnsignedList)));
    assert!(store.items().unwrap().is_empty());
    let foreign = vectors("azure-vtpm").unwrap().join("openpcc-akcert/azure_tpm_root_2023.pem");
    assert!(store.import(&std::fs::read(foreign).unwrap(), &roots).is_err());
    assert!(matches!(store.import(b"nothing", &roots), Err(StoreError::Collateral(_))));
    let kept = store.import(&crl, &roots).unwrap();
    assert_eq!(kept[0].name(), "CRL of ARK-Milan");
    let pem = kept[0].pem().unwrap();
    assert_eq!(store.import(pem.as_bytes(), &roots).unwrap(), kept);
}

/// What a power cut or a failing disk left is named, and can be fetched again.
#[test]
fn a_damaged_file_is_named_with_what_to_do() {
    let Some(root) = vectors("snp") else { return };
    let folder = tempfile::tempdir().unwrap();
    let (store, roots) = (Store::open(folder.path()), Roots::amd().unwrap());
    let crl = read(&root, "amd-crl/milan_2025-05-06.crl.der");
    store.import(&crl, &roots).unwrap();
    let path = std::fs::read_dir(folder.path().join("crl")).unwrap().next().unwrap().unwrap().path();
    std::fs::write(&path, b"").unwrap();
    let error = store.items().unwrap_err();
    assert!(matches!(&error, StoreError::Damaged(damaged, _) if *damaged == path), "{error}");
    let said = error.to_string();
    assert!(said.starts_with(&format!("{} is damaged (", path.display())), "{said}");
    assert!(said.ends_with("): remove it, and fetch or import it again"), "{said}");
    store.import(&crl, &roots).unwrap();
    assert_eq!(store.items().unwrap().len(), 1);
}
