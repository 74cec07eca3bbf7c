//! `portcullis-audit trail ID` prints the history of a permit as a tree: chip, boot,
//! policy, permit, renewals, end.
//!
//! ```text
//! ID --origin--> first of its line --line, entry by entry--> events
//! ```

mod event;
mod line;
mod origin;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use portcullis_attest::check::Checks;
use portcullis_permit::PermitId;
use portcullis_wire::hex::unhex_array;
use rayon::prelude::*;
use serde::Deserialize;
use serde_json::{Map, json};

use self::event::Event;
use self::line::Line;
use self::origin::origin;
use super::resume::{KEEP_EVERY, Memory};
use super::source::{self, Source, signed_kind};
use super::statements::judge_signatures;
use crate::inputs::Inputs;
use crate::report::{Facts, Output, Report};

/// Number of entries whose signatures are verified together, on all cores.
const TOGETHER: usize = 1024;

/// Positions of evidence and facts among the blobs of a permit.
const EVIDENCE: usize = 1;
const FACTS: usize = 2;

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Id of any permit of the line.
    id: String,
    #[command(flatten)]
    source: source::Audited,
    /// File that stores the progress for this permit; a later run continues from there,
    /// also after the log has grown.
    #[arg(long, value_name = "FILE")]
    resume: Option<PathBuf>,
    #[command(flatten)]
    output: Output,
}

pub(crate) fn run(arguments: &Arguments) -> Result<u8> {
    let id = unhex_array(&arguments.id).map(PermitId::from_bytes);
    let id = id.with_context(|| format!("{}: not the id of a permit", arguments.id))?;
    let mut inputs = Inputs::default();
    let mut checks = Checks::all();
    let mut source = Source::open(&arguments.source, &mut inputs)?;
    let line = follow(&mut source, id, arguments.resume.as_deref(), &mut checks);
    let events: Vec<&Event> = line.iter().flat_map(Line::events).collect();
    let mut members = Map::new();
    members.insert("trail".into(), events.iter().map(|event| event.json()).collect());
    let report = Report {
        schema: "portcullis/trail/1",
        title: format!("Trail of permit {id}"),
        at: None,
        inputs,
        checks,
        facts: vec![Facts { title: "What became of it", rows: events.iter().map(|event| event.row()).collect() }],
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

/// The line of a permit; `None` if a check fails.
fn follow(source: &mut Source, id: PermitId, resume: Option<&Path>, checks: &mut Checks) -> Option<Line> {
    let key = source.endorsed.checkpoint_key.clone();
    let memory = Memory { path: resume, key: &key };
    let known = memory.known(|state| {
        source.goes_on_from(state.get("head")?)?;
        (state.get("permit")?.as_str()? == id.to_string()).then_some(())?;
        Line::deserialize(state.get("line")?).ok()
    });
    let known = known.map_err(|error| format!("{error:#}"));
    let known = checks.step("log.resume", known, "what trail has written of this permit", "where to go on from")?;

    let required = format!("entries of a log of {} that its keys signed", source.size);
    let line = match known {
        None => origin(source, id).map(|origin| origin.map(Line::of)),
        known => Ok(known),
    };
    let line = line.and_then(|line| line.map(|line| read(source, line, id, &memory)).transpose());
    let line = line.map_err(|error| format!("{error:#}"));
    let line = checks.step("log.tree", line, &required, "entries of the log")?;
    let found = line.as_ref().is_some_and(|line| line.has(id));
    checks.require(
        "trail.permit",
        found,
        || if found { "in the log".into() } else { "no such permit".into() },
        || format!("permit {id} in the log"),
        "the permit that was asked for",
    );
    let line = line?;
    judge_signatures(line.unsigned, checks);
    checks.require(
        "archive.hole",
        line.hole.is_none(),
        || line.hole.clone().unwrap_or_else(|| "none".into()),
        || "evidence and facts that the permits name".into(),
        "archived blobs of the line",
    );
    Some(line)
}

/// Reads to the head.
fn read(source: &mut Source, mut line: Line, id: PermitId, memory: &Memory<'_>) -> Result<Line> {
    source.start_at(line.next)?;
    let bar = source.bar("reading");
    let mut kept = line.next;
    loop {
        let mut entries = Vec::new();
        while entries.len() < TOGETHER
            && let Some(entry) = source.next_entry()?
        {
            entries.push(entry);
        }
        let ended = entries.is_empty();
        let endorsed = &source.endorsed;
        let kinds: Vec<_> = entries.par_iter().map(|(_, entry)| signed_kind(&entry.statement, endorsed)).collect();
        for (kind, (index, entry)) in kinds.into_iter().zip(&entries) {
            line.take(*index, kind, entry, source)?;
        }
        bar.set_position(line.next);
        if ended || line.next >= kept.saturating_add(KEEP_EVERY) {
            kept = line.next;
            memory.keep(|| json!({ "head": source.head_json(), "permit": id.to_string(), "line": line }));
        }
        if ended {
            bar.finish_and_clear();
            return Ok(line);
        }
    }
}
