//! The life of one program under the gate.
//!
//! 1. read and seal the program (one thread: init is forked here)
//! 2. attest, ask, verify; start with a deadline that init holds
//! 3. renew at half-life; look at the status when told to, and often enough
//! 4. kill when a renewal is denied, the status turns, or the lease ends

use std::ffi::OsString;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use portcullis_attester::{Machine, OpenMachine};
use portcullis_permit::{Execution, ExecutionStage, SigningKey, Status, Suite, VerifiedPermit};
use portcullis_sys::process::{Child, spawn_init};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use tokio::sync::mpsc;
use tokio::time::{sleep_until, timeout};

use super::control::{Event, Order};
use super::init;
use super::program::{Program, ProgramError};
use super::reach::{Forwarded, Init};
use crate::clock;
use crate::config::{Config, Trust};
use crate::events::{self, Signal};
use crate::refusal::{ClientError, warn};
use crate::session::{Ask, Session};
use crate::waiting::telling;

/// Pause before a renewal is tried again that did not reach the authority.
const RETRY: Duration = Duration::from_millis(500);

/// What to run.
#[derive(Clone, Debug)]
pub struct GateOptions {
    /// Program and arguments.
    pub command: Vec<OsString>,
    /// Environment of the program.
    pub environment: Vec<(OsString, OsString)>,
}

/// How far the gate came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Before the program could run.
    Program,
    /// Attesting, asking, verifying.
    Permit,
    /// The program ran and ended by itself.
    Ended,
    /// The program ran and was stopped.
    Stopped,
}

impl Stage {
    /// `program`, `permit`, `ended` or `stopped`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Program => "program",
            Self::Permit => "permit",
            Self::Ended => "ended",
            Self::Stopped => "stopped",
        }
    }
}

/// How it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// How far the gate came.
    pub stage: Stage,
    /// Exit code of the gate.
    pub code: u8,
    /// Check that refused or stopped.
    pub check: Option<String>,
    /// For people.
    pub message: String,
    /// Renewals that succeeded.
    pub renewals: u64,
    /// Time from the decision to kill until everything was dead.
    pub time_to_kill: Option<Duration>,
}

impl Ended {
    fn new(stage: Stage, code: u8, check: Option<&str>, message: impl std::fmt::Display) -> Self {
        let (check, message) = (check.map(str::to_owned), message.to_string());
        Self { stage, code, check, message, renewals: 0, time_to_kill: None }
    }

    /// No permit: 77 denied, 75 authority unreachable, 125 own failure.
    fn without_permit(error: &ClientError) -> Self {
        let code = match error {
            ClientError::Denied(_) => 77,
            ClientError::Unreachable(_) => 75,
            ClientError::Own(_) => 125,
        };
        Self::new(Stage::Permit, code, error.first_check(), error)
    }
}

impl From<ProgramError> for Ended {
    fn from(error: ProgramError) -> Self {
        let code = match error {
            ProgramError::NotFound(..) => 127,
            ProgramError::NotExecutable(..) => 126,
            ProgramError::Own(_) => 125,
        };
        Self::new(Stage::Program, code, None, error)
    }
}

/// Runs a program under the gate. Must be called before the process has threads.
#[must_use]
pub fn run(config: &Config, platform: &dyn OpenMachine, options: &GateOptions) -> Ended {
    let program = match Program::open(&options.command, options.environment.clone()) {
        Ok(program) => program,
        Err(error) => return error.into(),
    };
    match prepare(config, platform, program) {
        Ok(ended) => ended,
        Err(error) => Ended::new(Stage::Program, 125, None, format!("{error:#}")),
    }
}

fn prepare(config: &Config, platform: &dyn OpenMachine, program: Program) -> anyhow::Result<Ended> {
    let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
    let (uid, gid) = (config.gate.uid, config.gate.gid);
    let child = spawn_init(&[theirs.as_fd(), program.executable()], || init::main(&theirs, &program, uid, gid));
    let child = child.context("a PID namespace for the program (needs CAP_SYS_ADMIN)")?;
    drop(theirs);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        let gate = Gate::new(child, ours, config)?;
        Ok(gate.live(platform, &program).await)
    })
}

/// One program with its permit.
struct Gate<'c> {
    config: &'c Config,
    init: Init,
    key: SigningKey,
    renewals: u64,
}

/// What the gate holds while the program runs.
struct Running {
    session: Session,
    machine: Machine,
    trust: Trust,
    permit: VerifiedPermit,
    /// `CLOCK_BOOTTIME` at which the lease ends.
    deadline: Duration,
    /// `CLOCK_BOOTTIME` at which the last good status list ends.
    status_until: Duration,
}

/// Why the gate stops the program.
struct Stop {
    check: String,
    why: String,
}

impl From<ClientError> for Stop {
    fn from(error: ClientError) -> Self {
        Self { check: error.first_check().unwrap_or("lease.renewal").to_owned(), why: error.to_string() }
    }
}

