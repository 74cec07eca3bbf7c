//! The binary list (`binary_runtime_measurements`, or that of another bank such as
//! `binary_runtime_measurements_sha256`) and the ASCII form of both, entry by entry:
//! a list of any length takes the memory of one entry.

use std::fmt;
use std::io::{self, BufRead, Chain, Cursor, Read};

use super::ascii::Lines;
use super::entry::{Entry, FileName, OLD_DIGEST};
use super::template::Template;
use crate::tpm::pcr::{Bank, PCR_COUNT};

/// Largest list accepted, in bytes: some 400,000 entries.
pub const MAX_LENGTH: u64 = 64 << 20;
/// Longest template name and longest template data accepted, in bytes.
const MAX_NAME: u32 = 256;
const MAX_DATA: u32 = 1 << 20;
/// Longest name in the template `ima`.
const MAX_OLD_NAME: u32 = 255;
/// Bytes of the first entry that identify the form: PCR, longest template hash, and the
/// template's name.
const HEAD: u64 = 4 + 64 + 4 + MAX_NAME as u64;

/// Why a list is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListError {
    /// Longer than [`MAX_LENGTH`].
    TooLarge,
    /// No entry at all.
    Empty,
    /// A malformed entry, counted from zero.
    Entry(usize),
    /// An entry, counted from zero, with an unknown template.
    Template(usize, String),
    /// An entry, counted from zero, for a PCR that does not exist.
    Pcr(usize, u32),
    /// The numbers are big-endian.
    BigEndian,
    /// The file cannot be read.
    Unreadable(io::ErrorKind),
}

impl fmt::Display for ListError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLarge => f.write_str("measurement list too large"),
            Self::Empty => f.write_str("measurement list is empty"),
            Self::Entry(at) => write!(f, "entry {at} of the measurement list is malformed"),
            Self::Template(at, name) => {
                write!(f, "entry {at} of the measurement list has the unknown template {name:?}")
            }
            Self::Pcr(at, pcr) => write!(f, "entry {at} of the measurement list names PCR {pcr}"),
            Self::BigEndian => f.write_str("the list of a big-endian machine: boot it with ima_canonical_fmt"),
            Self::Unreadable(kind) => write!(f, "measurement list: {kind}"),
        }
    }
}

impl std::error::Error for ListError {}

/// Why an entry cannot be read; the list says which one.
#[derive(Debug)]
pub(super) enum Fault {
    Io(io::Error),
    Template(Vec<u8>),
    Pcr(u32),
    Malformed,
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// The entries of a list in binary or ASCII form, in the order in which they were
/// measured. An error ends the iteration.
#[derive(Debug)]
pub struct Entries<R> {
    reader: io::Take<Chain<Cursor<Vec<u8>>, R>>,
    lines: Option<Lines>,
    bank: Bank,
    read: usize,
    ended: bool,
}

impl<R: BufRead> Entries<R> {
    /// Starts to read: the length of the first template hash identifies the bank.
    ///
    /// # Errors
    /// [`ListError::Unreadable`], [`ListError::Empty`] if there is no entry,
    /// [`ListError::BigEndian`].
    pub fn of(mut reader: R) -> Result<Self, ListError> {
        let mut head = Vec::new();
        if let Err(error) = reader.by_ref().take(HEAD).read_to_end(&mut head)
            && head.is_empty()
        {
            return Err(ListError::Unreadable(error.kind()));
        }
        // A read error after the head is returned again, after the entries before it.
        let (lines, bank) = match head.as_slice() {
            [] => return Err(ListError::Empty),
            [0, 0, 0, number, ..] if *number > 0 => return Err(ListError::BigEndian),
            [b' ' | b'0'..=b'9', ..] => (Some(Lines::default()), Lines::bank(&head)),
            _ => (None, binary_bank(&head)),
        };
        // One byte beyond the limit is read, to detect a list that exceeds it.
        let reader = Cursor::new(head).chain(reader).take(MAX_LENGTH.saturating_add(1));
        Ok(Self { reader, lines, bank: bank.unwrap_or(Bank::Sha1), read: 0, ended: false })
    }

    /// The bank of the listed template hashes, as far as their length identifies it.
    #[must_use]
    pub const fn bank(&self) -> Bank {
        self.bank
    }

    fn error(&self, fault: Fault) -> ListError {
        let at = self.read;
        match fault {
            _ if self.reader.limit() == 0 => ListError::TooLarge,
            Fault::Template(name) => ListError::Template(at, FileName(&name).to_string()),
            Fault::Pcr(pcr) => ListError::Pcr(at, pcr),
            Fault::Io(error) if error.kind() != io::ErrorKind::UnexpectedEof => ListError::Unreadable(error.kind()),
            Fault::Io(_) | Fault::Malformed => ListError::Entry(at),
        }
    }

    fn entry(&mut self) -> Result<Option<Entry>, Fault> {
        if let Some(lines) = &mut self.lines {
            return lines.entry(&mut self.reader, self.bank);
        }
        if self.reader.fill_buf()?.is_empty() {
            return Ok(None);
        }
        binary_entry(&mut self.reader, self.bank).map(Some)
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
            Err(fault) => Err(self.error(fault)),
        };
        self.ended = item.is_err();
        self.read = self.read.saturating_add(1);
        Some(item)
    }
}

/// The bank of a binary list: the one for which a known template's name follows the
/// hash.
fn binary_bank(head: &[u8]) -> Option<Bank> {
    let named = |bank: &Bank| {
        let at = bank.length().checked_add(4)?;
        let (length, rest) = head.get(at..)?.split_first_chunk()?;
        let length = u32::from_le_bytes(*length);
        rest.get(..length as usize).filter(|_| length <= MAX_NAME).and_then(Template::from_name)
    };
    Bank::ALL.into_iter().find(|bank| named(bank).is_some())
}

fn binary_entry(r: &mut impl Read, bank: Bank) -> Result<Entry, Fault> {
    let number = u32_of(r)?;
    let template_hash = bytes_of(r, bank.length())?;
    let name = counted_of(r, MAX_NAME)?;
    let template = Template::from_name(&name).ok_or(Fault::Template(name))?;
    let data = if template == Template::Ima {
        // Digest, then a length-prefixed name: the hash covers both without the length.
        [bytes_of(r, OLD_DIGEST)?, counted_of(r, MAX_OLD_NAME)?].concat()
    } else {
        counted_of(r, MAX_DATA)?
    };
    let pcr = u8::try_from(number).ok().filter(|pcr| *pcr < PCR_COUNT).ok_or(Fault::Pcr(number))?;
    let entry = Entry { pcr, template_hash, template, data };
    if entry.file().is_ok() { Ok(entry) } else { Err(Fault::Malformed) }
}

fn bytes_of(r: &mut impl Read, length: usize) -> Result<Vec<u8>, Fault> {
    let mut bytes = vec![0; length];
    r.read_exact(&mut bytes)?;
    Ok(bytes)
}

fn u32_of(r: &mut impl Read) -> Result<u32, Fault> {
    let mut bytes = [0; 4];
    r.read_exact(&mut bytes)?;
    Ok(u32::from_le_bytes(bytes))
}

/// A length, at most `most`, and that number of bytes.
fn counted_of(r: &mut impl Read, most: u32) -> Result<Vec<u8>, Fault> {
    match u32_of(r)? {
        length if length <= most => bytes_of(r, length as usize),
        _ => Err(Fault::Malformed),
    }
}
