//! C2SP tlog-cosignature v1.0.1: a witness states that it has seen no fork of a log,
//! and when.

use std::fmt;

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, UnparsedPublicKey};

use crate::checkpoint::{Checkpoint, CheckpointError, public_half};
use crate::note;

/// Signature type 4: timestamped Ed25519 cosignature.
const TYPE_COSIGNATURE: u8 = 4;
/// Largest time that a cosignature may have. Zero makes no statement of time.
const LAST_TIME: u64 = i64::MAX as u64;

/// A witness's public key and its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WitnessKey {
    name: String,
    public: [u8; 32],
}

impl WitnessKey {
    /// Reads `name+hex(id)+base64(4 ‖ key)`.
    ///
    /// # Errors
    /// [`CheckpointError::Key`].
    pub fn parse(vkey: &str) -> Result<Self, CheckpointError> {
        let (name, public) = note::parse_key(vkey, TYPE_COSIGNATURE).ok_or(CheckpointError::Key)?;
        Ok(Self { name, public })
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// When this witness cosigned a checkpoint last, Unix seconds; `None` where no
    /// line is its own, or one of its own does not verify.
    #[must_use]
    pub fn cosigned(&self, checkpoint: &Checkpoint) -> Option<u64> {
        let (text, lines) = note::split(checkpoint.note())?;
        let own = lines.lines().filter_map(|line| self.signature(line));
        own.map(|signature| self.verify(text, &signature)).collect::<Option<Vec<_>>>()?.into_iter().max()
    }

    /// The signature in a line, if it says to be by this key.
    fn signature(&self, line: &str) -> Option<Vec<u8>> {
        note::signature(line, &self.name, note::key_id(&self.name, TYPE_COSIGNATURE, &self.public))
    }

    /// When this witness made a signature for a text.
    fn verify(&self, text: &str, signature: &[u8]) -> Option<u64> {
        let (time, signature) = signature.split_first_chunk::<8>()?;
        let time = Some(u64::from_be_bytes(*time)).filter(|time| (1..=LAST_TIME).contains(time))?;
        let key = UnparsedPublicKey::new(&ED25519, self.public);
        key.verify(message(text, time).as_bytes(), signature).is_ok().then_some(time)
    }

    /// The checkpoint with this witness's line, taken from its answer.
    #[must_use]
    pub fn attach(&self, checkpoint: &Checkpoint, answer: &str) -> Option<Checkpoint> {
        let (text, _) = note::split(checkpoint.note())?;
        let verifies = |line: &&str| self.signature(line).is_some_and(|s| self.verify(text, &s).is_some());
        let line = answer.lines().find(verifies)?;
        checkpoint.with_line(line)
    }
}

impl fmt::Display for WitnessKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&note::key_text(&self.name, TYPE_COSIGNATURE, &self.public))
    }
}

fn message(text: &str, time: u64) -> String {
    format!("cosignature/v1\ntime {time}\n{text}")
}

/// The key of a witness.
pub struct Cosigner {
    key: Ed25519KeyPair,
    public: WitnessKey,
}

impl Cosigner {
    /// A key from its 32-byte seed, under a name.
    ///
    /// # Errors
    /// [`CheckpointError::Key`].
    pub fn from_seed(name: &str, seed: &[u8; 32]) -> Result<Self, CheckpointError> {
        let key = Ed25519KeyPair::from_seed_unchecked(seed).map_err(|_| CheckpointError::Key)?;
        if !note::is_name(name) {
            return Err(CheckpointError::Key);
        }
        let public = WitnessKey { name: name.to_owned(), public: public_half(&key) };
        Ok(Self { key, public })
    }

    /// The public half.
    #[must_use]
    pub const fn public(&self) -> &WitnessKey {
        &self.public
    }

    /// The signature line for a checkpoint seen at a time, Unix seconds.
    #[must_use]
    pub fn cosign(&self, checkpoint: &Checkpoint, time: u64) -> String {
        let text = note::split(checkpoint.note()).map_or("", |(text, _)| text);
        let signature = self.key.sign(message(text, time).as_bytes());
        let id = note::key_id(&self.public.name, TYPE_COSIGNATURE, &self.public.public);
        note::signature_line(&self.public.name, id, &[&time.to_be_bytes(), signature.as_ref()].concat())
    }
}

impl fmt::Debug for Cosigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cosigner").field("public", &self.public).finish_non_exhaustive()
    }
}
