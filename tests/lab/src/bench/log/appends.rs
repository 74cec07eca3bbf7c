//! Appends in turns with bare group commit, so that other load on the machine affects
//! both equally.

use std::fs::File;
use std::path::Path;
use std::time::Duration;

use anyhow::{Result, ensure};
use portcullis_cli::say;
use rustix::fs::syncfs;

use super::answers::Answers;
use super::group_commit::GroupCommit;
use super::load::Load;
use super::{Options, ms};

/// Length of a turn, and of measuring the disk alone in each round.
const TURN: Duration = Duration::from_secs(1);
const SYNCS: Duration = Duration::from_millis(250);
/// The batch window of the log, for the limit of the 99th percentile.
const WINDOW: Duration = Duration::from_millis(2);

/// Prints a row for each number of writers.
///
/// # Errors
/// A result is below its limit, or a receipt does not verify.
pub(super) fn run(scratch: &Path, options: &Options) -> Result<()> {
    say!("{} B entries, each answered with a receipt under a durable checkpoint\n", options.entry);
    say!(
        "{:>8} {:>11} {:>10} {:>6} {:>8} {:>8} {:>8} {:>9} {:>9} {:>9} {:>8}",
        "writers",
        "appends/s",
        "bare/s",
        "share",
        "p50 ms",
        "p99 ms",
        "limit",
        "bare p99",
        "CPU µs",
        "bare CPU",
        "sync ms"
    );
    let mut missed = Vec::new();
    for writers in &options.writers {
        let folder = tempfile::tempdir_in(scratch)?.keep();
        let Measured { mut bare, mut log, sync } = measure(&folder, *writers, options)?;
        let ([p50, p99], [bare_p99]) = (log.percentiles([50, 99])?, bare.percentiles([99])?);
        let (share, limit) = (log.per_second() / bare.per_second(), sync * 3 + WINDOW);
        say!(
            "{writers:>8} {:>11.0} {:>10.0} {share:>6.2} {:>8.2} {:>8.2} {:>8.2} {:>9.2} {:>9.1} {:>9.1} {:>8.2}",
            log.per_second(),
            bare.per_second(),
            ms(p50),
            ms(p99),
            ms(limit),
            ms(bare_p99),
            log.cpu_micros(),
            bare.cpu_micros(),
            ms(sync),
        );
        if *writers == 64 {
            if share < options.limit {
                missed.push(format!("share {share:.2}, required at least {:.2}", options.limit));
            }
            if p99 > limit {
                missed.push(format!("p99 {:.2} ms, required at most {:.2}", ms(p99), ms(limit)));
            }
        }
    }
    ensure!(missed.is_empty(), "64 writers: {}", missed.join("; "));
    Ok(())
}

struct Measured {
    bare: Answers,
    log: Answers,
    /// Mean time of one write of as many entries as there are writers.
    sync: Duration,
}

fn measure(folder: &Path, writers: usize, options: &Options) -> Result<Measured> {
    let (mut group_commit, mut load) = (GroupCommit::new(folder)?, Load::new(folder)?);
    let (mut bare, mut log, mut syncs) = (Answers::default(), Answers::default(), Duration::ZERO);
    let (asked, rounds) = ((writers, options.entry), u32::try_from(options.seconds)?.max(1));
    for _ in 0..rounds {
        bare.add(group_commit.turn(asked, TURN)?);
        syncs += group_commit.sync_time(writers * options.entry, SYNCS)?;
        log.add(load.turn(asked, TURN)?);
        // Pending writes of the log must not count in the next turn.
        syncfs(File::open(folder)?)?;
    }
    load.end()?;
    Ok(Measured { bare, log, sync: syncs / rounds })
}
