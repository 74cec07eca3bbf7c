//! The binary list (`binary_runtime_measurements`, `Documentation/security/
//! IMA-templates.rst` of Linux) and its ASCII form. Nothing is copied.

use std::borrow::Cow;
use std::fmt;

use portcullis_wire::hex::unhex;

use crate::bytes::{Reader, Truncated};
use crate::tpm::pcr::Bank;

/// Largest list accepted, in bytes: some 400,000 entries.
pub const MAX_LENGTH: usize = 64 << 20;
/// `CONFIG_IMA_MEASURE_PCR_IDX`, the default.
const PCR: u32 = 10;
/// Longest template name and longest template data accepted, in bytes.
const MAX_NAME: u32 = 64;
const MAX_DATA: u32 = 1 << 20;
/// The kernel's limit for file names in the template `ima`.
const OLD_NAME: usize = 256;

/// Why a list is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListError {
    /// Longer than [`MAX_LENGTH`].
    TooLarge,
    /// No entry at all.
    Empty,
    /// An entry, counted from zero, that does not fit, or of an unknown form.
    Entry(usize),
}

impl fmt::Display for ListError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLarge => f.write_str("measurement list too large"),
            Self::Empty => f.write_str("measurement list is empty"),
            Self::Entry(at) => write!(f, "entry {at} of the measurement list is malformed"),
        }
    }
}

impl std::error::Error for ListError {}

/// What an entry's data consists of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Template {
    /// `ima`: SHA-1 or MD5, and a name of at most 255 bytes.
    Ima,
    /// `ima-ng`: digest with its algorithm, and name.
    ImaNg,
    /// `ima-ngv2`: as `ima-ng`, with the kind of digest.
    ImaNgV2,
    /// `ima-sig`: as `ima-ng`, with the file's signature.
    ImaSig,
    /// `ima-sigv2`: as `ima-ngv2`, with the file's signature.
    ImaSigV2,
    /// `ima-modsig`: as `ima-sig`, with an appended signature.
    ImaModSig,
    /// `ima-buf`: a buffer of the kernel, such as a command line or keys.
    ImaBuf,
}

impl Template {
    /// All of them.
    pub const ALL: [Self; 7] =
        [Self::Ima, Self::ImaNg, Self::ImaNgV2, Self::ImaSig, Self::ImaSigV2, Self::ImaModSig, Self::ImaBuf];

    /// The kernel's name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ima => "ima",
            Self::ImaNg => "ima-ng",
            Self::ImaNgV2 => "ima-ngv2",
            Self::ImaSig => "ima-sig",
            Self::ImaSigV2 => "ima-sigv2",
            Self::ImaModSig => "ima-modsig",
            Self::ImaBuf => "ima-buf",
        }
    }

    fn from_name(name: &[u8]) -> Option<Self> {
        Self::ALL.into_iter().find(|template| template.name().as_bytes() == name)
    }
}

/// The digest of a file with the name of its algorithm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileDigest<'a> {
    /// `sha256` and so on, as the kernel names it.
    pub algorithm: &'a str,
    /// The digest.
    pub digest: &'a [u8],
}

/// One measurement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    /// Hash over the template data as the list states it: SHA-1, or zeroes for
    /// a violation.
    pub template_hash: Cow<'a, [u8]>,
    /// Template.
    pub template: Template,
    /// What the hash is over.
    pub data: Cow<'a, [u8]>,
}

impl<'a> Entry<'a> {
    /// Whether the kernel found the file changed while it was measured: it then
    /// states zeroes and extends ones.
    #[must_use]
    pub fn is_violation(&self) -> bool {
        self.template_hash.iter().all(|byte| *byte == 0)
    }

    /// What a bank of the PCR was extended with.
    #[must_use]
    pub fn extended(&self, bank: Bank) -> Vec<u8> {
        if self.is_violation() { vec![0xff; bank.length()] } else { self.hash(bank) }
    }

