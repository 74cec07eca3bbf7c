//! How many archived decisions a second a rehearsal plays, over the signatures in
//! them that must be verified, on the same number of cores in the same run.
//!
//! The archive is a real log, with entries by a real permit key under signed
//! checkpoints. Its requests are made once and repeated to the wanted number:
//! nothing in a rehearsal remembers a signature that it has verified.

use std::fs;
use std::path::Path;
use std::process::Command;
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
    let request = archive(&log, &mut scene, (options.decisions, options.distinct, options.nodes), &bar)?;
    bar.finish_and_clear();
    let bundle = folder.path().join("bundle");
    for (path, bytes) in scene.files()? {
        let path = bundle.join(path);
        fs::create_dir_all(path.parent().context("a folder")?)?;
        fs::write(path, bytes)?;
    }
    let size = size_of(&log)? >> 20;
    println!("{} decisions, {size} MiB of archive, {} nodes", options.decisions, options.nodes);

    let cores = thread::available_parallelism()?.get();
    let before = bare_rate(cores, request, Bare::verify_decision)?;
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
    let after = bare_rate(cores, request, Bare::verify_decision)?;

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
