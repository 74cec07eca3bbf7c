//! An authority that succeeds another one: the facts about the old one that its own
//! signatures prove.
//!
//! ```text
//! retired by its governors for this origin, log at hand   rotation
//! anything else                                           recovery
//! ```
//!
//! The new authority continues nothing of the old one: keys, log and sequence of
//! commands start again. Revocations by the old governors remain in force.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Result;
use portcullis_firmware_policy::VerifiedBundle;
use portcullis_lineage::{FileStorage, LogReader, Storage};
use portcullis_permit::{
    Checkpoint, Endorsement, Governance, Passage, Predecessor, SuccessionRecord, WitnessQuorum, Witnessed,
};
use portcullis_wire::sha256;

use crate::instance::{Refused, read};
use crate::recover::Source;

/// The authority that a new one succeeds.
#[derive(Debug, clap::Args)]
pub(crate) struct Named {
    /// Endorsement (`.pce`) of the authority that this one succeeds.
    #[arg(long, value_name = "FILE", requires = "old")]
    succeeds: Option<PathBuf>,
    /// Folder of its log, or a copy.
    #[arg(long, value_name = "FOLDER", group = "old", requires = "succeeds")]
    old_log: Option<PathBuf>,
    /// Its newest checkpoint, if the log is lost: the old revocations are then unknown.
    #[arg(long, value_name = "FILE", group = "old", requires = "succeeds")]
    old_checkpoint: Option<PathBuf>,
}

/// The content of the second entry, which the governors endorse.
pub(crate) struct Succession {
    pub(crate) record: SuccessionRecord,
    pub(crate) predecessor: Predecessor,
    /// The old endorsement, for the archive.
    pub(crate) endorsement: Vec<u8>,
}

/// The known part of the old log.
struct Old {
    head: Checkpoint,
    witnessed: Option<Witnessed>,
    /// Revocations, and for which successor the authority was retired, if it was.
    ledger: Option<crate::ledger::Ledger>,
}

/// Reads and verifies the predecessor of a new authority; `None` if it is the first
/// one.
pub(crate) fn of(
    named: &Named,
    origin: &str,
    governance: &Governance,
    bundle: &VerifiedBundle,
    at: u64,
) -> Result<Option<Succession>> {
    let Some(path) = &named.succeeds else { return Ok(None) };
    let endorsement = read("endorsement", path)?;
    let endorsed =
        Endorsement::verify(&endorsement, governance).map_err(|error| Refused::new("succession.endorsement", error))?;
    if endorsed.origin() == origin {
        let why = format!("found {origin}, required another origin than that of the old log");
        return Err(Refused::new("succession.origin", why).into());
    }
    let old = match (&named.old_log, &named.old_checkpoint) {
        (Some(folder), _) => from_log(&(Arc::new(FileStorage::reader(folder)) as Arc<dyn Storage>), &endorsed)?,
        (None, Some(file)) => from_checkpoint(&read("checkpoint", file)?, &endorsed)?,
        (None, None) => anyhow::bail!("--old-log or --old-checkpoint"),
    };
    if let Some(witnesses) = &bundle.policy().witnesses {
        check_witnesses(&old, &witnesses.quorum, &endorsed)?;
    }
    let retired = old.ledger.as_ref().and_then(|ledger| ledger.revocations().retired());
    let passage = match retired {
        Some(retired) if retired.successor.as_deref() == Some(origin) => Passage::Rotation,
        _ => Passage::Recovery,
    };
    let record = SuccessionRecord {
        time: at,
        endorsement: sha256(&[&endorsement]),
        checkpoint: old.head.note().to_owned(),
        witnessed: old.witnessed,
        inherited: old.ledger.map(|ledger| ledger.revocations().to_inherit()),
    };
    if !record.fits() {
        let why = "more nodes and workloads are revoked than an entry holds";
        return Err(Refused::new("succession.size", why).into());
    }
    let predecessor = record.predecessor(passage, &endorsed.checkpoint_key);
    let predecessor = predecessor.ok_or_else(|| Refused::new("succession.head", "not by the endorsed key"))?;
    Ok(Some(Succession { record, predecessor, endorsement }))
}

/// The head of an available log, and the state that follows from its entries.
fn from_log(storage: &Arc<dyn Storage>, endorsed: &Endorsement) -> Result<Old> {
    let refused = |why: String| Refused::new("succession.head", why);
    let log = LogReader::open(Arc::clone(storage), &endorsed.checkpoint_key, &endorsed.receipt_key)
        .map_err(|error| refused(error.to_string()))?;
    let head = log.checkpoint().clone();
    let ledger = Source {
        storage: Arc::clone(storage),
        checkpoint_key: &endorsed.checkpoint_key,
        permit_key: &endorsed.permit_key,
        head: &head,
    };
    let ledger = Some(ledger.ledger()?);
    let witnessed = match storage.get("witnessed")? {
        None => None,
        Some(note) => {
            let read = String::from_utf8(note).ok().and_then(|note| Witnessed::of(note, &log));
            let damaged = "the log's file witnessed is damaged, or of a log that has more entries";
            Some(read.ok_or_else(|| Refused::new("succession.witnesses", damaged))?)
        }
    };
    Ok(Old { head, witnessed, ledger })
}

/// A head alone, with its cosignatures of witnesses.
fn from_checkpoint(note: &[u8], endorsed: &Endorsement) -> Result<Old> {
    let refused = |why: String| Refused::new("succession.head", why);
    let note = String::from_utf8(note.to_vec()).map_err(|error| refused(error.to_string()))?;
    let head = Checkpoint::verify(&note, &endorsed.checkpoint_key).map_err(|error| refused(error.to_string()))?;
    Ok(Old { head, witnessed: Some(Witnessed { note, path: Vec::new() }), ledger: None })
}

/// Checks that a quorum has cosigned the old log, at any time, and that the head
/// extends the cosigned checkpoint.
fn check_witnesses(old: &Old, quorum: &WitnessQuorum, endorsed: &Endorsement) -> Result<(), Refused> {
    let refused = |found: &str| {
        let required = format!("{} of {} witnesses", quorum.threshold, quorum.keys.len());
        Refused::new("succession.witnesses", format!("found {found}, required a head seen by {required}"))
    };
    let witnessed = old.witnessed.as_ref().ok_or_else(|| refused("no cosigned checkpoint"))?;
    let seen = witnessed.leading_to(&old.head, &endorsed.checkpoint_key);
    let seen = seen.ok_or_else(|| refused("a checkpoint that does not lead to the head"))?;
    quorum.reached(&seen).map(|_| ()).ok_or_else(|| refused("a checkpoint with too few cosignatures"))
}
