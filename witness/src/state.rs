//! The state of a witness for a log: the checkpoint that it cosigned last.

use std::fs::{File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use portcullis_files::{make_folder, read_if_present, write_durably};
use portcullis_lineage::{Checkpoint, VerifyingKey};
use portcullis_wire::hex::hex;
use portcullis_wire::sha256;
use rustix::fs::{FlockOperation, flock};

/// The folder of a witness, locked for this process.
#[derive(Debug)]
pub(crate) struct State {
    folder: PathBuf,
    _lock: File,
}

impl State {
    /// Opens the folder, and creates it if necessary.
    ///
    /// # Errors
    /// I/O errors; [`io::ErrorKind::WouldBlock`] if another process holds the lock.
    pub(crate) fn open(folder: &Path) -> io::Result<Self> {
        make_folder(folder)?;
        let lock = OpenOptions::new().create(true).append(true).open(folder.join("lock"))?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive)?;
        Ok(Self { folder: folder.to_owned(), _lock: lock })
    }

    fn path(&self, key: &VerifyingKey) -> PathBuf {
        self.folder.join(hex(&sha256(&[key.origin().as_bytes()])))
    }

    /// The last checkpoint of a log. An unreadable file is an error, and never treated as
    /// absent: a witness without its state would cosign a fork.
    ///
    /// # Errors
    /// I/O errors; `InvalidData` for a file that is not the log's checkpoint. Both
    /// name the file.
    pub(crate) fn last(&self, key: &VerifyingKey) -> io::Result<Option<Checkpoint>> {
        let path = self.path(key);
        let Some(bytes) = read_if_present(&path)? else { return Ok(None) };
        let damaged = |why: &dyn std::fmt::Display| {
            let (path, origin) = (path.display(), key.origin());
            let what = "restore it from the newest copy; where there is none, this witness has forgotten the log, \
                        and the governors replace it by one with another key";
            io::Error::new(io::ErrorKind::InvalidData, format!("{path}: no checkpoint of {origin} ({why}): {what}"))
        };
        let note = String::from_utf8(bytes).map_err(|error| damaged(&error))?;
        Checkpoint::verify(&note, key).map(Some).map_err(|error| damaged(&error))
    }

    /// Stores a checkpoint durably.
    ///
    /// # Errors
    /// I/O errors: then the checkpoint must not be cosigned.
    pub(crate) fn remember(&self, key: &VerifyingKey, checkpoint: &Checkpoint) -> io::Result<()> {
        write_durably(&self.path(key), checkpoint.note().as_bytes())
    }
}
