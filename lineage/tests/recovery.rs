//! A crash at any point loses no answered entry, and a fault stops the log.
#![cfg(test)]

use std::io;
use std::path::Path;
use std::sync::Arc;

use portcullis_lineage::{
    ArchiveReader, Checkpoint, Fault, FileStorage, Keys, Log, LogError, MemoryStorage, NewEntry, Publisher, Storage,
    Tree, TreeError, VerifyingKey, verify_directory, verify_receipts,
};

fn keys() -> Keys {
    Keys::from_seeds("log.test/lineage", &[1; 32], &[2; 32]).unwrap()
}

fn statement(n: u32) -> Vec<u8> {
    format!("statement {n}").into_bytes()
}

fn entry(n: u32) -> NewEntry {
    NewEntry { statement: statement(n), blobs: vec![n.to_be_bytes().to_vec().into()], seen: None }
}

fn open(storage: impl Storage + 'static) -> Result<(Log, Publisher), LogError> {
    Log::open(Arc::new(storage), keys())
}

fn files(folder: &Path) -> Result<(Log, Publisher), LogError> {
    open(FileStorage::open(folder).unwrap())
}

/// The entries of a published log.
fn verify(folder: &Path) -> Vec<Vec<u8>> {
    let mut entries = Vec::new();
    let fetch = |path: &str| std::fs::read(folder.join(path));
    let log = verify_directory(keys().checkpoint_key(), fetch, |_, entry| entries.push(entry.to_vec())).unwrap();
    assert_eq!(log.checkpoint().size(), entries.len() as u64);
    entries
}

#[test]
fn no_fault_loses_an_answered_entry() {
    let faults = [
        Fault::Full(0),
        Fault::Full(100),
        Fault::SyncFailed,
        Fault::SyncFailedButPersisted,
        Fault::SyncTorn(0),
        Fault::SyncTorn(77),
    ];
    for fault in faults {
        let disk = MemoryStorage::new();
        let (mut log, _) = open(disk.clone()).unwrap();
        let answered = log.append(vec![entry(0), entry(1)]).unwrap();
        drop(log);
        let (mut log, _) = open(disk.clone()).unwrap();
        disk.inject(fault);
        let refused = log.append(vec![entry(2)]);
        assert!(matches!(refused, Err(LogError::Storage(_))), "{fault:?}");
        assert_eq!(refused.unwrap_err().check(), "log.storage");
        assert!(matches!(log.append(vec![entry(3)]), Err(LogError::Stopped)), "{fault:?}");
        drop(log);

        disk.cut_power();
        let (mut log, _) = open(disk).unwrap();
        let kept = fault == Fault::SyncFailedButPersisted;
        assert_eq!(log.head().unwrap().size(), if kept { 3 } else { 2 }, "{fault:?}");
        let more = log.append(vec![entry(4)]).unwrap();
        let view = log.view();
        for done in [answered, more].concat() {
            let root = view.with_tree(|tree| tree.root_at(done.checkpoint().size())).unwrap();
            assert_eq!(root, *done.checkpoint().root(), "{fault:?}");
        }
    }
}

/// The archive cannot be written: nothing is logged that refers to it.
#[test]
fn a_blob_that_cannot_be_stored_stops_the_log() {
    let disk = MemoryStorage::new();
    let (mut log, _) = open(disk.clone()).unwrap();
    log.append(vec![entry(0)]).unwrap();
    disk.inject(Fault::PutFailed(0));
    let shared = portcullis_lineage::Blob::recurring(vec![7; 1000]);
    let refused = log.append(vec![NewEntry { statement: statement(1), blobs: vec![shared], seen: None }]);
    assert!(matches!(refused, Err(LogError::Storage(_))));
    drop(log);
    assert_eq!(open(disk).unwrap().0.head().unwrap().size(), 1);
}

/// Readers' files that cannot be written for a while: the next attempt goes on
/// where the last one failed, and what readers get is the log.
#[test]
fn publishing_goes_on_after_any_file_that_failed() {
    for good in 0..12 {
        let disk = MemoryStorage::new();
        let (mut log, mut publisher) = open(disk.clone()).unwrap();
        log.append((0..900).map(entry).collect()).unwrap();
        disk.inject(Fault::PutFailed(good));
        let failed = publisher.publish();
        disk.heal();
        publisher.publish().unwrap();
        let fetch = |path: &str| disk.get(path)?.ok_or_else(|| io::ErrorKind::NotFound.into());
        let shown = verify_directory(keys().checkpoint_key(), fetch, |index, entry| {
            assert_eq!(entry, statement(u32::try_from(index).unwrap()));
        });
        assert_eq!(shown.unwrap().checkpoint().size(), 900, "after {good} files");
        // Three bundles, three tiles, three partial ones, root and checkpoint.
        assert_eq!(failed.is_err(), good < 11, "{good}");
    }
}

