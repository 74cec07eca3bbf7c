//! What a node remembers between runs: the largest checkpoint it has seen, and
//! the newest bundle.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use portcullis_permit::{Checkpoint, VerifyingKey};

/// File of the newest bundle that this node has verified.
pub(crate) const KEPT_BUNDLE: &str = "bundle.pcb";

/// The folder of a node's memory.
#[derive(Clone, Debug)]
pub struct State {
    folder: PathBuf,
}

impl State {
    /// Opens the folder, making it if need be.
    ///
    /// # Errors
    /// I/O errors.
    pub fn open(folder: &Path) -> io::Result<Self> {
        fs::create_dir_all(folder)?;
        Ok(Self { folder: folder.to_owned() })
    }

    fn checkpoint_path(&self, origin: &str) -> PathBuf {
        let digest = portcullis_wire::sha256(&[origin.as_bytes()]);
        let name: String = portcullis_wire::hex::hex(&digest).chars().take(16).collect();
        self.folder.join(format!("checkpoint-{name}"))
    }

    /// The largest checkpoint seen of a log, as it was signed. Damage reads as
    /// an error, never as "none seen".
    ///
    /// # Errors
    /// I/O errors.
    pub fn seen(&self, origin: &str) -> io::Result<Option<String>> {
        match fs::read_to_string(self.checkpoint_path(origin)) {
            Ok(note) => Ok(Some(note)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Keeps a verified checkpoint, if it is larger than the one kept.
    ///
    /// # Errors
    /// I/O errors.
    pub fn keep(&self, checkpoint: &Checkpoint, key: &VerifyingKey) -> io::Result<()> {
        let kept = self.seen(key.origin())?.and_then(|note| Checkpoint::verify(&note, key).ok());
        if kept.is_none_or(|kept| kept.size() < checkpoint.size()) {
            self.write(&self.checkpoint_path(key.origin()), checkpoint.note().as_bytes())?;
        }
        Ok(())
    }

    /// Origin of the authority that this node verified last.
    ///
    /// # Errors
    /// I/O errors.
    pub fn origin(&self) -> io::Result<Option<String>> {
        match fs::read_to_string(self.folder.join("origin")) {
            Ok(origin) => Ok(Some(origin)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Keeps the origin of a verified authority.
    ///
    /// # Errors
    /// I/O errors.
    pub fn keep_origin(&self, origin: &str) -> io::Result<()> {
        self.write(&self.folder.join("origin"), origin.as_bytes())
    }

    /// Keeps a bundle that was verified: none that is older will rule here.
    ///
    /// # Errors
    /// I/O errors.
    pub fn keep_bundle(&self, bytes: &[u8]) -> io::Result<()> {
        let path = self.folder.join(KEPT_BUNDLE);
        if fs::read(&path).is_ok_and(|kept| kept == bytes) { Ok(()) } else { self.write(&path, bytes) }
    }

    /// Keeps the last denial, for people: `portcullis-policy explain` renders it.
    ///
    /// # Errors
    /// I/O errors.
    pub fn keep_denial(&self, bytes: &[u8]) -> io::Result<()> {
        self.write(&self.folder.join("denial.cose"), bytes)
    }

    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let draft = self.folder.join(format!("draft-{}", std::process::id()));
        fs::write(&draft, bytes)?;
        fs::rename(draft, path)
    }
}
