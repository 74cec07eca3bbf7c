//! Measures a program that reads an archive of decisions against the bare signature
//! verifications in it, on the same number of cores in the same run.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread;

use anyhow::{Context, Result, ensure};
use indicatif::{ProgressBar, ProgressStyle};
use portcullis_attest::snp::generation::Generation;
use portcullis_cli::say;
use serde_json::Value;
use tempfile::TempDir;

use super::archive::{archive, size_of, watch_memory};
use super::bare::Bare;
use super::turns::{BareRate, take_turns};
use crate::scene::Scene;

/// What to measure.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// Decisions in the archive.
    #[arg(long, default_value_t = 100_000)]
    pub(super) decisions: usize,
    /// Number of different requests among them.
    #[arg(long, default_value_t = 4096)]
    distinct: usize,
    /// Number of nodes.
    #[arg(long, default_value_t = 256)]
    pub(super) nodes: usize,
    /// Fail below this share of the bare rate.
    #[arg(long, default_value_t = 0.8)]
    limit: f64,
    /// Fail above this much memory, in MiB.
    #[arg(long, default_value_t = 256)]
    memory: u64,
}

/// An archive of decisions, in a folder of its own.
pub(super) struct Archived<'a> {
    folder: TempDir,
    options: &'a Options,
    scene: Scene,
    /// Bytes of a request with its evidence.
    request: usize,
}

/// A program that reads an archive and prints JSON.
pub(super) struct Program<'a> {
    pub(super) name: &'a str,
    pub(super) command: Command,
    /// The bare verifications for a decision, and their description.
    pub(super) signatures: &'a str,
    pub(super) verify: fn(&Bare) -> Result<()>,
    /// Whether the program's result is right.
    pub(super) judge: &'a dyn Fn(&Value) -> Result<()>,
}

impl<'a> Archived<'a> {
    pub(super) fn make(folder: TempDir, options: &'a Options) -> Result<Self> {
        let mut scene = Scene::new(&folder.path().join("root"), Generation::Milan)?;
        let bar = ProgressBar::new(options.decisions as u64);
        bar.set_style(ProgressStyle::with_template("archive {wide_bar} {pos}/{len} {eta}")?);
        let log = folder.path().join("log");
        let request = archive(&log, &mut scene, (options.decisions, options.distinct, options.nodes), &bar)?;
        bar.finish_and_clear();
        let size = size_of(&log)? >> 20;
        say!("{} decisions, {size} MiB of archive, {} nodes", options.decisions, options.nodes);
        Ok(Self { folder, options, scene, request })
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(super) fn log(&self) -> PathBuf {
        self.path("log")
    }

    pub(super) const fn scene(&mut self) -> &mut Scene {
        &mut self.scene
    }

    /// Runs a program over the archive, and prints the figures.
    pub(super) fn measure(&self, program: Program<'_>) -> Result<()> {
        let Program { name, mut command, signatures, verify, judge } = program;
        let cores = thread::available_parallelism()?.get();
        let mut bare = BareRate::new(cores, self.request, verify)?;
        let mut running = command.stdout(Stdio::piped()).spawn()?;
        let peak = watch_memory(running.id());
        let mut output = running.stdout.take().context("output")?;
        let output = thread::spawn(move || std::io::read_to_string(&mut output));
        let elapsed = take_turns(&mut running, &mut bare)?.as_secs_f64();
        let status = running.wait()?;
        let output = output.join().map_err(|_| anyhow::anyhow!("the output stopped"))??;
        let peak = peak.join().map_err(|_| anyhow::anyhow!("the watch stopped"))?;

        ensure!(status.success(), "{name}: {status}: {output}");
        judge(&serde_json::from_str(&output).with_context(|| output.clone())?)?;
        let (rate, bare) = (self.options.decisions as f64 / elapsed, bare.per_second());
        say!("bare verification  {:>8.0} decisions/s on each of {cores} cores ({signatures})", bare / cores as f64);
        say!("{name:<18} {:>8.0} decisions/s on each, {elapsed:.1} s in all", rate / cores as f64);
        say!("share              {:>8.2}", rate / bare);
        say!("memory             {peak:>8} MiB at most");
        let Options { limit, memory, .. } = self.options;
        ensure!(rate / bare >= *limit, "share {:.2}, required at least {limit:.2}", rate / bare);
        ensure!(peak <= *memory, "{peak} MiB, required at most {memory}");
        Ok(())
    }
}
