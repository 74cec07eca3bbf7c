//! Files that are read or written once, from beginning to end, and should not stay in
//! the page cache.

use std::fs::File;
use std::io::{self, Read};
use std::num::NonZeroU64;

use rustix::fs::{Advice, fadvise};

const PAGE: u64 = 4096;

/// A file that is read once; pages that were read are dropped from memory.
pub(super) struct Passing {
    file: File,
    position: u64,
    dropped: u64,
}

/// Number of read bytes after which pages are dropped.
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

/// Rounded down to a page boundary.
pub(super) const fn whole_pages(length: u64) -> u64 {
    length & !(PAGE - 1)
}

/// Tells the system that a range of a file will not be read again soon: clean pages
/// leave the page cache, dirty pages are written. A log is written once; otherwise it
/// would fill the machine's memory, and every new page costs more than the write. This
/// is a hint: a failure does no harm.
pub(super) fn forget(file: &File, from: u64, to: u64) {
    if let Some(length) = NonZeroU64::new(to.saturating_sub(from)) {
        let _hint = fadvise(file, from, Some(length), Advice::DontNeed);
    }
}
