//! The certificate table that a host gives to its guests: `auxblob` of
//! configfs-tsm, or the data of an extended guest request (GHCB specification,
//! "SNP Extended Guest Request").
//!
//! ```text
//! table = (GUID ‖ u32 LE offset ‖ u32 LE length)* ‖ 24 zero bytes ‖ data
//! ```
//!
//! Offsets count from the first byte of the table. The bytes of each GUID are in the
//! order of its text form (RFC 4122 §4.1.2), unlike GUIDs in UEFI structures. Hosts pad
//! tables to whole pages, so bytes after the last entry's data are ignored.
//!
//! The host is not trusted: a table proves nothing. Its certificates are trusted only
//! by their signatures.

use std::fmt;

use super::certificate::Certificate;
use super::collateral::{Collateral, CollateralError, MAX_FILE, MAX_OBJECTS};
use super::crl::Crl;
use crate::bytes::{Reader, Truncated};

/// A GUID, its bytes in the order of RFC 4122.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Guid(pub [u8; 16]);

impl fmt::Display for Guid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, byte) in self.0.iter().enumerate() {
            let dash = if matches!(at, 4 | 6 | 8 | 10) { "-" } else { "" };
            write!(f, "{dash}{byte:02x}")?;
        }
        Ok(())
    }
}

/// The contents of an entry with a known GUID.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// AMD's root key.
    Ark,
    /// AMD's signing key; for a VLEK, the ASVK.
    Ask,
    /// The chip's endorsement key.
    Vcek,
    /// The endorsement key that a cloud provider loaded.
    Vlek,
    /// A revocation list.
    Crl,
}

impl Kind {
    /// All kinds.
    pub const ALL: [Self; 5] = [Self::Ark, Self::Ask, Self::Vcek, Self::Vlek, Self::Crl];

    /// The GUID of this kind (AMD publication 56421, table of certificate GUIDs).
    #[must_use]
    pub const fn guid(self) -> Guid {
        Guid(
            match self {
                Self::Ark => 0xc0b4_06a4_a803_4952_9743_3fb6_014c_d0ae_u128,
                Self::Ask => 0x4ab7_b379_bbac_4fe4_a02f_05ae_f327_c782,
                Self::Vcek => 0x63da_758d_e664_4564_adc5_f4b9_3be8_accd,
                Self::Vlek => 0xa807_4bc2_a25a_483e_aae6_39c0_45a0_b8a1,
                Self::Crl => 0x92f8_1bc3_5811_4d3d_97ff_d19f_88dc_67ea,
            }
            .to_be_bytes(),
        )
    }

    /// `ARK`, `ASK`, `VCEK`, `VLEK` or `CRL`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ark => "ARK",
            Self::Ask => "ASK",
            Self::Vcek => "VCEK",
            Self::Vlek => "VLEK",
            Self::Crl => "CRL",
        }
    }

    fn of(guid: Guid) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.guid() == guid)
    }
}

/// Why a table is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TableError {
    /// More than 256 KiB, or more than 32 entries.
    TooLarge,
    /// The table ends before the all-zero entry that terminates its list.
    Unfinished,
    /// An entry that points beyond the end of the table, or into its list of entries.
    Range {
        /// The entry.
        guid: Guid,
        /// First byte of its data.
        offset: u32,
        /// Length of its data in bytes.
        length: u32,
    },
    /// An entry of a known kind with invalid contents.
    Content {
        /// The entry.
        kind: Kind,
        /// The fault.
        error: CollateralError,
    },
}

impl fmt::Display for TableError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLarge => f.write_str("a table of more than 256 KiB or 32 entries"),
            Self::Unfinished => f.write_str("a table that ends before its last entry, which is of zeroes"),
            Self::Range { guid, offset, length } => {
                write!(f, "entry {guid}: bytes {offset} and {length} more are not data of this table")
            }
            Self::Content { kind, error } => write!(f, "entry {}: {error}", kind.name()),
        }
    }
}

impl std::error::Error for TableError {}

impl From<Truncated> for TableError {
    fn from(_: Truncated) -> Self {
        Self::Unfinished
    }
}

/// An entry as a table lists it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its GUID.
    pub guid: Guid,
    /// First byte of its data.
    pub offset: u32,
    /// Length of its data in bytes.
    pub length: u32,
}

impl Entry {
    /// Its kind; `None` if the GUID is not one of AMD's.
    #[must_use]
    pub fn kind(&self) -> Option<Kind> {
        Kind::of(self.guid)
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind() {
            Some(kind) => f.write_str(kind.name()),
            None => write!(f, "unknown entry {} of {} bytes", self.guid, self.length),
        }
    }
}

/// A parsed table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CertificateTable {
    entries: Vec<Entry>,
    collateral: Collateral,
}

impl CertificateTable {
    /// Reads a table.
    ///
    /// Entries of unknown GUIDs must lie within the table, and are listed. Two
    /// entries of one kind are both read: hosts may keep a certificate for each
    /// of two TCB versions.
    ///
    /// # Errors
    /// [`TableError`].
    pub fn parse(table: &[u8]) -> Result<Self, TableError> {
        if table.len() > MAX_FILE {
            return Err(TableError::TooLarge);
        }
        let mut rest = Reader::new(table);
        let entries = list(&mut rest)?;
        let header = table.len().saturating_sub(rest.rest().len());
        let mut found = Self { entries, collateral: Collateral::default() };
        for entry in &found.entries {
            let bytes = data(table, header, entry)?;
            if let Some(kind) = entry.kind() {
                let content = Collateral::parse(bytes).and_then(Collateral::strict);
                found.collateral.extend(content.map_err(|error| TableError::Content { kind, error })?);
            }
        }
        Ok(found)
    }

    /// The entries, in the order of the table.
    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Whether at least one entry is of a known kind.
    #[must_use]
    pub fn has_known_entry(&self) -> bool {
        self.entries.iter().any(|entry| entry.kind().is_some())
    }

    /// The certificates.
    #[must_use]
    pub fn certificates(&self) -> &[Certificate] {
        &self.collateral.certificates
    }

    /// The revocation lists.
    #[must_use]
    pub fn crls(&self) -> &[Crl] {
        &self.collateral.crls
    }
}

impl fmt::Display for CertificateTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let entries: Vec<String> = self.entries.iter().map(ToString::to_string).collect();
        f.write_str(if entries.is_empty() { "no entries" } else { "" })?;
        f.write_str(&entries.join(", "))
    }
}

/// The list of entries, up to the all-zero one.
fn list(table: &mut Reader<'_>) -> Result<Vec<Entry>, TableError> {
    let mut entries = Vec::new();
    loop {
        let entry = Entry { guid: Guid(table.array()?), offset: table.u32_le()?, length: table.u32_le()? };
        if entry.guid == Guid([0; 16]) {
            return Ok(entries);
        }
        if entries.len() >= MAX_OBJECTS {
            return Err(TableError::TooLarge);
        }
        entries.push(entry);
    }
}

/// The data of an entry, which lie after the list that ends at `header`.
fn data<'a>(table: &'a [u8], header: usize, entry: &Entry) -> Result<&'a [u8], TableError> {
    let range = || {
        let (offset, length) = (usize::try_from(entry.offset).ok()?, usize::try_from(entry.length).ok()?);
        let bytes = table.get(offset..offset.checked_add(length)?)?;
        (offset >= header || length == 0).then_some(bytes)
    };
    range().ok_or(TableError::Range { guid: entry.guid, offset: entry.offset, length: entry.length })
}
