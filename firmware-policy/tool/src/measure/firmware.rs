//! The metadata of OVMF: the GUID table that ends 32 bytes before the end of the image
//! (OVMF `ResetVector.nasmb`), and the SEV metadata in it.

use anyhow::{Context, Result, bail, ensure};
use portcullis_wire::hex::unhex_array;
use serde::Deserialize;
use uuid::{Uuid, uuid};

const TABLE_FOOTER: Uuid = uuid!("96b582de-1fb2-45f7-baea-a366c55a082d");
const HASH_TABLE: Uuid = uuid!("7255371f-3a3b-4b04-927b-1da6efa8d454");
const RESET_BLOCK: Uuid = uuid!("00f771de-1a7e-4fcb-890e-68c77e2fb44e");
const METADATA: Uuid = uuid!("dc886566-984a-4798-a75e-5585a7bf67cc");
/// Number of bytes after the table, and of the length and GUID of an entry.
const BEHIND: usize = 32;
const ENTRY: usize = 18;
/// Firmware ends at 4 GiB.
const END: u64 = 1 << 32;
/// Maximum number of sections; OVMF has five.
const MAX_SECTIONS: u32 = 64;
/// Maximum length of a section, in bytes.
const MAX_SECTION: u64 = 1 << 30;

/// Kinds of sections that the launch treats differently.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SectionKind {
    Memory,
    Secrets,
    Cpuid,
    SvsmCallingArea,
    KernelHashes,
}

impl SectionKind {
    fn from_number(number: u32) -> Result<Self> {
        Ok(match number {
            1 => Self::Memory,
            2 => Self::Secrets,
            3 => Self::Cpuid,
            4 => Self::SvsmCallingArea,
            0x10 => Self::KernelHashes,
            other => bail!("firmware metadata: section of unknown kind {other}"),
        })
    }
}

/// A section of guest memory.
#[derive(Clone, Copy, Debug)]
pub(super) struct Section {
    pub(super) address: u64,
    pub(super) length: u64,
    pub(super) kind: SectionKind,
}

/// The properties of firmware that the launch needs.
#[derive(Clone, Debug)]
pub(super) struct Firmware {
    /// The image and its address; absent if only its digest is known.
    pub(super) image: Option<(u64, Vec<u8>)>,
    /// The launch digest after the image, if it was computed before.
    pub(super) digest: Option<[u8; 48]>,
    pub(super) sections: Vec<Section>,
    /// Start address of application processors.
    pub(super) reset_address: u32,
    /// Address of the table of kernel hashes, if the firmware has one.
    pub(super) hash_table: Option<u64>,
}

impl Firmware {
    /// Reads an OVMF image.
    pub(super) fn read(image: Vec<u8>) -> Result<Self> {
        ensure!(image.len() <= 64 << 20, "firmware: more than 64 MiB");
        let table = footer_table(&image)?;
        let number = |guid: Uuid, what: &str| -> Result<u32> {
            let (_, data) =
                table.iter().find(|(found, _)| *found == guid).with_context(|| format!("firmware has no {what}"))?;
            let bytes = data.first_chunk().with_context(|| format!("firmware: {what} is too short"))?;
            Ok(u32::from_le_bytes(*bytes))
        };
        let reset_address = number(RESET_BLOCK, "SEV-ES reset block")?;
        let sections = match number(METADATA, "SEV metadata") {
            Ok(from_end) => read_sections(&image, from_end)?,
            Err(_) => Vec::new(),
        };
        let hash_table = number(HASH_TABLE, "hash table").ok().filter(|address| *address != 0).map(u64::from);
        let address = END.checked_sub(image.len() as u64).context("firmware: too large")?;
        Ok(Self { image: Some((address, image)), digest: None, sections, reset_address, hash_table })
    }

    /// Reads metadata of firmware without its image, as JSON: sections, reset address and
    /// the digest of the image.
    pub(super) fn read_metadata(json: &[u8]) -> Result<Self> {
        let json: Json = serde_json::from_slice(json).context("firmware metadata")?;
        let sections = json.items.iter().map(JsonSection::read).collect::<Result<_>>()?;
        let digest = unhex_array(&json.digest).context("OVMFHash: 48 bytes in hex")?;
        let reset_address = u32::try_from(number(&json.reset)?)?;
        Ok(Self { image: None, digest: Some(digest), sections, reset_address, hash_table: None })
    }

