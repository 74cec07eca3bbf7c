//! Writes a log with decisions under a real permit key and signed checkpoints, for
//! rehearsals and replays. Its requests are made once and repeated; the measured
//! programs do not cache signatures.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::thread;

use anyhow::{Context, Result};
use indicatif::ProgressBar;
use portcullis_firmware_policy::{Decision, VerifiedBundle};
use portcullis_lineage::{Blob, FileStorage, Keys, Log, NewEntry};
use portcullis_permit::{BootRecord, Endorsement, Kind, Quorum, SigningKey, Suite, statement};

use crate::scene::{Device, NOW, ORIGIN, PCRS, Plan, Scene};

/// Number of decisions that share a checkpoint, as under load.
const BATCH: usize = 256;

/// Writes the archive; returns the number of bytes that a node signs.
pub(super) fn archive(
    folder: &Path,
    scene: &mut Scene,
    (decisions, distinct, nodes): (usize, usize, usize),
    bar: &ProgressBar,
) -> Result<usize> {
    let mut devices = (0..nodes).map(|n| scene.device(&format!("node-{n}"))).collect::<Result<Vec<_>>>()?;
    let bundle = scene.bundle()?;
    let key = SigningKey::generate(Suite::Classic)?;
    let distinct = (0..distinct).map(|n| entry(&mut devices, n, &bundle, &key)).collect::<Result<Vec<_>>>()?;
    let keys = Keys::from_seeds(ORIGIN, &[1; 32], &[2; 32])?;
    let (mut log, mut publisher) = Log::open(Arc::new(FileStorage::open(folder)?), keys)?;
    let boot = boot(&bundle, &key)?;
    log.append(vec![boot])?;
    endorse(folder, scene, log.keys(), &key)?;
    let mut all = distinct.iter().cycle().take(decisions);
    loop {
        let batch: Vec<NewEntry> = all.by_ref().take(BATCH).cloned().collect();
        if batch.is_empty() {
            let signed = distinct.first().map(|entry| entry.blobs.iter().take(2).map(|blob| blob.bytes().len()).sum());
            return signed.context("no decision");
        }
        bar.inc(batch.len() as u64);
        log.append(batch)?;
        publisher.publish()?;
    }
}

fn entry(
    devices: &mut [Device],
    n: usize,
    bundle: &portcullis_firmware_policy::VerifiedBundle,
    key: &SigningKey,
) -> Result<NewEntry> {
    let device = n % devices.len();
    let plan = Plan { salt: n as u64, ..Plan::at(NOW + n as u64) };
    let ask = plan.ask(&mut devices[device], &portcullis_attest::tpm::pcr::Selection::sha256(PCRS))?;
    let [_, request, evidence, facts] = ask.archived();
    match ask.decide(bundle) {
        Decision::Authorized { permit, result } => Ok(NewEntry {
            statement: permit.sign(key)?,
            blobs: vec![request.into(), evidence.into(), facts.into(), result.bytes().to_vec().into()],
            seen: None,
        }),
        Decision::Denied(denial) => anyhow::bail!("denied: {:?}", denial.refusals),
    }
}

/// The boot entry of the authority, with the active bundle.
fn boot(bundle: &VerifiedBundle, key: &SigningKey) -> Result<NewEntry> {
    let record = BootRecord {
        time: NOW,
        version: bundle.policy().version,
        bundle: *bundle.digest(),
        result: [0; 32],
        evidence: [0; 32],
        endorsement: [0; 32],
        software: "bench".into(),
    };
    let statement = statement::sign(Kind::Boot, key, ORIGIN, "boot", &record.encode())?;
    Ok(NewEntry { statement, blobs: vec![Blob::recurring(bundle.bytes().to_vec())], seen: None })
}

/// Files that an auditor needs beside the log.
fn endorse(folder: &Path, scene: &Scene, keys: &Keys, key: &SigningKey) -> Result<()> {
    let endorsement = Endorsement {
        checkpoint_key: keys.checkpoint_key().clone(),
        permit_key: key.public().clone(),
        receipt_key: keys.receipt_key(),
        chip_id: vec![0; 64],
        measurement: vec![0; 48],
        bundle_version: 1,
        expires: NOW.saturating_add(86_400),
        predecessor: None,
    };
    let mut quorum = Quorum::unsigned(endorsement.encode());
    let [one, two, _] = scene.governors();
    quorum.sign(Endorsement::CONTENT_TYPE, one)?;
    quorum.sign(Endorsement::CONTENT_TYPE, two)?;
    let beside = folder.parent().context("a folder")?;
    fs::write(beside.join("endorsement.pce"), quorum.encode())?;
    Ok(fs::write(beside.join("governance.cbor"), scene.governance().encode())?)
}

/// The greatest resident memory of a process until it ends, in MiB.
pub(super) fn watch_memory(process: u32) -> thread::JoinHandle<u64> {
    thread::spawn(move || {
        let path = format!("/proc/{process}/status");
        let mut peak = 0;
        while let Ok(status) = fs::read_to_string(&path) {
            let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
            let Some(kib) = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok()) else { break };
            peak = peak.max(kib >> 10);
            thread::sleep(std::time::Duration::from_millis(20));
        }
        peak
    })
}

/// Bytes of a log's journal.
pub(super) fn size_of(log: &Path) -> Result<u64> {
    let segments = fs::read_dir(log.join("journal"))?;
    segments.map(|segment| Ok(segment?.metadata()?.len())).sum()
}
