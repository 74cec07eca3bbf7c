//! The state that the authority derives from its log: live permits, revocations,
//! status.
//!
//! The state follows from the entries alone, in their order. The only other change to
//! it is an index that is reserved for a decision in progress. So a start reads a
//! snapshot, whose digest is in the log, and the entries after it.

mod snapshot;

use std::collections::HashMap;
use std::sync::Arc;

use portcullis_firmware_policy::{ParentState, Revocations};
use portcullis_permit::{
    BootCounters, BootRecord, Clock, Kind, Permit, PermitId, PolicyRecord, Quorum, Revocation, RevocationTarget,
    Status, StatusList, StatusReference, SuccessionRecord, recorded_time,
};
use portcullis_wire::{Digest, Sign1};

/// URI of the only status list.
pub(crate) const STATUS_URI: &str = "/v1/status/0";
/// Permits that can be live at once.
const STATUS_ENTRIES: u64 = 1 << 18;
/// Seconds for which an ended permit is remembered, for reports about it.
const REMEMBERED: u64 = 600;
const MAX_ENTRY: usize = portcullis_lineage::MAX_ENTRY;
/// Least number of entries between two snapshots.
const SNAPSHOT_EVERY: u64 = 16_384;

#[derive(Clone, Debug, PartialEq, Eq)]
struct Live {
    subject: String,
    confirmation: Digest,
    workload: Digest,
    origin: PermitId,
    /// When the first permit of its chain of renewals was granted.
    since: u64,
    parent: Option<PermitId>,
    expires: u64,
    status: u64,
    boot: Option<BootCounters>,
    /// Revoked permanently, by any command: a lifted revocation of a node or workload
    /// restores none of its permits.
    revoked: bool,
}

/// The state that decisions depend on.
#[derive(Debug)]
pub(crate) struct Ledger {
    /// Number of entries that were applied.
    entries: u64,
    /// Number of entries that the last snapshot in the log covers.
    summed_up: u64,
    /// Time of the newest entry that has a time, Unix seconds.
    newest: u64,
    /// Expiry times of the permits that the last command revoked, Unix seconds.
    hit: Vec<u64>,
    live: HashMap<PermitId, Live>,
    /// Shared, because every decision uses the state at its beginning and few commands
    /// change it.
    revocations: Arc<Revocations>,
    list: StatusList,
    /// How often an entry of the list changed.
    status_changes: u64,
    /// For each status index, when the permit that holds it ends.
    held_until: Vec<u64>,
    /// Index of the last permit in the log.
    last_index: Option<u64>,
    /// The next index to try; `None` until this process has made a decision.
    cursor: Option<u64>,
    bundle_version: u64,
    swept: u64,
}

impl Ledger {
    pub(crate) fn new() -> Self {
        Self {
            entries: 0,
            summed_up: 0,
            newest: 0,
            hit: Vec::new(),
            live: HashMap::new(),
            revocations: Arc::default(),
            list: StatusList::new(STATUS_URI, STATUS_ENTRIES, 0, 0),
            status_changes: 0,
            held_until: vec![0; usize::try_from(STATUS_ENTRIES).unwrap_or(0)],
            last_index: None,
            cursor: None,
            bundle_version: 0,
            swept: 0,
        }
    }

    /// Applies the next entry of the log.
    pub(crate) fn apply(&mut self, entry: &[u8]) {
        self.entries = self.entries.saturating_add(1);
        let Ok(object) = Sign1::parse(entry, MAX_ENTRY) else { return };
        let payload = object.payload().unwrap_or_default();
        self.newest = self.newest.max(recorded_time(&object).unwrap_or(0));
        match Kind::of(&object) {
            Some(Kind::Permit) => {
                if let Ok(permit) = Permit::decode(payload) {
                    self.record(&permit);
                }
            }
            Some(Kind::Revocation) => {
                let command = Quorum::decode(payload, MAX_ENTRY).ok();
                let command = command.and_then(|quorum| Revocation::decode(quorum.unverified_document()).ok());
                if let Some(command) = command {
                    self.hit = self.revoke(&command);
                }
            }
            Some(Kind::Rotation | Kind::Recovery) => {
                let record = SuccessionRecord::decode(payload).ok();
                Arc::make_mut(&mut self.revocations)
                    .inherit(record.and_then(|record| record.inherited).unwrap_or_default());
            }
            Some(Kind::Boot) => self.raise_bundle_version(BootRecord::decode(payload).map(|boot| boot.version)),
            Some(Kind::Policy) => self.raise_bundle_version(PolicyRecord::decode(payload).map(|policy| policy.version)),
            Some(Kind::Snapshot) => self.summed_up = self.entries,
            _ => {}
        }
    }

