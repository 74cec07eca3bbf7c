//! The results of a rehearsal, a line for each node.

use std::collections::BTreeMap;

use portcullis_attest::check::Check;
use portcullis_firmware_policy::Warning;

/// Maximum number of distinct names. Unknown clients choose names freely.
const MAX_NODES: usize = 100_000;
/// The name that counts all other nodes.
const OTHERS: &str = "(others)";

/// The new decision.
pub(super) enum Outcome {
    Permitted {
        warnings: Vec<Warning>,
    },
    Denied(Vec<Check>),
    /// The archived evidence is not sufficient to decide.
    Unknown(Check),
}

/// Why some decisions would be denied.
#[derive(Debug)]
pub(super) struct Reason {
    /// Value from the latest decision.
    pub(super) found: String,
    pub(super) required: String,
    pub(super) count: u64,
    latest: u64,
}

/// One node.
#[derive(Debug, Default)]
pub(super) struct Line {
    pub(super) permits: u64,
    pub(super) denials: u64,
    /// Permits that would become denials.
    pub(super) lost: u64,
    /// Denials that would become permits.
    pub(super) gained: u64,
    pub(super) unknown: u64,
    /// First checks of lost permits and of unknown results.
    pub(super) reasons: BTreeMap<String, Reason>,
    /// Checks that would cause a warning, with the date from which they deny.
    pub(super) warnings: BTreeMap<String, u64>,
}

/// The result for a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Change {
    Loses,
    Gains,
    Unknown,
    Same,
}

impl Change {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Loses => "loses",
            Self::Gains => "gains",
            Self::Unknown => "unknown",
            Self::Same => "same",
        }
    }
}

impl Line {
    /// The worst result of the node.
    pub(super) const fn change(&self) -> Change {
        match (self.lost, self.unknown, self.gained) {
            (0, 0, 0) => Change::Same,
            (0, 0, _) => Change::Gains,
            (0, _, _) => Change::Unknown,
            _ => Change::Loses,
        }
    }

    fn reason(&mut self, check: &Check, index: u64) {
        let text = |text: &Option<String>| text.clone().unwrap_or_else(|| "nothing".into());
        let (found, required) = (text(&check.found), text(&check.required));
        let fresh = || Reason { found: String::new(), required: String::new(), count: 0, latest: 0 };
        let reason = self.reasons.entry(check.id.to_string()).or_insert_with(fresh);
        reason.count = reason.count.saturating_add(1);
        if reason.count == 1 || index > reason.latest {
            (reason.found, reason.required, reason.latest) = (found, required, index);
        }
    }

    fn merge(&mut self, other: Self) {
        for (own, more) in [
            (&mut self.permits, other.permits),
            (&mut self.denials, other.denials),
            (&mut self.lost, other.lost),
            (&mut self.gained, other.gained),
            (&mut self.unknown, other.unknown),
        ] {
            *own = own.saturating_add(more);
        }
        self.warnings.extend(other.warnings);
        for (check, more) in other.reasons {
            match self.reasons.get_mut(&check) {
                None => drop(self.reasons.insert(check, more)),
                Some(own) => {
                    let count = own.count.saturating_add(more.count);
                    if more.latest > own.latest {
                        *own = more;
                    }
                    own.count = count;
                }
            }
        }
    }
}

/// All nodes.
#[derive(Debug, Default)]
pub(super) struct Tally {
    /// Number of decisions that were left out because their evidence was removed.
    pub(super) pruned: u64,
    pub(super) nodes: BTreeMap<String, Line>,
}

impl Tally {
    /// The result does not depend on the order of decisions.
    pub(super) fn count(&mut self, node: &str, index: u64, permitted: bool, outcome: Outcome) {
        let line = self.line(node);
        let add = |count: &mut u64| *count = count.saturating_add(1);
        add(if permitted { &mut line.permits } else { &mut line.denials });
        match outcome {
            Outcome::Permitted { warnings } => {
                if !permitted {
                    add(&mut line.gained);
                }
                line.warnings.extend(warnings.into_iter().map(|warning| (warning.check, warning.deny_from)));
            }
            Outcome::Denied(checks) if permitted => {
                add(&mut line.lost);
                checks.iter().for_each(|check| line.reason(check, index));
            }
            Outcome::Denied(_) => {}
            Outcome::Unknown(check) => {
                add(&mut line.unknown);
                line.reason(&check, index);
            }
        }
    }

    pub(super) fn merge(&mut self, other: Self) {
        for (name, line) in other.nodes {
            self.line(&name).merge(line);
        }
    }

    fn line(&mut self, node: &str) -> &mut Line {
        let name = if self.nodes.len() < MAX_NODES || self.nodes.contains_key(node) { node } else { OTHERS };
        self.nodes.entry(name.to_owned()).or_default()
    }

    /// Number of nodes that a change would affect.
    pub(super) fn with(&self, change: Change) -> usize {
        self.nodes.values().filter(|line| line.change() == change).count()
    }

    /// Number of decisions.
    pub(super) fn decisions(&self) -> u64 {
        self.nodes.values().map(|line| line.permits.saturating_add(line.denials)).sum()
    }
}
