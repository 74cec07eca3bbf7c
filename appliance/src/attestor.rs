//! One thread owns the machine. Challenges that arrive while it works form the next
//! batch. Every session gets fresh evidence, and a batch shares the cost of one report
//! and one quote.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use portcullis_attest::binding::{Batch, BatchProof, MAX_BATCH, Role};
use portcullis_attest::tpm::attest::ClockInfo;
use portcullis_attest::tpm::pcr::PcrValues;
use portcullis_attester::Machine;
use portcullis_firmware_policy::VerifiedBundle;
use portcullis_permit::Checkpoint;
use tokio::sync::oneshot;

use crate::anchor::Anchoring;
use crate::clock;
use crate::selfcheck;

/// Shortest and longest time for which a batch gathers. Within these limits it gathers
/// for as long as the last report took, so a throttled processor gets larger batches.
const WINDOW: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(100));

/// Evidence for one session.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) evidence: Arc<Vec<u8>>,
    pub(crate) proof: BatchProof,
}

/// The TPM state that an appraisal of this machine returns.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Appraised {
    /// Its clock and boot counters.
    pub(crate) clock: ClockInfo,
    /// The times (`CLOCK_BOOTTIME`) before and after they were read.
    pub(crate) between: (Duration, Duration),
}

enum Job {
    Close,
    Attest {
        binder: [u8; 64],
        bundle: Arc<VerifiedBundle>,
        reply: oneshot::Sender<Result<Answer, String>>,
    },
    ReadPcrs {
        bundle: Arc<VerifiedBundle>,
        reply: oneshot::Sender<Result<PcrValues, String>>,
    },
    Counter {
        reply: oneshot::Sender<Result<bool, String>>,
    },
    Anchor {
        bundle: Arc<VerifiedBundle>,
        head: Arc<Checkpoint>,
        clean: bool,
        reply: oneshot::Sender<Result<(), String>>,
    },
    SelfCheck {
        bundle: Arc<VerifiedBundle>,
        origin: String,
        at: u64,
        reply: oneshot::Sender<Result<Appraised>>,
    },
}

/// A handle to the thread.
#[derive(Clone)]
pub(crate) struct Attestor {
    jobs: Sender<Job>,
    ak_name: Option<Arc<[u8]>>,
}

impl Attestor {
    /// Starts the thread, which [`crate::threads::Threads`] joins.
    pub(crate) fn start(machine: Machine, anchoring: Anchoring) -> Result<(Self, JoinHandle<()>)> {
        let (jobs, queue) = channel();
        let ak_name = machine.ak_name().map(Into::into);
        let thread = thread::Builder::new()
            .name("attestor".into())
            .spawn(move || run(&mut Owned { machine, anchoring }, &queue))?;
        Ok((Self { jobs, ak_name }, thread))
    }

    /// Ends the thread after the jobs that were queued before.
    pub(crate) fn close(&self) {
        // An error means that the thread has ended already.
        let _ended = self.jobs.send(Job::Close);
    }

    /// Name of the attestation key.
    pub(crate) fn ak_name(&self) -> Option<&[u8]> {
        self.ak_name.as_deref()
    }

    /// Evidence for a binder.
    pub(crate) async fn attest(&self, binder: [u8; 64], bundle: Arc<VerifiedBundle>) -> Result<Answer, String> {
        let (reply, answer) = oneshot::channel();
        self.ask(Job::Attest { binder, bundle, reply }, answer).await
    }

    /// The PCRs of the authority's selection, now.
    pub(crate) async fn read_pcrs(&self, bundle: Arc<VerifiedBundle>) -> Result<PcrValues, String> {
        let (reply, answer) = oneshot::channel();
        self.ask(Job::ReadPcrs { bundle, reply }, answer).await
    }

    /// Whether the TPM's counter is still the counter of this start.
    pub(crate) async fn is_newest_start(&self) -> Result<bool, String> {
        let (reply, answer) = oneshot::channel();
        self.ask(Job::Counter { reply }, answer).await
    }

    /// Anchors a head in the TPM.
    pub(crate) async fn anchor(
        &self,
        bundle: Arc<VerifiedBundle>,
        head: Arc<Checkpoint>,
        clean: bool,
    ) -> Result<(), String> {
        let (reply, answer) = oneshot::channel();
        self.ask(Job::Anchor { bundle, head, clean, reply }, answer).await
    }

    /// Appraises the machine against a bundle.
    pub(crate) async fn self_check(&self, bundle: Arc<VerifiedBundle>, origin: String, at: u64) -> Result<Appraised> {
        let (reply, answer) = oneshot::channel();
        self.jobs.send(Job::SelfCheck { bundle, origin, at, reply }).context("the attestor ended")?;
        answer.await.context("the attestor ended")?
    }

