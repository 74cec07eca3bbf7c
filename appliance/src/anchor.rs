//! The head of the log, anchored in the TPM: only the measured appliance can write
//! there, and the counter never decreases.
//!
//! ```text
//! counter   incremented by every start; a running authority notices a later start
//! data      size | root | counter | clean stop | HMAC-SHA256
//! ```
//!
//! A restored disk has a log that does not extend the anchored head. Of two clones on
//! one TPM, the older one notices the counter of the younger one and trips. The younger
//! one waits until the older one can no longer answer: an authority answers only for a
//! limited time after it last read the counter.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use anyhow::{Context, Result};
use aws_lc_rs::hmac;
use portcullis_attest::tpm::pcr::Selection;
use portcullis_attester::{ANCHOR_LENGTH, AnchorDevice};
use portcullis_lineage::View;
use portcullis_permit::Checkpoint;
use portcullis_wire::sha256;

use crate::clock;
use crate::instance::Refused;

/// How long an authority answers after it last read the counter.
pub(crate) const LEASE: Duration = Duration::from_secs(3);
/// Time between reads of the counter.
pub(crate) const LOOK_EVERY: Duration = Duration::from_millis(500);

/// The state of this start: its counter, and the key of the anchor.
pub(crate) struct Anchoring {
    key: hmac::Key,
    counter: u64,
}

/// The content of the anchor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Anchored {
    size: u64,
    root: [u8; 32],
    counter: u64,
    clean: bool,
}

impl Anchoring {
    fn key(checkpoint_seed: &[u8]) -> hmac::Key {
        hmac::Key::new(hmac::HMAC_SHA256, &sha256(&[b"portcullis/anchor/1", checkpoint_seed]))
    }

    /// Defines the indices of a new authority and anchors its genesis.
    pub(crate) fn define(
        tpm: &mut dyn AnchorDevice,
        selection: &Selection,
        checkpoint_seed: &[u8],
        head: &Checkpoint,
    ) -> Result<()> {
        tpm.define_anchor(selection)?;
        let anchoring = Self { key: Self::key(checkpoint_seed), counter: tpm.read_counter()? };
        anchoring.write(tpm, selection, head, true)
    }

    /// Checks that the log extends the anchor, and makes this start the current one. If the
    /// previous start did not stop cleanly, it may still run on a clone: then this function
    /// waits until that one can no longer answer.
    pub(crate) fn begin(
        tpm: &mut dyn AnchorDevice,
        selection: &Selection,
        checkpoint_seed: &[u8],
        head: &Checkpoint,
        view: &View,
    ) -> Result<Self> {
        let key = Self::key(checkpoint_seed);
        let found = tpm.read_anchor()?.ok_or_else(|| Refused::new("anchor.missing", "the TPM holds no anchor"))?;
        let anchored = Anchored::read(&found.data, &key);
        let anchored = anchored.ok_or_else(|| Refused::new("anchor.forged", "not an anchor of this authority"))?;
        // An earlier start incremented the counter and ended before it wrote the anchor.
        if anchored.counter != found.counter && anchored.counter.checked_add(1) != Some(found.counter) {
            let why = format!("found counter {}, required {} as anchored", found.counter, anchored.counter);
            return Err(Refused::new("anchor.counter", why).into());
        }
        let root = view.with_tree(|tree| tree.root_at(anchored.size));
        if root.is_err() && head.size() < anchored.size {
            let why = format!("found a log of {} entries, required {} as anchored", head.size(), anchored.size);
            return Err(Refused::new("anchor.rollback", why).into());
        }
        if root.context("the tree of the anchor")? != anchored.root {
            let why = format!("another tree of size {} is anchored", anchored.size);
            return Err(Refused::new("anchor.fork", why).into());
        }
        if anchored.counter != found.counter {
            // Written before this start increments the counter: the anchor is then at most one
            // behind, however many starts are interrupted before they write.
            let counted = Anchored { counter: found.counter, clean: false, ..anchored };
            tpm.write_anchor(&counted.data(&key), selection)?;
        }
        tpm.increment_counter(selection)?;
        let anchoring = Self { key, counter: tpm.read_counter()? };
        if !(anchored.clean && anchored.counter == found.counter) {
            tracing::info!(seconds = LEASE.as_secs(), "the last stop was not clean: waiting for it to be over");
            std::thread::sleep(LEASE);
        }
        // Written after the wait, because the previous start may have written meanwhile.
        anchoring.write(tpm, selection, head, false)?;
        Ok(anchoring)
    }

    /// The counter of this start.
    pub(crate) const fn counter(&self) -> u64 {
        self.counter
    }

