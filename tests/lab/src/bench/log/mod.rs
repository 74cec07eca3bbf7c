//! Appends to a log, compared with bare group commit by the same closed-loop writers on
//! the same disk in the same run. Each writer gets an inclusion receipt under a
//! durable, signed checkpoint.
//!
//! It also measures costs that must not grow with a log (proofs, opening, memory), with
//! up to ten million synthetic entries.

mod answers;
mod appends;
mod group_commit;
mod growth;
mod load;

use std::fs::File;
use std::time::Duration;

use anyhow::Result;
use portcullis_lineage::Keys;
use rustix::fs::{IFlags, ioctl_getflags, ioctl_setflags};
use tempfile::TempDir;

/// What to measure.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// Numbers of closed-loop writers.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 64, 1024])]
    writers: Vec<usize>,
    /// Length of an entry in bytes.
    #[arg(long, default_value_t = 512)]
    entry: usize,
    /// Seconds for each number of writers, and the same for bare group commit.
    #[arg(long, default_value_t = 8)]
    seconds: u64,
    /// Sizes of logs at which proofs and opening are measured.
    #[arg(long, value_delimiter = ',', default_values_t = [1_000, 10_000, 100_000, 1_000_000, 10_000_000])]
    sizes: Vec<u64>,
    /// Fail below this share of bare group commit, at 64 writers.
    #[arg(long, default_value_t = 0.6)]
    limit: f64,
}

/// Runs all of it and prints the figures.
///
/// # Errors
/// A result is below its limit, or a receipt does not verify.
pub(super) fn run(options: &Options) -> Result<()> {
    // Nothing is removed before the end.
    let scratch = scratch()?;
    let appended = appends::run(scratch.path(), options);
    growth::run(scratch.path(), options)?;
    appended
}

/// A folder whose subfolders are placed far from each other and from other files. ext4
/// examines every inode that was freed nearby within the last minutes whenever a file
/// is created, and a log creates thousands a second. Files removed by others must not
/// affect the result.
fn scratch() -> Result<TempDir> {
    let folder = tempfile::tempdir_in(".")?;
    let opened = File::open(folder.path())?;
    if let Ok(flags) = ioctl_getflags(&opened) {
        // A file system without this flag does not need it.
        let _stays = ioctl_setflags(&opened, flags | IFlags::TOPDIR);
    }
    Ok(folder)
}

fn keys() -> Result<Keys> {
    Ok(Keys::from_seeds("log.bench/1", &[1; 32], &[2; 32])?)
}

fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}
