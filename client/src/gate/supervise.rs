//! The life of one program under the gate.
//!
//! 1. read and seal the program (one thread: init is forked here)
//! 2. attest, ask, verify; start with a deadline that init holds
//! 3. renew at half-life; check the status on events and periodically
//! 4. kill when the authority denies, or the lease or the last status list ends
//!
//! The main loop waits only for the first of these: an event of init, a signal, an
//! event of the authority, the answer to a renewal or to a status check, a deadline.
//! All communication with the authority, a device or a disk runs in separate tasks.

use std::ffi::OsString;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use portcullis_attester::OpenMachine;
use portcullis_permit::{Execution, ExecutionStage, SigningKey, Suite};
use portcullis_sys::process::{Child, spawn_init};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use tokio::sync::mpsc;

use super::alarm::Alarm;
use super::control::{Event, Order};
use super::ended::{Ended, Stage};
use super::init;
use super::program::Program;
use super::reach::Init;
use super::reports::Reports;
use super::running::{Asker, Running, Stop};
use super::signals::{Blocked, Signals, stop_if_told};
use crate::clock;
use crate::config::{Config, Trust};
use crate::devices::Devices;
use crate::events::{self, Signal};
use crate::http::PATIENCE;
use crate::line::Line;
use crate::refusal::{ClientError, aside, warnings};
use crate::waiting::telling;

/// How long unanswered messages and devices may delay the end of the gate.
const LEAVING: Duration = Duration::from_millis(50);

/// The program to run.
#[derive(Clone, Debug)]
pub struct GateOptions {
    /// Program and arguments.
    pub command: Vec<OsString>,
    /// Environment of the program.
    pub environment: Vec<(OsString, OsString)>,
}

/// Runs a program under the gate. Must be called before the process has several
/// threads; afterwards this thread has its signals blocked.
#[must_use]
pub fn run(config: &Config, platform: &dyn OpenMachine, options: &GateOptions) -> Ended {
    let program = match Program::open(&options.command, options.environment.clone()) {
        Ok(program) => program,
        Err(error) => return error.into(),
    };
    match prepare(config, platform, &program) {
        Ok(ended) => ended,
        Err(error) => Ended::own(format!("{error:#}")),
    }
}

fn prepare(config: &Config, platform: &dyn OpenMachine, program: &Program) -> anyhow::Result<Ended> {
    let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
    let (uid, gid) = (config.gate.uid, config.gate.gid);
    let child = spawn_init(&[theirs.as_fd(), program.executable()], || init::main(&theirs, program, uid, gid));
    let child = child.context("a PID namespace for the program (needs CAP_SYS_ADMIN)")?;
    drop(theirs);
    // Up to this point, a signal ends the gate like any program.
    let (trust, devices) = match open(config, platform) {
        Ok(opened) => opened,
        Err(error) => return Ok(Ended::without_permit(&error)),
    };
    let signals = Blocked::now().context("signals")?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let ended = runtime.block_on(async {
        let gate = Gate::new(child, ours, signals, Line::new(config.clone(), trust), devices, program)?;
        Ok(gate.live(&program.name()).await)
    });
    runtime.shutdown_timeout(LEAVING);
    ended
}

fn open(config: &Config, platform: &dyn OpenMachine) -> Result<(Trust, Devices), ClientError> {
    Ok((config.trust()?, Devices::of(platform.open()?)))
}

/// One program with its gate.
struct Gate {
    init: Init,
    signals: Signals,
    alarm: Alarm,
    asker: Arc<Asker>,
    reports: Reports,
}

impl Gate {
    fn new(
        child: Child,
        control: OwnedFd,
        signals: Blocked,
        line: Line,
        devices: Devices,
        program: &Program,
    ) -> anyhow::Result<Self> {
        let (line, key) = (Arc::new(line), Arc::new(SigningKey::generate(Suite::Classic)?));
        let reports = Reports::start(Arc::clone(&line), Arc::clone(&key));
        let asker = Arc::new(Asker { line, key, devices, workload: program.workload().clone() });
        Ok(Self { init: Init::new(child, control)?, signals: signals.listen()?, alarm: Alarm::new()?, asker, reports })
    }

    async fn live(self, program: &str) -> Ended {
        let obtained = tokio::select! {
            obtained = telling(self.obtain()) => obtained,
            number = self.signals.ending() => return Ended::before_permit(number),
        };
        let mut running = match obtained {
            Ok(running) => running,
            Err(error) => return Ended::without_permit(&error),
        };
        if let Err(error) = self.init.order(Order::Start(nanoseconds(running.deadline))) {
            return Ended::own(error);
        }
        let mut ended = self.attend(&mut running, program).await;
        ended.renewals = running.renewals;
        ended.permit = Some(running.permit.permit().id);
        ended.first_permit = Some(running.first);
        self.report_end(&running, &ended).await;
        ended
    }