    /// The hash over the template data.
    #[must_use]
    pub fn hash(&self, bank: Bank) -> Vec<u8> {
        if self.template != Template::Ima {
            return bank.hash(&[&self.data]);
        }
        // The old template hashes the name padded to the kernel's buffer.
        let padding = [0; OLD_NAME];
        let name = self.data.len().saturating_sub(20);
        bank.hash(&[&self.data, padding.get(name..).unwrap_or_default()])
    }

    /// Digest and name of the file or buffer.
    ///
    /// # Errors
    /// [`Truncated`] where the data is not what the template says.
    pub fn file(&self) -> Result<(FileDigest<'_>, &str), Truncated> {
        let mut r = Reader::new(&self.data);
        if self.template == Template::Ima {
            let digest = FileDigest { algorithm: "sha1", digest: r.take(20)? };
            return Ok((digest, text(r.rest())?));
        }
        let digest = file_digest(field(&mut r)?, matches!(self.template, Template::ImaNgV2 | Template::ImaSigV2))?;
        let name = field(&mut r)?;
        let name = name.strip_suffix(&[0]).unwrap_or(name);
        let further = match self.template {
            Template::Ima | Template::ImaNg | Template::ImaNgV2 => 0,
            Template::ImaSig | Template::ImaSigV2 | Template::ImaBuf => 1,
            Template::ImaModSig => 3,
        };
        for _ in 0..further {
            field(&mut r)?;
        }
        r.finish()?;
        Ok((digest, text(name)?))
    }

    /// The file's signature (`security.ima`), in the templates that have one.
    #[must_use]
    pub fn signature(&self) -> Option<&[u8]> {
        if !matches!(self.template, Template::ImaSig | Template::ImaSigV2 | Template::ImaModSig) {
            return None;
        }
        let mut r = Reader::new(&self.data);
        field(&mut r).and_then(|_| field(&mut r)).ok()?;
        field(&mut r).ok().filter(|signature| !signature.is_empty())
    }

    fn read(r: &mut Reader<'a>) -> Result<Self, Truncated> {
        if r.u32_le()? != PCR {
            return Err(Truncated);
        }
        let template_hash = r.take(20)?;
        let length = r.u32_le()?;
        if length > MAX_NAME {
            return Err(Truncated);
        }
        let template = Template::from_name(r.take(length as usize)?).ok_or(Truncated)?;
        let data = if template == Template::Ima {
            old_data(r)?
        } else {
            let length = r.u32_le()?;
            if length > MAX_DATA {
                return Err(Truncated);
            }
            Cow::Borrowed(r.take(length as usize)?)
        };
        let entry = Self { template_hash: Cow::Borrowed(template_hash), template, data };
        entry.file()?;
        Ok(entry)
    }
}

/// Digest, then a counted name: the hash is over both without the count.
fn old_data<'a>(r: &mut Reader<'a>) -> Result<Cow<'a, [u8]>, Truncated> {
    let digest = r.take(20)?;
    let length = r.u32_le()? as usize;
    if length >= OLD_NAME {
        return Err(Truncated);
    }
    Ok(Cow::Owned([digest, r.take(length)?].concat()))
}

/// A counted field of template data.
fn field<'a>(r: &mut Reader<'a>) -> Result<&'a [u8], Truncated> {
    let length = r.u32_le()?;
    r.take(length as usize)
}

/// `algorithm:\0digest`; the second version puts `ima:` or `verity:` before it.
fn file_digest(field: &[u8], typed: bool) -> Result<FileDigest<'_>, Truncated> {
    let at = field.windows(2).position(|pair| pair == b":\0").ok_or(Truncated)?;
    let (name, rest) = field.split_at_checked(at).ok_or(Truncated)?;
    let mut algorithm = text(name)?;
    if typed {
        algorithm = algorithm.strip_prefix("ima:").or_else(|| algorithm.strip_prefix("verity:")).ok_or(Truncated)?;
    }
    let digest = rest.strip_prefix(b":\0").ok_or(Truncated)?;
    if algorithm.is_empty() || digest.is_empty() || digest.len() > 64 {
        return Err(Truncated);
    }
    Ok(FileDigest { algorithm, digest })
}

