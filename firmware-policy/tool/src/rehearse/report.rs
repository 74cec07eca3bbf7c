//! The report of a rehearsal, as text and as JSON.

use portcullis_cli::{rfc3339, say};
use serde_json::{Value, json};

use super::proposal::Proposal;
use super::tally::{Change, Line, Tally};

pub(super) fn text(tally: &Tally, proposal: &Proposal) {
    let policy = proposal.content.policy();
    let when = proposal.at.map_or_else(|| "when it came".to_owned(), |at| format!("at {}", rfc3339(at)));
    let (decisions, version) = (tally.decisions(), policy.version);
    say!("{decisions} decisions of {} under version {version}, as if each request came {when}.", policy.authority);
    if tally.pruned > 0 {
        say!("{} more decisions are left out: their evidence was pruned.", tally.pruned);
    }
    proposal.added.iter().for_each(|line| say!("Beside what the bundle says: {line}."));
    say!("");
    for (change, what) in [
        (Change::Loses, "would lose permits"),
        (Change::Gains, "would gain permits"),
        (Change::Unknown, "cannot be told"),
        (Change::Same, "as before"),
    ] {
        let count = tally.with(change);
        say!("  {count:8} {} {what}", if count == 1 { "node" } else { "nodes" });
    }
    let width = tally.nodes.keys().map(String::len).max().unwrap_or(0);
    for (change, title) in [
        (Change::Loses, "Would lose permits"),
        (Change::Gains, "Would gain permits"),
        (Change::Unknown, "Cannot be told: the archived quotes cover other PCRs than the bundle asks for"),
    ] {
        let concerned: Vec<_> = tally.nodes.iter().filter(|(_, line)| line.change() == change).collect();
        if !concerned.is_empty() {
            say!("\n{title}");
            concerned.iter().for_each(|(name, line)| node(name, width, line));
        }
    }
    let warned: Vec<_> = tally.nodes.iter().filter(|(_, line)| !line.warnings.is_empty()).collect();
    if !warned.is_empty() {
        say!("\nWould be warned, and denied later");
        for (name, line) in warned {
            for (check, from) in &line.warnings {
                say!("  {name:width$}  {check} from {}", rfc3339(*from));
            }
        }
    }
    say!("\nThe signatures in the archive were not looked at: portcullis-audit log verify does that.");
}

fn node(name: &str, width: usize, line: &Line) {
    let Line { permits, denials, lost, gained, unknown, reasons, .. } = line;
    let mut parts = Vec::new();
    if *lost > 0 {
        parts.push(format!("{lost} of {permits} permits lost"));
    }
    if *gained > 0 {
        parts.push(format!("{gained} of {denials} denials gained"));
    }
    if *unknown > 0 {
        parts.push(format!("{unknown} unknown"));
    }
    say!("  {name:width$}  {}", parts.join(", "));
    for (check, reason) in reasons {
        say!("  {:width$}    {check} ({}): found {}, required {}", "", reason.count, reason.found, reason.required);
    }
}

pub(super) fn json(tally: &Tally, proposal: &Proposal) {
    let nodes: Vec<Value> = tally.nodes.iter().map(|(name, line)| node_json(name, line)).collect();
    let body = json!({
        "schema": "portcullis/rehearsal/1",
        "authority": proposal.content.policy().authority,
        "version": proposal.content.policy().version,
        "at": proposal.at.map(rfc3339),
        "added": proposal.added,
        "decisions": tally.decisions(),
        "pruned": tally.pruned,
        "loses": tally.with(Change::Loses),
        "gains": tally.with(Change::Gains),
        "unknown": tally.with(Change::Unknown),
        "same": tally.with(Change::Same),
        "nodes": nodes,
    });
    say!("{body}");
}

fn node_json(name: &str, line: &Line) -> Value {
    let reasons = line.reasons.iter().map(|(check, reason)| {
        json!({ "check": check, "count": reason.count, "found": reason.found, "required": reason.required })
    });
    let warnings = line.warnings.iter().map(|(check, from)| json!({ "check": check, "deny_from": rfc3339(*from) }));
    json!({
        "name": name,
        "change": line.change().name(),
        "permits": line.permits, "denials": line.denials,
        "lost": line.lost, "gained": line.gained, "unknown": line.unknown,
        "reasons": reasons.collect::<Vec<_>>(),
        "warnings": warnings.collect::<Vec<_>>(),
    })
}