    /// Anchors a head.
    pub(crate) fn write(
        &self,
        tpm: &mut dyn AnchorDevice,
        selection: &Selection,
        head: &Checkpoint,
        clean: bool,
    ) -> Result<()> {
        let anchored = Anchored { size: head.size(), root: *head.root(), counter: self.counter, clean };
        Ok(tpm.write_anchor(&anchored.data(&self.key), selection)?)
    }
}

impl Anchored {
    fn body(&self) -> [u8; ANCHOR_LENGTH - 32] {
        let parts = [&self.size.to_be_bytes()[..], &self.root, &self.counter.to_be_bytes(), &[u8::from(self.clean)]];
        let mut body = [0; ANCHOR_LENGTH - 32];
        body.iter_mut().zip(parts.concat()).for_each(|(to, from)| *to = from);
        body
    }

    fn data(&self, key: &hmac::Key) -> [u8; ANCHOR_LENGTH] {
        let body = self.body();
        let mac = hmac::sign(key, &body);
        let mut data = [0; ANCHOR_LENGTH];
        data.iter_mut().zip(body.iter().chain(mac.as_ref())).for_each(|(to, from)| *to = *from);
        data
    }

    fn read(data: &[u8; ANCHOR_LENGTH], key: &hmac::Key) -> Option<Self> {
        let (body, mac) = data.split_at_checked(ANCHOR_LENGTH - 32)?;
        hmac::verify(key, body, mac).ok()?;
        let (size, rest) = body.split_first_chunk()?;
        let (root, rest) = rest.split_first_chunk()?;
        let (counter, rest) = rest.split_first_chunk()?;
        let [clean] = *rest else { return None };
        let (size, counter) = (u64::from_be_bytes(*size), u64::from_be_bytes(*counter));
        Some(Self { size, root: *root, counter, clean: clean == 1 })
    }
}

/// Whether this process may still answer: it read its own counter in the TPM recently.
pub(crate) struct Fence(Mutex<Duration>);

impl Fence {
    pub(crate) fn new() -> Self {
        Self(Mutex::new(clock::boot_time()))
    }

