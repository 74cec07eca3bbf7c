//! Certificates of attestation and endorsement keys (TCG EK Credential Profile,
//! TCG OID registry), with the chains of the TPM's vendor.
//!
//! Path building and validation are `webpki`'s (RFC 5280); which roots count is
//! the caller's choice, and there are none by default.

use std::time::Duration;

use der::{Decode, Encode, Reader as _, SliceReader};
use rustls_pki_types::{CertificateDer, TrustAnchor, UnixTime};
use webpki::{
    ALL_VERIFICATION_ALGS, EndEntityCert, Error, ExtendedKeyUsageValidator, KeyPurposeIdIter, KeyUsage,
    RequiredEkuNotFoundContext,
};
use x509_cert::Certificate;
use x509_cert::ext::pkix::ExtendedKeyUsage;

use super::key::KeyMaterial;
use crate::bytes::Truncated;
use crate::check::Checks;
use portcullis_wire::hex::hex;

/// Largest certificate accepted, in bytes; NV indices hold at most 4 KiB.
const MAX_LENGTH: usize = 8 * 1024;
/// `tcg-kp-EKCertificate` and `tcg-kp-AIKCertificate`.
const EK_PURPOSE: const_oid::ObjectIdentifier = const_oid::ObjectIdentifier::new_unwrap("2.23.133.8.1");
const AK_PURPOSE: const_oid::ObjectIdentifier = const_oid::ObjectIdentifier::new_unwrap("2.23.133.8.3");
/// Both in DER, without tag and length.
const PURPOSES: [&[u8]; 2] = [&[0x67, 0x81, 0x05, 0x08, 0x01], &[0x67, 0x81, 0x05, 0x08, 0x03]];

/// Which key a certificate is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Certified {
    /// An attestation key. Some vendors name no purpose; one that is named must fit.
    Attestation,
    /// An endorsement key: its purpose must be named.
    Endorsement,
}

/// Issuers and roots of TPM vendors.
#[derive(Clone, Debug, Default)]
pub struct VendorChains {
    /// Intermediate certificates, DER.
    pub intermediates: Vec<Vec<u8>>,
    /// Trusted roots, DER.
    pub roots: Vec<Vec<u8>>,
}

impl VendorChains {
    /// Sorts certificates in PEM or DER: what is in `roots` is trusted, what is
    /// in `others` may stand between.
    ///
    /// # Errors
    /// [`Truncated`] where a file holds something else.
    pub fn read(roots: &[&[u8]], others: &[&[u8]]) -> Result<Self, Truncated> {
        let all = |files: &[&[u8]]| -> Result<Vec<Vec<u8>>, Truncated> {
            files.iter().map(|file| certificates(file)).collect::<Result<Vec<_>, _>>().map(|lists| lists.concat())
        };
        Ok(Self { intermediates: all(others)?, roots: all(roots)? })
    }
}

/// The certificates of a file: PEM blocks, or one DER certificate, perhaps with
/// the zeroes of an NV index behind it.
fn certificates(file: &[u8]) -> Result<Vec<Vec<u8>>, Truncated> {
    const END: &str = "-----END CERTIFICATE-----";
    let Some(text) = std::str::from_utf8(file).ok().filter(|text| text.contains("-----BEGIN ")) else {
        return Ok(vec![without_padding(file)?.to_vec()]);
    };
    let blocks = text.split_inclusive(END).filter(|block| block.contains(END));
    let decode = |block: &str| {
        let start = block.find("-----BEGIN CERTIFICATE-----").ok_or(Truncated)?;
        let block = block.get(start..).ok_or(Truncated)?;
        der::pem::decode_vec(block.as_bytes()).map(|(_, der)| der).map_err(|_| Truncated)
    };
    blocks.map(decode).collect()
}

/// Cuts the zeroes of the NV index behind a certificate; anything else is refused.
fn without_padding(bytes: &[u8]) -> Result<&[u8], Truncated> {
    let mut reader = SliceReader::new(bytes).map_err(|_| Truncated)?;
    let certificate = reader.tlv_bytes().map_err(|_| Truncated)?;
    let rest = bytes.get(certificate.len()..).unwrap_or_default();
    if certificate.len() > MAX_LENGTH || rest.iter().any(|byte| *byte != 0) {
        return Err(Truncated);
    }
    Ok(certificate)
}

/// A key that a vendor certified. Only [`verify`] makes one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertifiedKey {
    key: KeyMaterial,
    subject: String,
}

impl CertifiedKey {
    /// The key.
    #[must_use]
    pub const fn key(&self) -> &KeyMaterial {
        &self.key
    }

    /// Subject of the certificate; endorsement keys often have none.
    #[must_use]
    pub fn subject(&self) -> &str {
        &self.subject
    }
}

