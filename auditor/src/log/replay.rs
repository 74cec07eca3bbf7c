//! `portcullis-audit replay` repeats every decision from archived bytes and recorded
//! time. The bytes to be signed must equal the signed bytes.
//!
//! ```text
//! log --read, verify--> decisions --decide, on all cores--> same, other, pruned
//! ```

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use anyhow::{Context, Result};
use indicatif::ProgressBar;
use portcullis_attest::check::Checks;
use portcullis_cli::rfc3339;
use portcullis_firmware_policy::{History, HistoryError, PastDecision, Replayed, VerifiedBundle};
use portcullis_lineage::{ArchiveError, MAX_ENTRY};
use portcullis_permit::{BootRecord, Governance, Kind, PolicyRecord, PublicKey, WitnessQuorum, names, statement};
use portcullis_wire::{Digest, Sign1};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::resume::Memory;
use super::source::{self, Item, Source};
use crate::inputs::Inputs;
use crate::report::{Facts, Output, Report};

/// Number of decisions that are handed to a worker together.
const CHUNK: usize = 64;
/// Number of decisions after which the progress is stored.
const ROUND: usize = 65_536;
/// Number of findings that are kept, of each kind.
const MAX_FINDINGS: usize = 100;

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    source: source::Audited,
    /// Number of threads; default: one for each core.
    #[arg(long)]
    threads: Option<usize>,
    /// File that stores the progress; a later run continues from there.
    #[arg(long, value_name = "FILE")]
    resume: Option<PathBuf>,
    #[command(flatten)]
    output: Output,
}

/// The result.
#[derive(Default, Serialize, Deserialize)]
struct Tally {
    /// Entries before this one are done.
    next: u64,
    same: u64,
    other: Vec<(u64, String)>,
    broken: Vec<(u64, String)>,
    pruned: u64,
    /// Number of findings beyond those that are kept.
    more: u64,
}

pub(crate) fn run(arguments: &Arguments) -> Result<u8> {
    let mut inputs = Inputs::default();
    let mut checks = Checks::all();
    let mut source = Source::open(&arguments.source, &mut inputs)?;
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let threads = arguments.threads.unwrap_or(cores).clamp(1, 256);
    let key = source.endorsed.checkpoint_key.clone();
    let memory = Memory { path: arguments.resume.as_deref(), key: &key };
    let known = memory.known(|state| {
        source.goes_on_from(state.get("head")?)?;
        Tally::deserialize(state.get("tally")?).ok()
    });
    let known = known.map_err(|error| format!("{error:#}"));
    let known = checks.step("log.resume", known, "what replay has written of this log", "where to go on from");
    let required = format!("entries of a log of {} that its keys signed", source.size);
    let replayed = known.and_then(|known| {
        let replayed = replay(&mut source, known.unwrap_or_default(), threads, &memory);
        checks.step("log.tree", replayed.map_err(|error| format!("{error:#}")), &required, "entries of the log")
    });
    let (tally, quorum) = replayed.map_or((None, None), |(tally, quorum)| (Some(tally), quorum));
    if let Some(tally) = &tally {
        judge(tally, &mut checks);
    }
    if let Some(quorum) = quorum {
        judge_witnesses(&source, &quorum, &mut checks);
    }
    let tally = tally.unwrap_or_default();
    let mut members = Map::new();
    members.insert("replay".into(), tally.json());
    let decisions = tally.decisions().to_string();
    let report = Report {
        schema: "portcullis/replay/1",
        title: format!("Replay of {}", arguments.source.log.display()),
        at: None,
        inputs,
        checks,
        facts: vec![Facts::new(
            "What was decided again",
            [
                ("log entries", source.size.to_string()),
                ("selection", source.selection.clone()),
                ("decisions", decisions),
                ("the same bytes", tally.same.to_string()),
                ("pruned", tally.pruned.to_string()),
            ],
        )],
        beyond: vec!["Whether the evidence was true: machines are believed as far as their vendors' signatures go."],
        note: "",
        policies: Vec::new(),
        members,
    };
    report.give(&arguments.output)
}