    fn raise_bundle_version<E>(&mut self, version: Result<u64, E>) {
        self.bundle_version = self.bundle_version.max(version.unwrap_or(0));
    }

    /// Whether so many entries follow the last snapshot that a start would take longer to
    /// read them than a new snapshot costs.
    pub(crate) fn snapshot_is_due(&self) -> bool {
        let live = self.live.len() as u64;
        self.entries.saturating_sub(self.summed_up) >= SNAPSHOT_EVERY.max(live.saturating_mul(2))
    }

    /// Number of permits that the last command revoked and that had not ended at `now`.
    pub(crate) fn last_hit(&self, now: u64) -> usize {
        self.hit.iter().filter(|expires| **expires > now).count()
    }

    /// Number of entries that were applied.
    pub(crate) const fn entries(&self) -> u64 {
        self.entries
    }

    /// Time of the newest entry, Unix seconds: no clock may be behind it.
    pub(crate) const fn newest(&self) -> u64 {
        self.newest
    }

    /// The highest bundle version that was active according to the log.
    pub(crate) const fn bundle_version(&self) -> u64 {
        self.bundle_version
    }

    pub(crate) const fn revocations(&self) -> &Arc<Revocations> {
        &self.revocations
    }

    pub(crate) fn live_count(&self, now: u64) -> usize {
        self.live.values().filter(|live| live.expires > now).count()
    }

    /// The index for the next permit; `None` while every index is held by a
    /// permit that has not ended.
    pub(crate) fn reserve_index(&mut self, now: u64, until: u64) -> Option<StatusReference> {
        let after_last = || self.last_index.map_or(0, |last| last.saturating_add(1) % STATUS_ENTRIES);
        let index = self.cursor.unwrap_or_else(after_last);
        let held = self.held_until.get_mut(usize::try_from(index).ok()?)?;
        if *held > now {
            return None;
        }
        *held = until;
        self.cursor = Some(index.saturating_add(1) % STATUS_ENTRIES);
        // The previous holder of the index may have been revoked.
        self.set_status(index, Status::Valid).then_some(())?;
        Some(StatusReference { uri: STATUS_URI.to_owned(), index })
    }

    /// Releases the index of a request that was denied.
    pub(crate) fn release_index(&mut self, status: &StatusReference) {
        if let Some(held) = usize::try_from(status.index).ok().and_then(|at| self.held_until.get_mut(at)) {
            *held = 0;
        }
    }

    /// Records a permit that is in the log.
    fn record(&mut self, permit: &Permit) {
        let parent = permit.parent.and_then(|parent| self.live.get(&parent));
        let (origin, since) = parent.map_or((permit.id, permit.not_before), |parent| (parent.origin, parent.since));
        if let Some(held) = usize::try_from(permit.status.index).ok().and_then(|at| self.held_until.get_mut(at)) {
            *held = permit.expires;
        }
        self.last_index = Some(permit.status.index);
        let mut live = Live {
            subject: permit.subject.clone(),
            confirmation: permit.confirmation,
            workload: permit.workload,
            origin,
            since,
            parent: permit.parent,
            expires: permit.expires,
            status: permit.status.index,
            boot: permit.boot,
            revoked: parent.is_some_and(|parent| parent.revoked),
        };
        // The permit may have been decided before a revocation and logged after it.
        live.revoked |= self.is_withdrawn(&permit.id, &live);
        self.set_status(permit.status.index, if live.revoked { Status::Invalid } else { Status::Valid });
        self.live.insert(permit.id, live);
        self.sweep(permit.not_before);
    }