#[test]
fn a_log_reopens_from_its_files_and_extends_itself() {
    let folder = tempfile::tempdir().unwrap();
    let mut heads: Vec<Arc<Checkpoint>> = Vec::new();
    for round in 0..4_u32 {
        let (mut log, mut publisher) = files(folder.path()).unwrap();
        if let Some(before) = heads.last() {
            assert_eq!(log.head().as_ref(), Some(before));
        }
        let batch =
            (0..150).map(|n| NewEntry { seen: log.head().map(|h| h.size()), ..entry(round * 150 + n) }).collect();
        let committed = log.append(batch).unwrap();
        for (done, n) in committed.iter().zip(round * 150..) {
            let seen = heads.last().map(|h| (h.size(), *h.root()));
            let proof =
                verify_receipts(Some(&done.receipts().unwrap()), &statement(n), &keys().receipt_key(), seen).unwrap();
            assert_eq!((proof.index(), proof.root()), (u64::from(n), done.checkpoint().root()));
        }
        if round % 2 == 0 {
            publisher.publish().unwrap()
        } else {
            publisher.sync().unwrap()
        }
        heads.push(log.head().unwrap());
    }
    let entries = verify(folder.path());
    assert_eq!((entries.len(), &entries[599]), (600, &statement(599)));
    // Partial tiles are gone where the full one is there.
    assert_eq!(FileStorage::reader(folder.path()).list("tile/entries/000.p").unwrap(), Vec::<String>::new());
}

/// Small segments: the log goes on in new ones, opens from the last few alone,
/// and proofs about the oldest entries come from the tiles.
#[test]
fn opening_reads_the_newest_segments_only() {
    let disk = MemoryStorage::new();
    let storage: Arc<dyn Storage> = Arc::new(disk.clone());
    let (mut log, mut publisher) = Log::open_with(Arc::clone(&storage), keys(), 8_000).unwrap();
    for n in 0..40_u32 {
        log.append((0..50).map(|m| entry(n * 50 + m)).collect()).unwrap();
    }
    publisher.sync().unwrap();
    let segments = disk.segments().unwrap();
    assert!(segments.len() > 5, "{segments:?}");
    let head = log.head().unwrap();
    drop((log, publisher));

    // Whatever happens to the old ones, the log opens, and proves by its tiles.
    disk.tamper(|path, bytes| {
        if path < format!("journal/{:020}", segments[3]).as_str() && path.starts_with("journal") {
            bytes.clear();
        }
    });
    let (log, _) = Log::open_with(Arc::clone(&storage), keys(), 8_000).unwrap();
    assert_eq!(log.head().unwrap(), head);
    let (path, old) = log.view().with_tree(|tree| (tree.inclusion(3, 2000).unwrap(), tree.root_at(777).unwrap()));
    assert_eq!(path.len(), 11);
    assert!(log.view().with_tree(|tree| tree.consistency(777, 2000)).is_ok());
    assert_ne!(old, *head.root());
    // The archive of the others reads on.
    let mut archive = ArchiveReader::open(Arc::clone(&storage), segments[3]).unwrap();
    let batch = archive.next_batch().unwrap().unwrap();
    assert_eq!(batch.first, segments[3]);
    let first = u32::try_from(batch.first).unwrap();
    assert_eq!(batch.entries[0].statement, statement(first));
    assert_eq!(archive.archive().read(&batch.entries[0].blobs[0]).unwrap(), first.to_be_bytes());

    // A tile that was altered proves nothing.
    disk.tamper(|path, bytes| {
        if path == "tile/0/000" {
            bytes[5 * 32] ^= 1;
        }
    });
    let (log, _) = Log::open_with(storage, keys(), 8_000).unwrap();
    let altered = log.view().with_tree(|tree| tree.inclusion(3, 2000)).unwrap_err();
    assert_eq!(altered.to_string(), "hash tiles do not lead to the root of the tree");
}

