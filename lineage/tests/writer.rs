//! Group commit: many hand in entries, and each is told what became of it.
#![cfg(test)]

use std::io::{self, Read};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use portcullis_lineage::{FileStorage, Keys, Log, MemoryStorage, NewEntry, Outcome, Storage, Writer, verify_directory};

/// More than a batch that is not handed from step to step, several times over.
const MANY: u32 = 3_000;

fn keys() -> Keys {
    Keys::from_seeds("log.test/writer", &[1; 32], &[2; 32]).unwrap()
}

fn entry(n: u32) -> NewEntry {
    NewEntry { statement: n.to_be_bytes().to_vec(), ..NewEntry::default() }
}

/// What became of entries, in the order in which it was told.
type Told = Arc<Mutex<Vec<(u32, Outcome)>>>;

/// Hands in entries and waits until the log has ended, however it does.
fn write(log: Log, publisher: portcullis_lineage::Publisher, count: u32) -> Vec<(u32, Outcome)> {
    let (writer, thread) = Writer::start(log, publisher).unwrap();
    let told = Told::default();
    for n in 0..count {
        let told = Arc::clone(&told);
        writer.append(entry(n), move |outcome| told.lock().unwrap().push((n, outcome)));
    }
    writer.close();
    drop(thread.join());
    let late = Arc::clone(&told);
    writer.append(entry(count), move |outcome| late.lock().unwrap().push((count, outcome)));
    let mut told = std::mem::take(&mut *told.lock().unwrap());
    let (last, outcome) = told.pop().unwrap();
    assert_eq!((last, outcome.unwrap_err().check), (count, "log.storage"), "nothing is taken after the end");
    told
}

/// A storage that notes what is done to the journal.
#[derive(Clone, Default)]
struct Watched {
    disk: MemoryStorage,
    journal: Arc<Mutex<Vec<&'static str>>>,
}

impl Storage for Watched {
    fn segments(&self) -> io::Result<Vec<u64>> {
        self.disk.segments()
    }

    fn open_segment(&self, first: u64) -> io::Result<Box<dyn Read + Send>> {
        self.disk.open_segment(first)
    }

    fn put_segment(&self, first: u64, bytes: &[u8]) -> io::Result<()> {
        self.disk.put_segment(first, bytes)
    }

    fn truncate(&self, length: u64) -> io::Result<()> {
        self.disk.truncate(length)
    }

    fn append(&self, bytes: &[u8]) -> io::Result<()> {
        self.journal.lock().unwrap().push("append");
        self.disk.append(bytes)
    }

    fn sync(&self) -> io::Result<()> {
        // Long enough for the next batch to be ready.
        thread::sleep(Duration::from_millis(3));
        self.journal.lock().unwrap().push("sync");
        self.disk.sync()
    }

    fn get(&self, path: &str) -> io::Result<Option<Vec<u8>>> {
        self.disk.get(path)
    }

    fn put(&self, path: &str, bytes: &[u8]) -> io::Result<()> {
        self.disk.put(path, bytes)
    }

    fn put_durable(&self, path: &str, bytes: &[u8]) -> io::Result<()> {
        self.disk.put_durable(path, bytes)
    }

    fn sync_files(&self) -> io::Result<()> {
        self.disk.sync_files()
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        self.disk.remove(path)
    }

    fn list(&self, folder: &str) -> io::Result<Vec<String>> {
        self.disk.list(folder)
    }
}

#[test]
fn everybody_is_answered_in_order() {
    for count in [1, 500, MANY] {
        let folder = tempfile::tempdir().unwrap();
        let (log, publisher) = Log::open(Arc::new(FileStorage::open(folder.path()).unwrap()), keys()).unwrap();
        let told = write(log, publisher, count);
        let places: Vec<(u32, u64)> = told.into_iter().map(|(n, outcome)| (n, outcome.unwrap().index())).collect();
        assert_eq!(places, (0..count).map(|n| (n, u64::from(n))).collect::<Vec<_>>());
        let fetch = |path: &str| std::fs::read(folder.path().join(path));
        let published = verify_directory(keys().checkpoint_key(), fetch, |_, _| ()).unwrap();
        assert_eq!(published.checkpoint().size(), u64::from(count));
    }
}

/// However many batches are ready, one is written when the one before it is
/// durable: its record has the checkpoint of that, which was signed after it.
#[test]
fn a_batch_is_written_once_the_one_before_it_is_durable() {
    let storage = Watched::default();
    let (log, publisher) = Log::open(Arc::new(storage.clone()), keys()).unwrap();
    let told = write(log, publisher, MANY);
    assert_eq!(told.len(), MANY as usize);
    let journal = storage.journal.lock().unwrap();
    assert!(journal.len() >= 12, "several batches");
    assert!(journal.chunks(2).all(|pair| pair == ["append", "sync"]), "{journal:?}");
    // Each was answered under the checkpoint of its batch, and none of a later one.
    let sizes: Vec<(u64, u64)> =
        told.into_iter().map(|(_, outcome)| outcome.unwrap()).map(|it| (it.index(), it.checkpoint().size())).collect();
    assert!(sizes.is_sorted_by_key(|(_, size)| *size));
    assert!(sizes.iter().all(|(index, size)| (1..=512).contains(&(size - index))), "{sizes:?}");
}

/// Whoever follows the log breaks off in the middle of a batch: all are told,
/// nobody that an entry stands where its follower has not seen it.
#[test]
fn who_waits_is_told_however_a_step_ends() {
    for count in [100, MANY] {
        let disk = MemoryStorage::new();
        let (mut log, publisher) = Log::open(Arc::new(disk.clone()), keys()).unwrap();
        let last = u64::from(count / 2);
        log.observe(move |index, _| assert!(index < last, "the follower breaks off"));
        let told = write(log, publisher, count);
        assert_eq!(told.len(), count as usize);
        let refused = told.iter().filter_map(|(_, outcome)| outcome.as_ref().err().map(|stopped| stopped.check));
        assert!(refused.clone().count() >= (count / 2) as usize);
        assert!(refused.into_iter().all(|check| check == "log.storage"));
        assert!(told.iter().filter_map(|(_, outcome)| outcome.as_ref().ok()).all(|it| it.index() < last));
        // What was answered is there.
        let answered = told.iter().filter(|(_, outcome)| outcome.is_ok()).count() as u64;
        let (log, _publisher) = Log::open(Arc::new(disk), keys()).unwrap();
        assert!(log.head().map_or(0, |head| head.size()) >= answered);
    }
}
