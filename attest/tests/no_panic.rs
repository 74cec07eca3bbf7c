//! No input panics: random bytes, and good structures with random damage.
#![cfg(test)]

use portcullis_attest::check::Checks;
use portcullis_attest::eventlog::EventLog;
use portcullis_attest::evidence::Evidence;
use portcullis_attest::ima::{self, AllowList};
use portcullis_attest::snp::certificate::Certificate;
use portcullis_attest::snp::collateral::Collateral;
use portcullis_attest::snp::crl::Crl;
use portcullis_attest::snp::report::Report;
use portcullis_attest::snp::roots::{Roots, known_asks};
use portcullis_attest::snp::table::CertificateTable;
use portcullis_attest::snp::verify::{Presented, SnpVerifier};
use portcullis_attest::tpm::attest::Quote;
use portcullis_attest::tpm::key::AttestationKey;
use portcullis_attest::tpm::pcr::{Bank, PcrValues};
use portcullis_attest::tpm::signature::Signature;
use proptest::prelude::*;
use sev::firmware::host::{CertTableEntry, CertType};

/// Every parser of the crate takes the same bytes.
fn feed(bytes: &[u8]) {
    let mut checks = Checks::all();
    let _fields = Report::parse(bytes, &mut checks);
    drop((Certificate::parse(bytes), Crl::parse(bytes), Collateral::parse(bytes), CertificateTable::parse(bytes)));
    drop((Quote::parse(bytes), AttestationKey::parse(bytes), Signature::parse(bytes), Evidence::parse(bytes)));
    if let Ok(log) = EventLog::parse(bytes) {
        drop(Bank::ALL.map(|bank| log.replay(bank)));
    }
    let _refused =
        ima::verify(bytes, Bank::Sha384, &PcrValues::default(), AllowList::parse(bytes).ok().as_ref(), &mut checks);
    let verifier = SnpVerifier::new(Roots::amd().unwrap(), Collateral::default());
    let _refused = verifier.verify(bytes, Presented::table(bytes), 0, &mut checks);
}

/// Damages bytes: some are overwritten, the end may be cut or grow.
fn damage(mut bytes: Vec<u8>, hits: &[(prop::sample::Index, u8)], length: usize) -> Vec<u8> {
    for (at, value) in hits {
        let at = at.index(bytes.len());
        bytes[at] = *value;
    }
    bytes.resize(length, 0);
    bytes
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn threat_28_random_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..1300)) {
        feed(&bytes);
    }

    #[test]
    fn threat_28_damaged_certificates_and_tables(
        hits in proptest::collection::vec(any::<(prop::sample::Index, u8)>(), 1..6),
        cut in 0_usize..64,
    ) {
        let ask = known_asks()[0].der().to_vec();
        let length = ask.len().saturating_sub(cut);
        feed(&damage(ask.clone(), &hits, length));
        let entries = [CertType::VCEK, CertType::ASK, CertType::ARK].map(|kind| CertTableEntry::new(kind, ask.clone()));
        let table = CertTableEntry::cert_table_to_vec_bytes(&entries).unwrap();
        let length = table.len().saturating_add(cut);
        feed(&damage(table, &hits, length));
    }

    #[test]
    fn threat_28_damaged_reports(hits in proptest::collection::vec(any::<(prop::sample::Index, u8)>(), 0..12), version in 0_u8..7) {
        let mut report = vec![0; 1184];
        report[0] = version;
        feed(&damage(report, &hits, 1184));
    }

    #[test]
    fn threat_28_damaged_event_logs(hits in proptest::collection::vec(any::<(prop::sample::Index, u8)>(), 0..6), cut in 0_usize..40) {
        let mut log = vec![0; 28];
        log[4] = 3;
        let mut spec = b"Spec ID Event03\0".to_vec();
        spec.extend([0, 0, 0, 0, 0, 2, 0, 2, 1, 0, 0, 0, 0x0b, 0, 32, 0, 0]);
        log.extend(u32::try_from(spec.len()).unwrap().to_le_bytes());
        log.extend(spec);
        log.extend([0, 0, 0, 0, 8, 0, 0, 0, 1, 0, 0, 0, 0x0b, 0]);
        log.extend([7; 32]);
        log.extend([4, 0, 0, 0, 1, 2, 3, 4]);
        let length = log.len().saturating_sub(cut);
        feed(&damage(log, &hits, length));
    }

    #[test]
    fn threat_28_damaged_measurement_lists(hits in proptest::collection::vec(any::<(prop::sample::Index, u8)>(), 0..6), cut in 0_usize..40) {
        let binary = include_bytes!("data/ima/pcr10-and-pcr11-sha1.bin").to_vec();
        let line = format!("10 {} ima-modsig sha256:{} /a\nb  sha1:{} 00\n", "01".repeat(20), "02".repeat(32), "03".repeat(20));
        for list in [binary, line.into_bytes()] {
            let length = list.len().saturating_sub(cut);
            feed(&damage(list, &hits, length));
        }
    }
}
