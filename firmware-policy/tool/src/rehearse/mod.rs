//! `portcullis-policy rehearse`: a proposed bundle against what was decided.
//!
//! ```text
//! journal --archive--> decisions --play, on all cores--> outcomes --tally--> report
//! ```
//!
//! The same code decides as in the authority. Nothing of the archive is kept but
//! a line for each node, whatever its length.

mod archive;
mod play;
mod proposal;
mod report;
mod tally;

use std::path::PathBuf;

use anyhow::{Context, Result};
use portcullis_cli::progress;

use archive::Archive;
use proposal::Proposal;

/// Over the archive's bytes.
const BAR: &str = "{msg} decisions {wide_bar} {bytes} of {total_bytes} {eta}";

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The proposed bundle (`.pcb`), or the folder that it will be built of.
    #[arg(long)]
    bundle: PathBuf,
    /// Folder of an authority's log, with its journal.
    #[arg(long, value_name = "FOLDER")]
    archive: PathBuf,
    /// Distrust a generation too, as in `--distrust milan`.
    #[arg(long, value_name = "GENERATION")]
    distrust: Vec<String>,
    /// Raise a floor too, as in `--floor genoa.snp=27`; on all four TCBs, or as in
    /// `--floor genoa.launch.snp=27` on one.
    #[arg(long, value_name = "FLOOR")]
    floor: Vec<String>,
    /// RFC 3339 time at which the requests would come. Without it each comes when
    /// it came, or when the bundle begins to be valid, if that is later.
    #[arg(long, value_name = "TIME")]
    at: Option<String>,
    /// Threads; as many as there are cores, unless told otherwise.
    #[arg(long)]
    threads: Option<usize>,
    /// One JSON object on stdout.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let proposal = Proposal::read(arguments)?;
    let archive = Archive::open(&arguments.archive)?;
    let bar = progress(Some(archive.length()), BAR);
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = arguments.threads.unwrap_or(cores).clamp(1, 256);
    let tally = play::all(archive, &proposal, threads, &bar).context("archive")?;
    bar.finish_and_clear();
    if arguments.json {
        report::json(&tally, &proposal)
    } else {
        report::text(&tally, &proposal)
    }
    Ok(())
}
