//! Files that may be measured: digests with names, in the format of `sha256sum`.

use std::collections::HashSet;
use std::fmt;

use portcullis_wire::hex::unhex;

use super::parse::Entry;

/// Most lines of a list.
const MAX_LINES: usize = 1 << 20;

/// Why an allow list is refused: the line, counted from one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AllowError(pub usize);

impl fmt::Display for AllowError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: a digest in hex of a known length, two blanks, and a name", self.0)
    }
}

impl std::error::Error for AllowError {}

/// Digests that are allowed, whatever the file is called: a name proves nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AllowList {
    digests: HashSet<Vec<u8>>,
}

impl AllowList {
    /// Reads lines of `digest  name`; empty lines and those that begin with `#`
    /// are passed over. SHA-1 and MD5 are refused.
    ///
    /// # Errors
    /// [`AllowError`].
    pub fn parse(text: &str) -> Result<Self, AllowError> {
        let mut digests = HashSet::new();
        for (at, line) in text.lines().enumerate() {
            let number = at.saturating_add(1);
            if line.trim().is_empty() || line.starts_with('#') {
                continue;
            }
            let (digest, _name) = line.split_once("  ").ok_or(AllowError(number))?;
            let digest = unhex(digest).filter(|digest| matches!(digest.len(), 32 | 48 | 64));
            digests.insert(digest.ok_or(AllowError(number))?);
            if digests.len() > MAX_LINES {
                return Err(AllowError(number));
            }
        }
        Ok(Self { digests })
    }

    /// How many digests are allowed.
    #[must_use]
    pub fn len(&self) -> usize {
        self.digests.len()
    }

    /// Whether nothing is allowed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.digests.is_empty()
    }

    /// Whether an entry's file is allowed. A violation never is.
    #[must_use]
    pub fn admits(&self, entry: &Entry) -> bool {
        !entry.is_violation() && entry.file().is_ok_and(|(file, _)| self.digests.contains(file.digest))
    }
}
