//! What X.509 certificates may be used for (RFC 5280 §4.2.1.3 and §4.2.1.9),
//! where `webpki` does not look: it builds paths by names, signatures and CA
//! flags, and passes `KeyUsage` over.

use der::Decode;
use webpki::VerifiedPath;
use x509_cert::Certificate;
use x509_cert::ext::pkix::{BasicConstraints, KeyUsage, KeyUsages};

/// The uses that a certificate names for its key; `None` where it names none.
#[must_use]
pub fn key_usage(certificate: &Certificate) -> Option<KeyUsage> {
    let (_, usage) = certificate.tbs_certificate.get::<KeyUsage>().ok().flatten()?;
    Some(usage)
}

/// Whether a certificate claims to be of an authority.
#[must_use]
pub fn is_ca(certificate: &Certificate) -> bool {
    matches!(certificate.tbs_certificate.get::<BasicConstraints>(), Ok(Some((_, constraints))) if constraints.ca)
}

/// Whether the key of a certificate in DER may sign others: no extension of it
/// says otherwise. An extension that cannot be read does.
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

/// Whether the key of a certificate in DER may sign what is no certificate.
#[must_use]
pub fn may_sign(der: &[u8]) -> bool {
    let Ok(certificate) = Certificate::from_der(der) else { return false };
    match certificate.tbs_certificate.get::<KeyUsage>() {
        Ok(found) => found.is_none_or(|(_, usage)| usage.0.contains(KeyUsages::DigitalSignature)),
        Err(_) => false,
    }
}

/// For paths of `webpki`: every issuer in it may issue. Roots are the caller's.
///
/// # Errors
/// [`webpki::Error::EndEntityUsedAsCa`].
pub fn issuers_may_issue(path: &VerifiedPath<'_>) -> Result<(), webpki::Error> {
    let all = path.intermediate_certificates().all(|issuer| may_issue(&issuer.der()));
    if all { Ok(()) } else { Err(webpki::Error::EndEntityUsedAsCa) }
}

/// What a usage is called, bit by bit.
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
