//! Bare group commit on this disk: a thread that only writes and syncs submitted bytes,
//! and answers.

use std::fs::File;
use std::io::{Seek, Write};
use std::num::NonZeroU64;
use std::path::Path;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use rustix::fs::{Advice, fadvise};
use tokio::sync::oneshot;

use super::answers::{Answers, closed_loop};

/// Bytes to be written, and the writers that wait for them.
type Job = (Vec<u8>, oneshot::Sender<()>);

/// A file that is appended to.
pub(super) struct GroupCommit {
    file: File,
    /// The start of the first page that is not full.
    dropped: u64,
}

impl GroupCommit {
    pub(super) fn new(folder: &Path) -> Result<Self> {
        Ok(Self { file: File::create(folder.join("bare"))?, dropped: 0 })
    }

    /// Runs a number of writers for a time.
    pub(super) fn turn(&mut self, load: (usize, usize), duration: Duration) -> Result<Answers> {
        let (jobs, queue) = channel::<Job>();
        thread::scope(|scope| {
            let thread = scope.spawn(move || self.commit_all(queue));
            let answers = closed_loop(load, duration, move |_, statement| {
                let (reply, done) = oneshot::channel();
                let sent = jobs.send((statement, reply));
                async move {
                    sent.map_err(|_| anyhow!("the thread ended"))?;
                    done.await.context("no answer")
                }
            })?;
            thread.join().map_err(|_| anyhow!("the thread failed"))??;
            Ok(answers)
        })
    }

    fn commit_all(&mut self, queue: Receiver<Job>) -> Result<()> {
        while let Ok(first) = queue.recv() {
            let (bytes, replies): (Vec<Vec<u8>>, Vec<_>) = std::iter::once(first).chain(queue.try_iter()).unzip();
            self.commit(&bytes.concat())?;
            for reply in replies {
                // The writer may have stopped.
                let _gone = reply.send(());
            }
        }
        Ok(())
    }

    fn commit(&mut self, bytes: &[u8]) -> Result<()> {
        self.file.write_all(bytes)?;
        self.file.sync_data()?;
        // As the log does: filling the page cache costs more than the write.
        let end = self.file.stream_position()?;
        fadvise(&self.file, self.dropped, NonZeroU64::new(end - self.dropped), Advice::DontNeed)?;
        self.dropped = end & !4095;
        Ok(())
    }

    /// Mean time of one write of this many bytes with its `fdatasync`.
    pub(super) fn sync_time(&mut self, group: usize, duration: Duration) -> Result<Duration> {
        let group = vec![7; group];
        let (started, mut groups) = (Instant::now(), 0_u32);
        while started.elapsed() < duration {
            self.commit(&group)?;
            groups += 1;
        }
        Ok(started.elapsed() / groups.max(1))
    }
}
