//! Collects the events of one line of permits, entry by entry. Of everything else only
//! boots and bundles are kept, so memory does not grow with the log.

use std::collections::HashMap;

use anyhow::Result;
use portcullis_attest::check::Checks;
use portcullis_attest::evidence::Evidence;
use portcullis_attest::snp::report::Report as SnpReport;
use portcullis_firmware_policy::RecordedFacts;
use portcullis_lineage::{ArchivedEntry, MAX_ENTRY};
use portcullis_permit::{
    BootRecord, Execution, Kind, Permit, PermitId, PolicyRecord, Quorum, Revocation, RevocationTarget,
};
use portcullis_wire::hex::hex;
use portcullis_wire::{Sign1, sha256};
use serde::{Deserialize, Serialize};

use super::event::{Event, execution_text, short};
use super::origin::recorded;
use super::{EVIDENCE, FACTS};
use crate::endorsed::signers;
use crate::log::source::Source;

/// A line of permits, up to an entry. Ids and digests are hexadecimal.
#[derive(Serialize, Deserialize)]
pub(super) struct Line {
    /// Id of the first permit.
    origin: String,
    /// The first entry that was not read yet.
    pub(super) next: u64,
    /// The first entry that the authority did not sign.
    pub(super) unsigned: Option<u64>,
    /// The first blob of a permit of the line that is unavailable.
    pub(super) hole: Option<String>,
    chip: Option<Event>,
    /// Boots in which no permit of the line was issued so far.
    boots: HashMap<String, Event>,
    policies: HashMap<String, Policy>,
    /// In the order of the log.
    permits: Vec<Seen>,
    /// The position of each.
    places: HashMap<String, usize>,
}

#[derive(Serialize, Deserialize)]
struct Policy {
    event: Event,
    /// Whether a permit of the line has already shown it.
    told: bool,
}

/// A permit of the line, with the events it depends on before it and its own events
/// after it.
#[derive(Serialize, Deserialize)]
struct Seen {
    id: String,
    subject: String,
    workload: String,
    events: Vec<Event>,
}

impl Line {
    pub(super) fn of(origin: PermitId) -> Self {
        Self {
            origin: origin.to_string(),
            next: 0,
            unsigned: None,
            hole: None,
            chip: None,
            boots: HashMap::new(),
            policies: HashMap::new(),
            permits: Vec::new(),
            places: HashMap::new(),
        }
    }

    /// Whether a permit is of this line.
    pub(super) fn has(&self, id: PermitId) -> bool {
        self.places.contains_key(&id.to_string())
    }

    /// All events of the line, as a tree in the order of the log.
    pub(super) fn events(&self) -> impl Iterator<Item = &Event> {
        self.chip.iter().chain(self.permits.iter().flat_map(|seen| &seen.events))
    }

    /// Takes the next entry, with its kind if the authority signed it.
    pub(super) fn take(
        &mut self,
        index: u64,
        kind: Option<Kind>,
        entry: &ArchivedEntry,
        source: &mut Source,
    ) -> Result<()> {
        self.next = index.saturating_add(1);
        let Some(kind) = kind else {
            self.unsigned = self.unsigned.or(Some(index));
            return Ok(());
        };
        let object = Sign1::parse(&entry.statement, MAX_ENTRY)?;
        let payload = object.payload().unwrap_or_default();
        match kind {
            Kind::Boot => self.boot(index, &entry.statement, &BootRecord::decode(payload)?),
            Kind::Policy => {
                let PolicyRecord { bundle, version, time, .. } = PolicyRecord::decode(payload)?;
                let archived = source.archived(entry, 0).ok().flatten();
                let signed = archived.and_then(|bytes| Quorum::decode(&bytes, bytes.len()).ok());
                let signed = signed.map(|quorum| format!(", signed by {}", signers(&quorum, &source.governance)));
                let text = format!("bundle version {version} {}{}", short(&bundle), signed.unwrap_or_default());
                let event = Event::new(index, "policy", text, Some(time), 2);
                self.policies.insert(hex(&bundle), Policy { event, told: false });
            }
            Kind::Permit => self.permit(index, &Permit::decode(payload)?, entry, source)?,
            Kind::ExecutionRecord => {
                let (execution, _) = Execution::verify(payload)?;
                let place = self.places.get(&execution.permit.to_string());
                if let Some(seen) = place.and_then(|place| self.permits.get_mut(*place)) {
                    let (what, text) = (execution.stage.name(), execution_text(&execution));
                    seen.events.push(Event::new(index, what, text, Some(execution.time), 4));
                }
            }
            Kind::Revocation => {
                let signed = Quorum::decode(payload, MAX_ENTRY)?;
                let signers = signers(&signed, &source.governance);
                self.revocation(index, &Revocation::decode(signed.unverified_document())?, &signers);
            }
            _ => {}
        }
        Ok(())
    }

