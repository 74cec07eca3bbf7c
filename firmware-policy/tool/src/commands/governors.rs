//! Keys of governors, and documents other than bundles that governors sign.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use portcullis_cli::{rfc3339, say, time_or_now};
use portcullis_permit::{
    Endorsement, Governance, Governor, PermitId, PublicKey, Quorum, Revocation, RevocationTarget, SigningKey, Suite,
};
use portcullis_wire::hex::{hex, unhex_array};

use crate::files::{self, Refused};
use crate::signatures;

/// The target of a revocation: exactly one of these.
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
    /// The authority itself: afterwards it signs nothing.
    #[arg(long)]
    retire: bool,
}

/// The position in the order of revocations: exactly one of these.
#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
pub(crate) struct Order {
    /// This is the first revocation of its authority.
    #[arg(long)]
    first: bool,
    /// The previous revocation, signed or not: this one follows it.
    #[arg(long, value_name = "FILE")]
    after: Option<PathBuf>,
}

/// The end of the time for submission of the command: exactly one of these.
#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
pub(crate) struct End {
    /// Time (RFC 3339) from which the authority refuses the command.
    #[arg(long, value_name = "TIME", value_parser = portcullis_cli::time)]
    expires: Option<u64>,
    /// Duration from now in which the authority accepts it, such as 90d or 12h.
    #[arg(long = "for", value_name = "DURATION", value_parser = portcullis_cli::duration)]
    duration: Option<u64>,
}

impl End {
    /// The end, Unix seconds. A command that has already expired is refused as a mistake.
    fn time(&self) -> Result<u64> {
        let now = time_or_now(None).map_err(anyhow::Error::msg)?;
        let end = self.expires.unwrap_or_else(|| now.saturating_add(self.duration.unwrap_or_default()));
        if end <= now {
            bail!("--expires {}: is over already, the authority would refuse the command", rfc3339(end));
        }
        Ok(end)
    }
}

/// A revocation to sign.
#[derive(Debug, clap::Args)]
pub(crate) struct Revoke {
    /// Origin of the authority.
    #[arg(long)]
    authority: String,
    #[command(flatten)]
    end: End,
    /// Reason, for the log.
    #[arg(long)]
    reason: String,
    #[command(flatten)]
    order: Order,
    #[command(flatten)]
    target: Target,
    /// Withdraw the revocation of a node or workload: it gets permits again. Permits that
    /// were revoked stay revoked.
    #[arg(long, conflicts_with_all = ["permit", "retire"])]
    lift: bool,
    /// Origin of the authority that replaces it.
    #[arg(long, value_name = "ORIGIN", requires = "retire")]
    successor: Option<String>,
    /// Private key of a governor (`.pem`); may be given several times.
    #[arg(long, required = true)]
    key: Vec<PathBuf>,
    /// The governors' keys and threshold: refuse other keys, and print the names of the
    /// signers.
    #[arg(long, value_name = "FILE")]
    governance: Option<PathBuf>,
    /// Output file for the command.
    #[arg(long)]
    out: PathBuf,
}

pub(crate) fn keygen(out: &Path, suite: &str) -> Result<()> {
    let suite = Suite::from_name(suite).with_context(|| format!("suite {suite:?}: classic or pq"))?;
    let key = SigningKey::generate(suite)?;
    let with = |extension: &str| {
        // A name may contain dots: only `.pem` and `.cose` are extensions.
        let stem = if out.extension().is_some_and(|of| of == "pem" || of == "cose") {
            out.with_extension("")
        } else {
            out.to_owned()
        };
        let mut name = stem.into_os_string();
        name.push(extension);
        PathBuf::from(name)
    };
    let (private, public) = (with(".pem"), with(".cose"));
    if let Some(there) = [&private, &public].into_iter().find(|path| path.exists()) {
        bail!("{}: exists, and keygen replaces no key: name another file", there.display());
    }
    files::write_private(&private, key.to_pem()?.as_bytes())?;
    files::write(&public, &key.public().to_cose())?;
    say!("{}  private, keep it offline", private.display());
    say!("{}  public, {} {}", public.display(), suite.name(), hex(key.public().thumbprint()));
    Ok(())
}

pub(crate) fn governance(threshold: usize, keys: &[String], unnamed: bool, out: &Path) -> Result<()> {
    let governors = keys.iter().map(|key| governor(key, unnamed)).collect::<Result<Vec<_>>>()?;
    let governance = Governance::new(threshold, governors)
        .with_context(|| format!("--threshold {threshold} with {} keys", keys.len()))?;
    files::write(out, &governance.encode())?;
    say!("governance root {} ({threshold} of {})", governance.root_hex(), governance.governors().len());
    governance.governors().iter().for_each(|governor| say!("  {governor}"));
    Ok(())
}

