//! Compares the real decider with the naive one over a number of cases, on all cores;
//! or replays recorded requests.

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use anyhow::Result;
use clap::Parser;
use fastrand::Rng;
use indicatif::{ProgressBar, ProgressStyle};
use portcullis_attest::snp::generation::Generation;
use portcullis_model::record::replay;
use portcullis_model::stage::compare;
use portcullis_model::{Stage, Verdict, generate};
use portcullis_wire::hex::hex;

/// Requests that are played under one bundle.
const UNDER_ONE_BUNDLE: u64 = 200;

#[derive(Debug, Parser)]
struct Arguments {
    /// How many cases.
    #[arg(long, default_value_t = 1_000_000)]
    cases: u64,
    /// Where they begin; printed, so that a run can be repeated.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Decide what is recorded in this file instead, and print the SHA-256 of the
    /// bytes to be signed.
    #[arg(long, value_name = "FILE")]
    replay: Option<PathBuf>,
    /// Threads for that.
    #[arg(long, default_value_t = 1)]
    threads: usize,
    /// Folder in which the lab's roots are kept.
    #[arg(long, default_value = "target/lab-root")]
    root: PathBuf,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    if let Some(file) = &arguments.replay {
        println!("{}", hex(&replay(&fs::read(file)?, arguments.threads)?));
        return Ok(());
    }
    let threads = thread::available_parallelism()?.get() as u64;
    let rounds = arguments.cases.div_ceil(UNDER_ONE_BUNDLE);
    let (next, permits) = (AtomicU64::new(0), AtomicU64::new(0));
    let bar = ProgressBar::new(rounds * UNDER_ONE_BUNDLE);
    bar.set_style(ProgressStyle::with_template("{pos} of {len} cases {wide_bar} {per_sec} {eta}")?);
    let work = |generation| -> Result<()> {
        let mut stage = Stage::new(&arguments.root, generation)?;
        loop {
            let round = next.fetch_add(1, Ordering::Relaxed);
            if round >= rounds {
                return Ok(());
            }
            // Every round has its own seed, so it does not matter which thread plays it.
            let mut rng = Rng::with_seed(arguments.seed.wrapping_mul(1 << 32).wrapping_add(round));
            let staged = stage.stage(generate::bundle(&mut rng))?;
            for _ in 0..UNDER_ONE_BUNDLE {
                let verdict = compare(&mut stage, &staged, &generate::told(&mut rng, &staged.told))?;
                permits.fetch_add(u64::from(matches!(verdict, Verdict::Permit { .. })), Ordering::Relaxed);
            }
            bar.inc(UNDER_ONE_BUNDLE);
        }
    };
    thread::scope(|scope| {
        let generations = [Generation::Milan, Generation::Turin].into_iter().cycle();
        let workers: Vec<_> =
            (0..threads).zip(generations).map(|(_, generation)| scope.spawn(move || work(generation))).collect();
        workers.into_iter().try_for_each(|worker| worker.join().map_err(|_| anyhow::anyhow!("a worker stopped"))?)
    })?;
    bar.finish_and_clear();
    let cases = rounds * UNDER_ONE_BUNDLE;
    println!("{cases} cases from seed {}: both deciders agree; {} permits", arguments.seed, permits.into_inner());
    Ok(())
}
