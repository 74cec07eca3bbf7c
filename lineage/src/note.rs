//! C2SP signed note v1.0.0: a text with signature lines under it.

use data_encoding::BASE64;
use portcullis_wire::{Digest, sha256};

/// Largest note accepted, in bytes: room for 16 signatures of ML-DSA-44, which
/// is how many a verifier must accept.
pub(crate) const MAX_NOTE: usize = 64 * 1024;
/// What a signature line begins with: an em dash and a space.
const LINE: &str = "\u{2014} ";

/// Splits a note into its text, which ends in a newline, and its signature lines.
/// `None` where it is no note: with a control character, without a signature, or
/// with a line that is none.
pub(crate) fn split(note: &str) -> Option<(&str, &str)> {
    if note.len() > MAX_NOTE || note.chars().any(|c| c < ' ' && c != '\n') {
        return None;
    }
    let split = note.rfind("\n\n").and_then(|at| at.checked_add(1))?;
    let (text, signatures) = note.split_at_checked(split)?;
    let lines = signatures.strip_prefix('\n').and_then(|lines| lines.strip_suffix('\n'))?;
    lines.split('\n').all(is_signature_line).then_some((text, lines))
}

/// `— name base64(id ‖ signature)`, whoever's it is.
fn is_signature_line(line: &str) -> bool {
    let parts = line.strip_prefix(LINE).and_then(|rest| rest.rsplit_once(' '));
    parts.is_some_and(|(name, signature)| {
        let named = !name.is_empty() && !name.contains(|c: char| c.is_whitespace() || c == '+');
        named && BASE64.decode(signature.as_bytes()).is_ok_and(|bytes| bytes.len() > 4)
    })
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
    format!("{LINE}{name} {}\n", BASE64.encode(&[&id, signature].concat()))
}

/// The signature in a line, if it is by the key with this name and id.
pub(crate) fn signature(line: &str, name: &str, id: [u8; 4]) -> Option<Vec<u8>> {
    let rest = line.strip_prefix(LINE)?.strip_prefix(name)?.strip_prefix(' ')?;
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

    /// Names of the given keys that signed; `None` where it is no note, or where a
    /// line of a known key does not verify.
    fn signers(note: &str, keys: &[(String, [u8; 32])]) -> Option<Vec<String>> {
        let (text, lines) = split(note)?;
        let mut signed = Vec::new();
        for (name, public) in keys {
            let id = key_id(name, 1, public);
            let mut own = lines.lines().filter_map(|line| signature(line, name, id)).peekable();
            let key = UnparsedPublicKey::new(&ED25519, public);
            if own.peek().is_some() {
                own.all(|signature| key.verify(text.as_bytes(), &signature).is_ok())
                    .then(|| signed.push(name.clone()))?;
            }
        }
        Some(signed)
    }

    /// Notes of Go's `sumdb/note`: who of the known keys signed, and which notes
    /// are none.
    #[test]
    fn notes_of_another_implementation_read_alike() {
        let Some(folder) = portcullis_vectors::vectors("tlog") else { return };
        let cases: serde_json::Value =
            serde_json::from_slice(&std::fs::read(folder.join("go-note/notes.json")).unwrap()).unwrap();
        let (mut verified, mut refused) = (0, 0);
        for case in cases.as_array().unwrap() {
            let bytes = BASE64.decode(case["note"].as_str().unwrap().as_bytes()).unwrap();
            let keys = case["vkeys"].as_array().unwrap().iter().filter_map(|key| parse_key(key.as_str().unwrap(), 1));
            let keys: Vec<(String, [u8; 32])> = keys.collect();
            let ours = std::str::from_utf8(&bytes).ok().and_then(|note| signers(note, &keys)).unwrap_or_default();
            let theirs: Vec<&str> =
                case["verified"].as_array().into_iter().flatten().flat_map(|v| v.as_str()).collect();
            assert_eq!(ours, theirs, "{}", case["desc"]);
            match theirs.len() {
                0 => refused += 1,
                some => verified += some,
            }
        }
        assert!(verified >= 3 && refused >= 5, "{verified} {refused}");
    }

    /// The example of the standard (C2SP signed-note v1.0.0, "Example").
    #[test]
    fn the_note_of_the_standard_verifies_and_no_other() {
        let vkey = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k";
        let line = "\u{2014} example.com/foo \
            Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1ERYNZXsYjOBH3mFXmRKuwHjG1Yu72IneyaQM=\n";
        let note = format!("This is an example message.\n\n{line}");
        let key = parse_key(vkey, 1).unwrap();
        assert_eq!(key_text(&key.0, 1, &key.1), vkey);
        let key = [key];
        assert_eq!(signers(&note, &key), Some(vec!["example.com/foo".to_owned()]));
        let stranger = "\u{2014} example.org/bar AAAAAAA=\n";
        assert_eq!(signers(&format!("{note}{stranger}"), &key).map(|signed| signed.len()), Some(1));
        let broken = line.replace("Uw2QOkn8", "Uw2QOkn9");
        for (what, bad) in [
            ("a second line of a known key that fails", format!("{note}{broken}")),
            ("no signature", "This is an example message.\n\n".to_owned()),
            ("a control character in the text", note.replace("an example", "an\texample")),
            ("a carriage return", note.replace('\n', "\r\n")),
            ("a line without a signature", format!("{note}\u{2014} example.org/bar\n")),
            ("a line with an id alone", format!("{note}\u{2014} example.org/bar AAAAAA==\n")),
            ("a hyphen for the dash", format!("{note}- example.org/bar AAAAAAA=\n")),
            ("a plus in a name", format!("{note}\u{2014} a+b AAAAAAA=\n")),
            ("no newline at the end", note.trim_end().to_owned()),
        ] {
            assert_eq!(signers(&bad, &key), None, "{what}");
        }
        assert_eq!(parse_key(&vkey.replace("530d903a", "530d903b"), 1), None, "another id");
        assert_eq!(parse_key(vkey, 4), None, "a key of another type");
    }

    /// A verifier accepts 16 signatures, of the largest kind there is: ML-DSA-44.
    #[test]
    fn sixteen_large_signatures_fit() {
        let line = format!("\u{2014} witness.example/{:0100} {}\n", 0, BASE64.encode(&[7; 4 + 8 + 2420]));
        let note = format!("log.example\n1\n{}\n\n{}", BASE64.encode(&[0; 32]), line.repeat(16));
        assert_eq!(split(&note).map(|(_, lines)| lines.lines().count()), Some(16));
    }
}
