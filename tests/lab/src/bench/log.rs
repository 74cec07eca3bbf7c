//! Appends to a log, over what group commit alone comes to with the same writers
//! on the same disk, in the same run: closed-loop writers, each answered with an
//! inclusion receipt under a durable, signed checkpoint.
//!
//! And what does not grow: proofs, opening and memory, at logs of up to ten
//! million synthetic entries.

use std::cell::RefCell;
use std::fs::File;
use std::io::{Seek, Write};
use std::num::NonZeroU64;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use portcullis_lineage::{Checkpoint, FileStorage, Keys, Log, NewEntry, Writer, verify_receipts};
use portcullis_wire::merkle;
use rustix::fs::{Advice, IFlags, fadvise, ioctl_getflags, ioctl_setflags};
use rustix::time::{ClockId, clock_gettime};
use tempfile::TempDir;
use tokio::sync::oneshot;

/// What to measure.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// Numbers of closed-loop writers.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 64, 1024])]
    writers: Vec<usize>,
    /// Bytes of an entry.
    #[arg(long, default_value_t = 512)]
    entry: usize,
    /// Seconds for each number of writers.
    #[arg(long, default_value_t = 8)]
    seconds: u64,
    /// Sizes of logs at which proofs and opening are measured.
    #[arg(long, value_delimiter = ',', default_values_t = [1_000, 10_000, 100_000, 1_000_000, 10_000_000])]
    sizes: Vec<u64>,
    /// Fail below this share of bare group commit, at 64 writers.
    #[arg(long, default_value_t = 0.6)]
    limit: f64,
}

/// The batch window of the log, for the limit of the 99th percentile.
const WINDOW: Duration = Duration::from_millis(2);

