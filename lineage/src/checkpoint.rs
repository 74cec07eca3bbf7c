//! C2SP tlog-checkpoint v1.0.0 in a C2SP signed note v1.0.0, Ed25519.

use std::fmt;

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use data_encoding::BASE64;
use portcullis_wire::Digest;

use crate::note;

/// Signature type 1: Ed25519 (C2SP signed-note).
const TYPE_ED25519: u8 = 1;

/// Why a checkpoint was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CheckpointError {
    /// Not a checkpoint in a signed note.
    Malformed,
    /// Another log's origin.
    Origin {
        /// Origin in the note.
        found: String,
        /// Origin of the log.
        required: String,
    },
    /// No valid signature by the log's key.
    Signature,
    /// Not a verifier key in the C2SP form.
    Key,
}

impl fmt::Display for CheckpointError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed => f.write_str("malformed checkpoint"),
            Self::Origin { found, required } => write!(f, "checkpoint of {found:?}, required {required:?}"),
            Self::Signature => f.write_str("no valid signature by the log's checkpoint key"),
            Self::Key => f.write_str("malformed verifier key"),
        }
    }
}

impl std::error::Error for CheckpointError {}

/// A log's public checkpoint key and its name, the origin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifyingKey {
    origin: String,
    public: [u8; 32],
}

impl VerifyingKey {
    /// A key under an origin: printable, without spaces and `+`, not empty.
    ///
    /// # Errors
    /// [`CheckpointError::Key`].
    pub fn new(origin: &str, public: [u8; 32]) -> Result<Self, CheckpointError> {
        if note::is_name(origin) { Ok(Self { origin: origin.to_owned(), public }) } else { Err(CheckpointError::Key) }
    }

    /// Reads `name+hex(id)+base64(type ‖ key)`.
    ///
    /// # Errors
    /// [`CheckpointError::Key`].
    pub fn parse(vkey: &str) -> Result<Self, CheckpointError> {
        let (origin, public) = note::parse_key(vkey, TYPE_ED25519).ok_or(CheckpointError::Key)?;
        Ok(Self { origin, public })
    }

    /// The origin.
    #[must_use]
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// The Ed25519 public key.
    #[must_use]
    pub const fn public(&self) -> &[u8; 32] {
        &self.public
    }

    fn id(&self) -> [u8; 4] {
        note::key_id(&self.origin, TYPE_ED25519, &self.public)
    }
}

impl fmt::Display for VerifyingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&note::key_text(&self.origin, TYPE_ED25519, &self.public))
    }
}

/// A checkpoint with a valid signature of its log. Only [`Checkpoint::verify`]
/// and [`Checkpoint::sign`] make one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    size: u64,
    root: Digest,
    note: String,
}

impl Checkpoint {
    /// Signs the head of a log.
    #[must_use]
    pub fn sign(key: &Ed25519KeyPair, origin: &VerifyingKey, size: u64, root: Digest) -> Self {
        let body = format!("{}\n{size}\n{}\n", origin.origin, BASE64.encode(&root));
        let line = note::signature_line(&origin.origin, origin.id(), key.sign(body.as_bytes()).as_ref());
        Self { size, root, note: format!("{body}\n{line}") }
    }

    /// Size and root that a note claims, without verification: a cheap way to compare it
    /// with a local tree.
    #[must_use]
    pub fn unverified(note: &str) -> Option<(u64, Digest)> {
        let mut lines = note.split('\n').skip(1);
        let (size, root) = (lines.next()?.parse().ok()?, BASE64.decode(lines.next()?.as_bytes()).ok()?);
        Some((size, root.try_into().ok()?))
    }

    /// Verifies a note against the log's key. Lines of other signers are passed
    /// over; every line of the log itself must verify.
    ///
    /// # Errors
    /// [`CheckpointError`].
    pub fn verify(note: &str, key: &VerifyingKey) -> Result<Self, CheckpointError> {
        let (body, signatures) = note::split(note).ok_or(CheckpointError::Malformed)?;
        let mut lines = body.strip_suffix('\n').unwrap_or_default().split('\n');
        let (Some(origin), Some(size), Some(root)) = (lines.next(), lines.next(), lines.next()) else {
            return Err(CheckpointError::Malformed);
        };
        // Extension lines may follow, none of them empty.
        if lines.any(str::is_empty) {
            return Err(CheckpointError::Malformed);
        }
        if origin != key.origin {
            let found = origin.chars().take(200).collect();
            return Err(CheckpointError::Origin { found, required: key.origin.clone() });
        }
        let number: u64 = size.parse().map_err(|_| CheckpointError::Malformed)?;
        if number.to_string() != size {
            return Err(CheckpointError::Malformed);
        }
        let root = note::hash(root).ok_or(CheckpointError::Malformed)?;
        if !signed_by(signatures, body, key) {
            return Err(CheckpointError::Signature);
        }
        Ok(Self { size: number, root, note: note.to_owned() })
    }

