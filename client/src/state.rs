//! State that a node stores between runs: the largest checkpoint it has seen, and the
//! newest bundle. Neither goes back, even if several gates run at the same time.
//!
//! A damaged file is refused by name. It is never treated as absent, because an older
//! log or bundle would then be accepted.

use std::io;
use std::path::{Path, PathBuf};

use portcullis_files::{lock_folder, make_folder, read_if_present, write_durably};
use portcullis_firmware_policy::VerifiedBundle;
use portcullis_permit::{Checkpoint, Governance, VerifyingKey};

use crate::refusal::ClientError;

/// Largest origin of a log, in bytes.
const MAX_ORIGIN: usize = 1024;

/// The folder of a node's stored state.
#[derive(Clone, Debug)]
pub struct State {
    folder: PathBuf,
}

/// Why the stored state is unusable.
#[derive(Debug)]
pub enum StateError {
    /// A file cannot be read or written; the error names it.
    Io(io::Error),
    /// A file does not have the written contents.
    Damaged {
        /// Check that refuses it: `state.bundle`, `state.checkpoint` or `state.origin`.
        check: &'static str,
        /// The file, and the fault in it.
        found: String,
    },
}

impl From<io::Error> for StateError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<StateError> for ClientError {
    fn from(error: StateError) -> Self {
        match error {
            StateError::Io(error) => error.into(),
            StateError::Damaged { check, found } => Self::check(check, found, "what this node wrote there"),
        }
    }
}

impl State {
    /// Opens the folder, and creates it if necessary.
    ///
    /// # Errors
    /// I/O errors.
    pub fn open(folder: &Path) -> io::Result<Self> {
        make_folder(folder)?;
        Ok(Self::at(folder))
    }

    /// The stored state in a folder that may not exist yet.
    pub(crate) fn at(folder: &Path) -> Self {
        Self { folder: folder.to_owned() }
    }

    fn bundle_path(&self) -> PathBuf {
        self.folder.join("bundle.pcb")
    }

    fn origin_path(&self) -> PathBuf {
        self.folder.join("origin")
    }

    fn checkpoint_path(&self, origin: &str) -> PathBuf {
        let digest = portcullis_wire::sha256(&[origin.as_bytes()]);
        let name: String = portcullis_wire::hex::hex(&digest).chars().take(16).collect();
        self.folder.join(format!("checkpoint-{name}"))
    }

    /// The largest checkpoint seen of a log, in its signed form.
    ///
    /// # Errors
    /// [`StateError`].
    pub fn seen(&self, origin: &str) -> Result<Option<String>, StateError> {
        let path = self.checkpoint_path(origin);
        let Some(bytes) = read_if_present(&path)? else { return Ok(None) };
        let note = String::from_utf8(bytes).ok();
        let whole = note.filter(|note| note.lines().next() == Some(origin) && Checkpoint::unverified(note).is_some());
        let damaged = || damaged("state.checkpoint", &path, &format!("is no checkpoint of {origin}"));
        whole.map(Some).ok_or_else(damaged)
    }

    /// Stores a verified checkpoint, if it is larger than the stored one.
    ///
    /// # Errors
    /// [`StateError`].
    pub fn keep(&self, checkpoint: &Checkpoint, key: &VerifyingKey) -> Result<(), StateError> {
        let _held = lock_folder(&self.folder)?;
        let path = self.checkpoint_path(key.origin());
        let kept = self.seen(key.origin())?.map(|note| Checkpoint::verify(&note, key)).transpose();
        // The key that signed the stored checkpoint is known only now.
        let kept = kept.map_err(|error| damaged("state.checkpoint", &path, &format!("does not verify: {error}")))?;
        if kept.is_none_or(|kept| kept.size() < checkpoint.size()) {
            write_durably(&path, checkpoint.note().as_bytes())?;
        }
        Ok(())
    }

    /// Origin of the authority that this node verified last, and the largest
    /// checkpoint seen of its log.
    ///
    /// # Errors
    /// [`StateError`].
    pub(crate) fn last(&self) -> Result<Option<(String, String)>, StateError> {
        let path = self.origin_path();
        let Some(bytes) = read_if_present(&path)? else { return Ok(None) };
        let plain = |origin: &String| {
            !origin.is_empty() && origin.len() <= MAX_ORIGIN && !origin.contains(|c: char| c.is_control())
        };
        let Some(origin) = String::from_utf8(bytes).ok().filter(plain) else {
            return Err(damaged("state.origin", &path, "names no authority"));
        };
        // The checkpoint was written first.
        match self.seen(&origin)? {
            Some(note) => Ok(Some((origin, note))),
            None => {
                Err(damaged("state.checkpoint", &self.checkpoint_path(&origin), &format!("of {origin} is missing")))
            }
        }
    }