fn judge(tally: &Tally, checks: &mut Checks) {
    let first = |findings: &[(u64, String)]| {
        findings.first().map_or_else(|| "none".to_owned(), |(index, why)| format!("entry {index}: {why}"))
    };
    checks.require(
        "replay.decision",
        tally.other.is_empty(),
        || first(&tally.other),
        || "the bytes that were signed, for every decision".into(),
        "decisions made again",
    );
    checks.require(
        "replay.archive",
        tally.broken.is_empty(),
        || first(&tally.broken),
        || "everything that a decision was made of".into(),
        "archived evidence, facts and bundles",
    );
    if tally.pruned > 0 {
        let required = format!("the evidence of {} decisions, which was pruned after its time", tally.pruned);
        checks.missing("replay.pruned", required, "evidence of old decisions");
    }
}

/// Checks that as many witnesses as the newest bundle demands have cosigned a
/// checkpoint that leads to the head of this log.
fn judge_witnesses(source: &Source, quorum: &WitnessQuorum, checks: &mut Checks) {
    let required = format!("{} of {} witnesses", quorum.threshold, quorum.keys.len());
    let Some(witnessed) = &source.witnessed else {
        return checks.missing("log.witnessed", required, "cosigned checkpoint");
    };
    let seen = witnessed.leading_to(&source.checkpoint, &source.endorsed.checkpoint_key);
    let reached = seen.as_ref().and_then(|seen| quorum.reached(seen));
    let found = match (&seen, reached) {
        (Some(seen), Some(time)) => format!("a tree of {}, at {}", seen.size(), rfc3339(time)),
        (Some(_), None) => "too few cosignatures".into(),
        (None, _) => "a checkpoint that does not lead to the head".into(),
    };
    checks.require("log.witnessed", reached.is_some(), || found, || required, "cosigned checkpoint");
}

/// A decision that is handed to a worker.
struct Job {
    index: u64,
    statement: Sign1,
    decision: PastDecision,
    bundle: Arc<VerifiedBundle>,
}

fn replay(
    source: &mut Source,
    mut tally: Tally,
    threads: usize,
    memory: &Memory<'_>,
) -> Result<(Tally, Option<WitnessQuorum>)> {
    let key = source.endorsed.permit_key.clone();
    let bar = source.bar("replaying");
    let start = tally.next;
    let mut reader = Reader { quorum: None, history: History::default(), bundles: HashMap::new(), key: key.clone() };
    loop {
        let shared = Mutex::new(std::mem::take(&mut tally));
        let ended = round(source, &mut reader, start, threads, &key, &shared, &bar)?;
        tally = shared.into_inner().unwrap_or_else(PoisonError::into_inner);
        tally.other.sort_unstable();
        tally.broken.sort_unstable();
        memory.keep(|| json!({ "head": source.head_json(), "tally": tally }));
        if ended {
            bar.finish_and_clear();
            return Ok((tally, reader.quorum));
        }
    }
}

/// Replays a part of the log on all threads; `true` at its end. No worker is busy
/// between parts, so the progress can be stored.
fn round(
    source: &mut Source,
    reader: &mut Reader,
    start: u64,
    threads: usize,
    key: &PublicKey,
    tally: &Mutex<Tally>,
    bar: &ProgressBar,
) -> Result<bool> {
    let (sender, receiver) = sync_channel::<Vec<Job>>(threads.saturating_mul(2));
    let receiver = Arc::new(Mutex::new(receiver));
    thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|_| {
                let receiver = Arc::clone(&receiver);
                scope.spawn(move || work(&receiver, tally, key))
            })
            .collect();
        // Dropped here, so that the workers end if the reader fails.
        drop(receiver);
        let read = feed(source, reader, start, sender, tally, bar);
        let joined = workers.into_iter().try_for_each(|w| w.join().map_err(|_| anyhow::anyhow!("a worker stopped")));
        joined.and(read)
    })
}