    /// The checkpoint with another signature line; `None` if it becomes too long.
    pub(crate) fn with_line(&self, line: &str) -> Option<Self> {
        let note = format!("{}{line}\n", self.note);
        note::split(&note).is_some().then(|| Self { note, ..self.clone() })
    }

    /// Number of entries.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// Root hash.
    #[must_use]
    pub const fn root(&self) -> &Digest {
        &self.root
    }

    /// The signed note.
    #[must_use]
    pub fn note(&self) -> &str {
        &self.note
    }
}

fn signed_by(lines: &str, body: &str, key: &VerifyingKey) -> bool {
    let public = UnparsedPublicKey::new(&ED25519, key.public);
    let mut own = lines.lines().filter_map(|line| note::signature(line, &key.origin, key.id())).peekable();
    own.peek().is_some() && own.all(|signature| public.verify(body.as_bytes(), &signature).is_ok())
}

/// The public half of an Ed25519 key.
#[must_use]
pub(crate) fn public_half(key: &Ed25519KeyPair) -> [u8; 32] {
    let mut public = [0; 32];
    public.iter_mut().zip(key.public_key().as_ref()).for_each(|(to, from)| *to = *from);
    public
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair() -> (Ed25519KeyPair, VerifyingKey) {
        let key = Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap();
        let public = VerifyingKey::new("log.example/portcullis", public_half(&key)).unwrap();
        (key, public)
    }

    #[test]
    fn signs_what_it_verifies_and_what_another_implementation_reads() {
        let (key, public) = pair();
        let checkpoint = Checkpoint::sign(&key, &public, 42, [5; 32]);
        assert_eq!(Checkpoint::verify(checkpoint.note(), &public), Ok(checkpoint.clone()));
        assert_eq!(VerifyingKey::parse(&public.to_string()), Ok(public));
        let body = checkpoint.note().split("\n\n").next().unwrap();
        let theirs = tlog_tiles::checkpoint::Checkpoint::from_bytes(format!("{body}\n").as_bytes()).unwrap();
        assert_eq!((theirs.size(), theirs.hash().0), (42, [5; 32]));
    }

    #[test]
    fn refuses_other_origins_keys_and_edits() {
        let (key, public) = pair();
        let note = Checkpoint::sign(&key, &public, 42, [5; 32]).note().to_owned();
        let other = VerifyingKey::new("other", *public.public()).unwrap();
        assert!(matches!(Checkpoint::verify(&note, &other), Err(CheckpointError::Origin { .. })));
        let foreign = VerifyingKey::new(public.origin(), [9; 32]).unwrap();
        assert_eq!(Checkpoint::verify(&note, &foreign), Err(CheckpointError::Signature));
        let edited = note.replacen("42", "43", 1);
        assert_eq!(Checkpoint::verify(&edited, &public), Err(CheckpointError::Signature));
        for malformed in ["", "\n\n", "log.example/portcullis\n042\nAAAA\n\n", note.trim_end()] {
            assert_eq!(Checkpoint::verify(malformed, &public), Err(CheckpointError::Malformed), "{malformed:?}");
        }
        let (body, line) = note.split_once("\n\n").unwrap();
        let signed = |body: &str| {
            let line = note::signature_line(public.origin(), public.id(), key.sign(body.as_bytes()).as_ref());
            format!("{body}\n{line}")
        };
        assert!(Checkpoint::verify(&signed(&format!("{body}\nan extension\n")), &public).is_ok());
        for body in [format!("{body}\n\n"), format!("{body}\n\nan extension\n"), format!("{body}\na\tb\n")] {
            assert_eq!(Checkpoint::verify(&signed(&body), &public), Err(CheckpointError::Malformed), "{body:?}");
        }
        let second = note::signature_line(public.origin(), public.id(), &[0; 64]);
        let both = format!("{body}\n\n{line}{second}");
        assert_eq!(Checkpoint::verify(&both, &public), Err(CheckpointError::Signature), "one of its lines is forged");
        assert!(VerifyingKey::new("", [0; 32]).is_err());
        assert!(VerifyingKey::new("a+b", [0; 32]).is_err());
    }
}
