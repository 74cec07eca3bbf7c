//! Files that pass by: a log is written once and read from its beginning to its
//! end, so nothing of it is to stay in the page cache.

use std::fs::File;
use std::io::{self, Read};
use std::num::NonZeroU64;

use rustix::fs::{Advice, fadvise};

const PAGE: u64 = 4096;

/// A file that is read from its beginning to its end, and not kept in memory
/// behind.
pub(super) struct Passing {
    file: File,
    position: u64,
    dropped: u64,
}

/// Bytes after which what was read is dropped.
const DROP_EVERY: u64 = 1024 * 1024;

impl Passing {
    pub(super) const fn of(file: File) -> Self {
        Self { file, position: 0, dropped: 0 }
    }
}

impl Read for Passing {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read(buffer)?;
        self.position = self.position.saturating_add(count as u64);
        let end = whole_pages(self.position);
        if end.saturating_sub(self.dropped) >= DROP_EVERY {
            forget(&self.file, self.dropped, end);
            self.dropped = end;
        }
        Ok(count)
    }
}

/// Down to the beginning of a page.
pub(super) const fn whole_pages(length: u64) -> u64 {
    length & !(PAGE - 1)
}

/// Tells the system that a stretch of a file is not read again soon: what is on
/// the disk leaves the page cache, what is not is sent there. A log is written
/// once; without this it fills the memory of the machine, and every page that it
/// touches is a new one, which costs more than the write. It is a hint: where it
/// fails, nothing is lost.
pub(super) fn forget(file: &File, from: u64, to: u64) {
    if let Some(length) = NonZeroU64::new(to.saturating_sub(from)) {
        let _hint = fadvise(file, from, Some(length), Advice::DontNeed);
    }
}