/// Reads decisions in order, each with the bundle that was active.
fn feed(
    source: &mut Source,
    reader: &mut Reader,
    start: u64,
    sender: SyncSender<Vec<Job>>,
    tally: &Mutex<Tally>,
    bar: &ProgressBar,
) -> Result<bool> {
    let (mut chunk, mut next, mut ended) = (Vec::new(), start, true);
    let mut decisions = 0_usize;
    while let Some(item) = source.next()? {
        let index = item.index;
        let job = reader.read(item, &source.governance);
        if index < start {
            continue;
        }
        next = index.saturating_add(1);
        match job {
            Ok(job) => chunk.extend(job),
            Err(finding) => tally.lock().unwrap_or_else(PoisonError::into_inner).find(index, finding),
        }
        if chunk.len() >= CHUNK {
            decisions = decisions.saturating_add(chunk.len());
            sender.send(std::mem::take(&mut chunk)).context("the workers stopped")?;
            bar.set_position(next);
        }
        if decisions >= ROUND {
            ended = false;
            break;
        }
    }
    sender.send(chunk).context("the workers stopped")?;
    let mut tally = tally.lock().unwrap_or_else(PoisonError::into_inner);
    tally.next = tally.next.max(next);
    Ok(ended)
}

enum Finding {
    Pruned,
    Broken(String),
    Other(String),
}

impl Finding {
    fn broken(why: impl std::fmt::Display) -> Self {
        Self::Broken(why.to_string())
    }
}

impl From<HistoryError> for Finding {
    fn from(error: HistoryError) -> Self {
        Self::broken(error)
    }
}

impl From<ArchiveError> for Finding {
    fn from(error: ArchiveError) -> Self {
        match error {
            ArchiveError::Pruned(_) => Self::Pruned,
            other => Self::broken(other),
        }
    }
}

/// The state of the log so far.
struct Reader {
    /// The witnesses that the newest bundle demands.
    quorum: Option<WitnessQuorum>,
    history: History,
    bundles: HashMap<Digest, Arc<VerifiedBundle>>,
    key: PublicKey,
}

impl Reader {
    fn read(&mut self, item: Item, governance: &Governance) -> Result<Option<Job>, Finding> {
        let Item { index, statement, blobs } = item;
        let statement = Sign1::parse(&statement, MAX_ENTRY).map_err(Finding::broken)?;
        let mut blobs = Some(blobs);
        let decision = self.history.take::<Finding>(&statement, || {
            let blobs = blobs.take().unwrap_or_default();
            if blobs.iter().any(Result::is_err) {
                // Blobs beside pruned evidence must still match the statement.
                compare(&statement, &blobs)?;
            }
            blobs.into_iter().map(|blob| blob.map_err(Finding::from)).collect()
        })?;
        let Some(decision) = decision else {
            let blobs = blobs.unwrap_or_default();
            compare(&statement, &blobs)?;
            return self.learn(statement, blobs, governance).map(|()| None);
        };
        let bundle = self.bundles.get(&decision.bundle).cloned();
        let bundle = bundle.ok_or_else(|| Finding::broken("decided under a bundle that the log does not show"))?;
        Ok(Some(Job { index, statement, decision, bundle }))
    }

