//! A log in memory with the faults of disks, for tests and for users who want to see
//! how the log handles a fault.

use std::collections::BTreeMap;
use std::io::{self, Cursor, Read};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::Storage;

/// What happens to the next write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The disk is full after this many more bytes.
    Full(usize),
    /// The sync fails and appended data is lost.
    SyncFailed,
    /// The sync fails, but appended data is there.
    SyncFailedButPersisted,
    /// The sync fails, and this many bytes of appended data are there.
    SyncTorn(usize),
    /// After this many replacements, files cannot be replaced.
    PutFailed(usize),
}

#[derive(Clone, Debug, Default)]
struct Disk {
    segments: BTreeMap<u64, Vec<u8>>,
    files: BTreeMap<String, Vec<u8>>,
}

#[derive(Debug, Default)]
struct State {
    /// The state that the system shows.
    seen: Disk,
    /// The state after a power cut.
    durable: Disk,
    fault: Option<Fault>,
}

impl State {
    fn refuse_put(&mut self) -> io::Result<()> {
        match &mut self.fault {
            Some(Fault::PutFailed(0)) => {
                self.fault = None;
                Err(io::Error::other("injected: the file cannot be replaced"))
            }
            Some(Fault::PutFailed(left)) => {
                *left = left.saturating_sub(1);
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

/// A disk in memory. Clones share one disk.
#[derive(Clone, Debug, Default)]
pub struct MemoryStorage(Arc<Mutex<State>>);

impl MemoryStorage {
    /// An empty disk.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the fault for the next write. It occurs once.
    pub fn inject(&self, fault: Fault) {
        self.state().fault = Some(fault);
    }

    /// Removes a fault that has not occurred.
    pub fn heal(&self) {
        self.state().fault = None;
    }

    /// Cuts the power: data that is not durable is lost.
    pub fn cut_power(&self) {
        let mut state = self.state();
        state.seen = state.durable.clone();
        state.fault = None;
    }

    /// A separate copy of the disk as it is now: a backup, or a clone.
    #[must_use]
    pub fn image(&self) -> Self {
        let seen = self.state().seen.clone();
        Self(Arc::new(Mutex::new(State { durable: seen.clone(), seen, fault: None })))
    }

    /// Changes what is on the disk: bit rot, or an attacker. `change` gets
    /// every segment and file by its path.
    pub fn tamper(&self, mut change: impl FnMut(&str, &mut Vec<u8>)) {
        let mut state = self.state();
        let State { seen, durable, .. } = &mut *state;
        for disk in [seen, durable] {
            disk.segments.iter_mut().for_each(|(first, bytes)| change(&format!("journal/{first:020}"), bytes));
            disk.files.iter_mut().for_each(|(path, bytes)| change(path, bytes));
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put_file(&self, path: &str, bytes: &[u8], durable: bool) -> io::Result<()> {
        let mut state = self.state();
        state.refuse_put()?;
        state.seen.files.insert(path.to_owned(), bytes.to_vec());
        if durable {
            state.durable.files.insert(path.to_owned(), bytes.to_vec());
        }
        Ok(())
    }
}

impl Storage for MemoryStorage {
    fn segments(&self) -> io::Result<Vec<u64>> {
        Ok(self.state().seen.segments.keys().copied().collect())
    }

    fn open_segment(&self, first: u64) -> io::Result<Box<dyn Read + Send>> {
        let bytes = self.state().seen.segments.get(&first).cloned().ok_or(io::ErrorKind::NotFound)?;
        Ok(Box::new(Cursor::new(bytes)))
    }

    fn put_segment(&self, first: u64, bytes: &[u8]) -> io::Result<()> {
        let mut state = self.state();
        state.refuse_put()?;
        state.seen.segments.insert(first, bytes.to_vec());
        state.durable.segments.insert(first, bytes.to_vec());
        Ok(())
    }

    fn truncate(&self, length: u64) -> io::Result<()> {
        let mut state = self.state();
        let length = usize::try_from(length).map_err(io::Error::other)?;
        if let Some(mut newest) = state.seen.segments.last_entry() {
            newest.get_mut().truncate(length);
        }
        state.durable.segments = state.seen.segments.clone();
        Ok(())
    }

    fn append(&self, bytes: &[u8]) -> io::Result<()> {
        let mut state = self.state();
        let full = state.fault.take_if(|fault| matches!(fault, Fault::Full(_)));
        let written = match full {
            Some(Fault::Full(room)) => bytes.get(..room.min(bytes.len())),
            _ => Some(bytes),
        };
        let Some(mut newest) = state.seen.segments.last_entry() else { return Err(io::ErrorKind::NotFound.into()) };
        newest.get_mut().extend_from_slice(written.unwrap_or_default());
        if full.is_some() { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.state();
        let Some((first, seen)) = state.seen.segments.last_key_value() else { return Ok(()) };
        let (first, mut kept, whole) = (*first, seen.clone(), seen.len());
        let synced = state.durable.segments.get(&first).map_or(0, Vec::len);
        let fault = state
            .fault
            .take_if(|f| matches!(f, Fault::SyncFailed | Fault::SyncFailedButPersisted | Fault::SyncTorn(_)));
        match fault {
            Some(Fault::SyncFailed) => kept.truncate(synced),
            Some(Fault::SyncTorn(bytes)) => kept.truncate(synced.saturating_add(bytes).min(whole)),
            _ => {}
        }
        state.durable.segments.insert(first, kept);
        if fault.is_some() { Err(io::Error::other("injected: the sync failed")) } else { Ok(()) }
    }

    fn get(&self, path: &str) -> io::Result<Option<Vec<u8>>> {
        Ok(self.state().seen.files.get(path).cloned())
    }

    fn put(&self, path: &str, bytes: &[u8]) -> io::Result<()> {
        self.put_file(path, bytes, false)
    }

    fn put_durable(&self, path: &str, bytes: &[u8]) -> io::Result<()> {
        self.put_file(path, bytes, true)
    }

    fn sync_files(&self) -> io::Result<()> {
        let mut state = self.state();
        state.durable.files = state.seen.files.clone();
        Ok(())
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        self.state().seen.files.remove(path);
        Ok(())
    }

    fn list(&self, folder: &str) -> io::Result<Vec<String>> {
        let within = format!("{folder}/");
        Ok(self.state().seen.files.keys().filter(|path| path.starts_with(&within)).cloned().collect())
    }
}