    pub(super) fn has(&self, kind: SectionKind) -> bool {
        self.sections.iter().any(|section| section.kind == kind)
    }
}

/// The entries of the table, read from its end.
fn footer_table(image: &[u8]) -> Result<Vec<(Uuid, &[u8])>> {
    let refused = "firmware: no table of GUIDs; is it OVMF?";
    let end = image.len().checked_sub(BEHIND).context(refused)?;
    let mut rest = image.get(..end).context(refused)?;
    let (mut entries, mut left) = (Vec::new(), None);
    while left != Some(0) {
        let (before, header) = rest.split_last_chunk::<ENTRY>().context(refused)?;
        let (length, guid) = header.split_first_chunk::<2>().context(refused)?;
        let (length, guid) = (usize::from(u16::from_le_bytes(*length)), Uuid::from_slice_le(guid)?);
        match left {
            None => {
                // The length in the footer covers the whole table, including the footer.
                ensure!(guid == TABLE_FOOTER, refused);
                left = Some(length.checked_sub(ENTRY).context(refused)?);
                rest = before;
            }
            Some(bytes) => {
                let start = rest.len().checked_sub(length).context("firmware: an entry that does not fit")?;
                let data = before.get(start..).context("firmware: an entry that does not fit")?;
                entries.push((guid, data));
                left = Some(bytes.checked_sub(length).context("firmware: an entry that does not fit")?);
                rest = rest.get(..start).context(refused)?;
            }
        }
    }
    Ok(entries)
}

/// `OVMF_SEV_METADATA`: "ASEV", size, version 1 and count; then address, length and
/// kind of each section.
fn read_sections(image: &[u8], from_end: u32) -> Result<Vec<Section>> {
    let refused = "firmware: SEV metadata that do not fit";
    let start = image.len().checked_sub(from_end as usize).context(refused)?;
    let metadata = image.get(start..).context(refused)?;
    ensure!(metadata.starts_with(b"ASEV"), "firmware: no SEV metadata where they should be");
    let word = |at: usize| -> Result<u32> {
        let bytes = metadata.get(at..).and_then(<[u8]>::first_chunk).context(refused)?;
        Ok(u32::from_le_bytes(*bytes))
    };
    ensure!(word(8)? == 1, "firmware: SEV metadata of an unknown version");
    let count = word(12)?;
    ensure!(count <= MAX_SECTIONS, "firmware: {count} sections");
    (0..count as usize)
        .map(|n| {
            let at = n.saturating_mul(12).saturating_add(16);
            let word = |offset: usize| word(at.saturating_add(offset));
            section(word(0)?.into(), word(4)?.into(), word(8)?)
        })
        .collect()
}

fn section(address: u64, length: u64, kind: u32) -> Result<Section> {
    ensure!(
        address.is_multiple_of(4096) && length.is_multiple_of(4096) && length <= MAX_SECTION,
        "firmware: a section of odd size"
    );
    Ok(Section { address, length, kind: SectionKind::from_number(kind)? })
}

/// The metadata format of sev-snp-measure-go.
#[derive(Deserialize)]
struct Json {
    #[serde(rename = "MetadataItems")]
    items: Vec<JsonSection>,
    #[serde(rename = "ResetEIP")]
    reset: String,
    #[serde(rename = "OVMFHash")]
    digest: String,
}

#[derive(Deserialize)]
struct JsonSection {
    #[serde(rename = "GPA")]
    address: String,
    #[serde(rename = "SectionTypeInt")]
    kind: u32,
    #[serde(rename = "Size")]
    length: String,
}

impl JsonSection {
    fn read(&self) -> Result<Section> {
        section(number(&self.address)?, number(&self.length)?, self.kind)
    }
}

/// A number in decimal, or in hex after `0x`.
pub(super) fn number(text: &str) -> Result<u64> {
    let parsed = match text.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16),
        None => text.parse(),
    };
    parsed.with_context(|| format!("{text:?}: a number, in hex after 0x"))
}
