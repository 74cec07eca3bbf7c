//! The permit key, until the authority trips. Tripping takes the key away, so
//! that no code path can sign afterwards.

use std::sync::{Arc, PoisonError, RwLock};

use portcullis_permit::SigningKey;

/// Why the authority stopped signing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Tripped {
    /// Stable check id.
    pub(crate) check: String,
    /// What was found and required.
    pub(crate) why: String,
}

enum State {
    Armed(Arc<SigningKey>),
    Tripped(Tripped),
}

/// The key, or why there is none any more.
pub(crate) struct Signer(RwLock<State>);

impl Signer {
    pub(crate) fn new(key: SigningKey) -> Self {
        Self(RwLock::new(State::Armed(Arc::new(key))))
    }

    /// The key, for one signature.
    pub(crate) fn key(&self) -> Result<Arc<SigningKey>, Tripped> {
        match &*self.0.read().unwrap_or_else(PoisonError::into_inner) {
            State::Armed(key) => Ok(Arc::clone(key)),
            State::Tripped(tripped) => Err(tripped.clone()),
        }
    }

    /// Why it tripped, if it did.
    pub(crate) fn tripped(&self) -> Option<Tripped> {
        self.key().err()
    }

    /// Takes the key away. The first caller gets it, for the last signature.
    pub(crate) fn trip(&self, tripped: Tripped) -> Option<Arc<SigningKey>> {
        let mut state = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if matches!(*state, State::Tripped(_)) {
            return None;
        }
        match std::mem::replace(&mut *state, State::Tripped(tripped)) {
            State::Armed(key) => Some(key),
            State::Tripped(_) => None,
        }
    }
}
