//! The ledger as bytes. The same entries always give the same bytes.

use std::fmt;
use std::sync::Arc;

use portcullis_firmware_policy::Revocations;
use portcullis_permit::{BootCounters, PermitId};
use portcullis_wire::{Error, Value, bstr, decode, encode, or_null};

use super::{Ledger, Live};

const LABEL: &str = "portcullis/ledger/3";
/// Largest snapshot, in bytes: a quarter of a million live permits.
const MAX_LENGTH: usize = 128 * 1024 * 1024;

/// Why a snapshot is not used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SnapshotError(Error);

impl fmt::Display for SnapshotError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "snapshot: {}", self.0)
    }
}

impl std::error::Error for SnapshotError {}

impl From<Error> for SnapshotError {
    fn from(error: Error) -> Self {
        Self(error)
    }
}

impl Ledger {
    /// Number of entries, and the state that follows from them.
    pub(crate) fn snapshot(&self) -> (u64, Vec<u8>) {
        let mut live: Vec<_> = self.live.iter().collect();
        live.sort_unstable_by_key(|(id, _)| **id);
        let live = live.into_iter().map(|(id, live)| live.to_value(id)).collect();
        let state = encode(&Value::Array(vec![
            LABEL.into(),
            self.entries.into(),
            self.bundle_version.into(),
            or_null(self.last_index.map(Value::from)),
            self.swept.into(),
            self.newest.into(),
            self.revocations.to_value(),
            Value::Array(live),
        ]));
        (self.entries, state)
    }

    /// Restores the ledger from the bytes of [`Ledger::snapshot`].
    ///
    /// # Errors
    /// The bytes are no valid snapshot.
    pub(crate) fn restore(bytes: &[u8]) -> Result<Self, SnapshotError> {
        let wrong = || Error::Shape("a snapshot of the ledger");
        let items = decode(bytes, MAX_LENGTH)?.into_array().ok();
        let items = items.and_then(|items| <[Value; 8]>::try_from(items).ok()).ok_or_else(wrong)?;
        let [label, entries, bundle_version, last_index, swept, newest, revocations, live] = items;
        if label != LABEL.into() {
            return Err(wrong().into());
        }
        let mut ledger = Self {
            entries: uint(entries)?,
            bundle_version: uint(bundle_version)?,
            last_index: if last_index.is_null() { None } else { Some(uint(last_index)?) },
            swept: uint(swept)?,
            newest: uint(newest)?,
            revocations: Arc::new(Revocations::from_value(revocations)?),
            ..Self::new()
        };
        ledger.summed_up = ledger.entries;
        for item in live.into_array().map_err(|_| wrong())? {
            let (id, live) = Live::from_value(item)?;
            let held = usize::try_from(live.status).ok().and_then(|at| ledger.held_until.get_mut(at));
            let held = held.ok_or_else(wrong)?;
            *held = live.expires.max(*held);
            ledger.live.insert(id, live);
        }
        let revoked: Vec<(u64, u64)> =
            ledger.live.values().filter(|live| live.revoked).map(|live| (live.status, live.expires)).collect();
        for (index, expires) in revoked {
            ledger.withdraw(index, expires);
        }
        Ok(ledger)
    }
}

impl Live {
    fn to_value(&self, id: &PermitId) -> Value {
        Value::Array(vec![
            bstr(id.bytes()),
            self.subject.as_str().into(),
            bstr(self.confirmation),
            bstr(self.workload),
            bstr(self.origin.bytes()),
            self.since.into(),
            or_null(self.parent.map(|parent| bstr(parent.bytes()))),
            self.expires.into(),
            self.status.into(),
            or_null(self.boot.map(|boot| boot.to_value())),
            self.revoked.into(),
        ])
    }

    fn from_value(value: Value) -> Result<(PermitId, Self), Error> {
        let items = value.into_array().ok().and_then(|items| <[Value; 11]>::try_from(items).ok());
        let [id, subject, confirmation, workload, origin, since, parent, expires, status, boot, revoked] =
            items.ok_or(Error::Shape("a live permit"))?;
        let live = Self {
            subject: subject.into_text().map_err(|_| Error::Shape("a live permit"))?,
            confirmation: array(confirmation)?,
            workload: array(workload)?,
            origin: PermitId::from_bytes(array(origin)?),
            since: uint(since)?,
            parent: if parent.is_null() { None } else { Some(PermitId::from_bytes(array(parent)?)) },
            expires: uint(expires)?,
            status: uint(status)?,
            boot: if boot.is_null() { None } else { Some(BootCounters::from_value(boot)?) },
            revoked: revoked.into_bool().map_err(|_| Error::Shape("a live permit"))?,
        };
        Ok((PermitId::from_bytes(array(id)?), live))
    }
}

fn uint(value: Value) -> Result<u64, Error> {
    let integer = value.into_integer().ok().and_then(|n| u64::try_from(n).ok());
    integer.ok_or(Error::Shape("a snapshot of the ledger"))
}

fn array<const N: usize>(value: Value) -> Result<[u8; N], Error> {
    let bytes = value.into_bytes().ok().and_then(|bytes| bytes.try_into().ok());
    bytes.ok_or(Error::Shape("a snapshot of the ledger"))
}

#[cfg(test)]
mod tests {
    use portcullis_firmware_policy::ParentState;
    use portcullis_permit::{
        Clock, Constraints, DynamicLinking, Kind, Permit, Revocation, RevocationTarget, SigningKey, Status,
        StatusReference, Suite, statement,
    };

    use super::*;

