//! How many archived decisions a second a replay makes again, over the signatures
//! in them that must be verified, on the same number of cores in the same run.

use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use indicatif::{ProgressBar, ProgressStyle};
use portcullis_attest::snp::generation::Generation;
use serde_json::Value;

use super::archive::{archive, bare_rate, size_of, watch_memory};
use super::bare::Bare;
use crate::scene::Scene;

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

/// Makes an archive, replays it, and prints the figures.
///
/// # Errors
/// A decision does not come out again, or below the limit.
pub(super) fn run(lab: &Path, options: &Options) -> Result<()> {
    let folder = tempfile::tempdir_in(".")?;
    let log = folder.path().join("log");
    let mut scene = Scene::new(&folder.path().join("root"), Generation::Milan)?;
    let bar = ProgressBar::new(options.decisions as u64);
    bar.set_style(ProgressStyle::with_template("archive {wide_bar} {pos}/{len} {eta}")?);
    let request = archive(&log, &mut scene, (options.decisions, options.distinct, options.nodes), &bar)?;
    bar.finish_and_clear();
    println!("{} decisions, {} MiB of archive", options.decisions, size_of(&log)? >> 20);

    let cores = thread::available_parallelism()?.get();
    let before = bare_rate(cores, request, Bare::verify_entry)?;
    let started = Instant::now();
    let mut replay = Command::new(lab)
        .args(["portcullis-audit", "replay", "--json"])
        .arg(&log)
        .arg("--endorsement")
        .arg(folder.path().join("endorsement.pce"))
        .arg("--governance-root")
        .arg(folder.path().join("governance.cbor"))
        .stdout(Stdio::piped())
        .spawn()?;
    let peak = watch_memory(replay.id());
    let output = replay.stdout.take().context("output").and_then(|out| Ok(std::io::read_to_string(out)?))?;
    let status = replay.wait()?;
    let elapsed = started.elapsed().as_secs_f64();
    let peak = peak.join().map_err(|_| anyhow::anyhow!("the watch stopped"))?;
    let after = bare_rate(cores, request, Bare::verify_entry)?;

    let report: Value = serde_json::from_str(&output).with_context(|| output.clone())?;
    ensure!(status.success() && report["replay"]["same"] == options.decisions, "{report}");
    let (rate, bare) = (options.decisions as f64 / elapsed, before.max(after));
    println!("bare verification  {:>8.0} decisions/s on each of {cores} cores (P-384, 3 P-256)", bare / cores as f64);
    println!("replay             {:>8.0} decisions/s on each, {elapsed:.1} s in all", rate / cores as f64);
    println!("share              {:>8.2}", rate / bare);
    println!("memory             {peak:>8} MiB at most");
    ensure!(rate / bare >= options.limit, "share {:.2}, required at least {:.2}", rate / bare, options.limit);
    ensure!(peak <= options.memory, "{peak} MiB, required at most {}", options.memory);
    Ok(())
}
