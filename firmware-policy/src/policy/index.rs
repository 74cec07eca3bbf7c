//! An index from evidence to reference values, so that the time of a look-up does not
//! depend on their number.

use std::collections::{BTreeSet, HashMap};

use portcullis_attest::binding::Role;
use portcullis_wire::Digest;

use super::reference::Reference;

/// Positions in the list of reference values. Only look-ups by key use the maps, so
/// their order has no effect.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Index {
    measurements: HashMap<(bool, [u8; 48]), Vec<usize>>,
    /// By the lowest PCR that the reference values name, and its value.
    pcrs: HashMap<(bool, u8, Digest), Vec<usize>>,
    lowest: BTreeSet<(bool, u8)>,
}

impl Index {
    pub(super) fn of(references: &[Reference]) -> Self {
        let mut index = Self::default();
        for (at, reference) in references.iter().enumerate() {
            let role = is_node(reference.role);
            let measured: BTreeSet<&[u8; 48]> = reference.measurements.values().collect();
            for measurement in measured {
                index.measurements.entry((role, *measurement)).or_default().push(at);
            }
            let Some((pcr, values)) = reference.pcrs.first_key_value() else { continue };
            index.lowest.insert((role, *pcr));
            for value in values.iter().copied().collect::<BTreeSet<Digest>>() {
                index.pcrs.entry((role, *pcr, value)).or_default().push(at);
            }
        }
        index
    }

    pub(super) fn by_measurement(&self, role: Role, measurement: &[u8; 48]) -> impl Iterator<Item = usize> {
        self.measurements.get(&(is_node(role), *measurement)).into_iter().flatten().copied()
    }

    pub(super) fn by_pcr(&self, role: Role, value: impl Fn(u8) -> Option<Digest>) -> Vec<usize> {
        let role = is_node(role);
        let lowest = self.lowest.iter().filter(|(of, _)| *of == role).map(|(_, pcr)| *pcr);
        let found = lowest.filter_map(|pcr| self.pcrs.get(&(role, pcr, value(pcr)?)));
        found.flatten().copied().collect()
    }
}

const fn is_node(role: Role) -> bool {
    matches!(role, Role::Node)
}