impl<'c> Gate<'c> {
    fn new(child: Child, control: OwnedFd, config: &'c Config) -> anyhow::Result<Self> {
        let key = SigningKey::generate(Suite::Classic)?;
        Ok(Self { config, init: Init::new(child, control)?, key, renewals: 0 })
    }

    async fn live(self, platform: &dyn OpenMachine, program: &Program) -> Ended {
        let running = match telling(self.obtain(platform, program)).await {
            Ok(running) => running,
            Err(error) => return Ended::without_permit(&error),
        };
        let order = Order::Start(nanoseconds(running.deadline));
        if let Err(error) = self.init.order(order).await {
            return Ended::new(Stage::Program, 125, None, error);
        }
        self.attend(running, program).await
    }

    /// Attest, ask, verify, look at the status: everything before the start.
    async fn obtain(&self, platform: &dyn OpenMachine, program: &Program) -> Result<Running, ClientError> {
        let mut trust = self.config.trust()?;
        let mut machine = platform.open()?;
        let mut session = Session::open(self.config, &trust).await?;
        session.update(&mut trust).await?;
        let sent = clock::boot_time();
        let ask = Ask { key: &self.key, workload: program.workload(), parent: None };
        let permit = session.permit(&mut machine, ask, &trust).await?;
        warn(permit.permit());
        let status_until = good_status(&mut session, &permit).await?;
        let deadline = lease_end(sent, &permit);
        Ok(Running { session, machine, trust, permit, deadline, status_until })
    }

    /// From the start to the end of the program.
    async fn attend(mut self, mut running: Running, program: &Program) -> Ended {
        let (sender, mut signals) = mpsc::channel(16);
        let follower = self
            .config
            .trust()
            .ok()
            .map(|trust| tokio::spawn(events::follow(self.config.clone(), Arc::new(trust), sender)));
        let mut forwarded = match Forwarded::new() {
            Ok(forwarded) => forwarded,
            Err(error) => return Ended::new(Stage::Program, 125, None, error),
        };
        let mut ended = loop {
            let next = running.next_look();
            tokio::select! {
                event = self.init.event() => match event {
                    Event::Started => self.report(&mut running, ExecutionStage::Started, None, None, None).await,
                    other => break self.ended(other),
                },
                number = forwarded.next() => drop(self.init.order(Order::Signal(number)).await),
                signal = signals.recv() => {
                    // A trip needs no proof beyond silence: without renewals the lease ends.
                    if signal == Some(Signal::Look)
                        && let Err(stop) = running.look().await
                    {
                        break self.kill(stop).await;
                    }
                    if signal.is_none() {
                        tokio::time::sleep(RETRY).await;
                    }
                }
                () = sleep_until(next) => {
                    if let Err(stop) = self.keep(&mut running, program).await {
                        break self.kill(stop).await;
                    }
                }
            }
        };
        if let Some(follower) = follower {
            follower.abort();
        }
        ended.renewals = self.renewals;
        let stage = if ended.stage == Stage::Ended { ExecutionStage::Ended } else { ExecutionStage::Killed };
        let kill = ended.time_to_kill.map(|time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX));
        let report = self.report(&mut running, stage, Some(ended.code.into()), ended.check.clone(), kill);
        drop(timeout(Duration::from_secs(2), report).await);
        ended
    }

    /// Renews at half-life, and looks at the status then and before the last one ends.
    async fn keep(&mut self, running: &mut Running, program: &Program) -> Result<(), Stop> {
        let mut renewed = false;
        if running.renewal_is_due() {
            match self.renew(running, program).await {
                Ok(()) => renewed = true,
                // Not reached: try again until the lease ends.
                Err(ClientError::Unreachable(_)) => tokio::time::sleep(RETRY).await,
                Err(error) => return Err(error.into()),
            }
        }
        // Trying to renew takes time, in which the lease may have ended.
        running.check_lease()?;
        self.renewals = self.renewals.saturating_add(u64::from(renewed));
        // A new permit has a status of its own.
        if renewed || running.status_is_due() {
            running.look().await?;
        }
        Ok(())
    }

    /// A renewal: the same as the first time, with the present permit as parent.
    /// A session that broke, or whose statement is outdated, is opened again.
    async fn renew(&self, running: &mut Running, program: &Program) -> Result<(), ClientError> {
        // The authority proves itself again within each lease.
        if running.session.age() >= running.granted() {
            self.reopen(running).await?;
        }
        running.session.forget_nonce();
        let mut outcome = self.ask(running, program).await;
        let again = match &outcome {
            Err(ClientError::Unreachable(_)) => true,
            Err(error) => error.first_check() == Some("request.statement"),
            Ok(()) => false,
        };
        if again {
            self.reopen(running).await?;
            outcome = self.ask(running, program).await;
        }
        outcome
    }

    async fn reopen(&self, running: &mut Running) -> Result<(), ClientError> {
        running.session = Session::open(self.config, &running.trust).await?;
        running.session.update(&mut running.trust).await
    }

    async fn ask(&self, running: &mut Running, program: &Program) -> Result<(), ClientError> {
        let sent = clock::boot_time();
        let parent = Some(running.permit.permit().id);
        let ask = Ask { key: &self.key, workload: program.workload(), parent };
        let permit = running.session.permit(&mut running.machine, ask, &running.trust).await?;
        running.deadline = lease_end(sent, &permit);
        running.permit = permit;
        self.init
            .order(Order::Extend(nanoseconds(running.deadline)))
            .await
            .map_err(|error| ClientError::Own(error.into()))
    }

    /// Kills the whole tree and measures how long that takes.
    async fn kill(&mut self, stop: Stop) -> Ended {
        let started = Instant::now();
        let dead = self.init.kill().await;
        let mut ended = Ended::new(Stage::Stopped, 124, Some(&stop.check), stop.why);
        if dead {
            ended.time_to_kill = Some(started.elapsed());
        }
        ended
    }

    fn ended(&self, event: Event) -> Ended {
        let byte = |n: u64| u8::try_from(n).unwrap_or(255);
        match event {
            Event::Exited(code) => Ended::new(Stage::Ended, byte(code), None, format!("exit code {code}")),
            Event::Signalled(signal) => {
                Ended::new(Stage::Ended, byte(signal.saturating_add(128)), None, format!("ended by signal {signal}"))
            }
            Event::Expired => {
                Ended::new(Stage::Stopped, 124, Some("lease.expired"), "the lease ended without a renewal")
            }
            Event::Failed(errno) => Ended::new(Stage::Program, 125, None, format!("init failed, errno {errno}")),
            Event::Started => Ended::new(Stage::Program, 125, None, "init started twice"),
        }
    }

    /// Reports are for the log; a program does not die for want of one.
    async fn report(
        &self,
        running: &mut Running,
        stage: ExecutionStage,
        code: Option<u64>,
        check: Option<String>,
        kill_milliseconds: Option<u64>,
    ) {
        let permit = running.permit.permit().id;
        let execution = Execution { permit, stage, code, check, kill_milliseconds, time: clock::now() };
        if let Err(error) = running.session.report(&execution, &self.key).await {
            tracing::warn!(stage = stage.name(), %error, "report not delivered");
        }
    }
}

