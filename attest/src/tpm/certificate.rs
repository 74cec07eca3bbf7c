//! Certificates of attestation and endorsement keys (TCG EK Credential Profile,
//! TCG OID registry), with the chains of the TPM's vendor.
//!
//! `webpki` builds and validates paths (RFC 5280), and [`crate::x509`] checks what it
//! does not. The caller names the roots; there are none by default.

use std::time::Duration;

use const_oid::db::rfc5912::RSA_ENCRYPTION;
use der::{Decode, Encode, Reader as _, SliceReader};
use rustls_pki_types::{CertificateDer, TrustAnchor, UnixTime};
use webpki::{
    ALL_VERIFICATION_ALGS, EndEntityCert, Error, ExtendedKeyUsageValidator, KeyPurposeIdIter, KeyUsage,
    RequiredEkuNotFoundContext, VerifiedPath,
};
use x509_cert::Certificate;
use x509_cert::ext::pkix::{ExtendedKeyUsage, KeyUsages};

use super::key::KeyMaterial;
use crate::bytes::Truncated;
use crate::check::Checks;
use crate::x509;
use portcullis_wire::hex::hex;

/// Largest certificate accepted, in bytes; NV indices hold at most 4 KiB.
const MAX_LENGTH: usize = 8 * 1024;
/// Largest number of certificates in one file.
const MAX_COUNT: usize = 32;
/// `tcg-kp-EKCertificate` and `tcg-kp-AIKCertificate` (EK Credential Profile 2.5,
/// §3.2.16; `tcg-kp-PlatformCertificate` is 2).
const EK_PURPOSE: const_oid::ObjectIdentifier = const_oid::ObjectIdentifier::new_unwrap("2.23.133.8.1");
const AK_PURPOSE: const_oid::ObjectIdentifier = const_oid::ObjectIdentifier::new_unwrap("2.23.133.8.3");
/// Both in DER, without tag and length.
const PURPOSES: [&[u8]; 2] = [&[0x67, 0x81, 0x05, 0x08, 0x01], &[0x67, 0x81, 0x05, 0x08, 0x03]];

/// The kind of key in a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Certified {
    /// An attestation key. Some vendors name no purpose. A named purpose must match;
    /// without one, the key usage must be signatures only.
    Attestation,
    /// An endorsement key: its purpose and its key usage must be named.
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
    /// Sorts certificates in PEM or DER, also from NV indices: those in `roots` are
    /// trusted, those in `others` may be intermediates.
    ///
    /// # Errors
    /// [`Truncated`] if a file contains anything else.
    pub fn read(roots: &[&[u8]], others: &[&[u8]]) -> Result<Self, Truncated> {
        let all = |files: &[&[u8]]| -> Result<Vec<Vec<u8>>, Truncated> {
            files.iter().map(|file| certificates(file)).collect::<Result<Vec<_>, _>>().map(|lists| lists.concat())
        };
        Ok(Self { intermediates: all(others)?, roots: all(roots)? })
    }
}

/// The certificates of a file or of an NV index: PEM blocks, or consecutive
/// certificates in DER. NV memory is larger than its contents, so bytes after the last
/// certificate are ignored.
fn certificates(file: &[u8]) -> Result<Vec<Vec<u8>>, Truncated> {
    const BEGIN: &[u8] = b"-----BEGIN CERTIFICATE-----";
    const END: &[u8] = b"-----END CERTIFICATE-----";
    let mut found = Vec::new();
    let mut rest = file;
    if memchr::memmem::find(file, BEGIN).is_none() {
        while let Some(certificate) = first_certificate(rest) {
            found.push(certificate.to_vec());
            rest = rest.get(certificate.len()..).unwrap_or_default();
        }
    }
    while let Some(start) = memchr::memmem::find(rest, BEGIN) {
        let block = rest.get(start..).ok_or(Truncated)?;
        let end = memchr::memmem::find(block, END).and_then(|end| end.checked_add(END.len())).ok_or(Truncated)?;
        let (block, tail) = block.split_at_checked(end).ok_or(Truncated)?;
        found.push(der::pem::decode_vec(block).map_err(|_| Truncated)?.1);
        rest = tail;
    }
    let sound = found.iter().all(|certificate| certificate.len() <= MAX_LENGTH);
    if found.is_empty() || found.len() > MAX_COUNT || !sound { Err(Truncated) } else { Ok(found) }
}

/// The DER certificate at the start of the bytes.
fn first_certificate(bytes: &[u8]) -> Option<&[u8]> {
    let certificate = SliceReader::new(bytes).ok()?.tlv_bytes().ok()?;
    Certificate::from_der(certificate).is_ok().then_some(certificate)
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

/// Verifies a certificate from a file or an NV index, at a time (Unix seconds). `key`
/// is the key that it must certify, if known.
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
    let purposes = check_purpose(&parsed, kind, checks);
    check_usage(&parsed, kind, purposes, checks);
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
    let verified = path_to_a_root(der, chains, at).map_err(|error| match error {
        Error::EndEntityUsedAsCa => "an issuer that may not sign certificates".to_owned(),
        Error::CaUsedAsEndEntity => "a certificate of an authority, not of a key of a TPM".to_owned(),
        other => other.to_string(),
    });
    checks.step("tpm.certificate.chain", verified, "a chain to a given root, valid at the time", DETAIL);
}

