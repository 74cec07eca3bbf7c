//! Sorts certificates and CRLs: PEM or DER, one or many, in any order.

use std::fmt;

use der::pem;

use super::certificate::{Certificate, CertificateError, subject_name};
use super::crl::Crl;
use crate::bytes::Reader;

/// Largest collateral file, in bytes.
pub const MAX_FILE: usize = 256 * 1024;
/// Largest number of objects in one file, and of entries in one table.
pub(super) const MAX_OBJECTS: usize = 32;

/// Why a file is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CollateralError {
    /// Longer than [`MAX_FILE`] bytes, or more than 32 objects.
    TooLarge,
    /// No certificate and no CRL in it.
    Nothing,
    /// An object that is refused.
    Certificate(CertificateError),
}

impl fmt::Display for CollateralError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLarge => f.write_str("more than 256 KiB or 32 objects"),
            Self::Nothing => f.write_str("contains no certificate and no CRL"),
            Self::Certificate(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for CollateralError {}

impl From<CertificateError> for CollateralError {
    fn from(error: CertificateError) -> Self {
        Self::Certificate(error)
    }
}

/// An X.509 object that is not of AMD's profile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefusedObject {
    /// Last `CN` of its subject.
    pub common_name: String,
    /// Why it was refused.
    pub error: CertificateError,
}

impl RefusedObject {
    /// Whether its subject name is one of AMD's chains. Unrelated certificates in the same
    /// file are ignored.
    #[must_use]
    pub fn claims_a_place(&self) -> bool {
        self.common_name.starts_with("SEV-") || self.common_name.starts_with("ARK-")
    }
}

/// Certificates and CRLs of one or more inputs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Collateral {
    /// Certificates, in the order given.
    pub certificates: Vec<Certificate>,
    /// CRLs, in the order given.
    pub crls: Vec<Crl>,
    /// Objects that do not match AMD's profile.
    pub refused: Vec<RefusedObject>,
}

impl Collateral {
    /// Reads one file of PEM blocks, or of consecutive DER objects, with optional trailing
    /// zeroes.
    ///
    /// # Errors
    /// [`CollateralError`]; a file without any object is an error too.
    pub fn parse(file: &[u8]) -> Result<Self, CollateralError> {
        if file.len() > MAX_FILE {
            return Err(CollateralError::TooLarge);
        }
        let mut found = Self::default();
        match std::str::from_utf8(file).ok().filter(|text| text.contains("-----BEGIN ")) {
            Some(text) => found.read_pem(text)?,
            None => found.read_der(file)?,
        }
        if found.count() == 0 { Err(CollateralError::Nothing) } else { Ok(found) }
    }

    /// This collateral, if nothing in it was refused.
    ///
    /// # Errors
    /// [`CollateralError::Certificate`] with the first refusal.
    pub fn strict(self) -> Result<Self, CollateralError> {
        match self.refused.into_iter().next() {
            Some(object) => Err(object.error.into()),
            None => Ok(Self { certificates: self.certificates, crls: self.crls, refused: Vec::new() }),
        }
    }

    /// Adds the contents of another input.
    pub fn extend(&mut self, other: Self) {
        self.certificates.extend(other.certificates);
        self.crls.extend(other.crls);
        self.refused.extend(other.refused);
    }

    const fn count(&self) -> usize {
        self.certificates.len().saturating_add(self.crls.len()).saturating_add(self.refused.len())
    }

    fn push(&mut self, der: &[u8]) -> Result<(), CollateralError> {
        if self.count() >= MAX_OBJECTS {
            return Err(CollateralError::TooLarge);
        }
        // Certificate and CRL differ in their third element, so at most one of the parsers
        // accepts the object.
        match Certificate::parse(der) {
            Ok(certificate) => self.certificates.push(certificate),
            Err(refused) => match Crl::parse(der) {
                Ok(crl) => self.crls.push(crl),
                Err(_) => match subject_name(der) {
                    Some(common_name) => self.refused.push(RefusedObject { common_name, error: refused }),
                    None => return Err(refused.into()),
                },
            },
        }
        Ok(())
    }

    fn read_pem(&mut self, text: &str) -> Result<(), CollateralError> {
        const END: &str = "-----END ";
        let mut rest = text;
        while let Some(start) = rest.find("-----BEGIN ") {
            let (_, block) = rest.split_at_checked(start).ok_or(CertificateError::Malformed)?;
            let end = block.find(END).ok_or(CertificateError::Malformed)?;
            let line = block.get(end..).and_then(|tail| tail.find('\n')).unwrap_or(block.len().saturating_sub(end));
            let length = end.saturating_add(line);
            let (block, tail) = block.split_at_checked(length).ok_or(CertificateError::Malformed)?;
            let (label, der) = pem::decode_vec(block.as_bytes()).map_err(|_| CertificateError::Malformed)?;
            if matches!(label, "CERTIFICATE" | "X509 CRL") {
                self.push(&der)?;
            }
            rest = tail;
        }
        Ok(())
    }

    fn read_der(&mut self, bytes: &[u8]) -> Result<(), CollateralError> {
        let mut rest = bytes;
        while rest.iter().any(|byte| *byte != 0) {
            let length = der_length(rest).ok_or(CollateralError::Nothing)?;
            let (object, tail) = rest.split_at_checked(length).ok_or(CertificateError::Malformed)?;
            self.push(object)?;
            rest = tail;
        }
        Ok(())
    }
}

/// Length of the DER SEQUENCE at the start, header included.
fn der_length(bytes: &[u8]) -> Option<usize> {
    let mut r = Reader::new(bytes);
    if r.u8().ok()? != 0x30 {
        return None;
    }
    let (header, body) = match r.u8().ok()? {
        short @ 0..=0x7f => (2, usize::from(short)),
        0x81 => (3, usize::from(r.u8().ok()?)),
        0x82 => (4, usize::from(r.u16_be().ok()?)),
        _ => return None,
    };
    body.checked_add(header)
}
