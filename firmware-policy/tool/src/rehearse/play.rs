//! Repeats decisions on archived requests, on all cores.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use anyhow::{Context, Result, bail};
use indicatif::ProgressBar;
use portcullis_firmware_policy::{PastDecision, rehearse};
use portcullis_permit::ReceivedRequest;

use super::archive::{Archive, Archived};
use super::proposal::Proposal;
use super::tally::{Outcome, Tally};

/// Number of decisions that a worker takes at once.
const CHUNK: usize = 64;
/// The check that fails if the proposal needs other PCRs than were quoted: the archive
/// does not contain their values.
const OTHER_PCRS: &str = "tpm.selection";

/// Repeats all decisions of an archive.
pub(super) fn all(mut archive: Archive, proposal: &Proposal, threads: usize, bar: &ProgressBar) -> Result<Tally> {
    let (sender, receiver) = sync_channel::<Vec<Archived>>(threads.saturating_mul(2));
    let receiver = Arc::new(Mutex::new(receiver));
    thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|_| {
                let receiver = Arc::clone(&receiver);
                scope.spawn(move || work(&receiver, proposal))
            })
            .collect();
        // Dropped here, so that the workers end if the reader fails.
        drop(receiver);
        let read = feed(&mut archive, sender, bar);
        let mut tally = Tally::default();
        for worker in workers {
            tally.merge(worker.join().map_err(|_| anyhow::anyhow!("a worker stopped"))??);
        }
        tally.pruned = archive.pruned();
        read.map(|()| tally)
    })
}

fn feed(archive: &mut Archive, sender: SyncSender<Vec<Archived>>, bar: &ProgressBar) -> Result<()> {
    let (mut chunk, mut count) = (Vec::new(), 0_u64);
    while let Some(batch) = archive.next_batch()? {
        for decision in batch {
            chunk.push(decision);
            if chunk.len() == CHUNK {
                count = count.saturating_add(CHUNK as u64);
                sender.send(std::mem::take(&mut chunk)).context("the workers stopped")?;
                bar.set_position(archive.position());
                bar.set_message(count.to_string());
            }
        }
    }
    sender.send(chunk).context("the workers stopped")
}

fn work(receiver: &Mutex<Receiver<Vec<Archived>>>, proposal: &Proposal) -> Result<Tally> {
    let mut tally = Tally::default();
    loop {
        let received = receiver.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(chunk) = received else { return Ok(tally) };
        for archived in chunk {
            let Archived { index, decision } = archived;
            let (node, permitted) = (decision.node.clone(), decision.permitted);
            let outcome = play(decision, proposal).with_context(|| format!("entry {index}"))?;
            tally.count(&node, index, permitted, outcome);
        }
    }
}

fn play(decision: PastDecision, proposal: &Proposal) -> Result<Outcome> {
    let PastDecision { facts, request, evidence, evidence_digest, revocations, .. } = decision;
    let received = ReceivedRequest::rejoin(facts.envelope(), &request, &evidence).context("the archived request")?;
    let recorded = facts.with(&revocations).context("other revocations than were recorded")?;
    let rehearsal = rehearse(&received, &recorded, proposal.moment(facts.time()), &proposal.content);
    if rehearsal.evidence != evidence_digest {
        bail!("the archive has other evidence than the statement names");
    }
    let refused: Vec<_> = rehearsal.checks.refused().cloned().collect();
    Ok(match refused.as_slice() {
        [] => Outcome::Permitted { warnings: rehearsal.warnings },
        [only] if only.id == OTHER_PCRS => Outcome::Unknown(only.clone()),
        _ => Outcome::Denied(refused),
    })
}
