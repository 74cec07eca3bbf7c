//! One measurement and its contents.

use std::fmt;

use super::template::{Field, Template};
use crate::bytes::{Reader, Truncated};
use crate::tpm::pcr::Bank;

/// The kernel's buffer for file names in the template `ima`.
const OLD_NAME: usize = 256;
/// Length of a digest in the template `ima`.
pub(super) const OLD_DIGEST: usize = 20;
/// Longest digest of a file, in bytes.
const MAX_DIGEST: usize = 64;

/// The digest of a file with the name of its algorithm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileDigest<'a> {
    /// `sha256` and so on, as the kernel names it.
    pub algorithm: &'a str,
    /// The digest.
    pub digest: &'a [u8],
}

/// The name of a file: any bytes but zero. It is displayed as text from which the bytes
/// can be recovered: a backslash is doubled, and bytes that are not printable UTF-8
/// appear as `\xNN`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileName<'a>(pub &'a [u8]);

impl fmt::Display for FileName<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for chunk in self.0.utf8_chunks() {
            for c in chunk.valid().chars() {
                match c {
                    '\\' => f.write_str("\\\\")?,
                    c if c.is_control() => {
                        let mut bytes = [0; 4];
                        let encoded = c.encode_utf8(&mut bytes);
                        encoded.bytes().try_for_each(|byte| write!(f, "\\x{byte:02x}"))?;
                    }
                    c => write!(f, "{c}")?,
                }
            }
            chunk.invalid().iter().try_for_each(|byte| write!(f, "\\x{byte:02x}"))?;
        }
        Ok(())
    }
}

impl fmt::Debug for FileName<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

impl PartialEq<str> for FileName<'_> {
    fn eq(&self, other: &str) -> bool {
        self.0 == other.as_bytes()
    }
}

impl PartialEq<&str> for FileName<'_> {
    fn eq(&self, other: &&str) -> bool {
        *self == **other
    }
}

/// One measurement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The extended PCR, below 24: 10, unless the kernel's policy names another (`pcr=`).
    pub pcr: u8,
    /// Hash over the template data as the list states it, or zeroes for a
    /// violation. Its length is that of the list's bank.
    pub template_hash: Vec<u8>,
    /// Template.
    pub template: Template,
    /// The hashed template data.
    pub data: Vec<u8>,
}

impl Entry {
    /// Whether the kernel found that the file changed while it was measured. It then lists
    /// zeroes and extends the PCR with ones, so no PCR vouches for the data.
    #[must_use]
    pub fn is_violation(&self) -> bool {
        self.template_hash.iter().all(|byte| *byte == 0)
    }

    /// The digest with which a bank of the PCR was extended.
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
        let name = self.data.len().saturating_sub(OLD_DIGEST);
        bank.hash(&[&self.data, padding.get(name..).unwrap_or_default()])
    }

    /// Digest and name of the file or buffer.
    ///
    /// # Errors
    /// [`Truncated`] if the data do not match the template.
    pub fn file(&self) -> Result<(FileDigest<'_>, FileName<'_>), Truncated> {
        if self.template == Template::Ima {
            let (digest, name) = self.data.split_at_checked(OLD_DIGEST).ok_or(Truncated)?;
            return Ok((FileDigest { algorithm: "sha1", digest }, FileName(name)));
        }
        let mut r = Reader::new(&self.data);
        let (mut digest, mut name) = (None, None);
        for kind in self.template.fields() {
            let value = field(&mut r)?;
            if kind.is_digest() {
                digest = Some(file_digest(*kind, value)?);
            } else if kind.is_name() {
                name = Some(FileName(value.strip_suffix(&[0]).unwrap_or(value)));
            }
        }
        r.finish()?;
        Ok((digest.ok_or(Truncated)?, name.ok_or(Truncated)?))
    }

    /// The file's signature (`security.ima`), in the templates that have one.
    #[must_use]
    pub fn signature(&self) -> Option<&[u8]> {
        let mut r = Reader::new(&self.data);
        for kind in self.template.fields().iter().filter(|_| self.template != Template::Ima) {
            let value = field(&mut r).ok()?;
            if *kind == Field::Signature {
                return Some(value).filter(|signature| !signature.is_empty());
            }
        }
        None
    }
}

/// A length-prefixed field of template data.
fn field<'a>(r: &mut Reader<'a>) -> Result<&'a [u8], Truncated> {
    let length = r.u32_le()?;
    r.take(length as usize)
}

/// `algorithm:\0digest`; the second version puts `ima:` or `verity:` before it, and
/// the oldest has SHA-1 or MD5 without a name.
fn file_digest(kind: Field, field: &[u8]) -> Result<FileDigest<'_>, Truncated> {
    if kind == Field::Digest {
        let algorithm = if field.len() == OLD_DIGEST { "sha1" } else { "md5" };
        return Ok(FileDigest { algorithm, digest: field });
    }
    let at = field.windows(2).position(|pair| pair == b":\0").ok_or(Truncated)?;
    let (name, rest) = field.split_at_checked(at).ok_or(Truncated)?;
    let mut algorithm = std::str::from_utf8(name).map_err(|_| Truncated)?;
    if kind == Field::DigestNgV2 {
        algorithm = algorithm.strip_prefix("ima:").or_else(|| algorithm.strip_prefix("verity:")).ok_or(Truncated)?;
    }
    let digest = rest.strip_prefix(b":\0").ok_or(Truncated)?;
    if algorithm.is_empty() || digest.is_empty() || digest.len() > MAX_DIGEST {
        return Err(Truncated);
    }
    Ok(FileDigest { algorithm, digest })
}
