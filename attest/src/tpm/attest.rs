//! `TPMS_ATTEST` of a quote (TPM 2.0 Part 2, §10.12).

use super::pcr::Selection;
use crate::bytes::{Reader, Truncated};

/// `TPM_GENERATED_VALUE`.
pub const MAGIC: u32 = 0xff54_4347;
/// `TPM_ST_ATTEST_QUOTE`.
pub const TYPE_QUOTE: u16 = 0x8018;
/// Largest `TPMS_ATTEST` accepted, in bytes.
pub const MAX_LENGTH: usize = 1024;

/// `TPMS_CLOCK_INFO`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClockInfo {
    /// Milliseconds for which the TPM has been powered.
    pub clock: u64,
    /// Resets since the last clear. Obfuscated for keys outside the endorsement
    /// and platform hierarchies.
    pub reset_count: u32,
    /// Restarts since the last reset. Obfuscated likewise.
    pub restart_count: u32,
    /// Whether `clock` never ran ahead of a value reported earlier.
    pub safe: bool,
}

/// The head of any `TPMS_ATTEST`, to identify its type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// Must be [`MAGIC`].
    pub magic: u32,
    /// `TPMI_ST_ATTEST`.
    pub kind: u16,
}

impl Head {
    /// Reads magic and type.
    ///
    /// # Errors
    /// [`Truncated`].
    pub fn parse(bytes: &[u8]) -> Result<Self, Truncated> {
        let mut r = Reader::new(bytes);
        Ok(Self { magic: r.u32_be()?, kind: r.u16_be()? })
    }
}

/// A parsed quote. Its signature has not been checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quote {
    /// Qualified name of the signing key.
    pub qualified_signer: Vec<u8>,
    /// The caller's nonce or digest.
    pub extra_data: Vec<u8>,
    /// Clock and boot counters.
    pub clock: ClockInfo,
    /// Firmware version.
    pub firmware_version: u64,
    /// Quoted PCRs.
    pub selection: Selection,
    /// Digest over their values.
    pub pcr_digest: Vec<u8>,
}

impl Quote {
    /// Parses a whole `TPMS_ATTEST` with a `TPMS_QUOTE_INFO`.
    ///
    /// # Errors
    /// [`Truncated`] if the bytes have any other form.
    pub fn parse(bytes: &[u8]) -> Result<Self, Truncated> {
        if bytes.len() > MAX_LENGTH {
            return Err(Truncated);
        }
        let mut r = Reader::new(bytes);
        if r.u32_be()? != MAGIC || r.u16_be()? != TYPE_QUOTE {
            return Err(Truncated);
        }
        let quote = Self {
            qualified_signer: r.tpm2b()?.to_vec(),
            extra_data: r.tpm2b()?.to_vec(),
            clock: ClockInfo {
                clock: r.u64_be()?,
                reset_count: r.u32_be()?,
                restart_count: r.u32_be()?,
                safe: match r.u8()? {
                    0 => false,
                    1 => true,
                    _ => return Err(Truncated),
                },
            },
            firmware_version: r.u64_be()?,
            selection: Selection::read(&mut r)?,
            pcr_digest: r.tpm2b()?.to_vec(),
        };
        r.finish()?;
        Ok(quote)
    }
}