/// Verifies a certificate as it stands in a file or an NV index, at a time (Unix
/// seconds). `key` is the key that it must be for, where one is known.
pub fn verify(
    certificate: &[u8],
    kind: Certified,
    key: Option<&KeyMaterial>,
    chains: &VendorChains,
    at: u64,
    checks: &mut Checks,
) -> Option<CertifiedKey> {
    let der = certificates(certificate).ok().and_then(|list| list.into_iter().next()).ok_or(Truncated);
    let parsed = der.and_then(|der| Ok((Certificate::from_der(&der).map_err(|_| Truncated)?, der)));
    let (parsed, der) =
        checks.step("tpm.certificate", parsed, "an X.509 certificate", "certificate of the TPM's key")?;
    check_chain(&der, chains, at, checks);
    check_purpose(&parsed, kind, checks);
    let spki = parsed.tbs_certificate.subject_public_key_info.to_der().map_err(|_| Truncated);
    let certified = spki.and_then(|spki| KeyMaterial::from_spki(&spki));
    let certified =
        checks.step("tpm.certificate.key", certified, "an RSA, P-256 or P-384 key", "key of the certificate")?;
    if let Some(key) = key {
        let digest = |key: &KeyMaterial| key.to_spki().map_or_else(String::new, |s| hex(&crate::crypto::sha256(&[&s])));
        checks.require(
            "tpm.certificate.same_key",
            certified == *key,
            || digest(&certified),
            || digest(key),
            "key of the certificate, against the TPM's",
        );
    }
    let subject = parsed.tbs_certificate.subject.to_string();
    checks.passed().then_some(CertifiedKey { key: certified, subject })
}

fn check_chain(der: &[u8], chains: &VendorChains, at: u64, checks: &mut Checks) {
    const DETAIL: &str = "the chain ends at a root of a TPM vendor, valid at the time";
    if chains.roots.is_empty() {
        checks.missing("tpm.certificate.chain", "a root certificate of the TPM's vendor", DETAIL);
        return;
    }
    let roots: Vec<CertificateDer<'_>> = chains.roots.iter().map(|der| CertificateDer::from(der.as_slice())).collect();
    let anchors: Result<Vec<TrustAnchor<'_>>, Error> = roots.iter().map(webpki::anchor_from_trusted_cert).collect();
    let intermediates: Vec<CertificateDer<'_>> =
        chains.intermediates.iter().map(|der| CertificateDer::from(der.as_slice())).collect();
    let time = UnixTime::since_unix_epoch(Duration::from_secs(at));
    let leaf = CertificateDer::from(der);
    let verified = anchors.and_then(|anchors| {
        let leaf = EndEntityCert::try_from(&leaf)?;
        leaf.verify_for_usage(ALL_VERIFICATION_ALGS, &anchors, &intermediates, time, TcgPurposes, None, None).map(drop)
    });
    checks.step("tpm.certificate.chain", verified, "a chain to a given root, valid at the time", DETAIL);
}

/// Wherever a certificate of the path names purposes, one of the TCG's must be
/// among them; which of the two, the leaf decides.
struct TcgPurposes;

impl ExtendedKeyUsageValidator for TcgPurposes {
    fn validate(&self, iter: KeyPurposeIdIter<'_, '_>) -> Result<(), Error> {
        let present: Vec<Vec<usize>> = iter.map(|purpose| Ok(purpose?.to_decoded_oid())).collect::<Result<_, _>>()?;
        // Compared as the library decodes both: 0.103 misreads arcs above 127.
        let known = PURPOSES.map(|der| KeyUsage::required(der).oid_values().collect::<Vec<usize>>());
        if present.is_empty() || present.iter().any(|purpose| known.contains(purpose)) {
            return Ok(());
        }
        let [_, ak_purpose] = PURPOSES;
        let required = KeyUsage::required(ak_purpose);
        Err(Error::RequiredEkuNotFoundContext(RequiredEkuNotFoundContext { required, present }))
    }
}

fn check_purpose(certificate: &Certificate, kind: Certified, checks: &mut Checks) {
    let found = certificate.tbs_certificate.get::<ExtendedKeyUsage>().ok().flatten().map(|(_, usage)| usage.0);
    let (required, holds) = match (kind, &found) {
        (Certified::Attestation, None) => (AK_PURPOSE, true),
        (Certified::Attestation, Some(purposes)) => (AK_PURPOSE, purposes.contains(&AK_PURPOSE)),
        (Certified::Endorsement, purposes) => (EK_PURPOSE, purposes.as_ref().is_some_and(|p| p.contains(&EK_PURPOSE))),
    };
    let names = |purposes: &Vec<const_oid::ObjectIdentifier>| {
        purposes.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
    };
    checks.require(
        "tpm.certificate.purpose",
        holds,
        || found.as_ref().map_or_else(|| "none named".into(), names),
        || required.to_string(),
        "extended key usage of the certificate",
    );
}
