//! Lower-case hex, the text form of bytes for people and scripts.

use data_encoding::HEXLOWER;

/// Lower-case hex.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    HEXLOWER.encode(bytes)
}

/// Bytes of lower-case hex; `None` for anything else.
#[must_use]
pub fn unhex(text: &str) -> Option<Vec<u8>> {
    HEXLOWER.decode(text.as_bytes()).ok()
}

/// Exactly `N` bytes of lower-case hex.
#[must_use]
pub fn unhex_array<const N: usize>(text: &str) -> Option<[u8; N]> {
    unhex(text)?.try_into().ok()
}

/// A `u64` as JSON shows it: a hex string, since JSON numbers lose bits.
#[must_use]
pub fn hex_u64(value: u64) -> String {
    format!("0x{value:x}")
}
