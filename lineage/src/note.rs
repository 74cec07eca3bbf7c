//! C2SP signed note v1.0.0: a text with signature lines under it.

use data_encoding::BASE64;
use portcullis_wire::{Digest, sha256};

/// Largest note accepted, in bytes.
pub(crate) const MAX_NOTE: usize = 16 * 1024;

/// Splits a note into its text, which ends in a newline, and its signature lines.
pub(crate) fn split(note: &str) -> Option<(&str, &str)> {
    if note.len() > MAX_NOTE {
        return None;
    }
    let split = note.rfind("\n\n").and_then(|at| at.checked_add(1))?;
    let (text, signatures) = note.split_at_checked(split)?;
    Some((text, signatures.strip_prefix('\n').filter(|lines| lines.ends_with('\n'))?))
}

/// Whether a key may have this name: printable, without spaces and `+`, not empty.
pub(crate) fn is_name(name: &str) -> bool {
    !name.is_empty() && name.len() <= 200 && name.chars().all(|c| c.is_ascii_graphic() && c != '+')
}

/// Key id: SHA-256(name ‖ 0x0A ‖ type ‖ public key)[:4].
pub(crate) fn key_id(name: &str, kind: u8, public: &[u8; 32]) -> [u8; 4] {
    let [a, b, c, d, ..] = sha256(&[name.as_bytes(), b"\n", &[kind], public]);
    [a, b, c, d]
}

/// Parses `name+hex(id)+base64(type ‖ key)` of an Ed25519 key of this type; `None` for
/// anything else.
pub(crate) fn parse_key(vkey: &str, kind: u8) -> Option<(String, [u8; 32])> {
    let mut parts = vkey.trim_end().splitn(3, '+');
    let (name, id, key) = (parts.next()?, parts.next()?, parts.next()?);
    let key = BASE64.decode(key.as_bytes()).ok()?;
    let public = key.split_first().filter(|(found, _)| **found == kind)?.1.try_into().ok()?;
    let is_id = portcullis_wire::hex::unhex_array(id) == Some(key_id(name, kind, &public));
    (is_id && is_name(name)).then(|| (name.to_owned(), public))
}

/// The text form that [`parse_key`] reads.
pub(crate) fn key_text(name: &str, kind: u8, public: &[u8; 32]) -> String {
    let key = [&[kind], public.as_slice()].concat();
    format!("{name}+{}+{}", portcullis_wire::hex::hex(&key_id(name, kind, public)), BASE64.encode(&key))
}

/// A signature line.
pub(crate) fn signature_line(name: &str, id: [u8; 4], signature: &[u8]) -> String {
    format!("\u{2014} {name} {}\n", BASE64.encode(&[&id, signature].concat()))
}

/// The signature in a line, if it is by the key with this name and id.
pub(crate) fn signature(line: &str, name: &str, id: [u8; 4]) -> Option<Vec<u8>> {
    let rest = line.strip_prefix("\u{2014} ")?.strip_prefix(name)?.strip_prefix(' ')?;
    let bytes = BASE64.decode(rest.as_bytes()).ok()?;
    let (found, signature) = bytes.split_first_chunk::<4>()?;
    (*found == id).then(|| signature.to_vec())
}

/// A hash in base64.
pub(crate) fn hash(text: &str) -> Option<Digest> {
    BASE64.decode(text.as_bytes()).ok()?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};

    use super::*;

    /// Notes of Go's `sumdb/note`: who of the known keys signed.
    #[test]
    fn notes_of_another_implementation_read_alike() {
        let Some(folder) = portcullis_vectors::vectors("tlog") else { return };
        let cases: serde_json::Value =
            serde_json::from_slice(&std::fs::read(folder.join("go-note/notes.json")).unwrap()).unwrap();
        let mut verified = 0;
        for case in cases.as_array().unwrap() {
            let bytes = BASE64.decode(case["note"].as_str().unwrap().as_bytes()).unwrap();
            let note = std::str::from_utf8(&bytes).ok().and_then(split);
            let keys = case["vkeys"].as_array().unwrap().iter().filter_map(|key| parse_key(key.as_str().unwrap(), 1));
            let signed = keys.filter(|(name, public)| {
                let (text, lines) = note.unwrap_or(("", ""));
                let by = |line| signature(line, name, key_id(name, 1, public));
                let key = UnparsedPublicKey::new(&ED25519, public);
                lines.lines().filter_map(by).any(|signature| key.verify(text.as_bytes(), &signature).is_ok())
            });
            let signed: Vec<String> = signed.map(|(name, _)| name).collect();
            let expected: Vec<&str> =
                case["verified"].as_array().into_iter().flatten().flat_map(|v| v.as_str()).collect();
            // The other implementation may refuse a note as a whole whose lines are readable
            // here: a checkpoint only needs the log's own valid line.
            if case["verified"].is_array() {
                assert_eq!(signed, expected, "{}", case["desc"]);
                verified += signed.len();
            }
        }
        assert!(verified >= 3, "{verified}");
    }
}
