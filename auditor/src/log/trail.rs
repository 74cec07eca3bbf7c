//! `portcullis-audit trail ID`: chip, boot, policy, permit, renewals, end: what
//! became of a permit, as a tree.

use std::collections::HashMap;

use anyhow::{Context, Result};
use portcullis_attest::check::Checks;
use portcullis_attest::evidence::Evidence;
use portcullis_attest::snp::report::Report as SnpReport;
use portcullis_cli::rfc3339;
use portcullis_firmware_policy::{ParentState, RecordedFacts};
use portcullis_lineage::{ArchiveError, MAX_ENTRY};
use portcullis_permit::{
    BootRecord, Execution, Kind, Permit, PermitId, PolicyRecord, Quorum, Revocation, RevocationTarget,
};
use portcullis_wire::hex::{hex, unhex_array};
use portcullis_wire::{Digest, Sign1, sha256};
use rayon::prelude::*;
use serde_json::{Map, Value, json};

use super::source::{self, Item, Source, signed_kind};
use crate::inputs::Inputs;
use crate::report::{Facts, Output, Report};

/// Entries whose signatures are verified together, on all cores.
const TOGETHER: usize = 1024;

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Id of a permit: any of its line of renewals.
    id: String,
    #[command(flatten)]
    source: source::Audited,
    #[command(flatten)]
    output: Output,
}

/// Something that the log says of the line.
struct Event {
    index: u64,
    time: Option<u64>,
    what: &'static str,
    text: String,
    /// How deep it stands in the tree.
    depth: usize,
    id: Option<PermitId>,
}

/// What is remembered of entries that a permit may turn out to rest on.
#[derive(Default)]
struct Trail {
    boots: HashMap<Digest, Event>,
    policies: HashMap<Digest, Event>,
    /// Permits with the first of their line and what is told of them.
    permits: Vec<PermitSeen>,
    executions: Vec<(PermitId, Event)>,
    revocations: Vec<(Revocation, Event)>,
    unsigned: Option<u64>,
}

struct PermitSeen {
    permit: Permit,
    origin: PermitId,
    boot: Option<Digest>,
    chip: Option<String>,
    event: Event,
}

pub(crate) fn run(arguments: &Arguments) -> Result<u8> {
    let id = unhex_array(&arguments.id).map(PermitId::from_bytes);
    let id = id.with_context(|| format!("{}: not the id of a permit", arguments.id))?;
    let mut inputs = Inputs::default();
    let mut checks = Checks::all();
    let mut source = Source::open(&arguments.source, &mut inputs)?;
    let mut trail = Trail::default();
    let read = read(&mut source, &mut trail).map_err(|error| format!("{error:#}"));
    let required = format!("entries of a log of {} that its keys signed", source.size);
    let whole = checks.step("log.tree", read, &required, "entries of the log").is_some();
    let signed = trail.unsigned;
    checks.require(
        "log.statements",
        signed.is_none(),
        || signed.map_or_else(|| "all signed".into(), |index| format!("entry {index} is not signed by the authority")),
        || "every entry is a statement by the endorsed permit key".into(),
        "signature of every entry",
    );
    let origin = trail.permits.iter().find(|seen| seen.permit.id == id).map(|seen| seen.origin);
    if whole {
        checks.require(
            "trail.permit",
            origin.is_some(),
            || if origin.is_some() { "in the log".into() } else { "no such permit".into() },
            || format!("permit {id} in the log"),
            "the permit that was asked for",
        );
    }
    let events = origin.map(|origin| trail.line(origin)).unwrap_or_default();
    let mut members = Map::new();
    members.insert("trail".into(), events.iter().map(Event::json).collect());
    let report = Report {
        schema: "portcullis/trail/1",
        title: format!("Trail of permit {id}"),
        at: None,
        inputs,
        checks,
        facts: vec![Facts { title: "What became of it", rows: events.iter().map(Event::row).collect() }],
        beyond: vec![
            "Whether the decisions come out again: portcullis-audit replay.",
            "What gates did not report: a kill without a report shows as a permit that was not renewed.",
        ],
        note: "",
        policies: Vec::new(),
        members,
    };
    report.give(&arguments.output)
}

