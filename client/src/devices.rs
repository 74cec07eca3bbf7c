//! The devices of this machine. One request at a time uses them, on a separate thread,
//! because a TPM takes seconds and signals must not wait.

use std::sync::{Arc, Mutex, PoisonError};

use portcullis_attest::evidence::EvidenceClass;
use portcullis_attester::Machine;

use crate::refusal::ClientError;

/// An opened machine. Clones share the same machine.
#[derive(Clone)]
pub struct Devices {
    machine: Arc<Mutex<Machine>>,
    class: EvidenceClass,
    ak_name: Option<Vec<u8>>,
}

impl Devices {
    /// Takes ownership of a machine.
    #[must_use]
    pub fn of(machine: Machine) -> Self {
        let (class, ak_name) = (machine.class(), machine.ak_name().map(<[u8]>::to_vec));
        Self { machine: Arc::new(Mutex::new(machine)), class, ak_name }
    }

    pub(crate) const fn class(&self) -> EvidenceClass {
        self.class
    }

    pub(crate) fn ak_name(&self) -> Option<&[u8]> {
        self.ak_name.as_deref()
    }

    /// Runs work on the machine on a separate thread.
    pub(crate) async fn with<T: Send + 'static, E: Into<ClientError> + Send + 'static>(
        &self,
        work: impl FnOnce(&mut Machine) -> Result<T, E> + Send + 'static,
    ) -> Result<T, ClientError> {
        let machine = Arc::clone(&self.machine);
        in_background(move || work(&mut machine.lock().unwrap_or_else(PoisonError::into_inner))).await
    }
}

/// Runs work that waits for a device or a disk on a separate thread.
pub(crate) async fn in_background<T: Send + 'static, E: Into<ClientError> + Send + 'static>(
    work: impl FnOnce() -> Result<T, E> + Send + 'static,
) -> Result<T, ClientError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(outcome) => outcome.map_err(Into::into),
        Err(stopped) => Err(ClientError::Own(stopped.into())),
    }
}
