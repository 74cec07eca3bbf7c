//! Files that an authority keeps beside its log: the bundle and the endorsement that
//! were activated last, and the sequence of bundles.
//!
//! The log contains all of it as well. A damaged file is reported and restored from the
//! log. It is never treated as absent, because an older bundle would then apply. Data
//! from the log is verified like data from any other source.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};
use portcullis_files::{make_folder, read_if_present, write_durably};
use portcullis_firmware_policy::VerifiedBundle;
use portcullis_lineage::{ArchiveReader, ArchivedEntry, FileStorage, MAX_ENTRY, Storage};
use portcullis_permit::{BootRecord, Endorsement, Governance, Kind, PolicyRecord};
use portcullis_wire::hex::hex;
use portcullis_wire::{Digest, Sign1};

use crate::authority::SignedEndorsement;
use crate::config::Config;
use crate::instance::{Refused, log_folder};

/// Files in the state folder.
#[derive(Clone, Copy)]
pub(crate) struct Kept<'a> {
    state: &'a Path,
    log: &'a Path,
    governance: &'a Governance,
}

/// [`Kept`] with borrowed folders.
pub(crate) struct Folders {
    state: PathBuf,
    log: PathBuf,
}

impl Folders {
    pub(crate) fn of(config: &Config) -> Self {
        Self { state: config.state.clone(), log: log_folder(config) }
    }

    pub(crate) fn kept<'a>(&'a self, governance: &'a Governance) -> Kept<'a> {
        Kept { state: &self.state, log: &self.log, governance }
    }
}

