//! Progress of long work: a bar on a terminal, and a line at intervals elsewhere.

use std::fmt;
use std::io::{self, IsTerminal, Write};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle, TermLike};

/// Interval between two lines without a terminal. The first line also comes after this
/// interval, so short work prints nothing.
const PAUSE: Duration = Duration::from_secs(20);
/// Width of bars without a terminal.
const WIDTH: u16 = 80;

/// A bar on standard error, in `indicatif`'s template. If standard error is not a
/// terminal, a line every 20 seconds replaces the bar.
#[must_use]
pub fn progress(length: Option<u64>, template: &str) -> ProgressBar {
    let bar = length.map_or_else(ProgressBar::new_spinner, ProgressBar::new);
    if !io::stderr().is_terminal() {
        bar.set_draw_target(ProgressDrawTarget::term_like_with_hz(Box::new(Lines::new()), 1));
    }
    bar.set_style(ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar
}

/// A draw target that stores the latest text, and prints it at intervals.
struct Lines(Mutex<Drawn>);

struct Drawn {
    text: String,
    printed: Instant,
}

impl Lines {
    fn new() -> Self {
        Self(Mutex::new(Drawn { text: String::new(), printed: Instant::now() }))
    }

    fn with(&self, change: impl FnOnce(&mut Drawn)) -> io::Result<()> {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
        Ok(())
    }
}

impl fmt::Debug for Lines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Lines")
    }
}

impl TermLike for Lines {
    fn width(&self) -> u16 {
        WIDTH
    }

    fn move_cursor_up(&self, _n: usize) -> io::Result<()> {
        Ok(())
    }

    fn move_cursor_down(&self, _n: usize) -> io::Result<()> {
        Ok(())
    }

    fn move_cursor_right(&self, _n: usize) -> io::Result<()> {
        Ok(())
    }

    fn move_cursor_left(&self, _n: usize) -> io::Result<()> {
        Ok(())
    }

    fn write_line(&self, line: &str) -> io::Result<()> {
        self.write_str(line)
    }

    fn write_str(&self, text: &str) -> io::Result<()> {
        self.with(|drawn| drawn.text.push_str(text))
    }

    fn clear_line(&self) -> io::Result<()> {
        self.with(|drawn| drawn.text.clear())
    }

    fn flush(&self) -> io::Result<()> {
        self.with(|drawn| {
            let text = std::mem::take(&mut drawn.text);
            let text = text.trim();
            if !text.is_empty() && drawn.printed.elapsed() >= PAUSE {
                drawn.printed = Instant::now();
                // A write error of progress output is ignored: it must not stop the work.
                drop(writeln!(io::stderr(), "{text}"));
            }
        })
    }
}
