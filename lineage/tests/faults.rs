//! Random lives of a log: batches, faults of the disk, power cuts, restored
//! backups, bit rot. Whatever happens, nothing that was answered is lost, no
//! two checkpoints of one size differ, and each refusal has its name.
//!
//! `ci/faults` runs thousands of them; `PORTCULLIS_FAULT_RUNS` says how many.
#![cfg(test)]
#![expect(clippy::arithmetic_side_effects, reason = "small numbers of a test; overflow would fail it")]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use portcullis_lineage::{
    ArchiveReader, Blob, Fault, Keys, Log, LogError, MemoryStorage, NewEntry, Publisher, Replay, Storage, Writer,
};

/// A generator that a seed determines (xorshift64*).
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % limit
    }
}

fn keys() -> Keys {
    Keys::from_seeds("log.test/faults", &[1; 32], &[2; 32]).unwrap()
}

/// One life.
struct Life {
    random: Random,
    disk: MemoryStorage,
    log: Option<(Log, Publisher)>,
    /// Entries that were answered, by their place.
    answered: BTreeMap<u64, Vec<u8>>,
    /// Every root that was signed, by size.
    signed: BTreeMap<u64, [u8; 32]>,
    backup: Option<MemoryStorage>,
    serial: u64,
    seen: BTreeMap<&'static str, u64>,
}

impl Life {
    fn new(seed: u64) -> Self {
        let random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        Self {
            random,
            disk: MemoryStorage::new(),
            log: None,
            answered: BTreeMap::new(),
            signed: BTreeMap::new(),
            backup: None,
            serial: 0,
            seen: BTreeMap::new(),
        }
    }

    fn count(&mut self, what: &'static str) {
        *self.seen.entry(what).or_default() += 1;
    }

    fn open(&self, disk: &MemoryStorage) -> Result<(Log, Publisher), LogError> {
        // Small segments: a life has many.
        Log::open_with(Arc::new(disk.clone()), keys(), 6_000)
    }

    fn sign(&mut self, size: u64, root: [u8; 32]) {
        let before = self.signed.insert(size, root);
        assert!(before.is_none_or(|before| before == root), "two checkpoints of size {size}");
    }

    /// Opens the log on the disk: everything answered must be in it.
    fn start(&mut self) {
        let (log, publisher) = self.open(&self.disk.clone()).unwrap();
        let head = log.head();
        let size = head.as_ref().map_or(0, |head| head.size());
        assert!(self.answered.last_key_value().is_none_or(|(last, _)| *last < size), "an answered entry is lost");
        if let Some(head) = &head {
            self.sign(size, *head.root());
            self.check(head);
        }
        self.log = Some((log, publisher));
    }

    /// Every entry that was answered stands where the answer said.
    fn check(&mut self, head: &portcullis_lineage::Checkpoint) {
        let storage: Arc<dyn Storage> = Arc::new(self.disk.clone());
        let mut replay = Replay::open(storage, 0, keys().checkpoint_key().clone(), head.clone()).unwrap();
        let mut next = 0;
        while let Some(batch) = replay.next_batch().unwrap() {
            for (index, entry) in (batch.first..).zip(batch.entries) {
                let answered = self.answered.get(&index);
                assert!(answered.is_none_or(|answered| *answered == entry.statement), "entry {index} is another");
                next = index + 1;
            }
        }
        assert_eq!(next, head.size());
    }

    fn batch(&mut self) -> Vec<NewEntry> {
        let count = 1 + self.random.below(12);
        self.entries(count)
    }

    fn entries(&mut self, count: u64) -> Vec<NewEntry> {
        let seen = self.signed.last_key_value().map(|(size, _)| *size);
        let entry = |n: u64| {
            let length = 1 + usize::try_from(n % 40).unwrap();
            let statement = [&n.to_be_bytes()[..], &vec![7; length]].concat();
            let shared = Blob::recurring(vec![u8::try_from(n % 5).unwrap(); 300]);
            NewEntry { statement, blobs: vec![n.to_be_bytes().to_vec().into(), shared], seen }
        };
        let batch = (self.serial..self.serial + count).map(entry).collect();
        self.serial += count;
        batch
    }

