//! Files in one folder, in the layout of C2SP tlog-tiles: any static web server
//! can serve `checkpoint` and `tile/`.

use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use rustix::fs::{FlockOperation, flock, syncfs};

use super::Storage;
use super::passing::{Passing, forget, whole_pages};

const JOURNAL: &str = "journal";

/// A log's files in one folder.
#[derive(Debug)]
pub struct FileStorage {
    folder: PathBuf,
    /// The newest segment, open for appending; `None` before the first and for readers.
    newest: Mutex<Option<Newest>>,
    /// Large files that were written recently.
    written: Mutex<VecDeque<File>>,
    drafts: AtomicU64,
    lock: Option<File>,
}

/// The newest segment.
#[derive(Debug)]
struct Newest {
    file: File,
    /// Its length in bytes.
    length: u64,
    /// Up to where its pages were dropped from memory.
    dropped: u64,
}

impl Newest {
    fn of(file: File) -> io::Result<Self> {
        let length = file.metadata()?.len();
        Ok(Self { file, length, dropped: whole_pages(length) })
    }

    /// Tells the disk to start writing this now, while the log continues. Earlier appended,
    /// synced data is dropped from memory.
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)?;
        let before = self.length;
        self.length = before.saturating_add(bytes.len() as u64);
        forget(&self.file, self.dropped, self.length);
        self.dropped = whole_pages(before);
        Ok(())
    }

    fn truncate(&mut self, length: u64) -> io::Result<()> {
        self.file.set_len(length)?;
        (self.length, self.dropped) = (length, whole_pages(length));
        self.file.sync_all()
    }
}

/// Size from which files are dropped from memory once they are on the disk, and how
/// many of them may be pending.
const LARGE: usize = 32 * 1024;
const ON_THE_WAY: usize = 32;

impl FileStorage {
    /// Opens the folder for writing, creating it (mode by the umask) if it does not exist,
    /// and locks it for this process.
    ///
    /// # Errors
    /// I/O errors; [`io::ErrorKind::WouldBlock`] if another process has locked it.
    pub fn open(folder: &Path) -> io::Result<Self> {
        fs::create_dir_all(folder.join(JOURNAL))?;
        let lock = OpenOptions::new().create(true).append(true).open(folder.join("lock"))?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive)?;
        // The directory entries must survive a crash as well.
        File::open(folder)?.sync_all()?;
        let storage = Self { lock: Some(lock), ..Self::reader(folder) };
        if let Some(first) = storage.segments()?.last() {
            storage.append_to(*first)?;
        }
        Ok(storage)
    }

    /// Opens the folder read-only, beside a process that writes.
    #[must_use]
    pub fn reader(folder: &Path) -> Self {
        Self {
            folder: folder.to_owned(),
            newest: Mutex::default(),
            written: Mutex::default(),
            drafts: AtomicU64::new(0),
            lock: None,
        }
    }

    /// The folder.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    fn segment(&self, first: u64) -> PathBuf {
        self.folder.join(JOURNAL).join(format!("{first:020}"))
    }

    fn append_to(&self, first: u64) -> io::Result<()> {
        let newest = Newest::of(OpenOptions::new().append(true).open(self.segment(first))?)?;
        *self.newest.lock().unwrap_or_else(PoisonError::into_inner) = Some(newest);
        Ok(())
    }

    /// Remembers a large file until it is on the disk.
    fn forget_later(&self, file: File) {
        // This call starts the write; the next one drops the pages.
        forget(&file, 0, u64::MAX / 2);
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        written.push_back(file);
        if written.len() > ON_THE_WAY
            && let Some(file) = written.pop_front()
        {
            forget(&file, 0, u64::MAX / 2);
        }
    }

    fn with_newest<T>(&self, act: impl FnOnce(&mut Newest) -> io::Result<T>) -> io::Result<T> {
        let mut newest = self.newest.lock().unwrap_or_else(PoisonError::into_inner);
        act(newest.as_mut().ok_or_else(|| io::Error::other("no segment is open for writing"))?)
    }

    fn replace(&self, target: &Path, bytes: &[u8], durable: bool) -> io::Result<()> {
        if self.lock.is_none() {
            return Err(io::ErrorKind::ReadOnlyFilesystem.into());
        }
        let parent = target.parent().unwrap_or(&self.folder);
        fs::create_dir_all(parent)?;
        let serial = self.drafts.fetch_add(1, Ordering::Relaxed);
        let draft = self.folder.join(format!("draft-{serial}"));
        let outcome = write_and_rename(&draft, target, bytes, durable);
        if outcome.is_err() {
            // A full disk must not be filled further; the first error is returned.
            drop(fs::remove_file(&draft));
        }
        let file = outcome?;
        if bytes.len() >= LARGE {
            self.forget_later(file);
        }
        if durable {
            for folder in parent.ancestors().take_while(|folder| folder.starts_with(&self.folder)) {
                File::open(folder)?.sync_all()?;
            }
        }
        Ok(())
    }
}

