//! The binary list (`binary_runtime_measurements`, `Documentation/security/
//! IMA-templates.rst` of Linux) and its ASCII form, entry by entry: a list of any
//! length takes the memory of one entry.

use std::fmt;
use std::io::{self, BufRead, Chain, Cursor, Read};

use portcullis_wire::hex::{unhex, unhex_array};

use crate::bytes::{Reader, Truncated};
use crate::tpm::pcr::Bank;

/// Largest list accepted, in bytes: some 400,000 entries.
pub const MAX_LENGTH: u64 = 64 << 20;
/// `CONFIG_IMA_MEASURE_PCR_IDX`, the default.
const PCR: u32 = 10;
/// Longest template name and longest template data accepted, in bytes.
const MAX_NAME: u32 = 64;
const MAX_DATA: u32 = 1 << 20;
/// Longest line of the ASCII form, in bytes.
const MAX_LINE: u64 = 4 << 20;
/// Bytes that tell the two forms apart.
const HEAD: u64 = 4;
/// The kernel's buffer for file names in the template `ima`, and the longest name.
const OLD_NAME: usize = 256;
const MAX_OLD_NAME: u32 = 255;

/// Why a list is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListError {
    /// Longer than [`MAX_LENGTH`].
    TooLarge,
    /// No entry at all.
    Empty,
    /// An entry, counted from zero, that does not fit, or of an unknown form.
    Entry(usize),
    /// The file cannot be read.
    Unreadable(io::ErrorKind),
}

impl fmt::Display for ListError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLarge => f.write_str("measurement list too large"),
            Self::Empty => f.write_str("measurement list is empty"),
            Self::Entry(at) => write!(f, "entry {at} of the measurement list is malformed"),
            Self::Unreadable(kind) => write!(f, "measurement list: {kind}"),
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
pub struct Entry {
    /// Hash over the template data as the list states it: SHA-1, or zeroes for
    /// a violation.
    pub template_hash: [u8; 20],
    /// Template.
    pub template: Template,
    /// What the hash is over.
    pub data: Vec<u8>,
}

impl Entry {
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

    fn read(r: &mut impl Read) -> io::Result<Self> {
        if u32_of(r)? != PCR {
            return Err(malformed());
        }
        let template_hash = array_of(r)?;
        let template = Template::from_name(&counted_of(r, MAX_NAME)?).ok_or_else(malformed)?;
        let data = if template == Template::Ima {
            // Digest, then a counted name: the hash is over both without the count.
            let digest: [u8; 20] = array_of(r)?;
            [&digest[..], &counted_of(r, MAX_OLD_NAME)?].concat()
        } else {
            counted_of(r, MAX_DATA)?
        };
        let entry = Self { template_hash, template, data };
        if entry.file().is_ok() { Ok(entry) } else { Err(malformed()) }
    }
}

/// What an entry is that does not fit; the caller says which one.
fn malformed() -> io::Error {
    io::ErrorKind::InvalidData.into()
}

fn array_of<const N: usize>(r: &mut impl Read) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    r.read_exact(&mut bytes)?;
    Ok(bytes)
}

fn u32_of(r: &mut impl Read) -> io::Result<u32> {
    array_of(r).map(u32::from_le_bytes)
}

/// A length, at most `most`, and as many bytes.
fn counted_of(r: &mut impl Read, most: u32) -> io::Result<Vec<u8>> {
    let length = u32_of(r)?;
    if length > most {
        return Err(malformed());
    }
    let mut bytes = vec![0; length as usize];
    r.read_exact(&mut bytes)?;
    Ok(bytes)
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

/// The entries of a list in binary or ASCII form, in the order in which they
/// were measured. After an error there is nothing more.
#[derive(Debug)]
pub struct Entries<R> {
    reader: io::Take<Chain<Cursor<Vec<u8>>, R>>,
    ascii: bool,
    read: usize,
    ended: bool,
}

impl<R: BufRead> Entries<R> {
    /// Begins to read.
    ///
    /// # Errors
    /// [`ListError::Unreadable`], and [`ListError::Empty`] where there is nothing.
    pub fn of(mut reader: R) -> Result<Self, ListError> {
        let mut head = Vec::new();
        reader.by_ref().take(HEAD).read_to_end(&mut head).map_err(|error| ListError::Unreadable(error.kind()))?;
        if head.is_empty() {
            return Err(ListError::Empty);
        }
        let ascii = head.starts_with(b"10 ");
        // One byte more than may be there shows that it is there.
        let reader = Cursor::new(head).chain(reader).take(MAX_LENGTH.saturating_add(1));
        Ok(Self { reader, ascii, read: 0, ended: false })
    }

    fn error(&self, error: &io::Error) -> ListError {
        match error.kind() {
            _ if self.reader.limit() == 0 => ListError::TooLarge,
            io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof => ListError::Entry(self.read),
            kind => ListError::Unreadable(kind),
        }
    }

    fn entry(&mut self) -> io::Result<Option<Entry>> {
        if self.ascii {
            return self.line();
        }
        if self.reader.fill_buf()?.is_empty() {
            return Ok(None);
        }
        Entry::read(&mut self.reader).map(Some)
    }

    fn line(&mut self) -> io::Result<Option<Entry>> {
        loop {
            let mut line = Vec::new();
            if self.reader.by_ref().take(MAX_LINE).read_until(b'\n', &mut line)? == 0 {
                return Ok(None);
            }
            let line = std::str::from_utf8(&line).map_err(|_| malformed())?;
            let line = line.strip_suffix('\n').unwrap_or(line);
            if !line.trim().is_empty() {
                return ascii_entry(line.strip_suffix('\r').unwrap_or(line)).map(Some).ok_or_else(malformed);
            }
        }
    }
}

impl<R: BufRead> Iterator for Entries<R> {
    type Item = Result<Entry, ListError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let item = match self.entry() {
            Ok(Some(entry)) => Ok(entry),
            Ok(None) if self.reader.limit() == 0 => Err(ListError::TooLarge),
            Ok(None) if self.read == 0 => Err(ListError::Empty),
            Ok(None) => {
                self.ended = true;
                return None;
            }
            Err(error) => Err(self.error(&error)),
        };
        self.ended = item.is_err();
        self.read = self.read.saturating_add(1);
        Some(item)
    }
}

/// `PCR template-hash template algorithm:digest name [signature]`: the data is
/// put together as the kernel does.
fn ascii_entry(line: &str) -> Option<Entry> {
    let mut parts = line.splitn(5, ' ');
    if parts.next()? != "10" {
        return None;
    }
    let template_hash = unhex_array(parts.next()?)?;
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
    let entry = Entry { template_hash, template, data };
    entry.file().is_ok().then_some(entry)
}