    fn permit(n: u8, parent: Option<u8>) -> Permit {
        let id = |n| PermitId::from_bytes([n; 16]);
        Permit {
            issuer: "log.test".into(),
            subject: format!("node-{}", n % 3),
            audience: "gate".into(),
            not_before: 1000 + u64::from(n),
            expires: 1100 + u64::from(n),
            id: id(n),
            confirmation: [n; 32],
            workload: [n % 2; 32],
            constraints: Constraints { arguments: None, environment: None, linking: DynamicLinking::Static },
            status: StatusReference { uri: super::super::STATUS_URI.into(), index: u64::from(n) },
            evidence: [0; 32],
            bundle: [0; 32],
            result: [0; 32],
            channel: [0; 32],
            boot: Some(BootCounters { reset_count: 1, restart_count: u32::from(n), clock: 5 }),
            parent: parent.map(id),
            warnings: Vec::new(),
        }
    }

    fn entries(key: &SigningKey) -> Vec<Vec<u8>> {
        let mut entries: Vec<_> = (0..20).map(|n| permit(n, n.checked_sub(5)).sign(key).unwrap()).collect();
        entries.insert(12, command(key, 1, RevocationTarget::Node("node-1".into())));
        entries.insert(16, command(key, 2, RevocationTarget::NodeLifted("node-1".into())));
        entries.push(command(key, 3, RevocationTarget::Workload([1; 32])));
        entries
    }

    fn command(key: &SigningKey, sequence: u64, target: RevocationTarget) -> Vec<u8> {
        let command = Revocation {
            authority: "log.test".into(),
            sequence,
            predecessor: None,
            expires: 2000,
            target,
            reason: "test".into(),
        };
        let payload = portcullis_permit::Quorum::unsigned(command.encode()).encode();
        statement::sign(Kind::Revocation, key, "log.test", "revocation", &payload).unwrap()
    }

    /// A lifted revocation admits new permits and restores none of the old ones: neither in
    /// the status list nor as the parent of a renewal, also after a start from a snapshot.
    /// Only permits that had not ended count as revoked.
    #[test]
    fn what_was_revoked_stays_dead_when_the_revocation_is_lifted() {
        let key = SigningKey::generate(Suite::Classic).unwrap();
        let node = || "node-1".to_owned();
        let mut ledger = Ledger::new();
        // Permits 1 and 4 are of node-1 and end at 1101 and 1104.
        [1, 4].iter().for_each(|n| ledger.apply(&permit(*n, None).sign(&key).unwrap()));
        ledger.apply(&command(&key, 1, RevocationTarget::Node(node())));
        assert_eq!((ledger.last_hit(1000), ledger.last_hit(1102), ledger.last_hit(1104)), (2, 1, 0));
        let id = |n| Some(PermitId::from_bytes([n; 16]));
        let clock = Clock { now: 1050, skew: 5 };
        assert!(matches!(ledger.parent(id(4), clock), ParentState::Logged { .. }), "the denial names the revocation");
        ledger.apply(&command(&key, 2, RevocationTarget::NodeLifted(node())));
        assert_eq!(ledger.last_hit(1000), 0);
        // A renewal that was decided before, and a new permit.
        ledger.apply(&permit(7, Some(4)).sign(&key).unwrap());
        ledger.apply(&permit(10, None).sign(&key).unwrap());
        for ledger in [&ledger, &Ledger::restore(&ledger.snapshot().1).unwrap()] {
            let status = |n| ledger.status_list(0, 1).status(n).unwrap();
            assert_eq!([1, 4, 7, 10].map(status), [Status::Invalid, Status::Invalid, Status::Invalid, Status::Valid]);
            assert_eq!([4, 7].map(|n| ledger.parent(id(n), clock)), [ParentState::Unknown, ParentState::Unknown]);
            assert!(matches!(ledger.parent(id(10), clock), ParentState::Logged { .. }));
            assert!(!ledger.revocations().has_node("node-1"));
        }
        // A gate counts by its own clock: a parent that ended a moment ago may be renewed.
        let at = |now| ledger.parent(id(10), Clock { now, skew: 5 });
        assert!(matches!(at(1114), ParentState::Logged { .. }));
        assert_eq!(at(1115), ParentState::Unknown);
    }

    /// From any snapshot, the remaining entries lead to the same state and status list as
    /// all entries from the start.
    #[test]
    fn a_ledger_goes_on_from_any_snapshot() {
        let key = SigningKey::generate(Suite::Classic).unwrap();
        let entries = entries(&key);
        let mut whole = Ledger::new();
        entries.iter().for_each(|entry| whole.apply(entry));
        for at in 0..=entries.len() {
            let mut first = Ledger::new();
            entries[..at].iter().for_each(|entry| first.apply(entry));
            let (count, bytes) = first.snapshot();
            assert_eq!(count, at as u64);
            let mut second = Ledger::restore(&bytes).unwrap();
            entries[at..].iter().for_each(|entry| second.apply(entry));
            assert_eq!(second.snapshot(), whole.snapshot(), "from {at}");
            let list = |ledger: &Ledger| (0..25).map(|n| ledger.status_list(0, 1).status(n)).collect::<Vec<_>>();
            assert_eq!(list(&second), list(&whole), "from {at}");
            assert_eq!(second.held_until, whole.held_until, "from {at}");
        }
        assert!(whole.last_hit(0) > 0);
    }

    #[test]
    fn other_bytes_are_refused() {
        let (_, bytes) = Ledger::new().snapshot();
        for cut in 0..bytes.len() {
            assert!(Ledger::restore(&bytes[..cut]).is_err(), "cut at {cut}");
        }
        let mut bad = bytes;
        bad[10] ^= 1;
        assert!(Ledger::restore(&bad).is_err());
    }
}
