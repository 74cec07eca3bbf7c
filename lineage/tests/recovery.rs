//! A crash at any point loses no answered entry, and a fault stops the log.
#![cfg(test)]

use std::io;
use std::sync::{Arc, Mutex};

use portcullis_lineage::{
    FileStorage, Keys, Log, LogError, NewEntry, Storage, VerifyingKey, Writer, verify_directory, verify_receipts,
};

fn keys() -> Keys {
    Keys::from_seeds("log.test/lineage", &[1; 32], &[2; 32]).unwrap()
}

fn entry(n: u32) -> NewEntry {
    NewEntry { statement: format!("statement {n}").into_bytes(), blobs: vec![n.to_be_bytes().to_vec()], seen: None }
}

fn verify(folder: &std::path::Path) -> portcullis_lineage::VerifiedLog {
    verify_directory(keys().checkpoint_key(), |path| std::fs::read(folder.join(path))).unwrap()
}

/// Where the imaginary power cut happens.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Cut {
    BeforeAppend,
    MidAppend,
    AfterAppend,
    AfterSync,
    MidPublish,
}

/// What was written before the cut, as a disk would hold it.
#[derive(Clone, Default)]
struct Disk(Arc<Mutex<Vec<u8>>>);

struct Faulty {
    disk: Disk,
    cut: Option<Cut>,
}

fn power_cut() -> io::Error {
    io::Error::other("power cut")
}

impl Storage for Faulty {
    fn read_journal(&mut self) -> io::Result<Vec<u8>> {
        Ok(self.disk.0.lock().unwrap().clone())
    }
    fn truncate_journal(&mut self, length: u64) -> io::Result<()> {
        self.disk.0.lock().unwrap().truncate(usize::try_from(length).unwrap());
        Ok(())
    }
    fn append_journal(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut disk = self.disk.0.lock().unwrap();
        match self.cut {
            Some(Cut::BeforeAppend) => return Err(power_cut()),
            Some(Cut::MidAppend) => disk.extend(&bytes[..bytes.len() / 2]),
            _ => disk.extend(bytes),
        }
        if matches!(self.cut, Some(Cut::MidAppend | Cut::AfterAppend)) { Err(power_cut()) } else { Ok(()) }
    }
    fn sync_journal(&mut self) -> io::Result<()> {
        // AfterSync: it failed to say so, yet it is on the disk.
        if self.cut == Some(Cut::AfterSync) { Err(power_cut()) } else { Ok(()) }
    }
    fn publish(&mut self, _path: &str, _bytes: &[u8]) -> io::Result<()> {
        if self.cut == Some(Cut::MidPublish) { Err(power_cut()) } else { Ok(()) }
    }
}

#[test]
fn no_cut_loses_an_answered_entry() {
    for cut in [Cut::BeforeAppend, Cut::MidAppend, Cut::AfterAppend, Cut::AfterSync, Cut::MidPublish] {
        let disk = Disk::default();
        let mut log = Log::open(Faulty { disk: disk.clone(), cut: None }, keys(), |_| ()).unwrap();
        log.append(vec![entry(0), entry(1)]).unwrap();
        drop(log);

        let mut log = Log::open(Faulty { disk: disk.clone(), cut: None }, keys(), |_| ()).unwrap();
        log.append(vec![entry(2)]).unwrap();
        drop(log);

        let outcome = Log::open(Faulty { disk: disk.clone(), cut: Some(cut) }, keys(), |_| ());
        let answered = match outcome {
            // Readers' files could not be written: the log does not open.
            Err(error) => {
                assert_eq!(cut, Cut::MidPublish);
                assert!(matches!(error, LogError::Storage(_)));
                false
            }
            Ok(mut log) => {
                let answered = log.append(vec![entry(3)]).is_ok();
                assert!(!answered);
                assert!(matches!(log.append(vec![entry(4)]), Err(LogError::Stopped)), "{cut:?}");
                answered
            }
        };
        let recovered = Log::open(Faulty { disk, cut: None }, keys(), |_| ()).unwrap();
        let size = recovered.head().unwrap().size();
        assert!(size >= 3, "{cut:?}: answered entries are there");
        assert!(answered || size <= 4, "{cut:?}");
    }
}

#[test]
fn a_log_reopens_from_its_files_and_extends_itself() {
    let folder = tempfile::tempdir().unwrap();
    let mut heads = Vec::new();
    for round in 0..4_u32 {
        let mut log = Log::open(FileStorage::open(folder.path()).unwrap(), keys(), |_| ()).unwrap();
        if let Some(before) = heads.last() {
            assert_eq!(log.head().as_ref(), Some(before));
        }
        let batch =
            (0..150).map(|n| NewEntry { seen: log.head().map(|h| h.size()), ..entry(round * 150 + n) }).collect();
        let committed = log.append(batch).unwrap();
        for (done, n) in committed.iter().zip(round * 150..) {
            let seen = heads.last().map(|h: &Arc<portcullis_lineage::Checkpoint>| (h.size(), *h.root()));
            let statement = entry(n).statement;
            let proof = verify_receipts(done.receipts.as_ref(), &statement, &keys().receipt_key(), seen).unwrap();
            assert_eq!((proof.index(), proof.root()), (u64::from(n), done.checkpoint.root()));
        }
        log.publish().unwrap();
        heads.push(log.head().unwrap());
    }
    let verified = verify(folder.path());
    assert_eq!(verified.entries().len(), 600);
    assert_eq!(verified.entries()[599], entry(599).statement);
}

#[test]
fn every_changed_byte_of_the_published_files_is_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let mut log = Log::open(FileStorage::open(folder.path()).unwrap(), keys(), |_| ()).unwrap();
    log.append((0..300).map(entry).collect()).unwrap();
    log.publish().unwrap();
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
            let read = verify_directory(keys().checkpoint_key(), |path| std::fs::read(folder.path().join(path)));
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
}

#[test]
fn the_keys_of_another_log_do_not_open_it() {
    let folder = tempfile::tempdir().unwrap();
    let mut log = Log::open(FileStorage::open(folder.path()).unwrap(), keys(), |_| ()).unwrap();
    log.append(vec![entry(0)]).unwrap();
    drop(log);
    let other = Keys::from_seeds("log.test/lineage", &[3; 32], &[2; 32]).unwrap();
    let outcome = Log::open(FileStorage::open(folder.path()).unwrap(), other, |_| ());
    assert!(matches!(outcome, Err(LogError::Checkpoint(_))));
    assert!(VerifyingKey::parse("x").is_err());
}

#[test]
fn the_writer_commits_in_groups_and_answers_everybody() {
    let folder = tempfile::tempdir().unwrap();
    let log = Log::open(FileStorage::open(folder.path()).unwrap(), keys(), |_| ()).unwrap();
    let (writer, thread) = Writer::start(log).unwrap();
    let answers = Arc::new(Mutex::new(Vec::new()));
    for n in 0..500 {
        let answers = Arc::clone(&answers);
        writer.append(entry(n), move |outcome| answers.lock().unwrap().push(outcome.unwrap().index));
    }
    writer.close();
    thread.join().unwrap();
    let answers = answers.lock().unwrap();
    assert_eq!(*answers, (0..500).collect::<Vec<u64>>());
    assert_eq!(verify(folder.path()).entries().len(), 500);
    let late = Arc::new(Mutex::new(None));
    let answer = Arc::clone(&late);
    writer.append(entry(9), move |outcome| *answer.lock().unwrap() = Some(outcome.is_err()));
    assert_eq!(*late.lock().unwrap(), Some(true));
}
