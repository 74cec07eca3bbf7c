//! How many archived decisions a second a rehearsal plays, over the signatures in
//! them that must be verified, on the same number of cores in the same run.
//!
//! The archive is a real log, with entries by a real permit key under signed
//! checkpoints. Its requests are made once and repeated to the wanted number:
//! nothing in a rehearsal remembers a signature that it has verified.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::thread;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use indicatif::{ProgressBar, ProgressStyle};
use portcullis_attest::snp::generation::Generation;
use portcullis_firmware_policy::Decision;
use portcullis_lineage::{FileStorage, Keys, Log, NewEntry};
use portcullis_permit::{SigningKey, Suite};
use serde_json::Value;

use super::bare::Bare;
use crate::scene::{Device, NOW, ORIGIN, PCRS, Plan, Scene};

/// Decisions that share a checkpoint, as under load.
const BATCH: usize = 256;

/// What to measure.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// Decisions in the archive.
    #[arg(long, default_value_t = 100_000)]
    decisions: usize,
    /// Different requests among them.
    #[arg(long, default_value_t = 4096)]
    distinct: usize,
    /// Nodes that ask.
    #[arg(long, default_value_t = 256)]
    nodes: usize,
    /// Fail below this share of the bare rate.
    #[arg(long, default_value_t = 0.8)]
    limit: f64,
    /// Fail above this much memory, in MiB.
    #[arg(long, default_value_t = 256)]
    memory: u64,
}

/// Makes an archive, plays it, and prints the figures.
///
/// # Errors
/// Below the limit.
pub(super) fn run(lab: &Path, options: &Options) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let log = folder.path().join("log");
    let mut scene = Scene::new(&folder.path().join("root"), Generation::Milan)?;
    let bar = ProgressBar::new(options.decisions as u64);
    bar.set_style(ProgressStyle::with_template("archive {wide_bar} {pos}/{len} {eta}")?);
    let request = archive(&log, &mut scene, options, &bar)?;
    bar.finish_and_clear();
    let bundle = folder.path().join("bundle");
    for (path, bytes) in scene.files()? {
        let path = bundle.join(path);
        fs::create_dir_all(path.parent().context("a folder")?)?;
        fs::write(path, bytes)?;
    }
    let segments = fs::read_dir(log.join("journal"))?.collect::<Result<Vec<_>, _>>()?;
    let lengths = segments.iter().map(|segment| Ok(segment.metadata()?.len())).collect::<Result<Vec<_>>>()?;
    let size = lengths.iter().sum::<u64>() >> 20;
    println!("{} decisions, {size} MiB of archive, {} nodes", options.decisions, options.nodes);

    let cores = thread::available_parallelism()?.get();
    let before = bare_rate(cores, request)?;
    let started = Instant::now();
    let mut rehearsal = Command::new(lab)
        .args(["portcullis-policy", "rehearse", "--json", "--bundle"])
        .arg(&bundle)
        .arg("--archive")
        .arg(&log)
        .args(["--floor", "milan.snp=25"])
        .stdout(std::process::Stdio::piped())
        .spawn()?;
    let peak = watch_memory(rehearsal.id());
    let output = rehearsal.stdout.take().context("output").and_then(|out| Ok(std::io::read_to_string(out)?))?;
    ensure!(rehearsal.wait()?.success(), "the rehearsal failed");
    let elapsed = started.elapsed().as_secs_f64();
    let peak = peak.join().map_err(|_| anyhow::anyhow!("the watch stopped"))?;
    let after = bare_rate(cores, request)?;

    let report: Value = serde_json::from_str(&output)?;
    ensure!(report["decisions"] == options.decisions, "{} decisions", report["decisions"]);
    ensure!(report["loses"] == options.nodes, "{} nodes would lose", report["loses"]);
    let (rate, bare) = (options.decisions as f64 / elapsed, before.max(after));
    println!(
        "bare verification  {:>8.0} decisions/s on each of {cores} cores (P-384, P-256, P-256)",
        bare / cores as f64
    );
    println!("rehearsal          {:>8.0} decisions/s on each, {elapsed:.1} s in all", rate / cores as f64);
    println!("share              {:>8.2}", rate / bare);
    println!("memory             {peak:>8} MiB at most");
    ensure!(rate / bare >= options.limit, "share {:.2}, required at least {:.2}", rate / bare, options.limit);
    ensure!(peak <= options.memory, "{peak} MiB, required at most {}", options.memory);
    Ok(())
}

/// Verifications a second, on all cores together, of requests of so many bytes.
fn bare_rate(cores: usize, request: usize) -> Result<f64> {
    const EACH: usize = 4000;
    let started = Instant::now();
    thread::scope(|scope| {
        let workers: Vec<_> = (0..cores)
            .map(|_| {
                scope.spawn(|| -> Result<()> {
                    let bare = Bare::new(request)?;
                    (0..EACH).try_for_each(|_| bare.verify_decision())
                })
            })
            .collect();
        workers.into_iter().try_for_each(|worker| worker.join().map_err(|_| anyhow::anyhow!("a worker stopped"))?)
    })?;
    Ok((EACH * cores) as f64 / started.elapsed().as_secs_f64())
}

/// The greatest resident memory of a process until it ends, in MiB.
fn watch_memory(process: u32) -> thread::JoinHandle<u64> {
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

/// Writes the archive; returns how many bytes a node signs.
fn archive(folder: &Path, scene: &mut Scene, options: &Options, bar: &ProgressBar) -> Result<usize> {
    let mut devices = (0..options.nodes).map(|n| scene.device(&format!("node-{n}"))).collect::<Result<Vec<_>>>()?;
    let bundle = scene.bundle()?;
    let key = SigningKey::generate(Suite::Classic)?;
    let distinct = (0..options.distinct).map(|n| entry(&mut devices, n, &bundle, &key)).collect::<Result<Vec<_>>>()?;
    let keys = Keys::from_seeds(ORIGIN, &[1; 32], &[2; 32])?;
    let (mut log, mut publisher) = Log::open(Arc::new(FileStorage::open(folder)?), keys)?;
    let mut all = distinct.iter().cycle().take(options.decisions);
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