fn read(source: &mut Source, trail: &mut Trail) -> Result<()> {
    let bar = source.bar("reading");
    loop {
        let mut items = Vec::new();
        while items.len() < TOGETHER
            && let Some(item) = source.next()?
        {
            items.push(item);
        }
        if items.is_empty() {
            break;
        }
        bar.set_position(source.position());
        let endorsed = &source.endorsed;
        let kinds: Vec<Option<Kind>> = items.par_iter().map(|item| signed_kind(&item.statement, endorsed)).collect();
        for (kind, item) in kinds.into_iter().zip(items) {
            match kind {
                Some(kind) => trail.take(kind, item)?,
                None => trail.unsigned = trail.unsigned.or(Some(item.index)),
            }
        }
    }
    bar.finish_and_clear();
    Ok(())
}

impl Trail {
    fn take(&mut self, kind: Kind, item: Item) -> Result<()> {
        let Item { index, statement, blobs } = item;
        let object = Sign1::parse(&statement, MAX_ENTRY)?;
        let payload = object.payload().unwrap_or_default();
        let event = |what, text, time, depth| Event { index, time, what, text, depth, id: None };
        match kind {
            Kind::Boot => {
                let boot = BootRecord::decode(payload)?;
                let text = format!("portcullisd {}, bundle version {}", boot.software, boot.version);
                self.boots.insert(sha256(&[&statement]), event("boot", text, Some(boot.time), 1));
                let text = format!("bundle version {} {}", boot.version, short(&boot.bundle));
                self.policies.entry(boot.bundle).or_insert_with(|| event("policy", text, Some(boot.time), 2));
            }
            Kind::Policy => {
                let policy = PolicyRecord::decode(payload)?;
                let text = format!("bundle version {} {}", policy.version, short(&policy.bundle));
                self.policies.insert(policy.bundle, event("policy", text, Some(policy.time), 2));
            }
            Kind::Permit => {
                let permit = Permit::decode(payload)?;
                let seen = PermitSeen::of(permit, index, &blobs)?;
                self.permits.push(seen);
            }
            Kind::ExecutionRecord => {
                let (execution, _) = Execution::verify(payload)?;
                let text = execution_text(&execution);
                self.executions.push((execution.permit, event(execution.stage.name(), text, Some(execution.time), 4)));
            }
            Kind::Revocation => {
                let command = Quorum::decode(payload, MAX_ENTRY)?;
                let command = Revocation::decode(command.unverified_document())?;
                let text = format!("number {}: {}", command.sequence, command.reason);
                self.revocations.push((command, event("revoked", text, None, 4)));
            }
            _ => {}
        }
        Ok(())
    }

    /// Everything about one line of permits, as a tree in the order of the log.
    fn line(self, origin: PermitId) -> Vec<Event> {
        let Self { mut boots, mut policies, permits, executions, revocations, .. } = self;
        let line: Vec<PermitSeen> = permits.into_iter().filter(|seen| seen.origin == origin).collect();
        let mut events = Vec::new();
        if let Some(chip) = line.iter().find_map(|seen| seen.chip.clone()) {
            let index = line.first().map_or(0, |seen| seen.event.index);
            events.push(Event { index, time: None, what: "chip", text: chip, depth: 0, id: None });
        }
        let mut about: Vec<(PermitId, Event)> = executions;
        for (command, event) in revocations {
            let hit = |seen: &&PermitSeen| match &command.target {
                RevocationTarget::Permit(id) => seen.permit.id == *id || seen.origin == *id,
                RevocationTarget::Node(node) => seen.permit.subject == *node,
                RevocationTarget::Workload(digest) => seen.permit.workload == *digest,
                RevocationTarget::Authority(_) => true,
            };
            // The newest permit before it is the one that it ended.
            let mut before = line.iter().filter(|seen| seen.event.index < event.index);
            if let Some(seen) = before.rfind(hit) {
                about.push((seen.permit.id, event));
            }
        }
        for seen in line {
            events.extend(seen.boot.and_then(|boot| boots.remove(&boot)));
            events.extend(policies.remove(&seen.permit.bundle));
            let id = seen.permit.id;
            events.push(seen.event);
            let (mut own, rest): (Vec<_>, Vec<_>) = about.into_iter().partition(|(permit, _)| *permit == id);
            own.sort_by_key(|(_, event)| event.index);
            events.extend(own.into_iter().map(|(_, event)| event));
            about = rest;
        }
        events
    }
}