impl Kept<'_> {
    /// The newest bundle that was active here; no older one becomes active again.
    pub(crate) fn newest_bundle(self, configured: VerifiedBundle) -> Result<VerifiedBundle> {
        let path = self.state.join("active.pcb");
        let kept = match read_if_present(&path)? {
            Some(bytes) => match VerifiedBundle::verify(&bytes, self.governance) {
                Ok(bundle) => Some(bundle),
                Err(error) => self.made_again(&path, &error)?,
            },
            // Later bundles were activated, so the file must exist.
            None if self.successors().is_dir() => self.made_again(&path, &"the file is missing")?,
            None => None,
        };
        Ok(VerifiedBundle::newest(configured, kept).map_err(|error| Refused::new(error.check(), error))?)
    }

    /// The bundle that took effect last, restored from the log.
    fn made_again(self, path: &Path, why: &dyn std::fmt::Display) -> Result<Option<VerifiedBundle>> {
        let describe = || format!("{}: {why}; making it again from the log", path.display());
        tracing::warn!(file = %path.display(), %why, "damaged: it is made again from the log");
        let bundle = self.find_bundle(|_| true).with_context(describe)?;
        match &bundle {
            Some(bundle) => write_durably(path, bundle.bytes())?,
            None => return Err(anyhow::anyhow!("the log has no bundle")).with_context(describe),
        }
        Ok(bundle)
    }

    /// The endorsement that was activated at run time, or else the configured one.
    pub(crate) fn endorsement(self, configured: &Path) -> Result<SignedEndorsement> {
        let path = self.state.join("active.pce");
        let verify = |bytes: &[u8]| Endorsement::verify(bytes, self.governance);
        let activated = match read_if_present(&path)? {
            Some(bytes) => match verify(&bytes) {
                Ok(_) => Some(bytes),
                Err(error) => {
                    tracing::warn!(file = %path.display(), %error, "damaged: it is made again from the log");
                    let describe = || format!("{}: {error}; making it again from the log", path.display());
                    let found = self.find_endorsement().with_context(describe)?;
                    let found = found.ok_or_else(|| anyhow::anyhow!("the log has none")).with_context(describe)?;
                    write_durably(&path, &found)?;
                    Some(found)
                }
            },
            None => None,
        };
        let given = std::fs::read(configured).map_err(|error| {
            let why = format!("{}: {error}; required an endorsement by the governors", configured.display());
            Refused::new("authority.endorsement", why)
        });
        // Of two endorsements for the same keys, the one that lasts longer applies: the
        // operator may have installed a new one while the authority was off.
        let lasts_longer = |given: &[u8], kept: &[u8]| match (verify(given), verify(kept)) {
            (Ok(given), Ok(kept)) => given.checkpoint_key == kept.checkpoint_key && given.expires > kept.expires,
            _ => false,
        };
        let bytes = match (activated, given) {
            (Some(kept), Ok(given)) if lasts_longer(&given, &kept) => given,
            (Some(kept), _) => kept,
            (None, given) => given?,
        };
        let endorsement = verify(&bytes).map_err(|error| Refused::new("authority.endorsement", error))?;
        Ok(SignedEndorsement { bytes, endorsement })
    }

    /// Stores a bundle that is about to take effect, also for nodes that miss it.
    pub(crate) fn keep_bundle(self, bundle: &VerifiedBundle) -> std::io::Result<()> {
        if let Some(predecessor) = &bundle.policy().predecessor {
            make_folder(&self.successors())?;
            write_durably(&self.successor_path(predecessor), bundle.bytes())?;
        }
        write_durably(&self.state.join("active.pcb"), bundle.bytes())
    }

    /// Stores an endorsement that is about to take effect.
    pub(crate) fn keep_endorsement(self, bytes: &[u8]) -> std::io::Result<()> {
        write_durably(&self.state.join("active.pce"), bytes)
    }

    /// The direct successor of a bundle, for nodes that missed it.
    pub(crate) fn successor(self, predecessor: &Digest) -> Result<Option<Vec<u8>>> {
        let path = self.successor_path(predecessor);
        let Some(bytes) = read_if_present(&path)? else { return Ok(None) };
        let Err(error) = VerifiedBundle::verify(&bytes, self.governance) else { return Ok(Some(bytes)) };
        tracing::warn!(file = %path.display(), %error, "damaged: it is made again from the log");
        let found = self.find_bundle(|bundle| bundle.policy().predecessor.as_ref() == Some(predecessor))?;
        let found = found.with_context(|| format!("{}: {error}; the log has no such bundle", path.display()))?;
        write_durably(&path, found.bytes())?;
        Ok(Some(found.bytes().to_vec()))
    }

    fn successors(self) -> PathBuf {
        self.state.join("bundles")
    }

    fn successor_path(self, predecessor: &Digest) -> PathBuf {
        self.successors().join(format!("{}.pcb", hex(predecessor)))
    }

    /// The last bundle in the log that matches.
    fn find_bundle(self, fits: impl Fn(&VerifiedBundle) -> bool) -> Result<Option<VerifiedBundle>> {
        let mut found = None;
        self.each_entry(|object, entry, reader| {
            let payload = object.payload().unwrap_or_default();
            let named = match Kind::of(object) {
                Some(Kind::Policy) => PolicyRecord::decode(payload).ok().map(|record| record.bundle),
                Some(Kind::Boot) => BootRecord::decode(payload).ok().map(|record| record.bundle),
                _ => None,
            };
            let Some(named) = named else { return };
            let blobs = entry.blobs.iter().filter_map(|blob| reader.archive().read(blob).ok());
            let bundles = blobs.filter_map(|bytes| VerifiedBundle::verify(&bytes, self.governance).ok());
            let bundle = bundles.into_iter().find(|bundle| *bundle.digest() == named);
            found = bundle.filter(|bundle| fits(bundle)).or(found.take());
        })?;
        Ok(found)
    }

    /// The last endorsement in the log.
    fn find_endorsement(self) -> Result<Option<Vec<u8>>> {
        let mut found = None;
        self.each_entry(|object, entry, reader| {
            let candidates = match Kind::of(object) {
                Some(Kind::Instance) => vec![object.payload().unwrap_or_default().to_vec()],
                Some(Kind::Boot) => entry.blobs.iter().filter_map(|blob| reader.archive().read(blob).ok()).collect(),
                _ => return,
            };
            let mut fitting = candidates.into_iter().filter(|it| Endorsement::verify(it, self.governance).is_ok());
            found = fitting.next().or(found.take());
        })?;
        Ok(found)
    }

    fn each_entry(self, mut take: impl FnMut(&Sign1, &ArchivedEntry, &mut ArchiveReader)) -> Result<()> {
        let storage: Arc<dyn Storage> = Arc::new(FileStorage::reader(self.log));
        let mut reader = ArchiveReader::open(storage, 0)?;
        while let Some(batch) = reader.next_batch()? {
            for entry in &batch.entries {
                if let Ok(object) = Sign1::parse(&entry.statement, MAX_ENTRY) {
                    take(&object, entry, &mut reader);
                }
            }
        }
        Ok(())
    }
}
