//! Where the log lives. The seam is narrow: one journal that only grows, and
//! files for readers that can always be written again.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

/// A place for one log. Writers are exclusive: a second one must not open.
pub trait Storage: Send {
    /// The whole journal.
    ///
    /// # Errors
    /// I/O errors.
    fn read_journal(&mut self) -> io::Result<Vec<u8>>;

    /// Cuts the journal to `length` bytes, durably: what a crash left half written.
    ///
    /// # Errors
    /// I/O errors.
    fn truncate_journal(&mut self, length: u64) -> io::Result<()>;

    /// Appends to the journal. Not durable before [`Storage::sync_journal`].
    ///
    /// # Errors
    /// I/O errors.
    fn append_journal(&mut self, bytes: &[u8]) -> io::Result<()>;

    /// Makes everything appended durable.
    ///
    /// # Errors
    /// I/O errors; afterwards nobody knows what is on the disk, so the log must
    /// not be written any more by this process.
    fn sync_journal(&mut self) -> io::Result<()>;

    /// Replaces a file for readers, whole or not at all.
    ///
    /// # Errors
    /// I/O errors.
    fn publish(&mut self, path: &str, bytes: &[u8]) -> io::Result<()>;
}

impl Storage for Box<dyn Storage> {
    fn read_journal(&mut self) -> io::Result<Vec<u8>> {
        self.as_mut().read_journal()
    }

    fn truncate_journal(&mut self, length: u64) -> io::Result<()> {
        self.as_mut().truncate_journal(length)
    }

    fn append_journal(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.as_mut().append_journal(bytes)
    }

    fn sync_journal(&mut self) -> io::Result<()> {
        self.as_mut().sync_journal()
    }

    fn publish(&mut self, path: &str, bytes: &[u8]) -> io::Result<()> {
        self.as_mut().publish(path, bytes)
    }
}

/// Files in one folder, locked for this process.
#[derive(Debug)]
pub struct FileStorage {
    folder: PathBuf,
    journal: File,
    _lock: File,
}

impl FileStorage {
    /// Opens the folder, making it (mode as the umask says) if need be.
    ///
    /// # Errors
    /// I/O errors; [`io::ErrorKind::WouldBlock`] where another process has it.
    pub fn open(folder: &Path) -> io::Result<Self> {
        fs::create_dir_all(folder)?;
        let lock = OpenOptions::new().create(true).append(true).open(folder.join("lock"))?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive)?;
        let journal = OpenOptions::new().create(true).append(true).read(true).open(folder.join("journal"))?;
        // The journal's directory entry must survive a crash too.
        File::open(folder)?.sync_all()?;
        Ok(Self { folder: folder.to_owned(), journal, _lock: lock })
    }

    /// The folder.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }
}

impl Storage for FileStorage {
    fn read_journal(&mut self) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        File::open(self.folder.join("journal"))?.read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    fn truncate_journal(&mut self, length: u64) -> io::Result<()> {
        self.journal.set_len(length)?;
        self.journal.sync_all()
    }

    fn append_journal(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.journal.write_all(bytes)
    }

    fn sync_journal(&mut self) -> io::Result<()> {
        self.journal.sync_data()
    }

    fn publish(&mut self, path: &str, bytes: &[u8]) -> io::Result<()> {
        let target = self.folder.join(path);
        if let Some(parent) = target.parent() {
            fs::create_dir_all(parent)?;
        }
        let draft = self.folder.join("draft");
        fs::write(&draft, bytes)?;
        fs::rename(&draft, &target)
    }
}
