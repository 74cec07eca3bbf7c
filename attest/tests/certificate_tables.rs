//! The certificate table of a host. Outside witnesses: tables with AMD's own
//! certificates in the form of AWS, Google and bare-metal hosts, and encoder and
//! decoder of the `sev` crate.
#![cfg(test)]

mod common;

use portcullis_attest::check::{Checks, Outcome};
use portcullis_attest::snp::collateral::{Collateral, CollateralError};
use portcullis_attest::snp::roots::Roots;
use portcullis_attest::snp::table::{CertificateTable, Guid, Kind, TableError};
use portcullis_attest::snp::verify::{Presented, SnpVerifier};
use proptest::prelude::*;
use sev::firmware::host::{CertTableEntry, CertType};
use sev::parser::ByteParser;

const WHOLE: &[u8] = include_bytes!("certificate-tables/rfc4122-order.bin");
const PADDED: &[u8] = include_bytes!("certificate-tables/rfc4122-order-page-padded.bin");
const UNKNOWN: &[u8] = include_bytes!("certificate-tables/unknown-entry-and-vcek.bin");
/// 2025-06-01: the CRL of the vectors is current.
const AT: u64 = 1_748_736_000;

fn entry(guid: Guid, data: &[u8]) -> CertTableEntry {
    CertTableEntry::new(CertType::from_bytes(&guid.0).unwrap(), data.to_vec())
}

fn table(entries: &[CertTableEntry]) -> Vec<u8> {
    CertTableEntry::cert_table_to_vec_bytes(entries).unwrap()
}

/// The certificates of the whole table, as the `sev` crate finds them.
fn certificates() -> [Vec<u8>; 3] {
    let read = CertTableEntry::vec_bytes_to_cert_table(&mut WHOLE.to_vec()).unwrap();
    [0, 1, 2].map(|at: usize| read[at].data.clone())
}

/// What a verification with this table refuses, with what it found.
fn refused(table: &[u8]) -> Option<Vec<(String, Outcome, Option<String>)>> {
    let root = common::vectors("snp")?;
    let crl = common::read(&root.join("amd-crl/milan_2025-05-06.crl.der"));
    let report = common::read(&root.join("milan-v2-gsg/report.bin"));
    let verifier = SnpVerifier::new(Roots::amd().unwrap(), Collateral::parse(&crl).unwrap());
    let mut checks = Checks::all();
    let verified = verifier.verify(&report, Presented::table(table), AT, &mut checks);
    assert_eq!(verified.is_some(), checks.passed());
    Some(checks.refused().map(|c| (c.id.to_string(), c.outcome, c.found.clone())).collect())
}

fn ids(table: &[u8]) -> Option<Vec<(String, Outcome)>> {
    refused(table).map(|list| list.into_iter().map(|(id, outcome, _)| (id, outcome)).collect())
}

fn missing(ids: &[&str]) -> Vec<(String, Outcome)> {
    ids.iter().map(|id| ((*id).to_owned(), Outcome::Missing)).collect()
}

#[test]
fn tables_in_rfc_4122_order_are_read() {
    // The first bytes of a VCEK entry in every real table.
    assert_eq!(Kind::Vcek.guid().0[..8], [0x63, 0xda, 0x75, 0x8d, 0xe6, 0x64, 0x45, 0x64]);
    for bytes in [WHOLE, PADDED] {
        let read = CertificateTable::parse(bytes).unwrap();
        let names: Vec<&str> = read.certificates().iter().map(|c| c.common_name.as_str()).collect();
        assert_eq!(names, ["ARK-Milan", "SEV-Milan", "SEV-VCEK"]);
        assert_eq!(read.to_string(), "ARK, ASK, VCEK");
        let Some(ids) = ids(bytes) else { return };
        assert_eq!(ids, []);
    }
}

#[test]
fn unknown_entries_are_listed_with_their_guid() {
    let read = CertificateTable::parse(UNKNOWN).unwrap();
    assert_eq!(read.to_string(), "unknown entry 12345678-90ab-cdef-1234-567890abcdef of 40 bytes, VCEK");
    assert_eq!(read.certificates().len(), 1);
    let Some(root) = common::vectors("snp") else { return };
    let report = common::read(&root.join("milan-v2-gsg/report.bin"));
    let verifier = SnpVerifier::new(Roots::amd().unwrap(), Collateral::default());
    let mut checks = Checks::all();
    verifier.verify(&report, Presented::table(UNKNOWN), AT, &mut checks);
    let check = checks.list().iter().find(|check| check.id == "snp.certificates").unwrap();
    assert_eq!((check.outcome, check.found.clone()), (Outcome::Pass, Some(read.to_string())));
}

