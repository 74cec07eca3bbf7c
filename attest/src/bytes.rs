//! A reader for bytes without indexing: every read is checked, and the end must be
//! reached exactly.

use std::fmt;

/// The input ended early, or has trailing bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Truncated;

impl fmt::Display for Truncated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the structure does not fill its bytes exactly")
    }
}

impl std::error::Error for Truncated {}

/// A cursor over untrusted bytes.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    /// Starts at the first byte.
    #[must_use]
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// The unread bytes.
    #[must_use]
    pub const fn rest(&self) -> &'a [u8] {
        self.0
    }

    /// The next `count` bytes.
    ///
    /// # Errors
    /// [`Truncated`] if fewer are left.
    pub const fn take(&mut self, count: usize) -> Result<&'a [u8], Truncated> {
        match self.0.split_at_checked(count) {
            Some((head, tail)) => {
                self.0 = tail;
                Ok(head)
            }
            None => Err(Truncated),
        }
    }

    /// The next `N` bytes.
    ///
    /// # Errors
    /// [`Truncated`].
    pub const fn array<const N: usize>(&mut self) -> Result<[u8; N], Truncated> {
        match self.0.split_first_chunk() {
            Some((head, tail)) => {
                self.0 = tail;
                Ok(*head)
            }
            None => Err(Truncated),
        }
    }

    /// One byte.
    ///
    /// # Errors
    /// [`Truncated`].
    pub fn u8(&mut self) -> Result<u8, Truncated> {
        self.array().map(|[byte]| byte)
    }

    /// Two bytes, big-endian (TPM structures).
    ///
    /// # Errors
    /// [`Truncated`].
    pub fn u16_be(&mut self) -> Result<u16, Truncated> {
        self.array().map(u16::from_be_bytes)
    }

    /// Four bytes, big-endian (TPM structures).
    ///
    /// # Errors
    /// [`Truncated`].
    pub fn u32_be(&mut self) -> Result<u32, Truncated> {
        self.array().map(u32::from_be_bytes)
    }

    /// Eight bytes, big-endian (TPM structures).
    ///
    /// # Errors
    /// [`Truncated`].
    pub fn u64_be(&mut self) -> Result<u64, Truncated> {
        self.array().map(u64::from_be_bytes)
    }

    /// Two bytes, little-endian (event logs).
    ///
    /// # Errors
    /// [`Truncated`].
    pub fn u16_le(&mut self) -> Result<u16, Truncated> {
        self.array().map(u16::from_le_bytes)
    }

    /// Four bytes, little-endian (SNP reports, event logs).
    ///
    /// # Errors
    /// [`Truncated`].
    pub fn u32_le(&mut self) -> Result<u32, Truncated> {
        self.array().map(u32::from_le_bytes)
    }

    /// Eight bytes, little-endian (SNP reports).
    ///
    /// # Errors
    /// [`Truncated`].
    pub fn u64_le(&mut self) -> Result<u64, Truncated> {
        self.array().map(u64::from_le_bytes)
    }

    /// A `TPM2B`: a 16-bit big-endian length, then that many bytes.
    ///
    /// # Errors
    /// [`Truncated`].
    pub fn tpm2b(&mut self) -> Result<&'a [u8], Truncated> {
        let length = self.u16_be()?;
        self.take(usize::from(length))
    }

    /// Refuses unread bytes.
    ///
    /// # Errors
    /// [`Truncated`].
    pub const fn finish(self) -> Result<(), Truncated> {
        if self.0.is_empty() { Ok(()) } else { Err(Truncated) }
    }
}
