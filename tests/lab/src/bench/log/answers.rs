//! Closed-loop writers: each submits its next entry when the last was answered.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use rustix::time::{ClockId, clock_gettime};

/// The answers to writers, and their cost.
#[derive(Default)]
pub(super) struct Answers {
    latencies: Vec<Duration>,
    elapsed: Duration,
    /// User and system time of the whole process, writers included.
    spent: Duration,
}

impl Answers {
    /// Adds the answers of another turn.
    pub(super) fn add(&mut self, turn: Self) {
        self.latencies.extend(turn.latencies);
        self.elapsed = self.elapsed.saturating_add(turn.elapsed);
        self.spent = self.spent.saturating_add(turn.spent);
    }

    /// Work that remained after the last answer.
    pub(super) fn and_then(mut self, act: impl FnOnce(usize) -> Result<()>) -> Result<Self> {
        let (started, cpu) = (Instant::now(), cpu_time());
        act(self.latencies.len())?;
        self.elapsed = self.elapsed.saturating_add(started.elapsed());
        self.spent = self.spent.saturating_add(cpu_time().saturating_sub(cpu));
        Ok(self)
    }

    pub(super) fn per_second(&self) -> f64 {
        self.latencies.len() as f64 / self.elapsed.as_secs_f64()
    }

    pub(super) fn cpu_micros(&self) -> f64 {
        self.spent.as_secs_f64() * 1e6 / self.latencies.len() as f64
    }

    /// Percentiles of the latencies.
    pub(super) fn percentiles<const N: usize>(&mut self, hundredths: [usize; N]) -> Result<[Duration; N]> {
        self.latencies.sort_unstable();
        let last = self.latencies.len().checked_sub(1).context("no append")?;
        Ok(hundredths.map(|hundredth| self.latencies[last * hundredth / 100]))
    }
}

/// Runs a number of writers for a time on this thread, with entries of this size.
pub(super) fn closed_loop<F: Future<Output = Result<()>>>(
    (writers, entry): (usize, usize),
    duration: Duration,
    append: impl Fn(usize, Vec<u8>) -> F + Clone,
) -> Result<Answers> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    let (started, cpu) = (Instant::now(), cpu_time());
    let writer = |n: usize| {
        let append = append.clone();
        async move {
            let mut latencies = Vec::new();
            while started.elapsed() < duration {
                let serial = latencies.len();
                let mut statement = vec![0; entry];
                let name = [(n as u64).to_be_bytes(), (serial as u64).to_be_bytes()].concat();
                statement.iter_mut().zip(name).for_each(|(to, from)| *to = from);
                let asked = Instant::now();
                append(serial, statement).await?;
                latencies.push(asked.elapsed());
            }
            Ok::<_, anyhow::Error>(latencies)
        }
    };
    let all = runtime.block_on(all_of((0..writers).map(writer)))?;
    let (elapsed, spent) = (started.elapsed(), cpu_time().saturating_sub(cpu));
    Ok(Answers { latencies: all.concat(), elapsed, spent })
}

/// Runs futures side by side on this thread.
async fn all_of<T, F: Future<Output = Result<T>>>(futures: impl Iterator<Item = F>) -> Result<Vec<T>> {
    let mut running: FuturesUnordered<F> = futures.collect();
    let mut done = Vec::new();
    while let Some(outcome) = running.next().await {
        done.push(outcome?);
    }
    Ok(done)
}

fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}
