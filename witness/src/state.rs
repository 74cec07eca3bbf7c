//! What a witness remembers of a log: the checkpoint that it cosigned last.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

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
    /// Opens the folder, making it if need be.
    ///
    /// # Errors
    /// I/O errors; [`io::ErrorKind::WouldBlock`] where another process has it.
    pub(crate) fn open(folder: &Path) -> io::Result<Self> {
        fs::create_dir_all(folder)?;
        let lock = OpenOptions::new().create(true).append(true).open(folder.join("lock"))?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive)?;
        Ok(Self { folder: folder.to_owned(), _lock: lock })
    }

    fn path(&self, key: &VerifyingKey) -> PathBuf {
        self.folder.join(hex(&sha256(&[key.origin().as_bytes()])))
    }

    /// The last checkpoint of a log. What cannot be read is an error, never
    /// "none": a witness that has forgotten would cosign a fork.
    ///
    /// # Errors
    /// I/O errors; `InvalidData` for a file that is not the log's checkpoint.
    pub(crate) fn last(&self, key: &VerifyingKey) -> io::Result<Option<Checkpoint>> {
        let note = match fs::read_to_string(self.path(key)) {
            Ok(note) => note,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let checkpoint = Checkpoint::verify(&note, key);
        checkpoint.map(Some).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
    }

    /// Remembers a checkpoint, durably.
    ///
    /// # Errors
    /// I/O errors: then it must not be cosigned.
    pub(crate) fn remember(&self, key: &VerifyingKey, checkpoint: &Checkpoint) -> io::Result<()> {
        let path = self.path(key);
        let draft = path.with_extension("draft");
        let mut file = File::create(&draft)?;
        file.write_all(checkpoint.note().as_bytes())?;
        file.sync_all()?;
        fs::rename(&draft, &path)?;
        File::open(&self.folder)?.sync_all()
    }
}