    /// A bundle that is active from here on.
    fn learn(
        &mut self,
        entry: Sign1,
        blobs: Vec<Result<Vec<u8>, ArchiveError>>,
        governance: &Governance,
    ) -> Result<(), Finding> {
        let Some(kind @ (Kind::Boot | Kind::Policy)) = Kind::of(&entry) else { return Ok(()) };
        let signed = statement::verify_object(entry, kind, &self.key).map_err(Finding::broken)?;
        let digest = match kind {
            Kind::Boot => BootRecord::decode(signed.payload()).map(|record| record.bundle),
            _ => PolicyRecord::decode(signed.payload()).map(|record| record.bundle),
        };
        let digest = digest.map_err(Finding::broken)?;
        let demanded = |bundle: &VerifiedBundle| bundle.policy().witnesses.as_ref().map(|w| w.quorum.clone());
        if let Some(known) = self.bundles.get(&digest) {
            self.quorum = demanded(known);
            return Ok(());
        }
        let verified = blobs.into_iter().flatten().filter_map(|blob| VerifiedBundle::verify(&blob, governance).ok());
        let bundle = verified.into_iter().find(|bundle| *bundle.digest() == digest);
        let bundle = bundle.ok_or_else(|| Finding::broken("the archive lacks the bundle that took effect"))?;
        self.quorum = demanded(&bundle);
        self.bundles.insert(digest, Arc::new(bundle));
        Ok(())
    }
}

/// Checks that every archived blob matches its entry or was pruned. Blobs of decisions
/// are compared when the decision is repeated.
fn compare(entry: &Sign1, blobs: &[Result<Vec<u8>, ArchiveError>]) -> Result<(), Finding> {
    blobs.iter().try_for_each(|blob| match blob {
        Ok(blob) if names(entry, blob) => Ok(()),
        Ok(_) => Err(Finding::broken("the archive has something that the statement does not name")),
        Err(ArchiveError::Pruned(_)) => Ok(()),
        Err(error) => Err(Finding::broken(error)),
    })
}

fn work(receiver: &Mutex<Receiver<Vec<Job>>>, tally: &Mutex<Tally>, key: &PublicKey) {
    loop {
        let received = receiver.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(chunk) = received else { return };
        let mut findings = Vec::new();
        let mut same = 0_u64;
        for Job { index, statement, decision, bundle } in chunk {
            let kind = if decision.permitted { Kind::Permit } else { Kind::Denial };
            let signed = statement::verify_object(statement, kind, key).is_ok();
            match decision.replay(&bundle, key) {
                _ if !signed => findings.push((index, Finding::broken("not signed by the authority"))),
                Ok(Replayed::Same) => same = same.saturating_add(1),
                Ok(Replayed::Other(check)) => {
                    let again = check.map_or_else(|| "a permit".to_owned(), |check| format!("a denial, {check}"));
                    findings.push((index, Finding::Other(format!("decided again, it is {again}"))));
                }
                Err(error) => findings.push((index, error.into())),
            }
        }
        let mut tally = tally.lock().unwrap_or_else(PoisonError::into_inner);
        tally.same = tally.same.saturating_add(same);
        findings.into_iter().for_each(|(index, finding)| tally.find(index, finding));
    }
}

impl Tally {
    fn find(&mut self, index: u64, finding: Finding) {
        let (list, why) = match finding {
            Finding::Pruned => return self.pruned = self.pruned.saturating_add(1),
            Finding::Broken(why) => (&mut self.broken, why),
            Finding::Other(why) => (&mut self.other, why),
        };
        if list.len() < MAX_FINDINGS {
            list.push((index, why));
        } else {
            self.more = self.more.saturating_add(1);
        }
    }

    fn decisions(&self) -> u64 {
        let found = self.other.len().saturating_add(self.broken.len()) as u64;
        self.same.saturating_add(self.pruned).saturating_add(found).saturating_add(self.more)
    }

    fn json(&self) -> Value {
        let list = |findings: &[(u64, String)]| {
            findings.iter().map(|(index, why)| json!({ "entry": index, "why": why })).collect::<Vec<_>>()
        };
        json!({
            "next": self.next,
            "decisions": self.decisions(),
            "same": self.same,
            "pruned": self.pruned,
            "other": list(&self.other),
            "broken": list(&self.broken),
            "more": self.more,
        })
    }
}
