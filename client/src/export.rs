//! `portcullis log export`: one file with everything that an offline check needs. It
//! reads the authority's files, on the authority or from a copy. Every entry is
//! verified to be in the log before it is written.

use std::collections::{BTreeMap, HashSet};
use std::fs::{self, File};
use std::io::BufWriter;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use clap::{ArgGroup, Args};
use portcullis_cli::{progress, say, unix_seconds};
use portcullis_firmware_policy::{ParentState, RecordedFacts};
use portcullis_lineage::{Archive, ArchivedEntry, BundleWriter, FileStorage, LogReader, MAX_ENTRY, Replay, Storage};
use portcullis_permit::{
    Checkpoint, Endorsement, Execution, Governance, Kind, Permit, PermitId, Witnessed, recorded_time,
};
use portcullis_wire::hex::unhex_array;
use portcullis_wire::{Digest, Sign1, encode, sha256};

const BAR: &str = "{msg} {wide_bar} {pos} entries {eta}";

#[derive(Debug, Args)]
#[command(group = ArgGroup::new("selection").required(true))]
pub(crate) struct Arguments {
    /// Folder of the authority's log.
    #[arg(long, default_value = "/var/lib/portcullis/log")]
    log: PathBuf,
    /// Endorsement of the authority (`.pce`).
    #[arg(long, value_name = "FILE")]
    endorsement: PathBuf,
    /// The governors' keys and threshold.
    #[arg(long, value_name = "FILE")]
    governance_root: PathBuf,
    /// One permit, with the permits that it renews, its renewals, and its executions.
    #[arg(long, value_name = "ID", group = "selection")]
    permit: Option<String>,
    /// Everything from a time on, RFC 3339.
    #[arg(long, value_name = "RFC3339", group = "selection")]
    since: Option<String>,
    /// Everything.
    #[arg(long, group = "selection")]
    all: bool,
    /// Output file; it must not exist.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

/// The entries to export.
enum Selection {
    All,
    Since(u64),
    /// The permits of one line, and the boots of the processes that decided on them.
    Line {
        permits: HashSet<PermitId>,
        boots: HashSet<Digest>,
    },
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let read = |path: &PathBuf| fs::read(path).with_context(|| path.display().to_string());
    let (endorsement, governance) = (read(&arguments.endorsement)?, read(&arguments.governance_root)?);
    let governors =
        Governance::from_file(&governance).with_context(|| arguments.governance_root.display().to_string())?;
    let endorsed = Endorsement::verify(&endorsement, &governors).context("endorsement")?;
    let storage: Arc<dyn Storage> = Arc::new(FileStorage::reader(&arguments.log));
    let log = LogReader::open(Arc::clone(&storage), &endorsed.checkpoint_key, &endorsed.receipt_key)
        .with_context(|| arguments.log.display().to_string())?;
    let source = Source { storage, log: &log, endorsed: &endorsed };

    let (selection, name) = match (&arguments.permit, &arguments.since) {
        (Some(id), _) => {
            let id = unhex_array(id).map(PermitId::from_bytes).with_context(|| format!("{id}: not a permit's id"))?;
            (source.line(&id)?, format!("permit {id}"))
        }
        (None, Some(time)) => {
            let since = unix_seconds(time).with_context(|| format!("--since {time}: required RFC 3339"))?;
            (Selection::Since(since), format!("since {time}"))
        }
        (None, None) => (Selection::All, "all".into()),
    };
    let mut documents = BTreeMap::from([("endorsement".into(), endorsement), ("governance-root".into(), governance)]);
    documents.extend(source.witnessed()?.map(|witnessed| ("witnessed".into(), encode(&witnessed.to_value()))));
    let file = File::create_new(&arguments.out).with_context(|| arguments.out.display().to_string())?;
    let written = source.write(BufWriter::new(file), &selection, &name, &documents);
    if written.is_err() {
        // Remove an incomplete bundle, so that it is not mistaken for a complete one.
        drop(fs::remove_file(&arguments.out));
    }
    let (entries, size) = (written?, log.checkpoint().size());
    say!("{}: {entries} of {size} entries ({name})", arguments.out.display());
    Ok(())
}

struct Source<'a> {
    storage: Arc<dyn Storage>,
    log: &'a LogReader,
    endorsed: &'a Endorsement,
}