fn text(bytes: &[u8]) -> Result<&str, Truncated> {
    std::str::from_utf8(bytes).map_err(|_| Truncated)
}

/// A parsed list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct List<'a> {
    entries: Vec<Entry<'a>>,
}

impl<'a> List<'a> {
    /// Parses a whole list in binary or ASCII form.
    ///
    /// # Errors
    /// [`ListError`].
    pub fn parse(bytes: &'a [u8]) -> Result<Self, ListError> {
        if bytes.len() > MAX_LENGTH {
            return Err(ListError::TooLarge);
        }
        let entries = match bytes.get(..3) {
            None if bytes.is_empty() => return Err(ListError::Empty),
            Some(b"10 ") => read_ascii(bytes)?,
            _ => read_binary(bytes)?,
        };
        if entries.is_empty() { Err(ListError::Empty) } else { Ok(Self { entries }) }
    }

    /// The entries, in the order in which they were measured.
    #[must_use]
    pub fn entries(&self) -> &[Entry<'a>] {
        &self.entries
    }
}

fn read_binary(bytes: &[u8]) -> Result<Vec<Entry<'_>>, ListError> {
    let mut r = Reader::new(bytes);
    let mut entries = Vec::new();
    while !r.rest().is_empty() {
        let entry = Entry::read(&mut r).map_err(|_| ListError::Entry(entries.len()))?;
        entries.push(entry);
    }
    Ok(entries)
}

fn read_ascii(bytes: &[u8]) -> Result<Vec<Entry<'_>>, ListError> {
    let text = std::str::from_utf8(bytes).map_err(|_| ListError::Entry(0))?;
    let lines = text.lines().filter(|line| !line.trim().is_empty());
    lines.enumerate().map(|(at, line)| ascii_entry(line).ok_or(ListError::Entry(at))).collect()
}

/// `PCR template-hash template algorithm:digest name [signature]`: the data is
/// put together as the kernel does.
fn ascii_entry(line: &str) -> Option<Entry<'_>> {
    let mut parts = line.splitn(5, ' ');
    if parts.next()? != "10" {
        return None;
    }
    let template_hash = unhex(parts.next()?).filter(|hash| hash.len() == 20)?;
    let template = Template::from_name(parts.next()?.as_bytes())?;
    let (algorithm, digest) = parts.next()?.rsplit_once(':')?;
    let digest = unhex(digest)?;
    let rest = parts.next()?;
    let counted = |bytes: &[u8]| Some([&u32::try_from(bytes.len()).ok()?.to_le_bytes(), bytes].concat());
    let digest_field = || counted(&[algorithm.as_bytes(), b":\0", &digest].concat());
    let name_field = |name: &str| counted(&[name.as_bytes(), b"\0"].concat());
    let data = match template {
        Template::ImaNg | Template::ImaNgV2 => [digest_field()?, name_field(rest)?].concat(),
        Template::ImaSig | Template::ImaSigV2 | Template::ImaBuf => {
            // Names may hold blanks; a signature does not, and may be absent.
            let (name, signature) = match rest.rsplit_once(' ').and_then(|(name, hex)| Some((name, unhex(hex)?))) {
                Some((name, signature)) => (name, signature),
                None => (rest.strip_suffix(' ').unwrap_or(rest), Vec::new()),
            };
            [digest_field()?, name_field(name)?, counted(&signature)?].concat()
        }
        // Their ASCII form does not show everything that was hashed.
        Template::Ima | Template::ImaModSig => return None,
    };
    let entry = Entry { template_hash: Cow::Owned(template_hash), template, data: Cow::Owned(data) };
    entry.file().is_ok().then_some(entry)
}