/// Never a pass: such a table says that we do not understand it.
#[test]
fn a_table_in_which_nothing_is_known_is_refused_by_a_check_of_its_own() {
    // The order of UEFI structures, in which this program once looked for them.
    let mixed = |Guid([a, b, c, d, e, f, g, h, rest @ ..]): Guid| {
        let [i, j, k, l, m, n, o, p] = rest;
        Guid([d, c, b, a, f, e, h, g, i, j, k, l, m, n, o, p])
    };
    let [ark, ask, vcek] = certificates();
    let bytes = table(&[
        entry(mixed(Kind::Ark.guid()), &ark),
        entry(mixed(Kind::Ask.guid()), &ask),
        entry(mixed(Kind::Vcek.guid()), &vcek),
    ]);
    let Some(found) = refused(&bytes) else { return };
    assert_eq!(found[0].0, "snp.certificates.known");
    assert_eq!(found[0].1, Outcome::Missing);
    assert!(found[0].2.as_ref().unwrap().contains("unknown entry a406b4c0-03a8-5249-9743-3fb6014cd0ae of 1639 bytes"));
    assert_eq!(ids(&bytes).unwrap(), missing(&["snp.certificates.known", "snp.vek"]));
    // Certificates from elsewhere do not make it one that was understood.
    let root = common::vectors("snp").unwrap();
    let report = common::read(&root.join("milan-v2-gsg/report.bin"));
    let crl = common::read(&root.join("amd-crl/milan_2025-05-06.crl.der"));
    let verifier = SnpVerifier::new(Roots::amd().unwrap(), Collateral::parse(&crl).unwrap());
    let elsewhere = Collateral::parse(&vcek).unwrap().certificates;
    for (given, expected) in [(&bytes[..], &["snp.certificates.known"][..]), (&[0; 24], &[]), (&[], &[])] {
        let mut checks = Checks::refusals();
        verifier.verify(&report, Presented::table(given).with(&elsewhere), AT, &mut checks);
        assert_eq!(checks.refused().map(|check| check.id.as_ref()).collect::<Vec<_>>(), expected);
    }
}

/// A host without certificates is legitimate. It leaves the endorsement key's
/// certificate missing, and no check of the table passes.
#[test]
fn an_empty_table_is_a_host_without_certificates() {
    for empty in [&[0; 24][..], &[0; 4096]] {
        let read = CertificateTable::parse(empty).unwrap();
        assert_eq!((read.entries().len(), read.to_string().as_str()), (0, "no entries"));
        let Some(ids) = ids(empty) else { return };
        assert_eq!(ids, missing(&["snp.vek"]));
    }
    assert_eq!(ids(&[]).unwrap(), missing(&["snp.vek"]));
}

#[test]
fn what_the_sev_crate_writes_is_read_and_the_other_way_round() {
    let [ark, ask, vcek] = certificates();
    let Some(root) = common::vectors("snp") else { return };
    let crl = common::read(&root.join("amd-crl/milan_2025-05-06.crl.der"));
    let vlek = common::read(&root.join("milan-v3-vlek-aws/vlek.der"));
    let written = table(&[
        CertTableEntry::new(CertType::ARK, ark.clone()),
        CertTableEntry::new(CertType::ASK, ask.clone()),
        CertTableEntry::new(CertType::VCEK, vcek.clone()),
        CertTableEntry::new(CertType::VLEK, vlek.clone()),
        CertTableEntry::new(CertType::CRL, crl.clone()),
    ]);
    let read = CertificateTable::parse(&written).unwrap();
    assert_eq!(read.to_string(), "ARK, ASK, VCEK, VLEK, CRL");
    let ders: Vec<&[u8]> =
        read.certificates().iter().map(portcullis_attest::snp::certificate::Certificate::der).collect();
    assert_eq!(ders, [ark, ask, vcek, vlek]);
    assert_eq!(read.crls()[0].der(), crl);
    for bytes in [WHOLE, PADDED, UNKNOWN] {
        let theirs = CertTableEntry::vec_bytes_to_cert_table(&mut bytes.to_vec()).unwrap();
        let theirs = theirs.iter().map(|entry| (entry.guid_string(), entry.data.len()));
        let ours = CertificateTable::parse(bytes).unwrap();
        let ours = ours.entries().iter().map(|entry| (entry.guid.to_string(), entry.length as usize));
        assert!(ours.eq(theirs));
    }
}

