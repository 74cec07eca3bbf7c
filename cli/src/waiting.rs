//! Waiting for others is never silent: after a few seconds somebody is told what
//! a program waits for, and for how long already.

use std::io::{self, IsTerminal, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// A terminal shows what is waited for after this long.
const SHOW: Duration = Duration::from_secs(1);
/// Elsewhere there is a line after this long, and then every [`AGAIN`].
const FIRST: Duration = Duration::from_secs(3);
const AGAIN: Duration = Duration::from_secs(10);
/// How often a terminal is drawn.
const TICK: Duration = Duration::from_millis(200);

/// Says on standard error what a program waits for: on a terminal as a line that
/// counts the seconds, elsewhere as a line now and then. It ends with this value.
///
/// It has a thread of its own, since a device may hold up the one that asks it.
#[derive(Debug)]
pub struct Waiting {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    program: &'static str,
    terminal: bool,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    /// What is done all the while, where that is many short waits.
    phase: Option<String>,
    /// What is waited for, and since when.
    activity: Option<(String, Instant)>,
    /// Lines to print above it.
    lines: Vec<String>,
    done: bool,
}

impl Waiting {
    /// Begins; nothing is waited for yet. `program` begins each line.
    #[must_use]
    pub fn start(program: &'static str) -> Self {
        let state = State { phase: None, activity: None, lines: Vec::new(), done: false };
        let terminal = io::stderr().is_terminal();
        let shared = Arc::new(Shared { program, terminal, state: Mutex::new(state), changed: Condvar::new() });
        let of_thread = Arc::clone(&shared);
        Self { thread: Some(std::thread::spawn(move || of_thread.tell())), shared }
    }

    /// What is waited for from now on, such as `connecting to 10.0.0.1:8443`.
    pub fn on(&self, what: impl Into<String>) {
        self.shared.change(|state| state.activity = Some((what.into(), Instant::now())));
    }

    /// What is done from now on, in many short waits; with how far it is.
    pub fn phase(&self, what: impl Into<String>) {
        self.shared.change(|state| state.phase = Some(what.into()));
    }

    /// Prints a line now.
    pub fn say(&self, line: impl Into<String>) {
        self.shared.change(|state| state.lines.push(line.into()));
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.shared.change(|state| state.done = true);
        // A thread that panicked has nothing more to say.
        self.thread.take().into_iter().for_each(|thread| drop(thread.join()));
    }
}

impl Shared {
    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner));
        self.changed.notify_one();
    }

    /// The thread: looks when something changes, and when the next line is due.
    fn tell(&self) {
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden());
        let style = ProgressStyle::with_template("{spinner} {wide_msg}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
        let (mut since, mut due, mut shown, mut told) = (None, FIRST, false, Instant::now());
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            for line in std::mem::take(&mut state.lines) {
                bar.suspend(|| self.print(&line));
            }
            if state.done {
                bar.finish_and_clear();
                return;
            }
            let began = state.activity.as_ref().map(|(_, began)| *began);
            if began != since {
                (since, due) = (began, FIRST);
            }
            let waited = began.map(|began| began.elapsed()).unwrap_or_default();
            let activity = state.activity.as_ref().map(|(what, _)| format!("{what}, {} s", waited.as_secs()));
            if self.terminal {
                if !shown && (waited >= SHOW || told.elapsed() >= SHOW) {
                    shown = true;
                    bar.set_draw_target(ProgressDrawTarget::stderr());
                }
                // Hidden until then; what is short is not shown at all.
                let phase = state.phase.clone().filter(|_| waited < SHOW);
                if let Some(text) = phase.or(activity) {
                    bar.set_message(text);
                    bar.tick();
                }
            } else if waited >= due {
                activity.iter().for_each(|text| self.print(&format!("still {text}")));
                (due, told) = (waited.saturating_add(AGAIN), Instant::now());
            } else if let Some(phase) = state.phase.as_ref().filter(|_| told.elapsed() >= AGAIN) {
                self.print(phase);
                told = Instant::now();
            }
            let pause = if self.terminal { TICK } else { due.saturating_sub(waited).clamp(TICK, FIRST) };
            state = self.wait(state, pause);
        }
    }

    fn wait<'s>(&'s self, state: MutexGuard<'s, State>, pause: Duration) -> MutexGuard<'s, State> {
        self.changed.wait_timeout(state, pause).unwrap_or_else(PoisonError::into_inner).0
    }

    /// Nobody is served by an error of these lines.
    fn print(&self, line: &str) {
        drop(writeln!(io::stderr(), "{}: {line}", self.program));
    }
}
