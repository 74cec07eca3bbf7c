//! From a folder to a bundle with enough signatures.
//!
//! ```text
//! folder --build--> unsigned bundle --sign, on any machine--> sets of signatures
//! bundle and sets --assemble--> signed bundle --check--> what an authority would say
//! ```

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use portcullis_cli::{say, time_or_now};
use portcullis_firmware_policy::{Advice, CONTENT_TYPE, Content, Finding, MAX_LENGTH, VerifiedBundle};
use portcullis_permit::{Governance, Quorum};
use portcullis_wire::hex::hex;
use serde_json::{Value, json};

use crate::files::{self, Opened, Refused, refused, refused_now};
use crate::{folder, signatures};

const CHECK: &str = "portcullis/bundle-check/1";

/// Additional inputs of a check: the governors' keys to verify signatures, and the
/// active bundle to check whether this one may follow it.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Against {
    /// The governors' keys and threshold: check the signatures too.
    #[arg(long, value_name = "FILE")]
    governance: Option<PathBuf>,
    /// The active bundle (`.pcb`): check that this one may follow it.
    #[arg(long, value_name = "FILE", requires = "governance")]
    active: Option<PathBuf>,
    /// Time (RFC 3339) for the check of dates, such as those of revocation lists. Default:
    /// now.
    #[arg(long, value_name = "TIME", value_parser = portcullis_cli::time)]
    at: Option<u64>,
    /// Treat warnings as errors.
    #[arg(long)]
    strict: bool,
}

/// Checks a folder or a bundle, for people or as one JSON object.
pub(crate) fn check(path: &Path, against: &Against, as_json: bool) -> Result<()> {
    let checked = check_all(path, against);
    if as_json {
        match &checked {
            Ok(checked) => say!("{}", checked.json()),
            Err(error) => {
                if let Some(refused) = error.downcast_ref::<Refused>() {
                    say!("{}", refusal_json(refused));
                }
            }
        }
        return checked.and_then(Checked::verdict);
    }
    let checked = checked?;
    for finding in &checked.warnings {
        say!("warning: {finding}\n      hint: {}", finding.hint);
    }
    if checked.errors.is_empty() {
        say!("{}: sound, {}", path.display(), checked.named);
    }
    checked.notes.iter().for_each(|line| say!("note: {line}"));
    checked.verdict()
}

/// A sound bundle, with the other results of the check.
struct Checked {
    named: String,
    /// Items that have expired at this time.
    errors: Vec<(&'static str, Finding)>,
    warnings: Vec<Finding>,
    notes: Vec<String>,
}

impl Checked {
    fn verdict(self) -> Result<()> {
        if self.errors.is_empty() { Ok(()) } else { Err(refused_now(self.errors)) }
    }

