//! The changes from one bundle to the next, in sentences.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::Result;
use portcullis_cli::say;
use serde_json::{Value, json};

use crate::describe::{Attributes, Section, describe};
use crate::files;
use crate::signatures;

/// One difference.
struct Change {
    kind: &'static str,
    section: &'static str,
    name: String,
    sentence: String,
}

pub(crate) fn diff(old: &Path, new: &Path, governance: Option<&Path>, as_json: bool) -> Result<()> {
    let governance = governance.map(files::governance).transpose()?;
    let (old, new) = (files::open(old)?, files::open(new)?);
    let (before, after) = (describe(&old.content, &old.files), describe(&new.content, &new.files));
    let changes: Vec<Change> = before.iter().zip(&after).flat_map(|(a, b)| compare(a, b)).collect();
    if as_json {
        let list = changes
            .iter()
            .map(|c| json!({ "change": c.kind, "section": c.section, "name": c.name, "sentence": c.sentence }));
        let [old, new] = [&old, &new].map(|opened| signatures::in_json(&opened.quorum, governance.as_ref()));
        let body = json!({
            "schema": "portcullis/bundle-diff/1",
            "changes": list.collect::<Vec<Value>>(),
            "signatures": { "old": old, "new": new },
        });
        say!("{body}");
        return Ok(());
    }
    if governance.is_some() {
        for (which, opened) in [("old", &old), ("new", &new)] {
            signatures::sentences(&opened.quorum, governance.as_ref()).iter().for_each(|told| say!("{which}: {told}"));
        }
    }
    if changes.is_empty() {
        say!("The two bundles say the same.");
    }
    let mut section = "";
    for change in &changes {
        if change.section != section {
            section = change.section;
            say!("{section}");
        }
        say!("  {}", change.sentence);
    }
    Ok(())
}

fn compare(old: &Section, new: &Section) -> Vec<Change> {
    let names: BTreeSet<&String> = old.items.keys().chain(new.items.keys()).collect();
    let mut changes = Vec::new();
    for name in names {
        let thing = format!("{} {name}", new.noun);
        let mut push = |kind, sentence| {
            changes.push(Change { kind, section: new.title, name: name.clone(), sentence });
        };
        match (old.items.get(name), new.items.get(name)) {
            (None, Some(attributes)) => push("added", format!("New: the {thing}{}.", listed(attributes))),
            (Some(attributes), None) => push("removed", format!("Gone: the {thing}{}.", listed(attributes))),
            (Some(before), Some(after)) => {
                for sentence in sentences(before, after) {
                    push("changed", format!("The {thing}: {sentence}."));
                }
            }
            (None, None) => {}
        }
    }
    changes
}

fn listed(attributes: &Attributes) -> String {
    let parts: Vec<String> = attributes.iter().map(|(name, value)| format!("{name} {}", flat(value))).collect();
    if parts.is_empty() { String::new() } else { format!(", {}", parts.join(", ")) }
}

fn sentences(before: &Attributes, after: &Attributes) -> Vec<String> {
    let missing = |from: &Attributes, name: &str, value: &str| !from.iter().any(|(n, v)| n == name && v == value);
    let only = |from: &Attributes, other: &Attributes| -> Attributes {
        from.iter().filter(|(name, value)| missing(other, name, value)).cloned().collect()
    };
    let (mut gone, fresh) = (only(before, after), only(after, before));
    let mut told = Vec::new();
    for (name, value) in fresh {
        match gone.iter().position(|(n, _)| *n == name) {
            Some(at) => {
                let (_, was) = gone.remove(at);
                told.push(format!("{name} would be {}, was {}", flat(&value), flat(&was)));
            }
            None => told.push(format!("{name} {} would be added", flat(&value))),
        }
    }
    told.extend(gone.into_iter().map(|(name, value)| format!("{name} {} would be dropped", flat(&value))));
    told
}

/// Joins the lines of a text into one line.
fn flat(value: &str) -> String {
    if value.is_empty() {
        return "nothing".into();
    }
    value.split_whitespace().collect::<Vec<_>>().join(" ")
}