    /// Whether a permit is revoked: directly, through the first permit of its chain,
    /// through the permit that it renews, through its node or through its workload.
    fn is_withdrawn(&self, id: &PermitId, live: &Live) -> bool {
        let withdrawn = &self.revocations;
        withdrawn.has_node(&live.subject)
            || withdrawn.has_workload(&live.workload)
            || withdrawn.has_permit(id)
            || withdrawn.has_permit(&live.origin)
            || live.parent.is_some_and(|parent| withdrawn.has_permit(&parent))
    }

    /// Removes permits that ended long ago, from time to time.
    fn sweep(&mut self, now: u64) {
        if now.saturating_sub(self.swept) > REMEMBERED {
            self.swept = now;
            self.live.retain(|_, live| live.expires.saturating_add(REMEMBERED) > now);
        }
    }

    /// Applies a command that is in the log; returns the expiry times of the permits that
    /// it revoked.
    fn revoke(&mut self, command: &Revocation) -> Vec<u64> {
        Arc::make_mut(&mut self.revocations).apply(command);
        let hits = |id: &PermitId, live: &Live| match &command.target {
            RevocationTarget::Permit(target) => id == target || live.origin == *target || live.parent == Some(*target),
            RevocationTarget::Node(name) => live.subject == *name,
            RevocationTarget::Workload(digest) => live.workload == *digest,
            // All permits end with the authority, because it no longer renews them or signs a
            // status list.
            RevocationTarget::Authority(_) => false,
            RevocationTarget::NodeLifted(_) | RevocationTarget::WorkloadLifted(_) => false,
        };
        let mut hit = Vec::new();
        for (_, live) in self.live.iter_mut().filter(|(id, live)| hits(id, live)) {
            live.revoked = true;
            hit.push((live.status, live.expires));
        }
        hit.into_iter().filter_map(|(index, expires)| self.withdraw(index, expires).then_some(expires)).collect()
    }

    /// Marks a permit in the list, unless it has ended and another one has its index.
    fn withdraw(&mut self, index: u64, expires: u64) -> bool {
        let held = usize::try_from(index).ok().and_then(|at| self.held_until.get(at));
        held == Some(&expires) && self.set_status(index, Status::Invalid)
    }

    /// Sets an entry of the list; `false` if there is no such entry.
    fn set_status(&mut self, index: u64, status: Status) -> bool {
        let changed = self.list.status(index) != Ok(status);
        let set = self.list.set(index, status).is_ok();
        self.status_changes = self.status_changes.saturating_add(u64::from(set && changed));
        set
    }

    /// Number of changes of the list; equal numbers mean equal lists.
    pub(crate) const fn status_changes(&self) -> u64 {
        self.status_changes
    }

    /// The state of the permit that a request names as parent.
    ///
    /// A gate counts its lease by its own clock, so the parent may be renewed until it has
    /// ended on every clock within the tolerance. A permit that was revoked has ended, even
    /// if the revocation was lifted.
    pub(crate) fn parent(&self, parent: Option<PermitId>, clock: Clock) -> ParentState {
        let Some(id) = parent else { return ParentState::None };
        let ended =
            |live: &Live| clock.is_past_everywhere(live.expires) || (live.revoked && !self.is_withdrawn(&id, live));
        match self.live.get(&id).filter(|live| !ended(live)) {
            None => ParentState::Unknown,
            Some(live) => ParentState::Logged {
                subject: live.subject.clone(),
                confirmation: live.confirmation,
                workload: live.workload,
                origin: live.origin,
                since: live.since,
                boot: live.boot,
            },
        }
    }

    /// Confirmation key of a permit, while the ledger holds the permit.
    pub(crate) fn confirmation(&self, permit: &PermitId) -> Option<Digest> {
        self.live.get(permit).map(|live| live.confirmation)
    }

    /// The status list with a validity period.
    pub(crate) fn status_list(&self, issued: u64, expires: u64) -> StatusList {
        self.list.valid_for(issued, expires)
    }
}