/// A governor as NAME=FILE, or as a file with the governor's name. If a file with an
/// equals sign in its name exists, the text is that file's name.
fn governor(text: &str, unnamed: bool) -> Result<Governor> {
    let (name, path) = match text.split_once('=').filter(|_| !Path::new(text).exists()) {
        Some((name, path)) => (Some(name.to_owned()), Path::new(path)),
        None => (None, Path::new(text)),
    };
    let key = PublicKey::from_file(&files::read(path)?).with_context(|| path.display().to_string())?;
    if unnamed {
        return Ok(key.into());
    }
    let stem = || path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let hint = || format!("{text}: write it as NAME=FILE, or pass --unnamed");
    Governor::named(&name.unwrap_or_else(stem), key).with_context(hint)
}

pub(crate) fn endorse(request: &Path, keys: &[PathBuf], governance: Option<&Path>, out: &Path) -> Result<()> {
    let governance = governance.map(files::governance).transpose()?;
    let required = "what portcullisd init wrote, or an endorsement (.pce)";
    let mut quorum = files::quorum(request, required)?;
    let endorsement = Endorsement::decode(quorum.unverified_document());
    let endorsement = endorsement.map_err(|_| files::another(request, &quorum, required))?;
    let now = time_or_now(None).map_err(anyhow::Error::msg)?;
    if endorsement.expires <= now {
        let ended = rfc3339(endorsement.expires);
        return Err(Refused::new(format!("{}: the endorsement ended on {ended}", request.display())).into());
    }
    signatures::sign(&mut quorum, Endorsement::CONTENT_TYPE, keys, governance.as_ref())?;
    files::write(out, &quorum.encode())?;
    say!("{}: endorses", out.display());
    say!("  origin        {}", endorsement.origin());
    say!("  chip id       {}", hex(&endorsement.chip_id));
    say!("  measurement   {}", hex(&endorsement.measurement));
    say!("  permit key    {}", hex(endorsement.permit_key.thumbprint()));
    say!("  bundle        version {} or newer", endorsement.bundle_version);
    say!("  until         {}", rfc3339(endorsement.expires));
    if let Some(old) = &endorsement.predecessor {
        say!("  follows on    {old}");
    }
    signatures::tell(&quorum, governance.as_ref());
    Ok(())
}

pub(crate) fn revoke(revoke: &Revoke) -> Result<()> {
    let expires = revoke.end.time()?;
    let target = match &revoke.target {
        Target { permit: Some(id), .. } => {
            RevocationTarget::Permit(PermitId::from_bytes(unhex_array(id).context("permit: 16 bytes in hex")?))
        }
        Target { node: Some(name), .. } if revoke.lift => RevocationTarget::NodeLifted(name.clone()),
        Target { node: Some(name), .. } => RevocationTarget::Node(name.clone()),
        Target { workload: Some(digest), .. } => {
            let digest = unhex_array(digest).context("workload: 32 bytes in hex")?;
            if revoke.lift { RevocationTarget::WorkloadLifted(digest) } else { RevocationTarget::Workload(digest) }
        }
        Target { retire: true, .. } => RevocationTarget::Authority(revoke.successor.clone()),
        Target { .. } => bail!("exactly one of --permit, --node, --workload and --retire"),
    };
    let (sequence, predecessor) = match &revoke.order.after {
        None => (1, None),
        Some(path) => {
            let required = "the last revocation (.pcr)";
            let last = files::quorum(path, required)?;
            let command = Revocation::decode(last.unverified_document());
            let command = command.map_err(|_| files::another(path, &last, required))?;
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
    let governance = revoke.governance.as_deref().map(files::governance).transpose()?;
    signatures::sign(&mut quorum, Revocation::CONTENT_TYPE, &revoke.key, governance.as_ref())?;
    files::write(&revoke.out, &quorum.encode())?;
    let verb = if command.target.is_lifted() { "lifts the revocation of" } else { "revokes" };
    say!("{}: command {} for {}", revoke.out.display(), command.sequence, command.authority);
    say!("  {verb} {}", command.target);
    say!("  refused from  {}", rfc3339(expires));
    signatures::tell(&quorum, governance.as_ref());
    Ok(())
}
