//! Messages while a program waits: after a few seconds, it prints what it waits for,
//! and since when.

use std::io::{self, IsTerminal, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Delay before a terminal shows the current activity.
const SHOW: Duration = Duration::from_secs(1);
/// Delay before the first line without a terminal; more lines follow every [`AGAIN`].
const FIRST: Duration = Duration::from_secs(3);
const AGAIN: Duration = Duration::from_secs(10);
/// Interval between two updates of a terminal.
const TICK: Duration = Duration::from_millis(200);

/// Prints on standard error what a program waits for: on a terminal a line that counts
/// the seconds, elsewhere a line at intervals. The output stops when this value is
/// dropped.
///
/// Output runs on a separate thread, because a device may block the caller.
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
    /// Description of an operation that consists of many short waits.
    phase: Option<String>,
    /// The current activity, and its start.
    activity: Option<(String, Instant)>,
    /// Lines to print above the progress line.
    lines: Vec<String>,
    done: bool,
}

impl Waiting {
    /// Starts without an activity. `program` is the prefix of each line.
    #[must_use]
    pub fn start(program: &'static str) -> Self {
        let state = State { phase: None, activity: None, lines: Vec::new(), done: false };
        let terminal = io::stderr().is_terminal();
        let shared = Arc::new(Shared { program, terminal, state: Mutex::new(state), changed: Condvar::new() });
        let of_thread = Arc::clone(&shared);
        Self { thread: Some(std::thread::spawn(move || of_thread.tell())), shared }
    }

    /// Sets the current activity, such as `connecting to 10.0.0.1:8443`.
    pub fn on(&self, what: impl Into<String>) {
        self.shared.change(|state| state.activity = Some((what.into(), Instant::now())));
    }

    /// Sets the description of an operation of many short waits, with its progress.
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
        // A panic of the thread is ignored here.
        self.thread.take().into_iter().for_each(|thread| drop(thread.join()));
    }
}

impl Shared {
    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner));
        self.changed.notify_one();
    }

    /// The thread: wakes when the state changes, and when the next line is due.
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
                // The bar is hidden until then. Short waits are not shown.
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

    /// A write error of these lines is ignored: it must not stop the program.
    fn print(&self, line: &str) {
        drop(writeln!(io::stderr(), "{}: {line}", self.program));
    }
}
