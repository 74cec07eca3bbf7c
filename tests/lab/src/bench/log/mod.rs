//! Appends to a log, over what group commit alone comes to with the same writers
//! on the same disk, in the same run: closed-loop writers, each answered with an
//! inclusion receipt under a durable, signed checkpoint.
//!
//! And what does not grow: proofs, opening and memory, at logs of up to ten
//! million synthetic entries.

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
    /// Bytes of an entry.
    #[arg(long, default_value_t = 512)]
    entry: usize,
    /// Seconds for each number of writers, and as many for bare group commit.
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
/// Below the limits, or a receipt that does not verify.
pub(super) fn run(options: &Options) -> Result<()> {
    // Nothing is removed before the end.
    let scratch = scratch()?;
    let appended = appends::run(scratch.path(), options);
    growth::run(scratch.path(), options)?;
    appended
}

/// A folder whose folders are made far from each other and from all else, at
/// places that depend on their names. ext4 looks over every inode that was freed
/// nearby within the last minutes whenever it makes a file, and a log makes
/// thousands a second: what others removed is none of its business.
fn scratch() -> Result<TempDir> {
    let folder = tempfile::tempdir_in(".")?;
    let opened = File::open(folder.path())?;
    if let Ok(flags) = ioctl_getflags(&opened) {
        // A file system without such a flag does not look either.
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
