//! Explains a denial to the person who has to resolve it.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};
use portcullis_cli::{rfc3339, say};
use portcullis_firmware_policy::{Reader, entry, remedy};
use portcullis_permit::{Denial, Refusal};
use portcullis_wire::hex::hex;
use serde_json::{Value, json};

/// Explains a denial in a file, or a check by its id.
pub(crate) fn explain(what: &str, as_json: bool) -> Result<()> {
    let path = Path::new(what);
    if path.exists() {
        let bytes = fs::read(path).with_context(|| what.to_owned())?;
        let denial = Denial::unverified(&bytes).with_context(|| format!("{what}: not a denial"))?;
        return explain_denial(&denial, as_json);
    }
    let Some(entry) = entry(what) else {
        bail!("{what}: neither a file nor a check; all checks stand in docs/checks.md");
    };
    if as_json {
        say!(
            "{}",
            json!({ "schema": "portcullis/check/1", "check": what, "cause": entry.cause, "remedy": entry.remedy(Reader::Governor) })
        );
    } else {
        say!("{what}\n  means       {}\n  what to do  {}", entry.cause, entry.remedy(Reader::Governor));
    }
    Ok(())
}

fn explain_denial(denial: &Denial, as_json: bool) -> Result<()> {
    if as_json {
        let checks: Vec<Value> = denial.refusals.iter().map(refusal_json).collect();
        let body = json!({
            "schema": "portcullis/denial/1",
            "issuer": denial.issuer, "node": denial.subject, "id": denial.id.to_string(),
            "time": rfc3339(denial.time), "bundle": hex(&denial.bundle), "evidence": hex(&denial.evidence),
            "checks": checks,
        });
        say!("{body}");
        return Ok(());
    }
    say!("{} denied {} at {}", denial.issuer, denial.subject, rfc3339(denial.time));
    say!("  request   {}", denial.id);
    say!("  bundle    {}", hex(&denial.bundle));
    say!("  evidence  {}", hex(&denial.evidence));
    if denial.refusals.iter().all(|refusal| refusal.found.is_none() && refusal.remedy.is_none()) {
        say!("\nThe evidence did not prove who asked, so the authority told no more than the first check.");
    }
    for (at, refusal) in denial.refusals.iter().enumerate() {
        say!("\n{}. {}", at.saturating_add(1), refusal.check);
        let cause = entry(&refusal.check).map_or("a check that this version does not know", |entry| entry.cause);
        say!("   means       {cause}");
        for (name, text) in [("found", &refusal.found), ("required", &refusal.required)] {
            if let Some(text) = text {
                say!("   {name:10}  {text}");
            }
        }
        let own = remedy(&refusal.check, Reader::Governor);
        say!("   what to do  {own}");
        if let Some(told) = refusal.remedy.as_deref().filter(|told| *told != own) {
            say!("   node reads  {told}");
        }
    }
    say!("\nThe signature was not looked at here; portcullis-audit verifies what the log holds.");
    Ok(())
}

fn refusal_json(refusal: &Refusal) -> Value {
    let known = entry(&refusal.check);
    json!({
        "check": refusal.check, "found": refusal.found, "required": refusal.required,
        "cause": known.map(|entry| entry.cause),
        "remedy": known.map(|entry| entry.remedy(Reader::Governor)),
        "remedy_of_node": refusal.remedy,
    })
}