    fn boot(&mut self, index: u64, statement: &[u8], boot: &BootRecord) {
        let text = format!("portcullisd {}, bundle version {}", boot.software, boot.version);
        self.boots.insert(hex(&sha256(&[statement])), Event::new(index, "boot", text, Some(boot.time), 1));
        // A bundle that was already shown is not shown again.
        self.policies.entry(hex(&boot.bundle)).or_insert_with(|| {
            let text = format!("bundle version {} {}", boot.version, short(&boot.bundle));
            Policy { event: Event::new(index, "policy", text, Some(boot.time), 2), told: false }
        });
    }

    fn permit(&mut self, index: u64, permit: &Permit, entry: &ArchivedEntry, source: &mut Source) -> Result<()> {
        if !self.is_of_it(permit, entry, source) {
            return Ok(());
        }
        let id = permit.id.to_string();
        let mut archived = |at| {
            source.archived(entry, at).unwrap_or_else(|why| {
                self.hole.get_or_insert_with(|| format!("entry {index}: {why}"));
                None
            })
        };
        let (evidence, facts) = (archived(EVIDENCE), archived(FACTS));
        if self.chip.is_none() {
            let chip = evidence.and_then(|evidence| chip(&evidence));
            self.chip = chip.map(|text| Event::new(index, "chip", text, None, 0));
        }
        let mut events = Vec::new();
        if let Some(facts) = facts {
            events.extend(self.boots.remove(&hex(RecordedFacts::decode(&facts)?.boot())));
        }
        if let Some(policy) = self.policies.get_mut(&hex(&permit.bundle)).filter(|policy| !policy.told) {
            policy.told = true;
            events.push(policy.event.clone());
        }
        let what = if permit.parent.is_some() { "renewal" } else { "permit" };
        let seconds = permit.expires.saturating_sub(permit.not_before);
        let text = format!("{id} for {} on {}, {seconds} s", short(&permit.workload), permit.subject);
        events.push(Event::new(index, what, text, Some(permit.not_before), 3).about(permit.id));
        let (subject, workload) = (permit.subject.clone(), hex(&permit.workload));
        self.places.insert(id.clone(), self.permits.len());
        self.permits.push(Seen { id, subject, workload, events });
        Ok(())
    }

    fn is_of_it(&self, permit: &Permit, entry: &ArchivedEntry, source: &mut Source) -> bool {
        let follows = |parent: PermitId| parent.to_string() == self.origin || self.has(parent);
        permit.id.to_string() == self.origin
            || permit.parent.is_some_and(follows)
            // An audit bundle may begin inside the line; then the recorded facts name the
            // bundle.
            || self.permits.is_empty() && recorded(permit, entry, source).is_some_and(follows)
    }

    /// A revocation ends the newest permit before it.
    fn revocation(&mut self, index: u64, command: &Revocation, signers: &str) {
        let Self { origin, permits, .. } = self;
        let hit = |seen: &&mut Seen| match &command.target {
            RevocationTarget::Permit(id) => [&seen.id, &*origin].contains(&&id.to_string()),
            RevocationTarget::Node(node) => seen.subject == *node,
            RevocationTarget::Workload(digest) => seen.workload == hex(digest),
            RevocationTarget::Authority(_) => true,
            RevocationTarget::NodeLifted(node) => seen.subject == *node,
            RevocationTarget::WorkloadLifted(digest) => seen.workload == hex(digest),
        };
        if let Some(seen) = permits.iter_mut().rfind(hit) {
            let Revocation { sequence, target, reason, .. } = command;
            let text = format!("number {sequence}, {target}, signed by {signers}: {reason}");
            let what = if target.is_lifted() { "lifted" } else { "revoked" };
            seen.events.push(Event::new(index, what, text, None, 4));
        }
    }
}

/// The chip id in the report of the evidence.
fn chip(evidence: &[u8]) -> Option<String> {
    let evidence = Evidence::parse(evidence).ok()?;
    let report = SnpReport::parse(&evidence.collected().snp()?.report, &mut Checks::refusals())?;
    Some(format!("{} measurement {}", hex(&report.chip_id), hex(&report.measurement)))
}