impl PermitSeen {
    fn of(permit: Permit, index: u64, blobs: &[Result<Vec<u8>, ArchiveError>]) -> Result<Self> {
        let archived = |at: usize| blobs.get(at).and_then(|blob| blob.as_ref().ok());
        // Facts that were pruned leave the permit alone in its line.
        let facts = archived(2).map(|facts| RecordedFacts::decode(facts)).transpose()?;
        let origin = match facts.as_ref().map(RecordedFacts::parent) {
            Some(ParentState::Logged { origin, .. }) => *origin,
            _ => permit.id,
        };
        let what = if permit.parent.is_some() { "renewal" } else { "permit" };
        let seconds = permit.expires.saturating_sub(permit.not_before);
        let text = format!("{} for {} on {}, {seconds} s", permit.id, short(&permit.workload), permit.subject);
        let event = Event { index, time: Some(permit.not_before), what, text, depth: 3, id: Some(permit.id) };
        let chip = archived(1).and_then(|evidence| chip(evidence));
        Ok(Self { origin, boot: facts.map(|facts| *facts.boot()), chip, event, permit })
    }
}

/// The chip of the evidence, as its report says.
fn chip(evidence: &[u8]) -> Option<String> {
    let evidence = Evidence::parse(evidence).ok()?;
    let report = SnpReport::parse(&evidence.collected().snp()?.report, &mut Checks::refusals())?;
    Some(format!("{} measurement {}", hex(&report.chip_id), hex(&report.measurement)))
}

fn execution_text(execution: &Execution) -> String {
    let code = execution.code.map(|code| format!("code {code}"));
    let check = execution.check.as_ref().map(|check| format!("because of {check}"));
    let kill = execution.kill_milliseconds.map(|ms| format!("everything dead after {ms} ms"));
    [code, check, kill].into_iter().flatten().collect::<Vec<_>>().join(", ")
}

fn short(digest: &Digest) -> String {
    hex(digest).chars().take(16).collect()
}

/// A text whose long digests are cut: the report in JSON has all of them.
fn fitting(text: &str) -> String {
    let word = |word: &str| match word.get(..16) {
        Some(start) if word.len() > 40 => format!("{start}…"),
        _ => word.to_owned(),
    };
    text.split(' ').map(word).collect::<Vec<_>>().join(" ")
}

impl Event {
    fn row(&self) -> (String, String) {
        let branch = match self.depth {
            0 => String::new(),
            depth => format!("{}└ ", "  ".repeat(depth.saturating_sub(1))),
        };
        let time = self.time.map_or_else(String::new, |time| format!("{}  ", rfc3339(time)));
        (format!("{branch}{}", self.what), format!("entry {:<6} {time}{}", self.index, fitting(&self.text)))
    }

    fn json(&self) -> Value {
        json!({
            "entry": self.index,
            "time": self.time.map(rfc3339),
            "what": self.what,
            "text": self.text,
            "depth": self.depth,
            "permit": self.id.map(|id| id.to_string()),
        })
    }
}
