//! Runs a program in turns with bare cryptography, so that other load on the machine
//! affects both equally.

use std::process::Child;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use rustix::process::{Pid, Signal, kill_process};

use super::bare::Bare;

/// Length of a turn.
const TURN: Duration = Duration::from_millis(500);
/// How often the end of the program is checked.
const LOOK: Duration = Duration::from_millis(2);

/// Verifications on some cores.
pub(super) struct BareRate {
    each: Vec<Bare>,
    verify: fn(&Bare) -> Result<()>,
    /// A second, on all cores together, in each turn.
    turns: Vec<f64>,
}

impl BareRate {
    /// For requests of this length. The first turn is taken at once.
    pub(super) fn new(cores: usize, request: usize, verify: fn(&Bare) -> Result<()>) -> Result<Self> {
        let each = (0..cores).map(|_| Bare::new(request)).collect::<Result<_>>()?;
        let mut bare = Self { each, verify, turns: Vec::new() };
        bare.turn()?;
        Ok(bare)
    }

    fn turn(&mut self) -> Result<()> {
        let verify = self.verify;
        let rate = |bare: &Bare| -> Result<f64> {
            let (started, mut count) = (Instant::now(), 0_u32);
            while started.elapsed() < TURN {
                verify(bare)?;
                count = count.saturating_add(1);
            }
            Ok(f64::from(count) / started.elapsed().as_secs_f64())
        };
        let rates = thread::scope(|scope| {
            let running: Vec<_> = self.each.iter().map(|bare| scope.spawn(move || rate(bare))).collect();
            let joined = running.into_iter().map(|thread| thread.join().map_err(|_| anyhow!("a thread stopped"))?);
            joined.sum::<Result<f64>>()
        })?;
        self.turns.push(rates);
        Ok(())
    }

    /// A second, on all cores together, over all turns.
    pub(super) fn per_second(&self) -> f64 {
        self.turns.iter().sum::<f64>() / self.turns.len() as f64
    }
}

/// Runs a program to its end. It is stopped while `bare` takes its turns. Returns how
/// long it ran.
pub(super) fn take_turns(program: &mut Child, bare: &mut BareRate) -> Result<Duration> {
    let outcome = run(program, bare);
    if outcome.is_err() {
        // Nobody else would continue it.
        let _ended = program.kill();
    }
    outcome
}

fn run(program: &mut Child, bare: &mut BareRate) -> Result<Duration> {
    let process = i32::try_from(program.id()).ok().and_then(Pid::from_raw).context("a process")?;
    let mut ran = Duration::ZERO;
    loop {
        let turn = Instant::now();
        while turn.elapsed() < TURN {
            if program.try_wait()?.is_some() {
                return Ok(ran.saturating_add(turn.elapsed()));
            }
            thread::sleep(LOOK);
        }
        kill_process(process, Signal::STOP)?;
        ran = ran.saturating_add(turn.elapsed());
        bare.turn()?;
        kill_process(process, Signal::CONT)?;
    }
}