/// Two certificates of one key, as after an update of the platform: the one that
/// fits the report counts, whatever was verified before.
#[test]
fn of_two_entries_of_one_kind_the_fitting_one_counts() {
    let Some(root) = common::vectors("snp") else { return };
    let read = |file: &str| common::read(&root.join(file));
    let crl = read("amd-crl/milan_2025-05-06.crl.der");
    let verifier = SnpVerifier::new(Roots::amd().unwrap(), Collateral::parse(&crl).unwrap());
    let samples = [
        ("milan-v2-gsg/report.bin", "milan-v2-gsg/vcek.der"),
        ("milan-v2-trustee/report.bin", "milan-v2-trustee/vcek.der"),
    ];
    let both: Vec<_> = samples.iter().map(|(_, file)| CertTableEntry::new(CertType::VCEK, read(file))).collect();
    let both = table(&both);
    for (report, _) in [samples, samples].concat() {
        let mut checks = Checks::refusals();
        verifier.verify(&read(report), Presented::table(&both), AT, &mut checks);
        assert_eq!(checks.list(), [], "{report}");
    }
}

/// Bytes of a table, changed.
fn with(change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut bytes = WHOLE.to_vec();
    change(&mut bytes);
    bytes
}

#[test]
fn malformed_tables_are_refused_by_name() {
    let range = |offset, length| TableError::Range { guid: Kind::Ark.guid(), offset, length };
    let put = |at: usize, value: u32| with(|bytes| bytes[at..at + 4].copy_from_slice(&value.to_le_bytes()));
    let content = |kind, error| TableError::Content { kind, error };
    let malformed = || CollateralError::Certificate(portcullis_attest::snp::certificate::CertificateError::Malformed);
    for (bytes, error) in [
        (vec![0; 23], TableError::Unfinished),
        (WHOLE[..95].to_vec(), TableError::Unfinished),
        (WHOLE[..72].to_vec(), TableError::Unfinished),
        // No end of the list: the data are taken for entries.
        (with(|bytes| bytes[72..96].fill(1)), TableError::TooLarge),
        (vec![0; 256 * 1024 + 1], TableError::TooLarge),
        ([vec![7; 24 * 33], vec![0; 24]].concat(), TableError::TooLarge),
        (put(16, 95), range(95, 0x667)),
        (put(16, 0), range(0, 0x667)),
        (put(16, u32::MAX), range(u32::MAX, 0x667)),
        (put(20, u32::MAX), range(0x60, u32::MAX)),
        (put(20, 4773 - 0x60), range(0x60, 4773 - 0x60)),
        (put(20, 0), content(Kind::Ark, CollateralError::Nothing)),
        (put(20, 0x666), content(Kind::Ark, malformed())),
        // One byte more is the first of the next certificate.
        (put(20, 0x668), content(Kind::Ark, CollateralError::Nothing)),
    ] {
        let found = CertificateTable::parse(&bytes).unwrap_err();
        assert_eq!(found, error);
        let Some(found) = refused(&bytes) else { return };
        assert_eq!(
            (found[0].0.as_str(), found[0].1, found[0].2.clone()),
            ("snp.certificates", Outcome::Fail, Some(error.to_string()))
        );
    }
    // An unknown entry has to fit as well.
    let unknown = with(|bytes| bytes[..4].fill(0xee));
    assert!(CertificateTable::parse(&unknown).is_ok());
    let far = [&unknown[..20], &[0xff; 4], &unknown[24..]].concat();
    assert!(matches!(CertificateTable::parse(&far), Err(TableError::Range { .. })));
}

/// Hosts pad entries and tables; what stands there says nothing.
#[test]
fn padding_does_not_matter() {
    let ark = &certificates()[0];
    let padded = table(&[entry(Kind::Ark.guid(), &[ark.as_slice(), &[0; 64]].concat())]);
    assert_eq!(CertificateTable::parse(&padded).unwrap().certificates().len(), 1);
    for behind in [&[0xff; 100][..], b"left by an earlier table"] {
        let read = CertificateTable::parse(&[WHOLE, behind].concat()).unwrap();
        assert_eq!(read.to_string(), "ARK, ASK, VCEK");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn any_table_of_the_sev_crate_is_listed_as_it_was_written(
        written in proptest::collection::vec((any::<[u8; 16]>(), proptest::collection::vec(any::<u8>(), 0..300)), 0..32),
    ) {
        let known = |guid: &[u8; 16]| *guid == [0; 16] || Kind::ALL.iter().any(|kind| kind.guid().0 == *guid);
        prop_assume!(written.iter().all(|(guid, _)| !known(guid)));
        let entries: Vec<_> = written.iter().map(|(guid, data)| entry(Guid(*guid), data)).collect();
        let read = CertificateTable::parse(&table(&entries)).unwrap();
        let listed: Vec<_> = read.entries().iter().map(|entry| (entry.guid.to_string(), entry.length as usize)).collect();
        let theirs: Vec<_> = entries.iter().map(|entry| (entry.guid_string(), entry.data.len())).collect();
        prop_assert_eq!(listed, theirs);
    }
}
