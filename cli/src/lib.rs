//! Functions shared by the command lines of all programs: parsing with the common exit
//! codes, completions and manual pages, times, progress, and messages while waiting.
//!
//! ```
//! assert_eq!(portcullis_cli::rfc3339(0), "1970-01-01T00:00:00Z");
//! ```

mod pages;
mod progress;
mod values;
mod waiting;

use std::ffi::OsString;
use std::fmt;
use std::io::{self, Write};

use clap::Parser;

pub use pages::Common;
pub use portcullis_wire::rfc3339;
pub use progress::progress;
pub use waiting::Waiting;

/// Exit code for wrong usage.
pub const USAGE: u8 = 2;
/// Exit code if a program decided on an action and could not complete it.
pub const INTERNAL: u8 = 4;

/// Prints a line to standard output, as [`println!`] does. If the reader closes the
/// pipe early, as `head` does, the program does not panic and its exit code does not
/// change.
#[macro_export]
macro_rules! say {
    ($($argument:tt)*) => {
        $crate::write_line(&mut ::std::io::stdout().lock(), format_args!($($argument)*))
    };
}

/// Implementation of [`say!`]. If the output cannot be written, for example because the
/// disk is full, the program exits: a truncated answer must not pass for a complete
/// one.
pub fn write_line(out: &mut impl Write, line: fmt::Arguments<'_>) {
    match writeln!(out, "{line}") {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
        Err(error) => {
            drop(writeln!(io::stderr(), "standard output: {error}"));
            std::process::exit(INTERNAL.into());
        }
    }
}

/// Parses arguments. An option with an empty value is a usage error: the value usually
/// comes from an unset shell variable.
///
/// # Errors
/// The exit code, if the arguments are wrong or request only help or the version. The
/// message is already printed.
pub fn parse<A: Parser>(arguments: impl IntoIterator<Item = impl Into<OsString> + Clone>) -> Result<A, u8> {
    let mut command = A::command();
    let matches = command.try_get_matches_from_mut(arguments).and_then(|matches| {
        values::refuse_empty(&command, &matches)?;
        Ok(matches)
    });
    matches.and_then(|matches| A::from_arg_matches(&matches)).map_err(|error| {
        let error = error.format(&mut command);
        drop(error.print());
        // clap reports help and version as errors; they go to stdout.
        if error.use_stderr() { USAGE } else { 0 }
    })
}

/// Parses a time (RFC 3339) as Unix seconds. `None` if the text is not a time, or is a
/// time before 1970.
///
/// ```
/// assert_eq!(portcullis_cli::unix_seconds("1970-01-01T00:01:00Z"), Some(60));
/// assert_eq!(portcullis_cli::unix_seconds("tomorrow"), None);
/// ```
#[must_use]
pub fn unix_seconds(text: &str) -> Option<u64> {
    let time: jiff::Timestamp = text.parse().ok()?;
    u64::try_from(time.as_second()).ok()
}

/// Parses a time option (RFC 3339) as Unix seconds: for `value_parser`.
///
/// ```
/// assert_eq!(portcullis_cli::time("1970-01-01T01:01:00+01:00"), Ok(60));
/// assert_eq!(
///     portcullis_cli::time("1767225600").unwrap_err(),
///     "these are Unix seconds: write 2026-01-01T00:00:00Z"
/// );
/// assert_eq!(portcullis_cli::time("2026-12-31").unwrap_err(), "a day without a time: write 2026-12-31T00:00:00Z");
/// ```
///
/// # Errors
/// The actual format of the text, and the correct one.
pub fn time(text: &str) -> Result<u64, String> {
    unix_seconds(text).ok_or_else(|| {
        let fits = |rest: &str| unix_seconds(&format!("{text}{rest}")).is_some();
        match text.parse::<u64>() {
            Ok(seconds) if seconds > 9999 => format!("these are Unix seconds: write {}", rfc3339(seconds)),
            _ if fits("T00:00:00Z") => format!("a day without a time: write {text}T00:00:00Z"),
            _ if fits("Z") => {
                format!("a time without a zone: write {text}Z for UTC, or an offset such as {text}+01:00")
            }
            _ => "write a time after 1970 as 2026-12-01T00:00:00Z (RFC 3339)".to_owned(),
        }
    })
}

/// Parses a duration option as seconds: for `value_parser`.
///
/// ```
/// assert_eq!(portcullis_cli::duration("90d"), Ok(90 * 86_400));
/// assert_eq!(portcullis_cli::duration("2h"), Ok(7_200));
/// assert!(portcullis_cli::duration("90").is_err());
/// ```
///
/// # Errors
/// The correct format.
pub fn duration(text: &str) -> Result<u64, String> {
    let read = || {
        let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
        let unit = match unit {
            "s" => 1,
            "m" => 60,
            "h" => 3_600,
            "d" => 86_400,
            "w" => 7 * 86_400,
            _ => return None,
        };
        number.parse::<u64>().ok()?.checked_mul(unit).filter(|seconds| *seconds > 0)
    };
    read().ok_or_else(|| "write a number with a unit, s, m, h, d or w: 90d, 12h".to_owned())
}

/// Parses a time from the command line as Unix seconds; the current time if absent.
///
/// # Errors
/// The text is not a time after 1970.
#[expect(clippy::disallowed_methods, reason = "the one place where tools read the clock, for defaults of --at")]
pub fn time_or_now(given: Option<&str>) -> Result<u64, String> {
    let clock = || std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    match given {
        Some(text) => time(text).map_err(|why| format!("{text:?}: {why}")),
        None => clock().map(|now| now.as_secs()).map_err(|error| error.to_string()),
    }
}
