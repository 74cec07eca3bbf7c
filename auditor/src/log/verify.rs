//! `portcullis-audit log verify`: a whole log, from its published files.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::PathBuf;

use anyhow::{Context, Result};
use portcullis_attest::check::Checks;
use portcullis_cli::progress;
use portcullis_lineage::{VerifyingKey, verify_directory};
use portcullis_permit::{Endorsement, Governance, Kind};
use portcullis_wire::hex::hex;
use serde_json::{Map, Value, json};

use super::source::signed_kind;
use crate::inputs::Inputs;
use crate::report::{Facts, Output, Report};

const BAR: &str = "{spinner} {msg} {wide_bar} {pos} {eta}";

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Folder with `checkpoint` and `tile/`.
    folder: PathBuf,
    /// Endorsement of the authority (`.pce`).
    #[arg(long, value_name = "FILE")]
    endorsement: PathBuf,
    /// The governors' keys and threshold.
    #[arg(long, value_name = "FILE")]
    governance_root: PathBuf,
    #[command(flatten)]
    output: Output,
}

pub(crate) fn run(arguments: &Arguments) -> Result<u8> {
    let mut inputs = Inputs::default();
    let governance = Governance::decode(&inputs.read(&arguments.governance_root, "governance-root")?)
        .with_context(|| arguments.governance_root.display().to_string())?;
    let endorsement = inputs.read(&arguments.endorsement, "endorsement")?;
    fs::metadata(arguments.folder.join("checkpoint")).with_context(|| arguments.folder.display().to_string())?;

    let mut checks = Checks::all();
    let summary = verify(arguments, &endorsement, &governance, &mut checks);
    let mut members = Map::new();
    members.insert("log".into(), summary.as_ref().map_or(Value::Null, Summary::json));
    let report = Report {
        schema: "portcullis/log-audit/1",
        title: format!("Transparency log {}", arguments.folder.display()),
        at: None,
        inputs,
        checks,
        facts: summary.iter().map(Summary::facts).collect(),
        beyond: vec![
            "Whether others were shown another log: compare the root with what nodes have seen.",
            "Whether the decisions were right: that takes the archived evidence and bundles.",
        ],
        note: "",
        policies: Vec::new(),
        members,
    };
    report.give(&arguments.output)
}

struct Summary {
    origin: String,
    size: u64,
    root: String,
    kinds: BTreeMap<&'static str, u64>,
}

impl Summary {
    fn facts(&self) -> Facts {
        let head = [("origin", self.origin.clone()), ("entries", self.size.to_string()), ("root", self.root.clone())];
        let kinds = self.kinds.iter().map(|(kind, count)| (*kind, count.to_string()));
        Facts::new("What the log holds", head.into_iter().chain(kinds))
    }

    fn json(&self) -> Value {
        json!({ "origin": self.origin, "size": self.size, "root": self.root, "kinds": self.kinds })
    }
}

fn verify(arguments: &Arguments, endorsement: &[u8], governance: &Governance, checks: &mut Checks) -> Option<Summary> {
    let required = format!("an endorsement by {} governors", governance.threshold());
    let endorsed = Endorsement::verify(endorsement, governance);
    let endorsed = checks.step("authority.endorsement", endorsed, &required, "endorsement of the authority")?;
    let key: &VerifyingKey = &endorsed.checkpoint_key;
    let bar = progress(None, BAR).with_message("files");
    let fetch = |path: &str| -> io::Result<Vec<u8>> {
        bar.inc(1);
        fs::read(arguments.folder.join(path))
    };
    let mut kinds = BTreeMap::new();
    let (mut first, mut refused) = (None, None);
    let read = verify_directory(key, fetch, |index, entry| {
        let kind = signed_kind(entry, &endorsed);
        match kind {
            Some(kind) => count(&mut kinds, kind),
            None => refused = refused.or(Some(index)),
        }
        if index == 0 {
            first = kind;
        }
    });
    bar.finish_and_clear();
    let required = "entries and tiles that lead to the root of a checkpoint by the endorsed key";
    let log = checks.step("log.tree", read, required, "checkpoint, hash tiles and entries")?;
    checks.require(
        "log.statements",
        refused.is_none(),
        || refused.map_or_else(|| "all signed".into(), |index| format!("entry {index} is not signed by the authority")),
        || "every entry is a statement by the endorsed permit key".into(),
        "signature of every entry",
    );
    checks.require(
        "log.genesis",
        first == Some(Kind::Genesis),
        || first.map_or_else(|| "nothing".into(), |kind| kind.to_string()),
        || Kind::Genesis.to_string(),
        "first entry",
    );
    Some(Summary {
        origin: key.origin().to_owned(),
        size: log.checkpoint().size(),
        root: hex(log.checkpoint().root()),
        kinds,
    })
}

fn count(kinds: &mut BTreeMap<&'static str, u64>, kind: Kind) {
    let counted = kinds.entry(kind.media_type()).or_insert(0);
    *counted = counted.saturating_add(1);
}
