//! From a folder to a bundle that enough governors signed.
//!
//! ```text
//! folder --build--> unsigned bundle --sign, on any machine--> sets of signatures
//! bundle and sets --assemble--> signed bundle --check--> what an authority would say
//! ```

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use portcullis_attest::binding::Role;
use portcullis_cli::{say, unix_seconds};
use portcullis_firmware_policy::{BundleError, CONTENT_TYPE, Content, Finding, MAX_LENGTH, VerifiedBundle};
use portcullis_permit::{Governance, Quorum};
use portcullis_wire::hex::hex;
use serde_json::{Value, json};

use crate::files::{self, Opened, Refused, refused};

const CHECK: &str = "portcullis/bundle-check/1";

/// What a check looks at beside the texts: with the governors' keys the
/// signatures, with the active bundle whether this one may follow on it, with a
/// time whether it is valid then.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Against {
    /// The governors' keys and threshold: check the signatures too.
    #[arg(long)]
    governance: Option<PathBuf>,
    /// The active bundle (`.pcb`): check that this one may follow on it.
    #[arg(long, value_name = "FILE", requires = "governance")]
    active: Option<PathBuf>,
    /// RFC 3339 time: check that it is valid then.
    #[arg(long, value_name = "TIME", requires = "governance")]
    at: Option<String>,
}

/// Checks a folder or a bundle, for people or as one JSON object.
pub(crate) fn check(path: &Path, against: &Against, as_json: bool) -> Result<()> {
    let checked = check_all(path, against);
    if as_json {
        match &checked {
            Ok(Checked { named, notes }) => {
                say!("{}", json!({ "schema": CHECK, "sound": true, "bundle": named, "notes": notes }));
            }
            Err(error) => {
                if let Some(refused) = error.downcast_ref::<Refused>() {
                    say!("{}", refusal_json(refused));
                }
            }
        }
        return checked.map(|_| ());
    }
    let Checked { named, notes } = checked?;
    say!("{}: sound, {named}", path.display());
    notes.iter().for_each(|line| say!("note: {line}"));
    Ok(())
}

/// What passed, and what is to be known all the same.
struct Checked {
    named: String,
    notes: Vec<String>,
}

fn refusal_json(refused: &Refused) -> Value {
    let findings = refused.bundle.iter().flat_map(BundleError::findings).map(|finding| {
        let Finding { file, line, key, what, hint } = finding;
        json!({ "file": file, "line": line, "key": key, "what": what, "hint": hint })
    });
    json!({
        "schema": CHECK,
        "sound": false,
        "check": refused.bundle.as_ref().map(BundleError::check),
        "why": refused.to_string(),
        "findings": findings.collect::<Vec<_>>(),
    })
}

fn check_all(path: &Path, against: &Against) -> Result<Checked> {
    let Against { governance, active, at } = against;
    let opened = files::open(path)?;
    let mut notes = Vec::new();
    if let Some(file) = governance {
        let governance = files::governance(file)?;
        let verified = verify(&opened.quorum, &governance)?;
        if let Some(active) = active {
            let active = VerifiedBundle::verify(&files::read(active)?, &governance).map_err(|error| refused(&error))?;
            verified.check_succession(&active).map_err(|error| refused(&error))?;
        }
        if let Some(at) = at {
            let at = unix_seconds(at).with_context(|| format!("time {at:?}"))?;
            verified.check_time(at).map_err(|error| refused(&error))?;
        }
    } else {
        notes.push("signatures were not looked at: --governance FILE checks them".to_owned());
    }
    notes.extend(gaps(&opened.content));
    Ok(Checked { named: named(&opened.content, &opened.quorum), notes })
}

/// What is sound and will deny all the same: roles without an image, generations
/// without a revocation list, and lists that end before the bundle.
fn gaps(content: &Content) -> Vec<String> {
    let policy = content.policy();
    let roles = [(Role::Authority, "authority"), (Role::Node, "node")];
    let lacking = roles.into_iter().filter(|(role, _)| !policy.references().iter().any(|image| image.role == *role));
    let roles = lacking.map(|(_, name)| format!("no image has the role {name:?}: no {name} passes (snp.measurement)"));
    let lists = policy.floors.keys().filter_map(|generation| match content.verifier().lists_until(*generation) {
        None => {
            Some(format!("no revocation list of a {generation} root: evidence of {generation} is denied (snp.crl)"))
        }
        Some(until) if until < policy.valid.until => {
            let until = portcullis_cli::rfc3339(until);
            Some(format!(
                "the {generation} list ends at {until}: from then on evidence of {generation} is denied (snp.crl)"
            ))
        }
        Some(_) => None,
    });
    roles.chain(lists).collect()
}

/// Packs a folder into a bundle that nobody has signed. The same files give the
/// same bytes, whoever builds them, wherever and whenever.
pub(crate) fn build(folder: &Path, out: &Path) -> Result<()> {
    let Opened { quorum, content, .. } = files::open(folder)?;
    files::write(out, &Quorum::unsigned(quorum.unverified_document().to_vec()).encode())?;
    say!("{}: {}, nobody has signed it", out.display(), named(&content, &quorum));
    Ok(())
}

/// Signs a bundle: the signatures are a file of their own, and join those that
/// are in it already.
pub(crate) fn sign(path: &Path, keys: &[PathBuf], out: &Path) -> Result<()> {
    let Opened { quorum, content, .. } = files::open(path)?;
    let mut set = Quorum::unsigned(quorum.unverified_document().to_vec());
    if out.exists() {
        set.attach(&files::read(out)?).with_context(|| out.display().to_string())?;
    }
    for path in keys {
        set.sign(CONTENT_TYPE, &files::key(path)?)?;
    }
    files::write(out, &set.detached())?;
    say!("{}: {} for {}", out.display(), count(set.signatures()), named(&content, &quorum));
    Ok(())
}

/// Joins sets of signatures with the bundle that they are for.
pub(crate) fn assemble(path: &Path, sets: &[PathBuf], governance: Option<&Path>, out: &Path) -> Result<()> {
    let Opened { mut quorum, content, .. } = files::open(path)?;
    for set in sets {
        quorum.attach(&files::read(set)?).with_context(|| set.display().to_string())?;
    }
    if let Some(file) = governance {
        verify(&quorum, &files::governance(file)?)?;
    }
    files::write(out, &quorum.encode())?;
    say!("{}: {}, {}", out.display(), named(&content, &quorum), count(quorum.signatures()));
    if governance.is_none() {
        say!("whether they are enough was not looked at: --governance FILE checks them");
    }
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

fn count(signatures: usize) -> String {
    if signatures == 1 { "1 signature".into() } else { format!("{signatures} signatures") }
}
