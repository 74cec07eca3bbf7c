//! TCB floors: versions denied now, and versions denied later.

use std::collections::BTreeMap;
use std::fmt;

use portcullis_attest::snp::generation::Generation;
use portcullis_attest::snp::tcb::Tcb;

use super::reading::Reading;
use crate::document;

/// A TCB version of a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TcbKind {
    /// The version that the certificate is for.
    Reported,
    /// The version below which the platform will not roll back.
    Committed,
    /// The version under which the guest was launched.
    Launch,
    /// The version that is running.
    Current,
}

impl TcbKind {
    /// All four.
    pub const ALL: [Self; 4] = [Self::Reported, Self::Committed, Self::Launch, Self::Current];

    /// The TCB version with this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// The name in reports, bundles and check ids.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Reported => "reported",
            Self::Committed => "committed",
            Self::Launch => "launch",
            Self::Current => "current",
        }
    }
}

impl fmt::Display for TcbKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One floor for one TCB version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Floor {
    /// The lowest patch levels.
    pub tcb: Tcb,
    /// Time from which lower versions are denied, Unix seconds; until then they are warned
    /// of. Absent: always denied.
    pub deny_from: Option<u64>,
}

impl Floor {
    /// Whether lower versions are denied at a time.
    #[must_use]
    pub fn denies_at(&self, time: u64) -> bool {
        self.deny_from.is_none_or(|from| time >= from)
    }
}

/// The floors of one generation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Floors(BTreeMap<TcbKind, Vec<Floor>>);

impl Floors {
    /// The floors of one TCB version, in the order in which they were written.
    #[must_use]
    pub fn of(&self, kind: TcbKind) -> &[Floor] {
        self.0.get(&kind).map_or(&[], Vec::as_slice)
    }
}

/// Words for the generations.
pub(super) const GENERATIONS: [(&str, Generation); 3] = [
    (Generation::Milan.name(), Generation::Milan),
    (Generation::Genoa.name(), Generation::Genoa),
    (Generation::Turin.name(), Generation::Turin),
];

const KINDS: [(&str, TcbKind); 4] = [
    (TcbKind::Reported.name(), TcbKind::Reported),
    (TcbKind::Committed.name(), TcbKind::Committed),
    (TcbKind::Launch.name(), TcbKind::Launch),
    (TcbKind::Current.name(), TcbKind::Current),
];

/// Reads all floors. Each generation with a floor must have, for each of the four TCB
/// versions, a floor without a date.
pub(super) fn read(floors: &[document::Floor], reading: &mut Reading<'_>) -> BTreeMap<Generation, Floors> {
    let mut all: BTreeMap<Generation, Floors> = BTreeMap::new();
    for (at, floor) in floors.iter().enumerate() {
        let key = |name: &str| format!("floor[{at}].{name}");
        let generation = reading.word(&key("generation"), &floor.generation, &GENERATIONS);
        let deny_from = reading.maybe_time(&key("deny_from"), floor.deny_from.as_ref());
        let mut kinds: Vec<TcbKind> =
            floor.on.iter().filter_map(|word| reading.word(&key("on"), word, &KINDS)).collect();
        if floor.on.is_empty() {
            kinds = TcbKind::ALL.to_vec();
        }
        let (Some(generation), Some(deny_from)) = (generation, deny_from) else { continue };
        if floor.fmc.is_some() != (generation == Generation::Turin) {
            reading.refuse(
                key("fmc"),
                "does not fit the generation",
                "Turin has an FMC level, Milan and Genoa have none",
            );
        }
        let document::Floor { fmc, boot_loader, tee, snp, microcode, .. } = *floor;
        let floor = Floor { tcb: Tcb { fmc, boot_loader, tee, snp, microcode }, deny_from };
        let floors = all.entry(generation).or_default();
        kinds.into_iter().for_each(|kind| floors.0.entry(kind).or_default().push(floor));
    }
    for (generation, floors) in &all {
        for kind in TcbKind::ALL {
            if !floors.of(kind).iter().any(|floor| floor.deny_from.is_none()) {
                let what = format!("{generation} has no floor for the {kind} TCB that is in force from the beginning");
                reading.refuse("floor", what, "add one without deny_from, and with on as it is or absent");
            }
        }
    }
    all
}
