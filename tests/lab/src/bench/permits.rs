//! Load on an authority: server time of a permit over the bare cryptography that it
//! needs.
//!
//! The server has one core, the driver the other. 256 lab devices ask over
//! keep-alive connections; every request carries a report and a quote made for
//! that request's nonce, and every permit is durable before it is answered.
//! Server time is user plus system time of the process, from `/proc`.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use indicatif::{ProgressBar, ProgressStyle};
use portcullis_attest::crypto::sha256;
use portcullis_attest::snp::generation::Generation;
use portcullis_attester::{Machine, QuoteDevice};
use portcullis_cli::say;
use portcullis_firmware_policy::document::Node;
use portcullis_permit::{SigningKey, Suite};
use portcullis_wire::hex::hex;
use rustix::process::Pid;
use rustix::thread::{CpuSet, sched_setaffinity};
use tokio::sync::Mutex;

use super::bare;
use crate::deployment::{Deployment, NODE_IMAGE, Options as Deploy, SLEEP};
use crate::machine::TCB;
use crate::processor::{Fields, Processor};
use crate::raw::RawSession;
use crate::root::LabRoot;
use crate::tpm::SoftTpm;

/// What to measure.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// Number of devices.
    #[arg(long, default_value_t = 256)]
    devices: usize,
    /// Seconds for each number of connections.
    #[arg(long, default_value_t = 8)]
    seconds: u64,
    /// Numbers of connections.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 8, 64])]
    connections: Vec<usize>,
    /// Fail if the ratio at the largest number of connections is above this.
    #[arg(long, default_value_t = 2.0)]
    limit: f64,
}

/// A device: its machine and its gate's key.
struct Device {
    name: String,
    machine: Machine,
    key: SigningKey,
}

/// One row of the result.
struct Row {
    connections: usize,
    per_second: f64,
    cpu_micros: f64,
    /// Of which in the threads of the log.
    log_micros: f64,
    p50: Duration,
    p99: Duration,
}

/// Runs the load and prints the figures.
///
/// # Errors
/// The authority refuses, answers wrongly, or costs more than the limit.
pub(super) fn run(lab: &Path, options: &Options) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let deploy = Deploy { lease_seconds: 600, status_seconds: 60, ..Deploy::default() };
    let mut deployment = Deployment::create(&folder.path().join("d"), lab, &folder.path().join("root"), deploy)?;
    let devices = make_devices(&mut deployment, options.devices)?;
    deployment.sign_bundle()?;
    // The server inherits this core, and sees a machine with one.
    pin(0)?;
    let authority = deployment.serve()?;
    let server = i32::try_from(authority.id()).ok().and_then(Pid::from_raw).context("pid")?;
    pin(1)?;

    let bare = bare::permit()?;
    say!("bare cryptography of a permit: {bare:.0} µs");
    say!("  one P-384 verify, two P-256 verifies, one P-256 signature, on the driver's core\n");
    say!(
        "{:>11} {:>11} {:>14} {:>8} {:>8} {:>9} {:>9}",
        "connections",
        "permits/s",
        "CPU µs/permit",
        "ratio",
        "log µs",
        "p50 ms",
        "p99 ms"
    );
    let devices: Arc<Vec<Mutex<Device>>> = Arc::new(devices.into_iter().map(Mutex::new).collect());
    let mut last = 0.0;
    for connections in &options.connections {
        let row = load(&deployment, server, &devices, *connections, Duration::from_secs(options.seconds))?;
        last = row.cpu_micros / bare;
        say!(
            "{:>11} {:>11.0} {:>14.0} {:>8.2} {:>8.0} {:>9.2} {:>9.2}",
            row.connections,
            row.per_second,
            row.cpu_micros,
            last,
            row.log_micros,
            row.p50.as_secs_f64() * 1000.0,
            row.p99.as_secs_f64() * 1000.0
        );
    }
    ensure!(last <= options.limit, "ratio {last:.2} is above {:.2}", options.limit);
    Ok(())
}

