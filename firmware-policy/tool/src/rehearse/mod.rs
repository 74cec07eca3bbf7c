//! `portcullis-policy rehearse`: repeats archived decisions under a proposed bundle.
//!
//! ```text
//! journal --archive--> decisions --play, on all cores--> outcomes --tally--> report
//! ```
//!
//! It decides with the authority's code. Memory holds one line for each node, whatever
//! the length of the archive.

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

/// Progress by bytes of the archive.
const BAR: &str = "{msg} decisions {wide_bar} {bytes} of {total_bytes} {eta}";

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The proposed bundle (`.pcb`), or its folder.
    #[arg(long)]
    bundle: PathBuf,
    /// Folder of an authority's log, with its journal.
    #[arg(long, value_name = "FOLDER")]
    archive: PathBuf,
    /// Also distrust a generation, as in `--distrust milan`.
    #[arg(long, value_name = "GENERATION")]
    distrust: Vec<String>,
    /// Also raise a floor: `--floor genoa.snp=27` for all four TCBs, `--floor
    /// genoa.launch.snp=27` for one.
    #[arg(long, value_name = "FLOOR")]
    floor: Vec<String>,
    /// Time of all requests, RFC 3339. Default: the recorded time of each, or the bundle's
    /// `not_before` if that is later.
    #[arg(long, value_name = "TIME", value_parser = portcullis_cli::time)]
    at: Option<u64>,
    /// Number of threads; default: one for each core.
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