    fn append(&mut self, fault: Option<Fault>) {
        let batch = self.batch();
        let statements: Vec<Vec<u8>> = batch.iter().map(|entry| entry.statement.clone()).collect();
        if let Some(fault) = fault {
            self.disk.inject(fault);
        }
        let (log, _) = self.log.as_mut().unwrap();
        let outcome = log.append(batch);
        // Some faults have nothing to strike: no new file, no segment.
        self.disk.heal();
        match outcome {
            Ok(committed) => {
                for (done, statement) in committed.into_iter().zip(statements) {
                    self.answered.insert(done.index(), statement);
                    let (size, root) = (done.checkpoint().size(), *done.checkpoint().root());
                    if size > 1 {
                        done.receipts().unwrap();
                    }
                    self.sign(size, root);
                }
                self.count("answered");
            }
            Err(error) => {
                assert_eq!(error.check(), "log.storage", "{error}");
                let (log, _) = self.log.as_mut().unwrap();
                let more = NewEntry { statement: vec![1], ..NewEntry::default() };
                assert!(matches!(log.append(vec![more]), Err(LogError::Stopped)));
                self.log = None;
                self.count("fault");
                // The process ends; sometimes the power goes with it.
                if self.random.below(2) == 0 {
                    self.disk.cut_power();
                }
                self.start();
            }
        }
    }

    /// Many write at once, and a fault strikes somewhere among their batches.
    fn write(&mut self) {
        let (log, publisher) = self.log.take().unwrap();
        let (writer, thread) = Writer::start(log, publisher).unwrap();
        let outcomes = Arc::new(Mutex::new(Vec::new()));
        // Now and then so many that batches are handed from step to step.
        let most = if self.random.below(8) == 0 { 600 } else { 12 };
        let counts = [(); 4].map(|()| 1 + self.random.below(most));
        let askers = counts.map(|count| self.entries(count));
        let asked: usize = askers.iter().map(Vec::len).sum();
        let fault = self.fault();
        std::thread::scope(|scope| {
            for batch in askers {
                let (writer, outcomes) = (writer.clone(), Arc::clone(&outcomes));
                scope.spawn(move || {
                    for entry in batch {
                        let (statement, outcomes) = (entry.statement.clone(), Arc::clone(&outcomes));
                        writer.append(entry, move |done| outcomes.lock().unwrap().push((statement, done)));
                    }
                });
            }
            self.disk.inject(fault);
        });
        writer.close();
        thread.join().unwrap();
        self.disk.heal();
        let outcomes = std::mem::take(&mut *outcomes.lock().unwrap());
        assert_eq!(outcomes.len(), asked, "each is answered once");
        for (statement, outcome) in outcomes {
            match outcome {
                Ok(done) => {
                    assert!(self.answered.insert(done.index(), statement).is_none());
                    self.sign(done.checkpoint().size(), *done.checkpoint().root());
                    self.count("answered by the writer");
                }
                Err(stopped) => {
                    assert_eq!(stopped.check, "log.storage");
                    self.count("refused by the writer");
                }
            }
        }
        if self.random.below(2) == 0 {
            self.disk.cut_power();
        }
        self.start();
    }

    fn fault(&mut self) -> Fault {
        let bytes = usize::try_from(self.random.below(2_000)).unwrap();
        match self.random.below(5) {
            0 => Fault::Full(bytes),
            1 => Fault::SyncFailed,
            2 => Fault::SyncFailedButPersisted,
            3 => Fault::SyncTorn(bytes),
            _ => Fault::PutFailed(0),
        }
    }