impl Running {
    fn granted(&self) -> Duration {
        Duration::from_secs(self.permit.granted_seconds())
    }

    fn half_life(&self) -> Duration {
        self.deadline.saturating_sub(self.granted().checked_div(2).unwrap_or_default())
    }

    fn renewal_is_due(&self) -> bool {
        clock::boot_time() >= self.half_life()
    }

    /// A status list that ends within a second is due.
    fn status_is_due(&self) -> bool {
        clock::boot_time().saturating_add(Duration::from_secs(1)) >= self.status_until
    }

    /// When something has to be done next.
    fn next_look(&self) -> tokio::time::Instant {
        let now = clock::boot_time();
        let renewal = self.half_life().saturating_sub(now);
        let status = self.status_until.saturating_sub(now).saturating_sub(Duration::from_secs(1));
        let wait = renewal.min(status).max(Duration::from_millis(20));
        let now = tokio::time::Instant::now();
        now.checked_add(wait).unwrap_or(now)
    }

    fn check_lease(&self) -> Result<(), Stop> {
        if clock::boot_time() < self.deadline {
            return Ok(());
        }
        Err(Stop { check: "lease.expired".into(), why: "the lease ended without a renewal".into() })
    }

    /// Looks at the status. Unreachable is no answer; the last good one counts
    /// until it ends.
    async fn look(&mut self) -> Result<(), Stop> {
        match good_status(&mut self.session, &self.permit).await {
            Ok(until) => self.status_until = until,
            Err(ClientError::Unreachable(why)) if clock::boot_time() >= self.status_until => {
                // Where both have ended, the lease is what the program died of.
                self.check_lease()?;
                return Err(Stop { check: "permit.status.expired".into(), why });
            }
            Err(ClientError::Unreachable(_)) => tokio::time::sleep(RETRY).await,
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }
}

/// Valid, and until when (`CLOCK_BOOTTIME`) the answer holds, counted like a
/// lease from the moment at which it was asked for.
async fn good_status(session: &mut Session, permit: &VerifiedPermit) -> Result<Duration, ClientError> {
    let sent = clock::boot_time();
    match session.status(&permit.permit().status).await? {
        (Status::Valid, seconds) => Ok(sent.saturating_add(Duration::from_secs(seconds))),
        (status, _) => Err(ClientError::check("permit.revoked", status.as_str(), Status::Valid.as_str())),
    }
}

/// The lease runs from the moment at which the request was sent.
fn lease_end(sent: Duration, permit: &VerifiedPermit) -> Duration {
    sent.saturating_add(Duration::from_secs(permit.granted_seconds()))
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
