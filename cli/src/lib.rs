//! What the command lines of all programs share: parsing with the house's exit
//! codes, completions and manual pages, times, progress, and what is waited for.
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
/// Exit code where a program could not do what it found right to do.
pub const INTERNAL: u8 = 4;

/// Prints a line to standard output, as [`println!`] does, but a reader who has
/// seen enough, such as `head`, neither panics the program nor changes its exit
/// code.
#[macro_export]
macro_rules! say {
    ($($argument:tt)*) => {
        $crate::write_line(&mut ::std::io::stdout().lock(), format_args!($($argument)*))
    };
}

/// What [`say!`] does. Where nobody can be told, because the disk is full for
/// example, the program ends: half an answer must not pass for one.
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

/// Reads arguments. An option whose value is empty is wrong usage: it comes from
/// a shell variable that is not set.
///
/// # Errors
/// The exit code, where they were wrong, or asked for help or the version only:
/// what there is to say has been printed.
pub fn parse<A: Parser>(arguments: impl IntoIterator<Item = impl Into<OsString> + Clone>) -> Result<A, u8> {
    let mut command = A::command();
    let matches = command.try_get_matches_from_mut(arguments).and_then(|matches| {
        values::refuse_empty(&command, &matches)?;
        Ok(matches)
    });
    matches.and_then(|matches| A::from_arg_matches(&matches)).map_err(|error| {
        let error = error.format(&mut command);
        drop(error.print());
        // Help and version are errors to clap, and go to stdout.
        if error.use_stderr() { USAGE } else { 0 }
    })
}

/// Reads a time (RFC 3339) as Unix seconds; `None` for what is none, and before
/// 1970.
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

/// A time as an option takes it (RFC 3339), as Unix seconds: for `value_parser`.
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
/// What it is instead, and how to write it.
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

/// A stretch of time as an option takes it, in seconds: for `value_parser`.
///
/// ```
/// assert_eq!(portcullis_cli::duration("90d"), Ok(90 * 86_400));
/// assert_eq!(portcullis_cli::duration("2h"), Ok(7_200));
/// assert!(portcullis_cli::duration("90").is_err());
/// ```
///
/// # Errors
/// How to write it.
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

/// What a time on the command line is, or now where there is none. Unix seconds.
///
/// # Errors
/// What was given is no time after 1970.
#[expect(clippy::disallowed_methods, reason = "the one place where tools read the clock, for defaults of --at")]
pub fn time_or_now(given: Option<&str>) -> Result<u64, String> {
    let clock = || std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    match given {
        Some(text) => time(text).map_err(|why| format!("{text:?}: {why}")),
        None => clock().map(|now| now.as_secs()).map_err(|error| error.to_string()),
    }
}
