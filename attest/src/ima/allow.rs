//! Files that may be measured: digests with names, in the format of `sha256sum`.

use std::collections::HashSet;
use std::fmt;

use portcullis_wire::hex::unhex;

use super::entry::Entry;

/// Most lines of a list.
const MAX_LINES: usize = 1 << 20;

/// Why a line of an allow list is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Not a digest and name in the format of `sha256sum`.
    Form,
    /// A SHA-1 or MD5 digest: an attacker can make another file with the same digest.
    Weak(&'static str),
    /// More than a million digests.
    TooMany,
}

/// Why an allow list is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AllowError {
    /// The line, counted from one.
    pub line: usize,
    /// The reason.
    pub why: Refusal,
}

impl fmt::Display for AllowError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: ", self.line)?;
        match self.why {
            Refusal::Form => f.write_str("not a digest in hex, two blanks and a name, as sha256sum writes them"),
            Refusal::Weak(algorithm) => write!(
                f,
                "a digest of {algorithm}, which vouches for no file: make the list with sha256sum, and boot the \
                 machines with ima_hash=sha256 so that Linux measures the same digests"
            ),
            Refusal::TooMany => write!(f, "more than {MAX_LINES} digests"),
        }
    }
}

impl std::error::Error for AllowError {}

/// Allowed digests, for any file name, because a name proves nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AllowList {
    digests: HashSet<Vec<u8>>,
}

impl AllowList {
    /// Reads lines of `digest  name`, or `digest *name`; names are any bytes. Empty lines
    /// and lines that begin with `#` are skipped. SHA-1 and MD5 are refused.
    ///
    /// # Errors
    /// [`AllowError`].
    pub fn parse(text: impl AsRef<[u8]>) -> Result<Self, AllowError> {
        let mut digests = HashSet::new();
        for (at, line) in text.as_ref().split(|byte| *byte == b'\n').enumerate() {
            let refuse = |why| AllowError { line: at.saturating_add(1), why };
            if line.trim_ascii().is_empty() || line.starts_with(b"#") {
                continue;
            }
            digests.insert(digest_of(line).map_err(refuse)?);
            if digests.len() > MAX_LINES {
                return Err(refuse(Refusal::TooMany));
            }
        }
        Ok(Self { digests })
    }

    /// Number of allowed digests.
    #[must_use]
    pub fn len(&self) -> usize {
        self.digests.len()
    }

    /// Whether no digest is allowed.
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

fn digest_of(line: &[u8]) -> Result<Vec<u8>, Refusal> {
    // A leading backslash means that the name has escapes.
    let line = line.strip_prefix(b"\\").unwrap_or(line);
    let at = line.windows(2).position(|pair| pair == b"  " || pair == b" *").ok_or(Refusal::Form)?;
    let digest = line.get(..at).and_then(|digest| std::str::from_utf8(digest).ok()).and_then(unhex);
    match digest.ok_or(Refusal::Form)? {
        digest if matches!(digest.len(), 32 | 48 | 64) => Ok(digest),
        digest if digest.len() == 20 => Err(Refusal::Weak("SHA-1")),
        digest if digest.len() == 16 => Err(Refusal::Weak("MD5")),
        _ => Err(Refusal::Form),
    }
}
