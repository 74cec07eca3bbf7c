//! Certificate revocation lists of AMD's ARKs.

use der::Decode;
use portcullis_wire::rfc3339;
use x509_cert::ext::pkix::CrlNumber;

use super::certificate::{Certificate, CertificateError, encoded, serial, signed_parts};

const CRL_NUMBER: const_oid::ObjectIdentifier = const_oid::ObjectIdentifier::new_unwrap("2.5.29.20");
const AUTHORITY_KEY_ID: const_oid::ObjectIdentifier = const_oid::ObjectIdentifier::new_unwrap("2.5.29.35");

/// A validity window, for people.
pub(super) fn window(from: u64, to: u64) -> String {
    format!("{} to {}", rfc3339(from), rfc3339(to))
}

/// A parsed CRL. Its signature has not been checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Crl {
    der: Vec<u8>,
    signed: Vec<u8>,
    signature: Vec<u8>,
    /// DER of the issuer name.
    pub issuer: Vec<u8>,
    /// Start of its window, Unix seconds.
    pub this_update: u64,
    /// End of its window, Unix seconds, inclusive.
    pub next_update: u64,
    /// CRL number, big-endian, without leading zeroes.
    pub number: Vec<u8>,
    /// Serial numbers of revoked certificates, big-endian, without leading zeroes.
    pub revoked: Vec<Vec<u8>>,
}

impl Crl {
    /// Parses one DER CRL that fills `der`. One without `nextUpdate` or number
    /// is refused: its freshness could not be judged.
    ///
    /// # Errors
    /// [`CertificateError`].
    pub fn parse(der: &[u8]) -> Result<Self, CertificateError> {
        let (signed, algorithm, signature) = signed_parts(der)?;
        let tbs = x509_cert::crl::TbsCertList::from_der(&signed).map_err(|_| CertificateError::Malformed)?;
        if encoded(&tbs.signature)? != algorithm {
            return Err(CertificateError::Algorithm);
        }
        let mut number = None;
        for extension in tbs.crl_extensions.as_deref().unwrap_or_default() {
            match extension.extn_id {
                CRL_NUMBER if number.is_none() => {
                    let value = CrlNumber::from_der(extension.extn_value.as_bytes())
                        .map_err(|_| CertificateError::Extension("cRLNumber"))?;
                    number = Some(value.0.as_bytes().iter().copied().skip_while(|b| *b == 0).collect());
                }
                CRL_NUMBER => return Err(CertificateError::DuplicateExtension(CRL_NUMBER.to_string())),
                AUTHORITY_KEY_ID => {}
                other if extension.critical => return Err(CertificateError::CriticalExtension(other.to_string())),
                _ => {}
            }
        }
        let revoked = tbs.revoked_certificates.as_deref().unwrap_or_default();
        Ok(Self {
            der: der.to_vec(),
            signature,
            issuer: encoded(&tbs.issuer)?,
            this_update: tbs.this_update.to_unix_duration().as_secs(),
            next_update: tbs.next_update.ok_or(CertificateError::Extension("nextUpdate"))?.to_unix_duration().as_secs(),
            number: number.ok_or(CertificateError::Extension("cRLNumber"))?,
            revoked: revoked.iter().map(|entry| serial(&entry.serial_number)).collect(),
            signed,
        })
    }

    /// The CRL as received.
    #[must_use]
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// Whether the root's key made this CRL's signature.
    #[must_use]
    pub fn is_signed_by(&self, root: &Certificate) -> bool {
        self.issuer == root.subject && root.signed(&self.signed, &self.signature)
    }

    /// Whether `at` (Unix seconds) lies within its window, which begins `skew`
    /// seconds early.
    #[must_use]
    pub const fn is_current_at(&self, at: u64, skew: u64) -> bool {
        self.this_update <= at.saturating_add(skew) && at <= self.next_update
    }

    /// Its window, for people.
    pub(super) fn window(&self) -> String {
        window(self.this_update, self.next_update)
    }

    /// Whether it lists the certificate.
    #[must_use]
    pub fn lists(&self, certificate: &Certificate) -> bool {
        certificate.issuer == self.issuer && self.revoked.contains(&certificate.serial)
    }
}