    /// Somebody else's disk: bit rot in a copy. It does not open, or what is
    /// there is what was; never anything else.
    fn rot(&mut self) {
        let copy = self.disk.image();
        let (file, place, bit) = (self.random.below(8), self.random.below(1 << 20), self.random.below(8));
        let mut at = 0;
        let mut hit = String::new();
        copy.tamper(|path, bytes| {
            if at == file && !bytes.is_empty() {
                let place = usize::try_from(place).unwrap() % bytes.len();
                bytes[place] ^= 1 << bit;
                hit = path.to_owned();
            }
            // Each is there twice: as seen, and as durable.
            at += 1;
        });
        match self.open(&copy) {
            Err(error) => {
                let named = error.check();
                assert!(named.starts_with("log."), "{named}");
                self.count(named);
            }
            Ok((log, _)) => {
                let head = log.head();
                for (size, root) in &self.signed {
                    let shown = log.view().with_tree(|tree| tree.root_at(*size));
                    // A torn newest record was answered: readers' files, or the
                    // anchor and the witnesses, know of it. Here nothing else is.
                    if let Ok(shown) = shown {
                        assert_eq!(shown, *root, "{hit}");
                    }
                }
                drop(head);
                self.count("rot without effect");
            }
        }
    }

    fn restore(&mut self) {
        let Some(backup) = self.backup.clone() else { return };
        // Only the journal is restored; what readers saw is there.
        let old = self.disk.image();
        let journal: BTreeMap<u64, Vec<u8>> = backup
            .segments()
            .unwrap()
            .into_iter()
            .map(|first| {
                let mut bytes = Vec::new();
                std::io::Read::read_to_end(&mut backup.open_segment(first).unwrap(), &mut bytes).unwrap();
                (first, bytes)
            })
            .collect();
        old.tamper(|path, bytes| {
            if let Some(first) = path.strip_prefix("journal/") {
                let first: u64 = first.parse().unwrap();
                *bytes = journal.get(&first).cloned().unwrap_or_default();
            }
        });
        match self.open(&old) {
            Err(error) => {
                let named = error.check();
                self.count(if named == "log.rollback" { "rollback refused" } else { "restored disk refused" });
            }
            Ok((log, _)) => {
                // Nothing was published since the backup: only the anchor and the
                // witnesses know better. What opens is what was signed once.
                if let Some(head) = log.head() {
                    assert_eq!(self.signed.get(&head.size()), Some(head.root()));
                }
                self.count("nothing was published since");
            }
        }
    }

    fn live(&mut self, steps: u64) {
        self.start();
        for _ in 0..steps {
            match self.random.below(22) {
                0..=9 => self.append(None),
                10..=13 => {
                    let fault = self.fault();
                    self.append(Some(fault));
                }
                14 => {
                    // kill -9, with or without the power.
                    self.log = None;
                    if self.random.below(2) == 0 {
                        self.disk.cut_power();
                    }
                    self.count("killed");
                    self.start();
                }
                15 => self.log.as_mut().unwrap().1.publish().unwrap(),
                16 => self.log.as_mut().unwrap().1.sync().unwrap(),
                17 => self.backup = Some(self.disk.image()),
                18 => self.rot(),
                19 => self.restore(),
                _ => self.write(),
            }
        }
        // The archive has everything that the answered entries refer to.
        let mut archive = ArchiveReader::open(Arc::new(self.disk.clone()), 0).unwrap();
        while let Some(batch) = archive.next_batch().unwrap() {
            for blob in batch.entries.iter().flat_map(|entry| &entry.blobs) {
                archive.archive().read(blob).unwrap();
            }
        }
    }
}

#[test]
fn threat_27_no_life_of_a_log_loses_or_forks() {
    let runs = std::env::var("PORTCULLIS_FAULT_RUNS").ok().and_then(|runs| runs.parse().ok()).unwrap_or(150);
    let mut seen: BTreeMap<&'static str, u64> = BTreeMap::new();
    for seed in 1..=runs {
        let mut life = Life::new(seed);
        let lived = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| life.live(60)));
        assert!(lived.is_ok(), "seed {seed}");
        life.seen.into_iter().for_each(|(what, count)| *seen.entry(what).or_default() += count);
    }
    println!("{seen:#?}");
    // A test that never met a fault shows nothing.
    for what in [
        "answered",
        "answered by the writer",
        "refused by the writer",
        "fault",
        "killed",
        "rollback refused",
        "log.journal.damaged",
        "log.journal.foreign",
        "rot without effect",
    ] {
        assert!(seen.get(what).is_some_and(|count| *count > 0), "{what}: {seen:?}");
    }
}