    /// Records that a read which began at `began` (`CLOCK_BOOTTIME`) found the own counter.
    /// That clock continues while the machine sleeps, when a clone may start.
    pub(crate) fn seen(&self, began: Duration) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = began;
    }

    pub(crate) fn holds(&self) -> bool {
        let seen = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        clock::boot_time().saturating_sub(seen) < LEASE
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Instant;

    use portcullis_attester::{Anchor, AttesterError};
    use portcullis_lineage::{Keys, Log, MemoryStorage, NewEntry};

    use super::*;

    /// NV memory without a TPM.
    #[derive(Default)]
    struct Memory {
        anchor: Option<Anchor>,
        /// Number of writes before the start is interrupted.
        breaks_after: Option<usize>,
    }

    impl Memory {
        fn anchor(&mut self) -> Result<&mut Anchor, AttesterError> {
            self.anchor.as_mut().ok_or(AttesterError::Form("NV index"))
        }
    }

    impl AnchorDevice for Memory {
        fn define_anchor(&mut self, _: &Selection) -> Result<(), AttesterError> {
            // As specified: a new counter starts above every earlier counter.
            let counter = self.anchor.map_or(1, |old| old.counter.saturating_add(1));
            self.anchor = Some(Anchor { counter, data: [0; ANCHOR_LENGTH] });
            Ok(())
        }
        fn read_anchor(&mut self) -> Result<Option<Anchor>, AttesterError> {
            Ok(self.anchor)
        }
        fn read_counter(&mut self) -> Result<u64, AttesterError> {
            Ok(self.anchor()?.counter)
        }
        fn increment_counter(&mut self, _: &Selection) -> Result<(), AttesterError> {
            let anchor = self.anchor()?;
            anchor.counter = anchor.counter.saturating_add(1);
            Ok(())
        }
        fn write_anchor(&mut self, data: &[u8; ANCHOR_LENGTH], _: &Selection) -> Result<(), AttesterError> {
            match &mut self.breaks_after {
                Some(0) => return Err(AttesterError::Form("power")),
                Some(writes) => *writes = writes.saturating_sub(1),
                None => {}
            }
            self.anchor()?.data = *data;
            Ok(())
        }
    }

    fn log(disk: &MemoryStorage) -> Log {
        let keys = Keys::from_seeds("log.test/anchor", &[1; 32], &[2; 32]).unwrap();
        Log::open(Arc::new(disk.clone()), keys).unwrap().0
    }

    fn append(log: &mut Log, entries: &[u8]) {
        let entry = |n: &u8| NewEntry { statement: vec![*n], ..NewEntry::default() };
        log.append(entries.iter().map(entry).collect()).unwrap();
    }

    fn begin(tpm: &mut Memory, log: &Log) -> Result<Anchoring> {
        Anchoring::begin(tpm, &Selection(Vec::new()), &[1; 32], &log.head().unwrap(), &log.view())
    }

    fn refused(tpm: &mut Memory, log: &Log) -> String {
        begin(tpm, log).map(|_| ()).unwrap_err().downcast::<Refused>().unwrap().check
    }

    /// THREATS 16: a restored disk, another tree, a cleared TPM, old NV memory, and two
    /// clones of which the older one notices the younger one.
    #[test]
    fn threat_16_rollback_fork_and_clones_are_refused_by_name() {
        let selection = Selection(Vec::new());
        let (disk, mut tpm) = (MemoryStorage::new(), Memory::default());
        let mut log = log(&disk);
        append(&mut log, b"genesis");
        assert_eq!(refused(&mut tpm, &log), "anchor.missing");
        Anchoring::define(&mut tpm, &selection, &[1; 32], &log.head().unwrap()).unwrap();
        let backup = disk.image();
        let first = begin(&mut tpm, &log).unwrap();
        append(&mut log, b"more");
        first.write(&mut tpm, &selection, &log.head().unwrap(), true).unwrap();

        assert_eq!(refused(&mut tpm, &self::log(&backup)), "anchor.rollback");
        let mut fork = self::log(&backup);
        append(&mut fork, b"otherwise");
        assert_eq!(refused(&mut tpm, &fork), "anchor.fork");

        // Two clones start on one TPM: the older one is no longer current.
        let older = begin(&mut tpm, &log).unwrap();
        let anchored = tpm.anchor;
        assert_eq!(older.counter(), tpm.read_counter().unwrap());
        let started = Instant::now();
        let younger = begin(&mut tpm, &log).unwrap();
        assert!(started.elapsed() >= LEASE, "it waits until the older one cannot answer any more");
        assert_ne!(older.counter(), tpm.read_counter().unwrap());
        assert_eq!(younger.counter(), tpm.read_counter().unwrap());

        // Old NV memory under a counter that cannot decrease; NV memory of another authority;
        // and indices that were defined again.
        let mut old = Memory { anchor: anchored, breaks_after: None };
        old.anchor().unwrap().counter = 40;
        assert_eq!(refused(&mut old, &log), "anchor.counter");
        let mut forged = Memory { anchor: anchored, breaks_after: None };
        forged.anchor().unwrap().data[3] ^= 1;
        assert_eq!(refused(&mut forged, &log), "anchor.forged");
        tpm.define_anchor(&selection).unwrap();
        assert_eq!(refused(&mut tpm, &log), "anchor.forged");
    }

    /// Starts that are interrupted before they write their anchor, during the wait after an
    /// unclean stop or directly after they increment the counter, are no tampering, however
    /// often it happens.
    #[test]
    fn a_start_can_be_broken_off_before_it_wrote() {
        let (disk, mut tpm) = (MemoryStorage::new(), Memory::default());
        let mut log = log(&disk);
        append(&mut log, b"genesis");
        Anchoring::define(&mut tpm, &Selection(Vec::new()), &[1; 32], &log.head().unwrap()).unwrap();
        let behind = |tpm: &Memory| {
            let found = tpm.anchor.unwrap();
            found.counter - Anchored::read(&found.data, &Anchoring::key(&[1; 32])).unwrap().counter
        };
        let killed = begin(&mut tpm, &log).unwrap();
        // The first start writes nothing, the others write at most on behalf of the previous
        // start. The third one does not reach the increment of the counter.
        for writes in [0, 1, 0, 1] {
            tpm.breaks_after = Some(writes);
            assert!(begin(&mut tpm, &log).is_err());
            assert_eq!(behind(&tpm), 1);
        }
        tpm.breaks_after = None;
        let started = begin(&mut tpm, &log).unwrap();
        assert_eq!((behind(&tpm), started.counter()), (0, tpm.read_counter().unwrap()));
        assert_eq!(started.counter(), killed.counter() + 4);
    }

    #[test]
    fn a_fence_falls_by_itself() {
        let fence = Fence::new();
        assert!(fence.holds());
        fence.seen(clock::boot_time().checked_sub(LEASE).unwrap());
        assert!(!fence.holds());
    }

    #[test]
    fn an_anchor_is_of_its_key_and_every_bit_counts() {
        let key = Anchoring::key(&[1; 32]);
        let anchored = Anchored { size: 7, root: [3; 32], counter: 9, clean: true };
        let data = anchored.data(&key);
        assert_eq!(Anchored::read(&data, &key), Some(anchored));
        assert_eq!(Anchored::read(&data, &Anchoring::key(&[2; 32])), None);
        for at in 0..ANCHOR_LENGTH {
            let mut bad = data;
            bad[at] ^= 1;
            assert_eq!(Anchored::read(&bad, &key), None, "byte {at}");
        }
    }
}
