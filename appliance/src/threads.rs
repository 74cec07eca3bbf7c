//! The threads that own the log and the machine.

use std::thread::JoinHandle;

use anyhow::{Result, anyhow};
use portcullis_lineage::Writer;

use crate::attestor::Attestor;

/// Both threads end before the process, whichever way it ends: a thread must close what
/// it opened, and the C library for the TPM fails if it is in use while the process
/// exits.
pub(crate) struct Threads {
    writer: Writer,
    attestor: Attestor,
    running: Vec<(&'static str, JoinHandle<()>)>,
}

impl Threads {
    pub(crate) fn new(log: (&Writer, JoinHandle<()>), attestor: (&Attestor, JoinHandle<()>)) -> Self {
        let running = vec![("log", log.1), ("attestor", attestor.1)];
        Self { writer: log.0.clone(), attestor: attestor.0.clone(), running }
    }

    /// Ends both threads after the jobs that were queued before. Blocks.
    ///
    /// # Errors
    /// A thread has failed.
    pub(crate) fn end(mut self) -> Result<()> {
        self.join()
    }

    fn join(&mut self) -> Result<()> {
        self.attestor.close();
        self.writer.close();
        let ended: Vec<_> = self.running.drain(..).map(|(name, thread)| (name, thread.join())).collect();
        let failed = ended.into_iter().find(|(_, outcome)| outcome.is_err());
        failed.map_or(Ok(()), |(name, _)| Err(anyhow!("the {name} thread failed")))
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        // Any other path already has an error to report.
        let _failed = self.join();
    }
}