/// Runs all of it and prints the figures.
///
/// # Errors
/// Below the limits, or a receipt that does not verify.
pub(super) fn run(options: &Options) -> Result<()> {
    // Nothing is removed before the end.
    let scratch = scratch()?;
    let appended = appends(scratch.path(), options);
    growth(scratch.path(), options)?;
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

fn appends(scratch: &Path, options: &Options) -> Result<()> {
    println!("{} B entries, each answered with a receipt under a durable checkpoint\n", options.entry);
    println!(
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
        let half = Options { seconds: options.seconds.div_ceil(2), ..options.clone() };
        let before = bare(&folder, *writers, &half)?;
        let sync = sync_time(&folder, *writers * options.entry)?;
        let row = load(&folder, *writers, options)?;
        let sync = sync.max(sync_time(&folder, *writers * options.entry)?);
        let after = bare(&folder, *writers, &half)?;
        // The disk is shared: the bound is what it could do just before or after.
        let bound = before.per_second.max(after.per_second);
        let limit = sync * 3 + WINDOW;
        let share = row.per_second / bound;
        println!(
            "{writers:>8} {:>11.0} {bound:>10.0} {share:>6.2} {:>8.2} {:>8.2} {:>8.2} {:>9.2} {:>9.1} {:>9.1} {:>8.2}",
            row.per_second,
            ms(row.p50),
            ms(row.p99),
            ms(limit),
            ms(before.p99.max(after.p99)),
            row.cpu_micros,
            before.cpu_micros.min(after.cpu_micros),
            ms(sync),
        );
        if *writers == 64 {
            if share < options.limit {
                missed.push(format!("share {share:.2}, required at least {:.2}", options.limit));
            }
            if row.p99 > limit {
                missed.push(format!("p99 {:.2} ms, required at most {:.2}", ms(row.p99), ms(limit)));
            }
        }
    }
    ensure!(missed.is_empty(), "64 writers: {}", missed.join("; "));
    Ok(())
}

/// Mean time of writing a group and one `fdatasync`.
fn sync_time(folder: &Path, group: usize) -> Result<Duration> {
    let mut file = File::create(folder.join("sync"))?;
    let group = vec![7; group];
    let (started, mut groups) = (Instant::now(), 0_u32);
    while started.elapsed() < Duration::from_secs(1) {
        let start = file.stream_position()?;
        file.write_all(&group)?;
        file.sync_data()?;
        drop_behind(&file, start)?;
        groups += 1;
    }
    Ok(started.elapsed() / groups.max(1))
}

/// As the log does: a page cache that fills costs more than the write. Returns
/// where the next page begins that is not full.
fn drop_behind(mut file: &File, start: u64) -> Result<u64> {
    let end = file.stream_position()?;
    fadvise(file, start, NonZeroU64::new(end - start), Advice::DontNeed)?;
    Ok(end & !4095)
}

fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

struct Row {
    per_second: f64,
    p50: Duration,
    p99: Duration,
    /// User and system time of the whole process, writers included.
    cpu_micros: f64,
}

fn load(folder: &Path, writers: usize, options: &Options) -> Result<Row> {
    let keys = keys()?;
    let receipt_key = keys.receipt_key();
    let (mut log, publisher) = Log::open(Arc::new(FileStorage::open(&folder.join("log"))?), keys)?;
    // A tree of one leaf has no receipt.
    log.append(vec![NewEntry { statement: vec![1], ..NewEntry::default() }])?;
    let (writer, thread) = Writer::start(log, publisher)?;
    let appending = writer.clone();
    // Verifying is the asker's business, elsewhere; a sample shows that it would.
    let samples = Rc::new(RefCell::new(Vec::new()));
    let sampled = Rc::clone(&samples);
    let row = closed_loop(writers, options, move |serial, statement| {
        let (reply, outcome) = oneshot::channel();
        let sample = (serial % 1024 == 0).then(|| statement.clone());
        let new = NewEntry { statement, ..NewEntry::default() };
        appending.append(new, move |done| drop(reply.send(done)));
        let samples = Rc::clone(&sampled);
        async move {
            let done = outcome.await.context("no answer")?.map_err(|stopped| anyhow::anyhow!(stopped.reason))?;
            let receipts = done.receipts()?;
            samples.borrow_mut().extend(sample.map(|statement| (statement, receipts)));
            Ok(())
        }
    })?;
    for (statement, receipts) in samples.take() {
        verify_receipts(Some(&receipts), &statement, &receipt_key, None)?;
    }
    writer.close();
    thread.join().map_err(|_| anyhow::anyhow!("the log's threads failed"))?;
    Ok(row)
}

/// The same writers, answered once a thread that does nothing else has written
/// and synced what was handed in: what group commit can come to here.
fn bare(folder: &Path, writers: usize, options: &Options) -> Result<Row> {
    type Job = (Vec<u8>, oneshot::Sender<()>);
    let mut file = File::create(folder.join("bare"))?;
    let (jobs, queue) = channel::<Job>();
    let thread = std::thread::spawn(move || -> Result<()> {
        let mut dropped = 0;
        while let Ok(first) = queue.recv() {
            let (bytes, replies): (Vec<Vec<u8>>, Vec<_>) = std::iter::once(first).chain(queue.try_iter()).unzip();
            file.write_all(&bytes.concat())?;
            file.sync_data()?;
            dropped = drop_behind(&file, dropped)?;
            for reply in replies {
                // The writer may have had enough.
                let _gone = reply.send(());
            }
        }
        Ok(())
    });
    let row = closed_loop(writers, options, move |_, statement| {
        let (reply, done) = oneshot::channel();
        let sent = jobs.send((statement, reply));
        async move {
            sent.map_err(|_| anyhow::anyhow!("the thread ended"))?;
            done.await.context("no answer")
        }
    })?;
    thread.join().map_err(|_| anyhow::anyhow!("the thread failed"))??;
    Ok(row)
}

/// Writers that hand in the next entry once the last was answered.
fn closed_loop<F: Future<Output = Result<()>>>(
    writers: usize,
    options: &Options,
    append: impl Fn(usize, Vec<u8>) -> F + Clone + 'static,
) -> Result<Row> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    let (entry, duration) = (options.entry, Duration::from_secs(options.seconds));
    let (started, cpu) = (Instant::now(), cpu_time());
    let writer = |n: usize| {
        let append = append.clone();
        async move {
            let mut latencies = Vec::new();
            while started.elapsed() < duration {
                let serial = latencies.len();
                let mut statement = vec![0; entry];
                let name = [(n as u64).to_be_bytes(), (serial as u64).to_be_bytes()].concat();
                statement.iter_mut().zip(name).for_each(|(to, from)| *to = from);
                let asked = Instant::now();
                append(serial, statement).await?;
                latencies.push(asked.elapsed());
            }
            Ok::<_, anyhow::Error>(latencies)
        }
    };
    let all = runtime.block_on(futures_of((0..writers).map(writer)))?;
    let (elapsed, spent) = (started.elapsed(), cpu_time().saturating_sub(cpu));
    let mut all = all.concat();
    all.sort_unstable();
    let at = |share: f64| all.get(((all.len() - 1) as f64 * share) as usize).copied().context("no append");
    Ok(Row {
        per_second: all.len() as f64 / elapsed.as_secs_f64(),
        p50: at(0.5)?,
        p99: at(0.99)?,
        cpu_micros: spent.as_secs_f64() * 1e6 / all.len() as f64,
    })
}

/// Runs futures side by side on this thread.
async fn futures_of<T, F: Future<Output = Result<T>>>(futures: impl Iterator<Item = F>) -> Result<Vec<T>> {
    let mut running: FuturesUnordered<F> = futures.collect();
    let mut done = Vec::new();
    while let Some(outcome) = running.next().await {
        done.push(outcome?);
    }
    Ok(done)
}

fn keys() -> Result<Keys> {
    Ok(Keys::from_seeds("log.bench/1", &[1; 32], &[2; 32])?)
}

fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// Proofs, opening and memory by the size of the log.
fn growth(scratch: &Path, options: &Options) -> Result<()> {
    println!(
        "\n{:>10} {:>12} {:>14} {:>12} {:>10} {:>12}",
        "entries", "inclusion µs", "consistency µs", "verify µs", "open ms", "memory MiB"
    );
    let folder = tempfile::tempdir_in(scratch)?.keep();
    let mut done = 0_u64;
    for size in &options.sizes {
        // One log that grows, in the largest batches that there are.
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
        println!(
            "{size:>10} {:>12.1} {:>14.1} {:>12.1} {:>10.1} {:>12}",
            row[0],
            row[1],
            row[2],
            ms(opened),
            resident()?
        );
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