impl Source<'_> {
    /// The newest cosigned checkpoint, with the path from it to the head.
    fn witnessed(&self) -> Result<Option<Witnessed>> {
        let note = self.storage.get("witnessed")?.and_then(|bytes| String::from_utf8(bytes).ok());
        let Some(note) = note else { return Ok(None) };
        Checkpoint::verify(&note, &self.endorsed.checkpoint_key).context("witnessed")?;
        Ok(Witnessed::of(note, self.log))
    }

    /// Calls `visit` with every entry of the log, in order.
    fn each(&self, what: &str, mut visit: impl FnMut(u64, ArchivedEntry, &mut Archive) -> Result<()>) -> Result<()> {
        let (key, head) = (self.endorsed.checkpoint_key.clone(), self.log.checkpoint().clone());
        let bar = progress(Some(head.size()), BAR).with_message(what.to_owned());
        let mut replay = Replay::open(Arc::clone(&self.storage), 0, key, head)?;
        let mut archive = Archive::new(Arc::clone(&self.storage));
        while let Some(batch) = replay.next_batch()? {
            bar.set_position(batch.first);
            for (index, entry) in (batch.first..).zip(batch.entries) {
                visit(index, entry, &mut archive).with_context(|| format!("entry {index}"))?;
            }
        }
        bar.finish_and_clear();
        Ok(())
    }

    /// The line of renewals that a permit belongs to. Its facts name the first permit of
    /// the line, as do the facts of every other permit in it.
    fn line(&self, id: &PermitId) -> Result<Selection> {
        let mut origin = None;
        self.each("looking for the permit", |_, entry, archive| {
            if permit_of(&entry).is_some_and(|permit| permit == *id) {
                origin = Some(line_of(id, &entry, archive)?.0);
            }
            Ok(())
        })?;
        let Some(origin) = origin else { bail!("the log has no permit {id}") };
        let (mut permits, mut boots) = (HashSet::new(), HashSet::new());
        self.each("collecting its line", |_, entry, archive| {
            if let Some(permit) = permit_of(&entry) {
                let (first, boot) = line_of(&permit, &entry, archive)?;
                if first == origin {
                    permits.insert(permit);
                    boots.insert(boot);
                }
            }
            Ok(())
        })?;
        Ok(Selection::Line { permits, boots })
    }

    fn write(
        &self,
        out: BufWriter<File>,
        selection: &Selection,
        name: &str,
        documents: &BTreeMap<String, Vec<u8>>,
    ) -> Result<u64> {
        let mut bundle = BundleWriter::start(out, self.log, name, documents)?;
        let mut count = 0_u64;
        self.each("writing", |index, entry, archive| {
            if selection.takes(&entry)? {
                bundle.entry(index, &entry, archive)?;
                count = count.saturating_add(1);
            }
            Ok(())
        })?;
        let out = bundle.finish()?;
        out.into_inner().map_err(std::io::IntoInnerError::into_error)?.sync_all()?;
        Ok(count)
    }
}

impl Selection {
    /// Whether an entry is selected. The entries that decisions depend on are always
    /// selected: genesis, commands of governors, and bundles.
    fn takes(&self, entry: &ArchivedEntry) -> Result<bool> {
        let object = Sign1::parse(&entry.statement, MAX_ENTRY)?;
        let (payload, kind) = (object.payload().unwrap_or_default(), Kind::of(&object));
        Ok(match (self, kind) {
            (Self::All, _)
            | (_, Some(Kind::Genesis | Kind::Rotation | Kind::Recovery))
            | (_, Some(Kind::Policy | Kind::Instance | Kind::Revocation | Kind::Trip))
            | (Self::Since(_), Some(Kind::Boot)) => true,
            (Self::Since(since), _) => recorded_time(&object).is_none_or(|time| time >= *since),
            (Self::Line { boots, .. }, Some(Kind::Boot)) => boots.contains(&sha256(&[&entry.statement])),
            (Self::Line { permits, .. }, Some(Kind::Permit)) => permits.contains(&Permit::decode(payload)?.id),
            (Self::Line { permits, .. }, Some(Kind::ExecutionRecord)) => {
                permits.contains(&Execution::verify(payload)?.0.permit)
            }
            (Self::Line { .. }, _) => false,
        })
    }
}

fn permit_of(entry: &ArchivedEntry) -> Option<PermitId> {
    let object = Sign1::parse(&entry.statement, MAX_ENTRY).ok()?;
    let is_permit = Kind::of(&object) == Some(Kind::Permit);
    is_permit.then(|| Permit::decode(object.payload().unwrap_or_default()).ok().map(|permit| permit.id)).flatten()
}

/// First permit of a permit's line, and the boot entry of the process that decided on
/// it.
fn line_of(id: &PermitId, entry: &ArchivedEntry, archive: &mut Archive) -> Result<(PermitId, Digest)> {
    let facts = archive.read(entry.blobs.get(2).context("no recorded facts")?)?;
    let facts = RecordedFacts::decode(&facts)?;
    let origin = match facts.parent() {
        ParentState::Logged { origin, .. } => *origin,
        ParentState::None | ParentState::Unknown => *id,
    };
    Ok((origin, *facts.boot()))
}