    fn json(&self) -> Value {
        let warnings: Vec<Value> = self.warnings.iter().map(|finding| finding_json(None, finding)).collect();
        let errors: Vec<Value> =
            self.errors.iter().map(|(check, finding)| finding_json(Some(check), finding)).collect();
        json!({
            "schema": CHECK,
            "sound": self.errors.is_empty(),
            "check": self.errors.first().map(|(check, _)| *check),
            "bundle": self.named,
            "findings": errors,
            "warnings": warnings,
            "notes": self.notes,
        })
    }
}

fn refusal_json(refused: &Refused) -> Value {
    let findings = refused.findings.iter().map(|(check, finding)| finding_json(Some(check), finding));
    json!({
        "schema": CHECK,
        "sound": false,
        "check": refused.check,
        "why": refused.to_string(),
        "findings": findings.collect::<Vec<_>>(),
    })
}

fn finding_json(check: Option<&str>, finding: &Finding) -> Value {
    let Finding { file, line, key, what, hint } = finding;
    json!({ "check": check, "file": file, "line": line, "key": key, "what": what, "hint": hint })
}

fn check_all(path: &Path, against: &Against) -> Result<Checked> {
    let opened = files::open(path)?;
    let mut notes = Vec::new();
    match &against.governance {
        None => notes.push("signatures were not verified: --governance FILE verifies them".to_owned()),
        Some(file) => {
            let governance = files::governance(file)?;
            let verified = verify(&opened.quorum, &governance)?;
            if let Some(active) = &against.active {
                let active = VerifiedBundle::verify(&files::read(active)?, &governance);
                let active = active.map_err(|error| refused(&error)).context("--active")?;
                verified.check_succession(&active).map_err(|error| refused(&error))?;
            }
            notes.extend(signatures::sentences(&opened.quorum, Some(&governance)));
        }
    }
    if let Some(at) = against.at {
        // A given time requests a check of the bundle's validity at that time.
        opened.content.check_time(at).map_err(|error| refused(&error))?;
    }
    let Advice { mut errors, mut warnings } = advice(&opened, path, against.at)?;
    if against.strict {
        errors.extend(warnings.drain(..).map(|finding| ("--strict", finding)));
    }
    Ok(Checked { named: named(&opened.content, &opened.quorum), errors, warnings, notes })
}

/// Errors and warnings for a bundle at a given time; default: now.
fn advice(opened: &Opened, path: &Path, at: Option<u64>) -> Result<Advice> {
    let now = || time_or_now(None).map_err(anyhow::Error::msg);
    let mut advice = opened.content.advice(&opened.files, at.map_or_else(now, Ok)?);
    if !path.is_dir() {
        // A folder with such texts is refused. A bundle only gets a warning, because it may
        // already be signed.
        advice.warnings.extend(folder::rewritten(&opened.files));
    }
    Ok(advice)
}

/// Prints the results of a check during build and sign, one line each.
fn warn(opened: &Opened, path: &Path) -> Result<()> {
    let Advice { errors, warnings } = advice(opened, path, None)?;
    for finding in errors.iter().map(|(_, finding)| finding).chain(&warnings) {
        eprintln!("warning: {finding}");
    }
    Ok(())
}

/// Packs a folder into an unsigned bundle. The build is reproducible: the same files
/// give the same bytes on every machine and at any time.
pub(crate) fn build(folder: &Path, out: &Path) -> Result<()> {
    let opened = files::open(folder)?;
    warn(&opened, folder)?;
    let Opened { quorum, content, .. } = opened;
    files::write(out, &Quorum::unsigned(quorum.unverified_document().to_vec()).encode())?;
    say!("{}: {}, nobody has signed it", out.display(), named(&content, &quorum));
    Ok(())
}

/// Signs a bundle. The signatures go into a separate file, in addition to the
/// signatures that it already contains.
pub(crate) fn sign(path: &Path, keys: &[PathBuf], governance: Option<&Path>, out: &Path) -> Result<()> {
    let governance = governance.map(files::governance).transpose()?;
    let opened = files::open(path)?;
    warn(&opened, path)?;
    let Opened { quorum, content, .. } = opened;
    let mut set = Quorum::unsigned(quorum.unverified_document().to_vec());
    if out.exists() {
        let hint = "nothing is added to it: name another file, or remove this one";
        files::attach(&mut set, out).with_context(|| format!("{}: {hint}", out.display()))?;
    }
    signatures::sign(&mut set, CONTENT_TYPE, keys, governance.as_ref())?;
    files::write(out, &set.detached())?;
    say!("{}: signatures for {}", out.display(), named(&content, &quorum));
    signatures::tell(&set, governance.as_ref());
    Ok(())
}

/// Adds sets of signatures to the bundle that they sign.
pub(crate) fn assemble(path: &Path, sets: &[PathBuf], governance: Option<&Path>, out: &Path) -> Result<()> {
    let Opened { mut quorum, content, .. } = files::open(path)?;
    for set in sets {
        files::attach(&mut quorum, set)?;
    }
    let governance = governance.map(files::governance).transpose()?;
    if let Some(governance) = &governance {
        verify(&quorum, governance)?;
    }
    files::write(out, &quorum.encode())?;
    say!("{}: {}", out.display(), named(&content, &quorum));
    signatures::tell(&quorum, governance.as_ref());
    Ok(())
}

fn verify(quorum: &Quorum, governance: &Governance) -> Result<VerifiedBundle> {
    let bytes = quorum.encode();
    if bytes.len() > MAX_LENGTH {
        return Err(Refused::new("refused by bundle.archive\n  larger than 8 MiB with its signatures").into());
    }
    VerifiedBundle::verify(&bytes, governance).map_err(|error| refused(&error))
}

fn named(content: &Content, quorum: &Quorum) -> String {
    format!("version {}, digest {}", content.policy().version, hex(&quorum.digest()))
}
