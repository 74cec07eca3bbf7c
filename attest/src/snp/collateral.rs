//! Sorting out certificates and CRLs: PEM or DER, one or many, in any order,
//! and the certificate table that the host hands to a guest.

use std::fmt;

use der::pem;

use super::certificate::{Certificate, CertificateError, MAX_LENGTH, subject_name};
use super::crl::Crl;
use crate::bytes::Reader;

/// Largest collateral file, in bytes.
pub const MAX_FILE: usize = 256 * 1024;
/// Most objects in one file or table.
const MAX_OBJECTS: usize = 32;

/// GUIDs of the certificate table (GHCB specification, SNP Extended Guest
/// Request; values from linux/include/uapi and AMD publication 56421), in the
/// mixed-endian byte order of the table.
const TABLE_GUIDS: [[u8; 16]; 4] = [
    // VCEK 63da758d-e664-4564-adc5-f4b93be8accd
    [0x8d, 0x75, 0xda, 0x63, 0x64, 0xe6, 0x64, 0x45, 0xad, 0xc5, 0xf4, 0xb9, 0x3b, 0xe8, 0xac, 0xcd],
    // VLEK a8074bc2-a25a-483e-aae6-39c045a0b8a1
    [0xc2, 0x4b, 0x07, 0xa8, 0x5a, 0xa2, 0x3e, 0x48, 0xaa, 0xe6, 0x39, 0xc0, 0x45, 0xa0, 0xb8, 0xa1],
    // ASK 4ab7b379-bbac-4fe4-a02f-05aef327c782
    [0x79, 0xb3, 0xb7, 0x4a, 0xac, 0xbb, 0xe4, 0x4f, 0xa0, 0x2f, 0x05, 0xae, 0xf3, 0x27, 0xc7, 0x82],
    // ARK c0b406a4-a803-4952-9743-3fb6014cd0ae
    [0xa4, 0x06, 0xb4, 0xc0, 0x03, 0xa8, 0x52, 0x49, 0x97, 0x43, 0x3f, 0xb6, 0x01, 0x4c, 0xd0, 0xae],
];

/// Why a file or table yields nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CollateralError {
    /// Longer than [`MAX_FILE`] bytes, or more than 32 objects.
    TooLarge,
    /// No certificate and no CRL in it.
    Nothing,
    /// A certificate table with entries that do not fit.
    Table,
    /// An object that is refused.
    Certificate(CertificateError),
}

impl fmt::Display for CollateralError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLarge => f.write_str("more than 256 KiB or 32 objects"),
            Self::Nothing => f.write_str("contains no certificate and no CRL"),
            Self::Table => f.write_str("malformed certificate table"),
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
    /// Whether it claims a place in AMD's chains. Certificates of others may
    /// stand in the same file and matter to nobody.
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
    /// What is no collateral of AMD's profile.
    pub refused: Vec<RefusedObject>,
}

impl Collateral {
    /// Reads one file of PEM blocks or of DER objects one after another.
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

    /// Adds what another input holds.
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
        // Certificate and CRL have different third elements; one parser fails
        // at once where the other fits.
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
        while !rest.is_empty() {
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

/// The certificates of a host's certificate table (`auxblob` of configfs-tsm).
///
/// Entries with unknown GUIDs are passed over; they cannot add trust.
///
/// # Errors
/// [`CollateralError::Table`] where an entry does not fit, or the refusal of a
/// certificate.
pub fn certificate_table(table: &[u8]) -> Result<Vec<Certificate>, CollateralError> {
    if table.len() > MAX_FILE {
        return Err(CollateralError::TooLarge);
    }
    let mut entries = Reader::new(table);
    let mut found = Collateral::default();
    loop {
        let guid: [u8; 16] = entries.array().map_err(|_| CollateralError::Table)?;
        let offset = entries.u32_le().map_err(|_| CollateralError::Table)?;
        let length = entries.u32_le().map_err(|_| CollateralError::Table)?;
        if guid == [0; 16] {
            return Ok(found.certificates);
        }
        let (offset, length) = (offset as usize, length as usize);
        if length > MAX_LENGTH {
            return Err(CollateralError::Table);
        }
        let end = offset.checked_add(length).ok_or(CollateralError::Table)?;
        let bytes = table.get(offset..end).ok_or(CollateralError::Table)?;
        if TABLE_GUIDS.contains(&guid) {
            found.extend(Collateral::parse(bytes)?.strict()?);
        }
        if found.count() > MAX_OBJECTS {
            return Err(CollateralError::TooLarge);
        }
    }
}

/// Builds a certificate table of a VCEK or VLEK, its issuer and its root.
#[must_use]
pub fn encode_certificate_table(vek: &[u8], is_vlek: bool, issuer: &[u8], root: &[u8]) -> Vec<u8> {
    let [vcek_guid, vlek_guid, ask_guid, ark_guid] = TABLE_GUIDS;
    let entries = [(if is_vlek { vlek_guid } else { vcek_guid }, vek), (ask_guid, issuer), (ark_guid, root)];
    let mut offset: u32 = 4 * 24;
    let (mut table, mut data) = (Vec::new(), Vec::new());
    for (guid, der) in entries {
        let length = u32::try_from(der.len()).unwrap_or(u32::MAX);
        table.extend_from_slice(&guid);
        table.extend_from_slice(&offset.to_le_bytes());
        table.extend_from_slice(&length.to_le_bytes());
        data.extend_from_slice(der);
        offset = offset.saturating_add(length);
    }
    table.extend_from_slice(&[0; 24]);
    table.extend_from_slice(&data);
    table
}
