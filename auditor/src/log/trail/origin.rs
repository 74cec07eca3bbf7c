//! Finds the first permit of the line that a permit belongs to.

use std::collections::HashMap;

use anyhow::Result;
use portcullis_firmware_policy::{ParentState, RecordedFacts};
use portcullis_lineage::{ArchivedEntry, MAX_ENTRY};
use portcullis_permit::{Kind, Permit, PermitId};
use portcullis_wire::Sign1;

use super::FACTS;
use crate::log::source::Source;

/// Searches the log for a permit; `None` if it is not there. The reader of the line
/// verifies the signatures.
///
/// # Errors
/// The log is refused.
pub(super) fn origin(source: &mut Source, id: PermitId) -> Result<Option<PermitId>> {
    let mut found = None;
    each_permit(source, |permit, entry, source| {
        let asked = permit.id == id;
        if asked {
            found = Some(recorded(permit, entry, source));
        }
        !asked
    })?;
    match found {
        Some(None) => by_parents(source, id).map(Some),
        Some(origin) => Ok(origin),
        None => Ok(None),
    }
}

/// The first permit according to the recorded facts; `None` if they are unavailable.
pub(super) fn recorded(permit: &Permit, entry: &ArchivedEntry, source: &mut Source) -> Option<PermitId> {
    if permit.parent.is_none() {
        return Some(permit.id);
    }
    let facts = source.archived(entry, FACTS).ok()??;
    match RecordedFacts::decode(&facts).ok()?.parent() {
        ParentState::Logged { origin, .. } => Some(*origin),
        _ => None,
    }
}

/// Follows parents instead. This keeps every earlier renewal in memory, so it is used
/// only if the archive was pruned.
fn by_parents(source: &mut Source, id: PermitId) -> Result<PermitId> {
    let mut origins = HashMap::new();
    each_permit(source, |permit, _, _| {
        if let Some(parent) = permit.parent {
            let origin = origins.get(&parent).copied().unwrap_or(parent);
            origins.insert(permit.id, origin);
        }
        permit.id != id
    })?;
    Ok(origins.get(&id).copied().unwrap_or(id))
}

/// Passes permits to `visit` from the first entry on, until it stops.
fn each_permit(source: &mut Source, mut take: impl FnMut(&Permit, &ArchivedEntry, &mut Source) -> bool) -> Result<()> {
    source.start_at(0)?;
    let bar = source.bar("looking");
    while let Some((index, entry)) = source.next_entry()? {
        bar.set_position(index);
        // Malformed statements are refused when the line is read.
        if permit(&entry.statement).is_some_and(|permit| !take(&permit, &entry, source)) {
            break;
        }
    }
    bar.finish_and_clear();
    Ok(())
}

fn permit(statement: &[u8]) -> Option<Permit> {
    let object = Sign1::parse(statement, MAX_ENTRY).ok().filter(|object| Kind::of(object) == Some(Kind::Permit))?;
    Permit::decode(object.payload()?).ok()
}
