//! Costs that must not grow with a log: proofs, opening, memory.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use portcullis_cli::say;
use portcullis_lineage::{Checkpoint, FileStorage, Log, NewEntry};
use portcullis_wire::merkle;

use super::{Options, keys, ms};

/// Proofs, opening and memory by the size of the log.
pub(super) fn run(scratch: &Path, options: &Options) -> Result<()> {
    say!(
        "\n{:>10} {:>12} {:>14} {:>12} {:>10} {:>12}",
        "entries",
        "inclusion µs",
        "consistency µs",
        "verify µs",
        "open ms",
        "memory MiB"
    );
    let folder = tempfile::tempdir_in(scratch)?.keep();
    let mut done = 0_u64;
    for size in &options.sizes {
        // One log that grows, in the largest possible batches.
        let (mut log, mut publisher) = Log::open(Arc::new(FileStorage::open(&folder)?), keys()?)?;
        while done < *size {
            let batch: Vec<NewEntry> = (done..*size)
                .take(1 << 16)
                .map(|n| NewEntry { statement: n.to_be_bytes().to_vec(), ..NewEntry::default() })
                .collect();
            done += batch.len() as u64;
            log.append(batch)?;
            publisher.publish()?;
        }
        publisher.sync()?;
        drop((log, publisher));

        let started = Instant::now();
        let (log, _publisher) = Log::open(Arc::new(FileStorage::open(&folder)?), keys()?)?;
        let opened = started.elapsed();
        let head = log.head().context("a head")?;
        let row = proofs(&log, &head)?;
        say!("{size:>10} {:>12.1} {:>14.1} {:>12.1} {:>10.1} {:>12}", row[0], row[1], row[2], ms(opened), resident()?);
    }
    Ok(())
}

/// Microseconds of an inclusion proof, of a consistency proof, and of verifying
/// the former, at places spread over the log.
fn proofs(log: &Log, head: &Checkpoint) -> Result<[f64; 3]> {
    const COUNT: u64 = 2000;
    let (view, size) = (log.view(), head.size());
    let places = (0..COUNT).map(|n| n.wrapping_mul(0x9e37_79b9_7f4a_7c15) % size);
    let each = |started: Instant| started.elapsed().as_secs_f64() * 1e6 / COUNT as f64;
    let started = Instant::now();
    let paths = places.clone().map(|place| view.with_tree(|tree| tree.inclusion(place, size)));
    let paths = paths.collect::<Result<Vec<_>, _>>()?;
    let inclusion = each(started);
    let started = Instant::now();
    for place in places.clone() {
        view.with_tree(|tree| tree.consistency(place.max(1), size))?;
    }
    let consistency = each(started);
    let started = Instant::now();
    for (place, path) in places.zip(&paths) {
        let leaf = merkle::leaf_hash(&place.to_be_bytes());
        ensure!(merkle::root_from_inclusion(&leaf, place, size, path) == Some(*head.root()), "entry {place}");
    }
    Ok([inclusion, consistency, each(started)])
}

/// Resident memory of this process in MiB.
fn resident() -> Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("VmRSS")?;
    Ok(line.split_whitespace().next().context("VmRSS")?.parse::<u64>()? >> 10)
}