fn write_and_rename(draft: &Path, target: &Path, bytes: &[u8], durable: bool) -> io::Result<File> {
    let mut file = File::create(draft)?;
    file.write_all(bytes)?;
    if durable {
        file.sync_all()?;
    }
    fs::rename(draft, target)?;
    Ok(file)
}

fn not_found_is_none<T>(outcome: io::Result<T>) -> io::Result<Option<T>> {
    match outcome {
        Ok(value) => Ok(Some(value)),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
        Err(error) => Err(error),
    }
}

impl Storage for FileStorage {
    fn segments(&self) -> io::Result<Vec<u64>> {
        let Some(entries) = not_found_is_none(fs::read_dir(self.folder.join(JOURNAL)))? else { return Ok(Vec::new()) };
        let mut segments = Vec::new();
        for entry in entries {
            let name = entry?.file_name();
            segments.extend(name.to_str().filter(|name| name.len() == 20).and_then(|name| name.parse::<u64>().ok()));
        }
        segments.sort_unstable();
        Ok(segments)
    }

    fn open_segment(&self, first: u64) -> io::Result<Box<dyn Read + Send>> {
        Ok(Box::new(Passing::of(File::open(self.segment(first))?)))
    }

    fn put_segment(&self, first: u64, bytes: &[u8]) -> io::Result<()> {
        self.replace(&self.segment(first), bytes, true)?;
        if self.segments()?.last() == Some(&first) { self.append_to(first) } else { Ok(()) }
    }

    fn truncate(&self, length: u64) -> io::Result<()> {
        self.with_newest(|newest| newest.truncate(length))
    }

    fn append(&self, bytes: &[u8]) -> io::Result<()> {
        self.with_newest(|newest| newest.append(bytes))
    }

    fn sync(&self) -> io::Result<()> {
        self.with_newest(|newest| newest.file.sync_data())
    }

    fn get(&self, path: &str) -> io::Result<Option<Vec<u8>>> {
        not_found_is_none(fs::read(self.folder.join(path)))
    }

    fn put(&self, path: &str, bytes: &[u8]) -> io::Result<()> {
        self.replace(&self.folder.join(path), bytes, false)
    }

    fn put_durable(&self, path: &str, bytes: &[u8]) -> io::Result<()> {
        self.replace(&self.folder.join(path), bytes, true)
    }

    fn sync_files(&self) -> io::Result<()> {
        Ok(syncfs(File::open(&self.folder)?)?)
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        not_found_is_none(fs::remove_file(self.folder.join(path))).map(|_| ())
    }

    fn list(&self, folder: &str) -> io::Result<Vec<String>> {
        let mut found = Vec::new();
        let mut folders = vec![folder.to_owned()];
        while let Some(folder) = folders.pop() {
            let Some(entries) = not_found_is_none(fs::read_dir(self.folder.join(&folder)))? else { continue };
            for entry in entries {
                let entry = entry?;
                let Some(name) = entry.file_name().to_str().map(|name| format!("{folder}/{name}")) else { continue };
                if entry.file_type()?.is_dir() { folders.push(name) } else { found.push(name) }
            }
        }
        found.sort_unstable();
        Ok(found)
    }
}
