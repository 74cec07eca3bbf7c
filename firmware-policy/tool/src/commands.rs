//! What the tool does.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use portcullis_cli::say;
use portcullis_firmware_policy::{CONTENT_TYPE, Content, VerifiedBundle, remedy, unpack};
use portcullis_permit::{
    Endorsement, Governance, PermitId, PublicKey, Quorum, Revocation, RevocationTarget, SigningKey, Suite,
};
use portcullis_wire::hex::{hex, unhex_array};
use serde_json::json;

use crate::files;

/// A document that was read and does not pass.
#[derive(Debug)]
pub(crate) struct Refused(String);

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Refused {}

/// What a revocation withdraws: exactly one of these.
#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
pub(crate) struct Target {
    /// One permit and its renewals, by id.
    #[arg(long)]
    permit: Option<String>,
    /// Every permit of a node.
    #[arg(long)]
    node: Option<String>,
    /// Every permit for a workload, by SHA-256.
    #[arg(long)]
    workload: Option<String>,
}

/// A revocation to be signed.
pub(crate) struct Revoke {
    pub(crate) authority: String,
    pub(crate) sequence: u64,
    pub(crate) expires: String,
    pub(crate) reason: String,
    pub(crate) target: Target,
}

pub(crate) fn keygen(out: &Path, suite: &str) -> Result<()> {
    let suite = Suite::from_name(suite).with_context(|| format!("suite {suite:?}: classic or pq"))?;
    let key = SigningKey::generate(suite)?;
    let (private, public) = (out.with_extension("pem"), out.with_extension("cose"));
    files::write_private(&private, key.to_pem()?.as_bytes())?;
    files::write(&public, &key.public().to_cose())?;
    say!("{}  private, keep it offline", private.display());
    say!("{}  public, {} {}", public.display(), suite.name(), hex(key.public().thumbprint()));
    Ok(())
}

pub(crate) fn governance(threshold: usize, keys: &[PathBuf], out: &Path) -> Result<()> {
    let read = |path: &PathBuf| PublicKey::from_cose(&files::read(path)?).with_context(|| path.display().to_string());
    let governance = Governance::new(threshold, keys.iter().map(read).collect::<Result<_>>()?)?;
    files::write(out, &governance.encode())?;
    say!("governance root {} ({threshold} of {})", governance.root_hex(), governance.keys().len());
    Ok(())
}

fn load_governance(path: &Path) -> Result<Governance> {
    Governance::decode(&files::read(path)?).with_context(|| path.display().to_string())
}

fn content(quorum: &Quorum) -> Result<Content> {
    let read = unpack(quorum.unverified_document()).and_then(|files| Content::read(&files));
    read.map_err(|error| Refused(format!("{}: {error}\n  remedy: {}", error.check(), remedy(error.check()))).into())
}

pub(crate) fn check(bundle: &Path, governance: Option<&Path>) -> Result<()> {
    let quorum = files::quorum(bundle)?;
    let content = content(&quorum)?;
    if let Some(path) = governance {
        let verified = VerifiedBundle::verify(&quorum.encode(), &load_governance(path)?);
        verified
            .map_err(|error| Refused(format!("{}: {error}\n  remedy: {}", error.check(), remedy(error.check()))))?;
    }
    say!("{}: sound, version {}, digest {}", bundle.display(), content.policy().version, hex(&quorum.digest()));
    if governance.is_none() {
        say!("signatures were not looked at: --governance FILE checks them");
    }
    Ok(())
}

pub(crate) fn sign(bundle: &Path, keys: &[PathBuf], out: &Path) -> Result<()> {
    let mut quorum = files::quorum(bundle)?;
    let content = content(&quorum)?;
    for path in keys {
        quorum.sign(CONTENT_TYPE, &files::key(path)?)?;
    }
    files::write(out, &quorum.encode())?;
    say!("{}: version {}, digest {}", out.display(), content.policy().version, hex(&quorum.digest()));
    Ok(())
}

