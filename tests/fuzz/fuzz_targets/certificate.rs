//! Certificates, CRLs, files of both, and the host's certificate table.
#![no_main]
use libfuzzer_sys::fuzz_target;
use portcullis_attest::snp::certificate::Certificate;
use portcullis_attest::snp::collateral::Collateral;
use portcullis_attest::snp::crl::Crl;
use portcullis_attest::snp::table::CertificateTable;

fuzz_target!(|data: &[u8]| {
    if let Ok(certificate) = Certificate::parse(data) {
        assert_eq!(certificate.der(), data);
        let _own = certificate.is_signed_by(&certificate);
    }
    drop((Crl::parse(data), Collateral::parse(data), CertificateTable::parse(data)));
});
