//! Writes deterministic CBOR item by item. Records are megabytes of byte strings, and
//! receipts are made for every answer.

/// Major types (RFC 8949, §3.1).
pub(crate) const UNSIGNED: u8 = 0;
pub(crate) const NEGATIVE: u8 = 1;
pub(crate) const BYTES: u8 = 2;
pub(crate) const TEXT: u8 = 3;
pub(crate) const ARRAY: u8 = 4;
pub(crate) const MAP: u8 = 5;
pub(crate) const TAG: u8 = 6;
/// `null`.
pub(crate) const NULL: u8 = 0xf6;

/// Appends the head of an item in its shortest form.
pub(crate) fn put_head(out: &mut Vec<u8>, major: u8, argument: u64) {
    let bytes = argument.to_be_bytes();
    let [.., b4, b5, b6, b7] = bytes;
    let initial = major << 5;
    match argument {
        0..24 => out.push(initial | b7),
        24..0x100 => out.extend_from_slice(&[initial | 24, b7]),
        0x100..0x1_0000 => out.extend_from_slice(&[initial | 25, b6, b7]),
        0x1_0000..0x1_0000_0000 => out.extend_from_slice(&[initial | 26, b4, b5, b6, b7]),
        _ => {
            out.push(initial | 27);
            out.extend_from_slice(&bytes);
        }
    }
}

/// Appends a byte or text string.
pub(crate) fn put_string(out: &mut Vec<u8>, major: u8, bytes: &[u8]) {
    put_head(out, major, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Appends a text, or null.
pub(crate) fn put_text_or_null(out: &mut Vec<u8>, text: Option<&str>) {
    match text {
        Some(text) => put_string(out, TEXT, text.as_bytes()),
        None => out.push(NULL),
    }
}
