//! The first permit of the line that a permit belongs to.

use std::collections::HashMap;

use anyhow::Result;
use portcullis_firmware_policy::{ParentState, RecordedFacts};
use portcullis_lineage::{ArchivedEntry, MAX_ENTRY};
use portcullis_permit::{Kind, Permit, PermitId};
use portcullis_wire::Sign1;

use super::FACTS;
use crate::log::source::Source;

/// Looks through the log for a permit; `None` where it has no such. Whether the
/// entries are signed is for who reads the line.
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

/// What the recorded facts of a permit say; `None` where they are not to be had.
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

/// From parent to parent: every renewal before the permit is remembered for it,
/// so this is for what the archive no longer tells.
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

/// Hands over permits from the beginning on, until told to stop.
fn each_permit(source: &mut Source, mut take: impl FnMut(&Permit, &ArchivedEntry, &mut Source) -> bool) -> Result<()> {
    source.start_at(0)?;
    let bar = source.bar("looking");
    while let Some((index, entry)) = source.next_entry()? {
        bar.set_position(index);
        // What is no statement is refused where the line is read.
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