    /// Stores the origin of a verified authority, whose checkpoint is already stored.
    ///
    /// # Errors
    /// I/O errors.
    pub fn keep_origin(&self, origin: &str) -> io::Result<()> {
        let path = self.origin_path();
        let same = read_if_present(&path)?.is_some_and(|kept| kept == origin.as_bytes());
        if same { Ok(()) } else { write_durably(&path, origin.as_bytes()) }
    }

    /// The newest bundle that this node has verified, if it differs from the configured one.
    ///
    /// # Errors
    /// [`StateError`].
    pub(crate) fn bundle(
        &self,
        configured: &[u8],
        governance: &Governance,
    ) -> Result<Option<VerifiedBundle>, StateError> {
        let path = self.bundle_path();
        let Some(bytes) = read_if_present(&path)?.filter(|kept| kept != configured) else { return Ok(None) };
        let why = |error| match bytes.len() {
            0 => "is empty".to_owned(),
            _ => format!("does not verify: {error}"),
        };
        let verified = VerifiedBundle::verify(&bytes, governance);
        verified.map(Some).map_err(|error| damaged("state.bundle", &path, &why(error)))
    }

    /// Stores a verified bundle, unless another gate has stored a newer one.
    ///
    /// # Errors
    /// [`StateError`].
    pub fn keep_bundle(&self, bundle: &VerifiedBundle, governance: &Governance) -> Result<(), StateError> {
        let path = self.bundle_path();
        if read_if_present(&path)?.is_some_and(|kept| kept == bundle.bytes()) {
            return Ok(());
        }
        let _held = lock_folder(&self.folder)?;
        let kept = self.bundle(bundle.bytes(), governance)?;
        if kept.is_none_or(|kept| kept.policy().version < bundle.policy().version) {
            write_durably(&path, bundle.bytes())?;
        }
        Ok(())
    }

    /// Stores the last denial, for people: `portcullis-policy explain` renders it.
    ///
    /// # Errors
    /// I/O errors.
    pub fn keep_denial(&self, bytes: &[u8]) -> io::Result<()> {
        write_durably(&self.folder.join("denial.cose"), bytes)
    }
}

fn damaged(check: &'static str, path: &Path, why: &str) -> StateError {
    StateError::Damaged { check, found: format!("{} {why}", path.display()) }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const ORIGIN: &str = "lab/authority";

    fn state() -> (tempfile::TempDir, State) {
        let folder = tempfile::tempdir().unwrap();
        let state = State::open(folder.path()).unwrap();
        (folder, state)
    }

    fn note(size: u64) -> String {
        format!("{ORIGIN}\n{size}\nAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n\n— {ORIGIN} AAAA\n")
    }

    fn check<T: std::fmt::Debug>(outcome: Result<T, StateError>) -> (&'static str, String) {
        match outcome.unwrap_err() {
            StateError::Damaged { check, found } => (check, found),
            StateError::Io(error) => panic!("{error}"),
        }
    }

    #[test]
    fn a_damaged_checkpoint_is_not_an_absent_one() {
        let (_folder, state) = state();
        assert_eq!(state.seen(ORIGIN).unwrap(), None);
        let path = state.checkpoint_path(ORIGIN);
        fs::write(&path, note(7)).unwrap();
        assert_eq!(state.seen(ORIGIN).unwrap(), Some(note(7)));
        for damage in
            ["", "lab/authority\n", "lab/other\n7\nAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n\n", "\0\0\0"]
        {
            fs::write(&path, damage).unwrap();
            let (check, found) = check(state.seen(ORIGIN));
            assert_eq!(check, "state.checkpoint");
            assert_eq!(found, format!("{} is no checkpoint of {ORIGIN}", path.display()));
        }
    }

    #[test]
    fn an_origin_without_its_checkpoint_is_damage() {
        let (_folder, state) = state();
        assert!(state.last().unwrap().is_none());
        state.keep_origin(ORIGIN).unwrap();
        let (found_check, found) = check(state.last());
        assert_eq!(found_check, "state.checkpoint");
        assert!(found.ends_with("of lab/authority is missing"), "{found}");
        fs::write(state.checkpoint_path(ORIGIN), note(7)).unwrap();
        assert_eq!(state.last().unwrap(), Some((ORIGIN.to_owned(), note(7))));
        fs::write(state.origin_path(), "").unwrap();
        assert_eq!(check(state.last()).0, "state.origin");
    }
}
