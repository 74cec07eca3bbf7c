//! `portcullis-audit explain-check` prints the documentation of a check.

use anyhow::{Result, bail};
use portcullis_cli::say;
use portcullis_firmware_policy::{CATALOGUE, Entry, Reader, entry};
use serde_json::json;

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Id of the check, such as snp.tcb.order; or the beginning of ids.
    id: String,
    /// One JSON object on stdout.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(arguments: &Arguments) -> Result<u8> {
    let id = arguments.id.as_str();
    let family = |entry: &&Entry| entry.id == id;
    let mut found: Vec<&Entry> = CATALOGUE.iter().find(family).or_else(|| entry(id)).into_iter().collect();
    if found.is_empty() {
        let prefix = format!("{}.", id.trim_end_matches('.'));
        found = CATALOGUE.iter().filter(|entry| entry.id.starts_with(&prefix)).collect();
    }
    if found.is_empty() {
        bail!("{id}: no such check; all of them stand in docs/checks.md");
    }
    if arguments.json {
        let checks = found.iter().map(|e| json!({ "id": e.id, "cause": e.cause, "remedy": e.remedy(Reader::Auditor) }));
        say!("{}", json!({ "schema": "portcullis/checks/1", "checks": checks.collect::<Vec<_>>() }));
        return Ok(0);
    }
    for (at, entry) in found.iter().enumerate() {
        let gap = if at == 0 { "" } else { "\n" };
        say!("{gap}{}\n  failed when  {}\n  what to do   {}", entry.id, entry.cause, entry.remedy(Reader::Auditor));
    }
    Ok(0)
}