/// Devices with a chip, a TPM in this process, and an enrolment each.
fn make_devices(deployment: &mut Deployment, count: usize) -> Result<Vec<Device>> {
    let root = LabRoot::open(deployment.root(), Generation::Milan)?;
    let bar = ProgressBar::new(count as u64).with_message("devices");
    bar.set_style(ProgressStyle::with_template("{msg} {wide_bar} {pos}/{len}")?);
    let mut devices = Vec::new();
    for n in 0..count {
        let name = format!("device-{n}");
        let mut chip_id = [0; 64];
        chip_id.iter_mut().zip(sha256(&[name.as_bytes()])).for_each(|(to, from)| *to = from);
        let fields = Fields::sound(Generation::Milan, chip_id, TCB, crate::boot::measurement(NODE_IMAGE));
        let processor = Processor::vcek(&root, Fields { version: 5, ..fields })?;
        let tpm = SoftTpm::new(NODE_IMAGE)?;
        deployment.document().nodes.push(Node {
            name: name.clone(),
            chip_id: Some(hex(&chip_id)),
            ak_name: Some(hex(tpm.ak_name())),
            ek: None,
            minimum_class: "snp+tpm".into(),
            tags: vec!["lab".into()],
        });
        let machine = Machine::SnpTpm(Box::new(processor), Box::new(tpm));
        devices.push(Device { name, machine, key: SigningKey::generate(Suite::Classic)? });
        bar.inc(1);
    }
    bar.finish_and_clear();
    Ok(devices)
}

/// Asks as fast as the connections allow, for a while.
fn load(
    deployment: &Deployment,
    server: Pid,
    devices: &Arc<Vec<Mutex<Device>>>,
    connections: usize,
    duration: Duration,
) -> Result<Row> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (address, digest) = (deployment.nodes_address(), sha256(&[&fs::read(SLEEP)?]));
    let next = Arc::new(AtomicUsize::new(0));
    runtime.block_on(async {
        let mut sessions = Vec::new();
        for _ in 0..connections {
            sessions.push(RawSession::open(address).await?);
        }
        let deadline = Instant::now() + duration;
        let (cpu, log, started) = (cpu_time(server)?, log_time(server)?, Instant::now());
        let local = tokio::task::LocalSet::new();
        let mut workers = Vec::new();
        for mut session in sessions {
            let (devices, next) = (Arc::clone(devices), Arc::clone(&next));
            workers.push(local.spawn_local(async move {
                let mut latencies = Vec::new();
                while Instant::now() < deadline {
                    let at = next.fetch_add(1, Ordering::Relaxed) % devices.len();
                    let signed = {
                        let mut device = devices[at].lock().await;
                        let Device { name, machine, key } = &mut *device;
                        let request = session.request(name, key, digest);
                        let evidence = session.evidence(machine, &request)?;
                        request.sign(key, evidence.bytes())?
                    };
                    let asked = Instant::now();
                    let answer = session.ask(signed).await?;
                    ensure!(answer.status == 201, "status {}: {:?}", answer.status, session.denied(&answer));
                    latencies.push(asked.elapsed());
                }
                Ok(latencies)
            }));
        }
        local
            .run_until(async {
                let mut latencies = Vec::new();
                for worker in workers {
                    latencies.extend(worker.await??);
                }
                let (elapsed, used) = (started.elapsed(), cpu_time(server)?.saturating_sub(cpu));
                let logged = log_time(server)?.saturating_sub(log);
                latencies.sort();
                let count = latencies.len() as f64;
                let at = |share: f64| latencies.get((count * share) as usize).copied().unwrap_or_default();
                Ok(Row {
                    connections,
                    per_second: count / elapsed.as_secs_f64(),
                    cpu_micros: used.as_secs_f64() * 1e6 / count,
                    log_micros: logged.as_secs_f64() * 1e6 / count,
                    p50: at(0.50),
                    p99: at(0.99),
                })
            })
            .await
    })
}

/// User and system time of a process. Ticks are 10 ms: over seconds that is
/// well below a percent.
fn cpu_time(pid: Pid) -> Result<Duration> {
    ticks_of(&format!("/proc/{}/stat", pid.as_raw_nonzero()))
}

/// The same of the threads that write the log and publish it.
fn log_time(pid: Pid) -> Result<Duration> {
    let mut time = Duration::ZERO;
    for task in fs::read_dir(format!("/proc/{}/task", pid.as_raw_nonzero()))? {
        let task = task?.path();
        let name = fs::read_to_string(task.join("comm"))?;
        if name.starts_with("log-") {
            time += ticks_of(&task.join("stat").display().to_string())?;
        }
    }
    Ok(time)
}

fn ticks_of(path: &str) -> Result<Duration> {
    let stat = fs::read_to_string(path)?;
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |at: usize| fields.get(at).and_then(|text| text.parse::<u64>().ok()).context("/proc/PID/stat");
    Ok(Duration::from_millis((ticks(11)? + ticks(12)?) * 10))
}

/// Pins this thread, and the processes that it will start, to a core.
fn pin(core: usize) -> Result<()> {
    let mut set = CpuSet::new();
    set.set(core);
    Ok(sched_setaffinity(None, &set)?)
}
