//! Permitted uses of X.509 certificates (RFC 5280 §4.2.1.3 and §4.2.1.9) that `webpki`
//! does not check: it builds paths by names, signatures and CA flags, and ignores
//! `KeyUsage`.

use der::Decode;
use webpki::VerifiedPath;
use x509_cert::Certificate;
use x509_cert::ext::pkix::{BasicConstraints, KeyUsage, KeyUsages};

/// The key usage of a certificate; `None` if it names none.
#[must_use]
pub fn key_usage(certificate: &Certificate) -> Option<KeyUsage> {
    let (_, usage) = certificate.tbs_certificate.get::<KeyUsage>().ok().flatten()?;
    Some(usage)
}

/// Whether a certificate claims to be a CA.
#[must_use]
pub fn is_ca(certificate: &Certificate) -> bool {
    matches!(certificate.tbs_certificate.get::<BasicConstraints>(), Ok(Some((_, constraints))) if constraints.ca)
}

/// Whether the key of a DER certificate may sign certificates: no extension forbids it.
/// An unreadable extension forbids it.
#[must_use]
pub fn may_issue(der: &[u8]) -> bool {
    let Ok(certificate) = Certificate::from_der(der) else { return false };
    let tbs = &certificate.tbs_certificate;
    let constraints = match tbs.get::<BasicConstraints>() {
        Ok(found) => found.is_none_or(|(_, constraints)| constraints.ca),
        Err(_) => false,
    };
    let usage = match tbs.get::<KeyUsage>() {
        Ok(found) => found.is_none_or(|(_, usage)| usage.0.contains(KeyUsages::KeyCertSign)),
        Err(_) => false,
    };
    constraints && usage
}

/// Whether the key of a DER certificate may sign data other than certificates.
#[must_use]
pub fn may_sign(der: &[u8]) -> bool {
    let Ok(certificate) = Certificate::from_der(der) else { return false };
    match certificate.tbs_certificate.get::<KeyUsage>() {
        Ok(found) => found.is_none_or(|(_, usage)| usage.0.contains(KeyUsages::DigitalSignature)),
        Err(_) => false,
    }
}

/// For paths of `webpki`: checks that every issuer in it may issue. The caller is
/// responsible for the roots.
///
/// # Errors
/// [`webpki::Error::EndEntityUsedAsCa`].
pub fn issuers_may_issue(path: &VerifiedPath<'_>) -> Result<(), webpki::Error> {
    let all = path.intermediate_certificates().all(|issuer| may_issue(&issuer.der()));
    if all { Ok(()) } else { Err(webpki::Error::EndEntityUsedAsCa) }
}

/// The name of a usage, bit by bit.
#[must_use]
pub fn describe(usage: Option<KeyUsage>) -> String {
    const NAMES: [(KeyUsages, &str); 9] = [
        (KeyUsages::DigitalSignature, "digitalSignature"),
        (KeyUsages::NonRepudiation, "nonRepudiation"),
        (KeyUsages::KeyEncipherment, "keyEncipherment"),
        (KeyUsages::DataEncipherment, "dataEncipherment"),
        (KeyUsages::KeyAgreement, "keyAgreement"),
        (KeyUsages::KeyCertSign, "keyCertSign"),
        (KeyUsages::CRLSign, "cRLSign"),
        (KeyUsages::EncipherOnly, "encipherOnly"),
        (KeyUsages::DecipherOnly, "decipherOnly"),
    ];
    let Some(usage) = usage else { return "no key usage named".into() };
    let names = NAMES.into_iter().filter(|(bit, _)| usage.0.contains(*bit)).map(|(_, name)| name);
    names.collect::<Vec<_>>().join(", ")
}
