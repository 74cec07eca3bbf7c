//! Keys of governors, and what they sign beside bundles.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use portcullis_cli::{say, unix_seconds};
use portcullis_permit::{
    Endorsement, Governance, PermitId, PublicKey, Quorum, Revocation, RevocationTarget, SigningKey, Suite,
};
use portcullis_wire::hex::{hex, unhex_array};

use crate::files;

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
    /// The authority itself: it signs nothing more.
    #[arg(long)]
    retire: bool,
}

/// Which revocation it follows on: exactly one of these.
#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
pub(crate) struct Order {
    /// It is the first of its authority.
    #[arg(long)]
    first: bool,
    /// The last revocation, signed or not: this one follows on it.
    #[arg(long, value_name = "FILE")]
    after: Option<PathBuf>,
}

/// A revocation to be signed.
#[derive(Debug, clap::Args)]
pub(crate) struct Revoke {
    /// Origin of the authority that it is for.
    #[arg(long)]
    authority: String,
    /// RFC 3339 time from which on the command is refused.
    #[arg(long)]
    expires: String,
    /// Why, for the log.
    #[arg(long)]
    reason: String,
    #[command(flatten)]
    order: Order,
    #[command(flatten)]
    target: Target,
    /// Origin of the authority that takes its place.
    #[arg(long, value_name = "ORIGIN", requires = "retire")]
    successor: Option<String>,
    /// Private keys of governors.
    #[arg(long, required = true)]
    key: Vec<PathBuf>,
    /// Where the command goes.
    #[arg(long)]
    out: PathBuf,
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
    if let Some(old) = &endorsement.predecessor {
        say!("  follows on    {old}");
    }
    Ok(())
}

pub(crate) fn revoke(revoke: &Revoke) -> Result<()> {
    let expires = unix_seconds(&revoke.expires).with_context(|| format!("time {:?}", revoke.expires))?;
    let target = match &revoke.target {
        Target { permit: Some(id), .. } => {
            RevocationTarget::Permit(PermitId::from_bytes(unhex_array(id).context("permit: 16 bytes in hex")?))
        }
        Target { node: Some(name), .. } => RevocationTarget::Node(name.clone()),
        Target { workload: Some(digest), .. } => {
            RevocationTarget::Workload(unhex_array(digest).context("workload: 32 bytes in hex")?)
        }
        Target { retire: true, .. } => RevocationTarget::Authority(revoke.successor.clone()),
        Target { .. } => bail!("exactly one of --permit, --node, --workload and --retire"),
    };
    let (sequence, predecessor) = match &revoke.order.after {
        None => (1, None),
        Some(path) => {
            let last = Quorum::decode(&files::read(path)?, 64 * 1024)?;
            let command = Revocation::decode(last.unverified_document())?;
            if command.authority != revoke.authority {
                bail!("{}: of {}, not of {}", path.display(), command.authority, revoke.authority);
            }
            (command.sequence.saturating_add(1), Some(last.digest()))
        }
    };
    let command = Revocation {
        authority: revoke.authority.clone(),
        sequence,
        predecessor,
        expires,
        target,
        reason: revoke.reason.clone(),
    };
    let mut quorum = Quorum::unsigned(command.encode());
    for path in &revoke.key {
        quorum.sign(Revocation::CONTENT_TYPE, &files::key(path)?)?;
    }
    files::write(&revoke.out, &quorum.encode())?;
    say!("{}: revocation {} of {}", revoke.out.display(), command.sequence, command.authority);
    Ok(())
}