    /// All steps before the start: attest, request, verify, check the status.
    async fn obtain(&self) -> Result<Running, ClientError> {
        let granted = self.asker.permit(None, PATIENCE).await?;
        warnings(granted.permit.permit()).for_each(aside);
        let status_until = self.asker.status(&granted.permit, PATIENCE).await?;
        Ok(Running::new(granted, status_until, clock::boot_time()))
    }

    /// From the start to the end of the program.
    async fn attend(&self, running: &mut Running, program: &str) -> Ended {
        let (sender, mut stream) = mpsc::channel(16);
        let follower = tokio::spawn(events::follow(Arc::clone(&self.asker.line), sender));
        let ended = loop {
            let now = clock::boot_time();
            if let Some(stop) = running.lapsed(now) {
                break self.kill(stop).await;
            }
            running.start_errands(&self.asker, now);
            let wakes = running.wakes();
            let outcome = tokio::select! {
                biased;
                event = self.init.event() => match event {
                    Event::Started => {
                        self.report(running, ExecutionStage::Started, None);
                        Ok(())
                    }
                    event => break ended(event, running, program),
                },
                number = self.signals.next() => {
                    self.pass_on(number);
                    Ok(())
                }
                Some(signal) = stream.recv() => {
                    // A trip needs no further action: without renewals the lease ends.
                    if signal == Signal::Look {
                        running.look.hurry();
                    }
                    Ok(())
                }
                outcome = running.look.outcome() => running.looked(outcome, clock::boot_time()),
                outcome = running.renewal.outcome() => {
                    let extend = |until| self.init.order(Order::Extend(nanoseconds(until)));
                    running.renewed(outcome, clock::boot_time(), extend)
                }
                () = self.alarm.at(wakes) => Ok(()),
            };
            if let Err(stop) = outcome {
                break self.kill(stop).await;
            }
        };
        follower.abort();
        ended
    }

    /// Makes init pass a signal on, unless the program has received it already.
    fn pass_on(&self, number: i32) {
        // An error means that the program is about to end, which is handled next.
        drop(self.init.order(Order::Signal(u64::try_from(number).unwrap_or(0))));
        stop_if_told(number);
    }

    /// Kills all processes of the program and measures how long that takes.
    async fn kill(&self, stop: Stop) -> Ended {
        let started = Instant::now();
        let dead = self.init.kill().await;
        let mut ended = Ended::new(Stage::Stopped, 124, Some(&stop.check), stop.why);
        ended.time_to_kill = dead.then(|| started.elapsed());
        ended
    }

    fn report(&self, running: &Running, stage: ExecutionStage, ended: Option<&Ended>) {
        let kill = ended.and_then(|ended| ended.time_to_kill);
        self.reports.add(Execution {
            permit: running.permit.permit().id,
            stage,
            code: ended.map(|ended| ended.code.into()),
            check: ended.and_then(|ended| ended.check.clone()),
            kill_milliseconds: kill.map(|time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX)),
            time: clock::now(),
        });
    }

    /// Sends the last report. A further ending signal cancels the wait for it.
    async fn report_end(self, running: &Running, ended: &Ended) {
        let stage = match ended.stage {
            Stage::Ended => ExecutionStage::Ended,
            Stage::Stopped => ExecutionStage::Killed,
            Stage::Program | Stage::Permit => ExecutionStage::Failed,
        };
        self.report(running, stage, Some(ended));
        tokio::select! {
            () = self.reports.finish() => {}
            _ = self.signals.ending() => {}
        }
    }
}

/// The result of the execution, from an event of init.
fn ended(event: Event, running: &Running, program: &str) -> Ended {
    match event {
        Event::Exited(code) => Ended::exited(code),
        Event::Signalled(signal) => Ended::signalled(signal),
        Event::NotExecuted(failure) => Ended::not_executed(program, failure),
        Event::Failed(failure) => {
            Ended::own(format!("init of the program's namespace failed at {}: {}", failure.what, failure.reason()))
        }
        Event::Expired => {
            let why = format!("the lease ended without a renewal{}", running.renewal.reason());
            Ended::new(Stage::Stopped, 124, Some("lease.expired"), why)
        }
        Event::Lost | Event::Started => {
            let why =
                "init of the program's namespace was killed, and everything in it: by the kernel, if memory ran out";
            Ended::new(Stage::Stopped, 125, None, why)
        }
    }
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
