//! `UEFI_VARIABLE_DATA` (PC Client Platform Firmware Profile, §10.2.6) and
//! `EFI_SIGNATURE_LIST` (UEFI specification, §32.4.1).

use crate::bytes::{Reader, Truncated};
use crate::crypto::sha256;

/// Largest number of characters in a variable's name.
const MAX_NAME: u64 = 512;
/// `EFI_GLOBAL_VARIABLE` 8be4df61-93ca-11d2-aa0d-00e098032b8c.
pub(super) const GLOBAL: [u8; 16] =
    [0x61, 0xdf, 0xe4, 0x8b, 0xca, 0x93, 0xd2, 0x11, 0xaa, 0x0d, 0x00, 0xe0, 0x98, 0x03, 0x2b, 0x8c];
/// `EFI_IMAGE_SECURITY_DATABASE_GUID` d719b2cb-3d3a-4596-a3bc-dad00e67656f.
pub(super) const IMAGE_SECURITY: [u8; 16] =
    [0xcb, 0xb2, 0x19, 0xd7, 0x3a, 0x3d, 0x96, 0x45, 0xa3, 0xbc, 0xda, 0xd0, 0x0e, 0x67, 0x65, 0x6f];
/// `EFI_CERT_X509_GUID` a5c059a1-94e4-4aa7-87b5-ab155c2bf072.
const X509: [u8; 16] = [0xa1, 0x59, 0xc0, 0xa5, 0xe4, 0x94, 0xa7, 0x4a, 0x87, 0xb5, 0xab, 0x15, 0x5c, 0x2b, 0xf0, 0x72];
/// `EFI_CERT_SHA256_GUID` c1c41626-504c-4092-aca9-41f936934328.
const SHA256: [u8; 16] =
    [0x26, 0x16, 0xc4, 0xc1, 0x4c, 0x50, 0x92, 0x40, 0xac, 0xa9, 0x41, 0xf9, 0x36, 0x93, 0x43, 0x28];

/// A variable as firmware measured it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Variable<'a> {
    pub(super) vendor: [u8; 16],
    pub(super) name: String,
    pub(super) data: &'a [u8],
}

impl<'a> Variable<'a> {
    pub(super) fn parse(event: &'a [u8]) -> Result<Self, Truncated> {
        let mut r = Reader::new(event);
        let (vendor, characters, length) = (r.array()?, r.u64_le()?, r.u64_le()?);
        if characters > MAX_NAME {
            return Err(Truncated);
        }
        let name = r.take(usize::try_from(characters).map_err(|_| Truncated)?.saturating_mul(2))?;
        let data = r.take(usize::try_from(length).map_err(|_| Truncated)?)?;
        r.finish()?;
        Ok(Self { vendor, name: utf16(name).ok_or(Truncated)?, data })
    }
}

/// UTF-16, little-endian, up to the first zero.
pub(super) fn utf16(bytes: &[u8]) -> Option<String> {
    let units = bytes.chunks(2).map(|pair| <[u8; 2]>::try_from(pair).map(u16::from_le_bytes));
    let units: Vec<u16> = units.collect::<Result<_, _>>().ok()?;
    let text = units.split(|unit| *unit == 0).next().unwrap_or_default();
    // Only zeroes may follow.
    let rest = units.get(text.len()..).unwrap_or_default();
    if rest.iter().any(|unit| *unit != 0) {
        return None;
    }
    String::from_utf16(text).ok()
}

/// The contents of a signature database.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SignatureDatabase {
    /// SHA-256 of each X.509 certificate.
    pub certificates: Vec<[u8; 32]>,
    /// SHA-256 digests of images.
    pub images: Vec<[u8; 32]>,
    /// Signatures of other kinds.
    pub others: usize,
}

impl SignatureDatabase {
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, Truncated> {
        let mut r = Reader::new(bytes);
        let mut database = Self::default();
        while !r.rest().is_empty() {
            let kind: [u8; 16] = r.array()?;
            let (list, header, entry) = (r.u32_le()?, r.u32_le()?, r.u32_le()?);
            let body = list.checked_sub(28).ok_or(Truncated)?;
            let mut entries = Reader::new(r.take(body as usize)?);
            entries.take(header as usize)?;
            // An owner's GUID precedes each signature.
            let length = entry.checked_sub(16).ok_or(Truncated)? as usize;
            while !entries.rest().is_empty() {
                let _owner: [u8; 16] = entries.array()?;
                let signature = entries.take(length)?;
                match (kind, <[u8; 32]>::try_from(signature)) {
                    (X509, _) => database.certificates.push(sha256(&[signature])),
                    (SHA256, Ok(digest)) => database.images.push(digest),
                    _ => database.others = database.others.saturating_add(1),
                }
            }
        }
        Ok(database)
    }
}
