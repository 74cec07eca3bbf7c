//! The flag that a log has stopped.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::error::LogError;

/// Set once a step of a batch failed. From then on it is unknown what is on the disk,
/// so no step of any batch begins.
#[derive(Clone, Debug, Default)]
pub(crate) struct Stop(Arc<AtomicBool>);

impl Stop {
    pub(crate) fn set(&self) {
        self.0.store(true, Ordering::Release);
    }

    pub(super) fn is_set(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }

    pub(super) fn check(&self) -> Result<(), LogError> {
        if self.is_set() { Err(LogError::Stopped) } else { Ok(()) }
    }
}