fn path_to_a_root(der: &[u8], chains: &VendorChains, at: u64) -> Result<(), Error> {
    let roots: Vec<CertificateDer<'_>> = chains.roots.iter().map(|der| CertificateDer::from(der.as_slice())).collect();
    let anchors: Vec<TrustAnchor<'_>> =
        roots.iter().map(webpki::anchor_from_trusted_cert).collect::<Result<Vec<_>, _>>()?;
    let forbidden: Vec<&TrustAnchor<'_>> =
        anchors.iter().zip(&roots).filter(|(_, root)| !x509::may_issue(root)).map(|(anchor, _)| anchor).collect();
    let intermediates: Vec<CertificateDer<'_>> =
        chains.intermediates.iter().map(|der| CertificateDer::from(der.as_slice())).collect();
    let time = UnixTime::since_unix_epoch(Duration::from_secs(at));
    let leaf = CertificateDer::from(der);
    let all_may_issue = |path: &VerifiedPath<'_>| {
        if forbidden.contains(&path.anchor()) { Err(Error::EndEntityUsedAsCa) } else { x509::issuers_may_issue(path) }
    };
    EndEntityCert::try_from(&leaf)?
        .verify_for_usage(
            ALL_VERIFICATION_ALGS,
            &anchors,
            &intermediates,
            time,
            TcgPurposes,
            None,
            Some(&all_may_issue),
        )
        .map(drop)
}

/// If a certificate of the path names purposes, one of the TCG's must be among them;
/// the leaf decides which one.
struct TcgPurposes;

impl ExtendedKeyUsageValidator for TcgPurposes {
    fn validate(&self, iter: KeyPurposeIdIter<'_, '_>) -> Result<(), Error> {
        let present: Vec<Vec<usize>> = iter.map(|purpose| Ok(purpose?.to_decoded_oid())).collect::<Result<_, _>>()?;
        // Compared in the library's decoding: version 0.103 misreads arcs above 127.
        let known = PURPOSES.map(|der| KeyUsage::required(der).oid_values().collect::<Vec<usize>>());
        if present.is_empty() || present.iter().any(|purpose| known.contains(purpose)) {
            return Ok(());
        }
        let [_, ak_purpose] = PURPOSES;
        let required = KeyUsage::required(ak_purpose);
        Err(Error::RequiredEkuNotFoundContext(RequiredEkuNotFoundContext { required, present }))
    }
}

/// Whether a certificate names purposes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Purposes {
    Named,
    NotNamed,
}

fn check_purpose(certificate: &Certificate, kind: Certified, checks: &mut Checks) -> Purposes {
    let found = certificate.tbs_certificate.get::<ExtendedKeyUsage>();
    let named = found.as_ref().ok().and_then(Option::as_ref).map(|(_, usage)| &usage.0);
    let has = |purpose| named.is_some_and(|purposes| purposes.contains(&purpose));
    let (required, holds) = match kind {
        Certified::Attestation => {
            // One key cannot be both: an endorsement key signs nothing.
            let fits = has(AK_PURPOSE) && !has(EK_PURPOSE);
            (format!("{AK_PURPOSE} and not {EK_PURPOSE}, or none named"), fits || matches!(found, Ok(None)))
        }
        Certified::Endorsement => (format!("{EK_PURPOSE} and not {AK_PURPOSE}"), has(EK_PURPOSE) && !has(AK_PURPOSE)),
    };
    let names = |purposes: &Vec<const_oid::ObjectIdentifier>| {
        purposes.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
    };
    checks.require(
        "tpm.certificate.purpose",
        holds,
        || match (&found, named) {
            (Err(_), _) => "an extension that cannot be read".into(),
            (Ok(_), Some(purposes)) => names(purposes),
            (Ok(_), None) => "none named".into(),
        },
        || required,
        "extended key usage of the certificate",
    );
    if named.is_some() { Purposes::Named } else { Purposes::NotNamed }
}

/// Checks the key usage: attestation keys sign, endorsement keys decrypt (EK Credential
/// Profile 2.5, §3.2.13: keyEncipherment for RSA, keyAgreement for ECC). Neither issues
/// certificates.
fn check_usage(certificate: &Certificate, kind: Certified, purposes: Purposes, checks: &mut Checks) {
    let usage = x509::key_usage(certificate);
    let has = |bits: &[KeyUsages]| usage.is_some_and(|usage| bits.iter().any(|bit| usage.0.contains(*bit)));
    let signs = has(&[KeyUsages::DigitalSignature]);
    let decrypts = has(&[KeyUsages::KeyEncipherment, KeyUsages::DataEncipherment, KeyUsages::KeyAgreement]);
    let issues = x509::is_ca(certificate) || has(&[KeyUsages::KeyCertSign, KeyUsages::CRLSign]);
    let (required, holds) = match (kind, purposes) {
        // The purpose identifies the key; a named usage must match.
        (Certified::Attestation, Purposes::Named) => ("digitalSignature, and no authority", signs || usage.is_none()),
        (Certified::Attestation, Purposes::NotNamed) => {
            ("digitalSignature alone, where no purpose is named, and no authority", signs && !decrypts)
        }
        (Certified::Endorsement, _) => {
            let is_rsa = certificate.tbs_certificate.subject_public_key_info.algorithm.oid == RSA_ENCRYPTION;
            if is_rsa {
                ("keyEncipherment, and no authority", has(&[KeyUsages::KeyEncipherment]))
            } else {
                ("keyAgreement, and no authority", has(&[KeyUsages::KeyAgreement]))
            }
        }
    };
    checks.require(
        "tpm.certificate.usage",
        holds && !issues,
        || format!("{}{}", x509::describe(usage), if x509::is_ca(certificate) { ", of an authority" } else { "" }),
        || required.into(),
        "key usage of the certificate",
    );
}