/// A journal that is older than what readers were shown, and one that is
/// another: refused by name.
#[test]
fn a_rolled_back_journal_is_refused_by_name() {
    let disk = MemoryStorage::new();
    let (mut log, mut publisher) = open(disk.clone()).unwrap();
    log.append((0..300).map(entry).collect()).unwrap();
    publisher.publish().unwrap();
    let journal = std::cell::RefCell::new(Vec::new());
    disk.tamper(|path, bytes| {
        if path.starts_with("journal") {
            journal.borrow_mut().clone_from(bytes);
        }
    });
    log.append((300..600).map(entry).collect()).unwrap();
    publisher.publish().unwrap();
    drop((log, publisher));
    let restore = |disk: &MemoryStorage| {
        disk.tamper(|path, bytes| {
            if path.starts_with("journal") {
                bytes.clone_from(&journal.borrow());
            }
        });
    };
    let old = disk.image();
    restore(&old);
    let refused = open(old.clone()).map(|_| ()).unwrap_err();
    assert_eq!(
        (refused.check(), refused.to_string().as_str()),
        ("log.rollback", "the journal has 300 entries, required 600 as published: it was rolled back")
    );

    // The same log went on another way.
    old.remove("checkpoint").unwrap();
    let (mut log, _) = open(old.clone()).unwrap();
    log.append((900..1300).map(entry).collect()).unwrap();
    drop(log);
    old.put("checkpoint", &disk.get("checkpoint").unwrap().unwrap()).unwrap();
    let refused = open(old).map(|_| ()).unwrap_err();
    assert_eq!(refused.check(), "log.fork");
}

#[test]
fn every_changed_byte_of_the_published_files_is_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let (mut log, mut publisher) = files(folder.path()).unwrap();
    log.append((0..300).map(entry).collect()).unwrap();
    publisher.publish().unwrap();
    verify(folder.path());
    for file in
        ["checkpoint", "tile/0/000", "tile/0/001.p/44", "tile/1/000.p/1", "tile/entries/000", "tile/entries/001.p/44"]
    {
        let path = folder.path().join(file);
        let good = std::fs::read(&path).unwrap();
        for at in (0..good.len()).step_by(7) {
            let mut bad = good.clone();
            bad[at] ^= 1;
            std::fs::write(&path, &bad).unwrap();
            let fetch = |path: &str| std::fs::read(folder.path().join(path));
            let read = verify_directory(keys().checkpoint_key(), fetch, |_, _| ());
            assert!(read.is_err(), "{file} byte {at}");
        }
        std::fs::write(&path, &good).unwrap();
    }
    verify(folder.path());
}

#[test]
fn another_process_cannot_write_the_same_log() {
    let folder = tempfile::tempdir().unwrap();
    let _open = FileStorage::open(folder.path()).unwrap();
    assert_eq!(FileStorage::open(folder.path()).unwrap_err().kind(), io::ErrorKind::WouldBlock);
    let reader = FileStorage::reader(folder.path());
    assert_eq!(reader.put("checkpoint", b"").unwrap_err().kind(), io::ErrorKind::ReadOnlyFilesystem);
    assert!(reader.append(b"").is_err());
}

#[test]
fn the_keys_of_another_log_do_not_open_it() {
    let disk = MemoryStorage::new();
    let (mut log, _) = open(disk.clone()).unwrap();
    log.append(vec![entry(0)]).unwrap();
    drop(log);
    let other = Keys::from_seeds("log.test/lineage", &[3; 32], &[2; 32]).unwrap();
    let refused = Log::open(Arc::new(disk), other).map(|_| ()).unwrap_err();
    assert_eq!(refused.check(), "log.journal.foreign");
    assert!(VerifyingKey::parse("x").is_err());
}

/// Whoever reads sees the tree as it was, and the log goes on meanwhile.
#[test]
fn a_proof_holds_nothing_up() {
    let (mut log, _publisher) = open(MemoryStorage::new()).unwrap();
    let answered = log.append((0..300).map(entry).collect()).unwrap();
    let view = log.view();
    view.with_tree(|tree| {
        let (root, path) = (tree.root(), tree.inclusion(7, 300).unwrap());
        log.append((300..700).map(entry).collect()).unwrap();
        assert_eq!((tree.size(), tree.root(), tree.inclusion(7, 300).unwrap()), (300, root, path));
        assert!(matches!(tree.inclusion(7, 301), Err(TreeError::Beyond)));
    });
    assert_eq!(view.with_tree(Tree::size), 700);
    assert_eq!(view.head().unwrap().size(), 700);
    // Receipts are of the batch, however late they are made.
    for (n, done) in (0..).zip(&answered) {
        let receipts = done.receipts().unwrap();
        let proof = verify_receipts(Some(&receipts), &statement(n), &log.keys().receipt_key(), None).unwrap();
        assert_eq!((proof.index(), proof.size()), (u64::from(n), 300));
    }
}