pub(crate) fn show(bundle: &Path, as_json: bool) -> Result<()> {
    let quorum = files::quorum(bundle)?;
    let content = content(&quorum)?;
    let policy = content.policy();
    let time = |seconds: u64| {
        let stamp = i64::try_from(seconds).ok().and_then(|s| jiff::Timestamp::from_second(s).ok());
        stamp.map_or_else(|| seconds.to_string(), |t| t.to_string())
    };
    let roots = content.verifier().roots();
    if as_json {
        let body = json!({
            "schema": "portcullis/bundle/1",
            "digest": hex(&quorum.digest()),
            "version": policy.version,
            "predecessor": policy.predecessor.map(|digest| hex(&digest)),
            "not_before": time(policy.not_before),
            "expires": time(policy.expires),
            "lease_seconds": policy.lease_seconds,
            "roots": roots.source().as_str(),
            "references": policy.references.iter().map(|r| json!({
                "name": r.name, "measurement": hex(&r.measurement), "pcrs": r.pcrs.len(),
            })).collect::<Vec<_>>(),
            "nodes": policy.nodes.values().map(|n| json!({
                "name": n.name, "minimum_class": n.minimum_class.name(), "tags": n.tags,
            })).collect::<Vec<_>>(),
            "workloads": policy.workloads.values().map(|w| json!({
                "name": w.name, "digest": hex(&w.digest), "linking": w.linking.as_str(),
            })).collect::<Vec<_>>(),
        });
        say!("{body}");
        return Ok(());
    }
    say!("bundle {} version {}", hex(&quorum.digest()), policy.version);
    say!("  valid         {} to {}", time(policy.not_before), time(policy.expires));
    say!("  lease         {} s, status {} s", policy.lease_seconds, policy.status_seconds);
    say!("  roots         {}: {}", roots.source().as_str(), roots.describe());
    for (generation, floor) in &policy.floors {
        say!("  floor         {generation}: {floor}");
    }
    for reference in &policy.references {
        say!("  image         {} {:?} {}", reference.name, reference.role, hex(&reference.measurement));
    }
    for node in policy.nodes.values() {
        say!("  node          {} at least {} [{}]", node.name, node.minimum_class, node.tags.join(", "));
    }
    for workload in policy.workloads.values() {
        say!("  workload      {} {} {}", workload.name, workload.linking.as_str(), hex(&workload.digest));
    }
    Ok(())
}

pub(crate) fn endorse(request: &Path, keys: &[PathBuf], out: &Path) -> Result<()> {
    let mut quorum = Quorum::decode(&files::read(request)?, 64 * 1024)?;
    let endorsement = Endorsement::decode(quorum.unverified_document())?;
    for path in keys {
        quorum.sign(Endorsement::CONTENT_TYPE, &files::key(path)?)?;
    }
    files::write(out, &quorum.encode())?;
    say!("{}: endorses", out.display());
    say!("  origin        {}", endorsement.origin());
    say!("  chip id       {}", hex(&endorsement.chip_id));
    say!("  measurement   {}", hex(&endorsement.measurement));
    say!("  permit key    {}", hex(endorsement.permit_key.thumbprint()));
    Ok(())
}

pub(crate) fn revoke(revoke: &Revoke, keys: &[PathBuf], out: &Path) -> Result<()> {
    let expires: jiff::Timestamp = revoke.expires.parse().with_context(|| format!("time {:?}", revoke.expires))?;
    let target = match (&revoke.target.permit, &revoke.target.node, &revoke.target.workload) {
        (Some(id), None, None) => {
            RevocationTarget::Permit(PermitId::from_bytes(unhex_array(id).context("permit: 16 bytes in hex")?))
        }
        (None, Some(name), None) => RevocationTarget::Node(name.clone()),
        (None, None, Some(digest)) => {
            RevocationTarget::Workload(unhex_array(digest).context("workload: 32 bytes in hex")?)
        }
        _ => bail!("exactly one of --permit, --node and --workload"),
    };
    let command = Revocation {
        authority: revoke.authority.clone(),
        sequence: revoke.sequence,
        expires: u64::try_from(expires.as_second()).context("expires")?,
        target,
        reason: revoke.reason.clone(),
    };
    let mut quorum = Quorum::unsigned(command.encode());
    for path in keys {
        quorum.sign(Revocation::CONTENT_TYPE, &files::key(path)?)?;
    }
    files::write(out, &quorum.encode())?;
    say!("{}: revocation {} of {}", out.display(), command.sequence, command.authority);
    Ok(())
}
