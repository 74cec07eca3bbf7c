//! Storage of the log. The interface is narrow: segments of a journal that only grow,
//! and files that are replaced as a whole.
//!
//! Every check of the log reads its data back through this trait, so a storage that
//! returns wrong data is detected; none is trusted.

mod files;
mod memory;
mod passing;

use std::io::{self, Read};

pub use files::FileStorage;
pub use memory::{Fault, MemoryStorage};

/// A place for one log. Writers are exclusive: a second one must not open.
pub trait Storage: Send + Sync {
    /// The first entries of the journal's segments, in ascending order.
    ///
    /// # Errors
    /// I/O errors.
    fn segments(&self) -> io::Result<Vec<u64>>;

    /// Reads a segment from its beginning.
    ///
    /// # Errors
    /// I/O errors.
    fn open_segment(&self, first: u64) -> io::Result<Box<dyn Read + Send>>;

    /// Puts a segment in place, durably, whole or not at all. From then on
    /// [`Storage::append`] writes to the newest one.
    ///
    /// # Errors
    /// I/O errors.
    fn put_segment(&self, first: u64, bytes: &[u8]) -> io::Result<()>;

    /// Cuts the newest segment to `length` bytes, durably, to remove a record that a crash
    /// left half written.
    ///
    /// # Errors
    /// I/O errors.
    fn truncate(&self, length: u64) -> io::Result<()>;

    /// Appends to the newest segment. Not durable before [`Storage::sync`].
    ///
    /// # Errors
    /// I/O errors.
    fn append(&self, bytes: &[u8]) -> io::Result<()>;

    /// Makes everything appended durable.
    ///
    /// # Errors
    /// I/O errors; afterwards it is unknown what is on the disk, so this process must not
    /// write the log any more.
    fn sync(&self) -> io::Result<()>;

    /// Reads a file; `None` if it does not exist.
    ///
    /// # Errors
    /// I/O errors.
    fn get(&self, path: &str) -> io::Result<Option<Vec<u8>>>;

    /// Replaces a file, whole or not at all. Not durable before
    /// [`Storage::sync_files`].
    ///
    /// # Errors
    /// I/O errors.
    fn put(&self, path: &str, bytes: &[u8]) -> io::Result<()>;

    /// Replaces a file, whole or not at all, durably.
    ///
    /// # Errors
    /// I/O errors.
    fn put_durable(&self, path: &str, bytes: &[u8]) -> io::Result<()>;

    /// Makes all files durable that were put before.
    ///
    /// # Errors
    /// I/O errors.
    fn sync_files(&self) -> io::Result<()>;

    /// Removes a file if it exists.
    ///
    /// # Errors
    /// I/O errors.
    fn remove(&self, path: &str) -> io::Result<()>;

    /// Paths of the files of a folder and of those below it, in order.
    ///
    /// # Errors
    /// I/O errors.
    fn list(&self, folder: &str) -> io::Result<Vec<String>>;
}

/// The number in a text file; `None` if the file does not exist or contains something
/// else. The number is a hint and is never trusted.
///
/// # Errors
/// I/O errors.
pub fn get_number(storage: &dyn Storage, path: &str) -> io::Result<Option<u64>> {
    let text = storage.get(path)?.and_then(|bytes| String::from_utf8(bytes).ok());
    Ok(text.and_then(|text| text.trim().parse().ok()))
}

/// Writes a file for [`get_number`].
///
/// # Errors
/// I/O errors.
pub fn put_number(storage: &dyn Storage, path: &str, number: u64) -> io::Result<()> {
    storage.put(path, format!("{number}\n").as_bytes())
}
