//! The permit key, until the authority trips. A trip removes the key, so that no code
//! path can sign afterwards. While the authority is in doubt about itself, the key is
//! withheld.

use std::sync::{Arc, PoisonError, RwLock};

use portcullis_permit::SigningKey;

use crate::clock;
use crate::doubts::Doubts;

/// Why the authority signs nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stopped {
    /// Stable check id.
    pub(crate) check: String,
    /// What was found and required.
    pub(crate) why: String,
    /// Whether the authority has tripped. Otherwise it resumes once the cause is gone.
    pub(crate) for_good: bool,
}

impl Stopped {
    /// A temporary stop, until the cause is gone.
    pub(crate) fn for_now(check: &str, why: impl Into<String>) -> Self {
        Self { check: check.to_owned(), why: why.into(), for_good: false }
    }

    /// A permanent stop.
    pub(crate) fn tripped(check: &str, why: impl Into<String>) -> Self {
        Self { check: check.to_owned(), why: why.into(), for_good: true }
    }
}

enum State {
    Armed(Arc<SigningKey>),
    Tripped(Stopped),
}

/// The key, or the reason why it is unavailable.
pub(crate) struct Signer {
    state: RwLock<State>,
    pub(crate) doubts: Doubts,
}

impl Signer {
    pub(crate) fn new(key: SigningKey) -> Self {
        Self { state: RwLock::new(State::Armed(Arc::new(key))), doubts: Doubts::default() }
    }

    /// The key, for one signature.
    pub(crate) fn key(&self) -> Result<Arc<SigningKey>, Stopped> {
        let key = self.armed()?;
        self.doubts.present(clock::boot_time()).map_or(Ok(key), Err)
    }

    fn armed(&self) -> Result<Arc<SigningKey>, Stopped> {
        match &*self.state.read().unwrap_or_else(PoisonError::into_inner) {
            State::Armed(key) => Ok(Arc::clone(key)),
            State::Tripped(stopped) => Err(stopped.clone()),
        }
    }

    /// Why the authority tripped; `None` if it did not.
    pub(crate) fn tripped(&self) -> Option<Stopped> {
        self.armed().err()
    }

    /// Removes the key. The first caller gets it, for the last signature.
    pub(crate) fn trip(&self, tripped: Stopped) -> Option<Arc<SigningKey>> {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        if matches!(*state, State::Tripped(_)) {
            return None;
        }
        match std::mem::replace(&mut *state, State::Tripped(tripped)) {
            State::Armed(key) => Some(key),
            State::Tripped(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use portcullis_permit::Suite;

    use super::*;
    use crate::doubts::{GRACE, LONGEST};

    /// A doubt withholds the key until it passes. A trip removes the key permanently, and
    /// the last signature does not wait for a doubt.
    #[test]
    fn a_doubt_heals_and_a_trip_does_not() {
        let signer = Signer::new(SigningKey::generate(Suite::Classic).unwrap());
        let now = clock::boot_time();
        assert!(signer.key().is_ok());
        let before = now.saturating_sub(GRACE);
        assert!(!signer.doubts.failed("watch.device", "busy", before));
        let stopped = signer.key().err().unwrap();
        assert_eq!((stopped.check.as_str(), stopped.for_good), ("watch.device", false));
        assert!(signer.tripped().is_none());
        signer.doubts.settled("watch.device");
        assert!(signer.key().is_ok());
        assert!(!signer.doubts.failed("watch.device", "busy", now.saturating_sub(LONGEST)));
        assert!(signer.doubts.failed("watch.device", "busy", now), "it lasted too long");
        assert!(signer.trip(Stopped::tripped("watch.device", "busy")).is_some());
        signer.doubts.settled("watch.device");
        assert_eq!(signer.key().err().map(|stopped| stopped.for_good), Some(true));
    }
}