    async fn ask<T>(&self, job: Job, answer: oneshot::Receiver<Result<T, String>>) -> Result<T, String> {
        let ended = || "the attestor ended".to_owned();
        self.jobs.send(job).map_err(|_| ended())?;
        answer.await.map_err(|_| ended())?
    }
}

type Waiting = ([u8; 64], oneshot::Sender<Result<Answer, String>>);

/// The state that the thread owns.
struct Owned {
    machine: Machine,
    anchoring: Anchoring,
}

fn run(owned: &mut Owned, queue: &Receiver<Job>) {
    let mut window = WINDOW.0;
    while let Ok(job) = queue.recv() {
        match job {
            Job::Close => return,
            Job::Attest { binder, bundle, reply } => {
                let (batch, other) = gather((binder, reply), queue, window);
                let started = Instant::now();
                answer(&mut owned.machine, batch, &bundle);
                window = started.elapsed().clamp(WINDOW.0, WINDOW.1);
                match other {
                    Some(Job::Close) => return,
                    Some(job) => serve(owned, job),
                    None => {}
                }
            }
            other => serve(owned, other),
        }
    }
}

/// Gathers challenges for a window. Another kind of job ends the batch.
fn gather(first: Waiting, queue: &Receiver<Job>, window: Duration) -> (Vec<Waiting>, Option<Job>) {
    let mut batch = vec![first];
    let now = Instant::now();
    let until = now.checked_add(window).unwrap_or(now);
    while batch.len() < MAX_BATCH {
        match queue.recv_timeout(until.saturating_duration_since(Instant::now())) {
            Ok(Job::Attest { binder, reply, .. }) => batch.push((binder, reply)),
            Ok(other) => return (batch, Some(other)),
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => break,
        }
    }
    (batch, None)
}

/// A caller that has disconnected is no error: its reply is dropped.
fn serve(owned: &mut Owned, job: Job) {
    let Owned { machine, anchoring } = owned;
    match job {
        Job::Counter { reply } => {
            let counter = machine.tpm().ok_or_else(|| "no TPM".to_owned());
            let counter = counter.and_then(|tpm| tpm.read_counter().map_err(|error| error.to_string()));
            drop(reply.send(counter.map(|counter| counter == anchoring.counter())));
        }
        Job::Anchor { bundle, head, clean, reply } => {
            let selection = bundle.policy().selection(Role::Authority);
            let written = match machine.tpm() {
                Some(tpm) => anchoring.write(tpm, selection, &head, clean).map_err(|error| format!("{error:#}")),
                None => Err("no TPM".to_owned()),
            };
            drop(reply.send(written));
        }
        Job::Close => {}
        Job::Attest { binder, bundle, reply } => answer(machine, vec![(binder, reply)], &bundle),
        Job::ReadPcrs { bundle, reply } => {
            let selection = bundle.policy().selection(Role::Authority);
            let values = machine.tpm().ok_or_else(|| "no TPM".to_owned());
            let values = values.and_then(|tpm| tpm.read_pcrs(selection).map_err(|error| error.to_string()));
            drop(reply.send(values));
        }
        Job::SelfCheck { bundle, origin, at, reply } => {
            let asked = clock::boot_time();
            let own = selfcheck::appraise_own(machine, &origin, &bundle, at);
            let between = (asked, clock::boot_time());
            drop(reply.send(own.map(|own| Appraised { clock: own.tpm_clock, between })));
        }
    }
}

fn answer(machine: &mut Machine, waiting: Vec<Waiting>, bundle: &VerifiedBundle) {
    let binders: Vec<[u8; 64]> = waiting.iter().map(|(binder, _)| *binder).collect();
    let collected = Batch::new(&binders).ok_or_else(|| "an empty batch".to_owned()).and_then(|batch| {
        let evidence = machine.collect(&batch.report_data(), bundle.policy().selection(Role::Authority));
        evidence.map(|evidence| (batch, Arc::new(evidence.bytes().to_vec()))).map_err(|error| error.to_string())
    });
    for (index, (_, reply)) in waiting.into_iter().enumerate() {
        let answer = collected.as_ref().map_err(Clone::clone).and_then(|(batch, evidence)| {
            let proof = batch.proof(index).ok_or_else(|| "no batch proof".to_owned())?;
            Ok(Answer { evidence: Arc::clone(evidence), proof })
        });
        drop(reply.send(answer));
    }
}
