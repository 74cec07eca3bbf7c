//! The keys with which the folder of a log is checked: those of an endorsed authority,
//! or if none is named, those in the log's own first entry.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use portcullis_attest::check::Checks;
use portcullis_lineage::{MAX_ENTRY, Storage, TILE, tile_path};
use portcullis_permit::{Checkpoint, Endorsement, GenesisRecord, Kind};
use portcullis_wire::Sign1;

use crate::endorsed::{Authority, Named};
use crate::inputs::Inputs;

#[derive(Debug, clap::Args)]
pub(crate) struct OptionallyNamed {
    /// Endorsement of the authority (`.pce`). Without it, the folder is checked with the
    /// keys in the log's first entry: that finds damage, but not a forged log.
    #[arg(long, value_name = "FILE", requires = "governance_root")]
    endorsement: Option<PathBuf>,
    /// The governors' keys and threshold.
    #[arg(long, value_name = "FILE", requires = "endorsement")]
    governance_root: Option<PathBuf>,
}

impl OptionallyNamed {
    /// Reads both files, if they are named.
    pub(super) fn read(&self, folder: &Path, inputs: &mut Inputs) -> Result<Option<Authority>> {
        let Some(governance_root) = self.governance_root.clone() else { return Ok(None) };
        Named { endorsement: self.endorsement.clone(), governance_root }.read(folder, inputs).map(Some)
    }
}

/// The keys from the endorsement; or from the log itself, which is recorded as a
/// missing endorsement.
pub(super) fn keys(authority: Option<&Authority>, storage: &dyn Storage, checks: &mut Checks) -> Option<Endorsement> {
    if let Some(authority) = authority {
        return authority.verify(checks);
    }
    let required = "an endorsement by the governors: --endorsement and --governance-root";
    checks.missing("authority.endorsement", required, "endorsement of the authority");
    let stated = stated(storage).map_err(|error| format!("{error:#}"));
    checks.step("log.genesis", stated, "a first entry that states the keys of the log", "first entry")
}

fn stated(storage: &dyn Storage) -> Result<Endorsement> {
    let note = String::from_utf8(storage.get("checkpoint")?.context("checkpoint: not found")?)?;
    let (size, _) = Checkpoint::unverified(&note).context("checkpoint: malformed")?;
    let path = tile_path("entries", 0, size.min(TILE));
    // A full bundle replaces a partial one as the log grows.
    let bundle = match storage.get(&path)? {
        Some(bundle) => bundle,
        None => storage.get(&tile_path("entries", 0, TILE))?.with_context(|| format!("{path}: not found"))?,
    };
    // Each entry follows its 16-bit length (C2SP tlog-tiles).
    let (length, rest) = bundle.split_first_chunk().context("an empty bundle of entries")?;
    let entry = rest.get(..usize::from(u16::from_be_bytes(*length))).context("a truncated bundle of entries")?;
    let object = Sign1::parse(entry, MAX_ENTRY)?;
    ensure!(Kind::of(&object) == Some(Kind::Genesis), "the first entry is no genesis");
    let record = GenesisRecord::decode(object.payload().unwrap_or_default())?;
    Ok(Endorsement::decode(&record.endorsement)?)
}
