//! What the command lines of all programs share: parsing with the house's exit
//! codes, completions and manual pages, times.
//!
//! ```
//! assert_eq!(portcullis_cli::rfc3339(0), "1970-01-01T00:00:00Z");
//! ```

use std::ffi::OsString;
use std::io::{self, Write};

use clap::{Parser, Subcommand};

/// Exit code for wrong usage.
pub const USAGE: u8 = 2;

/// Commands that every program has beside its own.
#[derive(Debug, Subcommand)]
pub enum Common {
    /// Print a completion script for a shell.
    Completions {
        /// Shell.
        shell: clap_complete::Shell,
    },
    /// Print the manual page.
    Man,
}

impl Common {
    /// Prints what was asked for, for the program of type `A`.
    ///
    /// # Errors
    /// Standard output cannot be written.
    pub fn print<A: Parser>(&self) -> io::Result<()> {
        let mut command = A::command();
        let mut page = Vec::new();
        match self {
            Self::Completions { shell } => {
                let name = command.get_name().to_owned();
                clap_complete::generate(*shell, &mut command, name, &mut page);
            }
            Self::Man => clap_mangen::Man::new(command).render(&mut page)?,
        }
        io::stdout().write_all(&page)
    }
}

/// Reads arguments.
///
/// # Errors
/// The exit code, where they were wrong, or asked for help or the version only:
/// what there is to say has been printed.
pub fn parse<A: Parser>(arguments: impl IntoIterator<Item = impl Into<OsString> + Clone>) -> Result<A, u8> {
    A::try_parse_from(arguments).map_err(|error| {
        drop(error.print());
        // Help and version are errors to clap, and go to stdout.
        if error.use_stderr() { USAGE } else { 0 }
    })
}

/// A time for people and JSON (RFC 3339, UTC); what no calendar has stays a number.
#[must_use]
pub fn rfc3339(seconds: u64) -> String {
    let time = i64::try_from(seconds).ok().and_then(|s| jiff::Timestamp::from_second(s).ok());
    time.map_or_else(|| seconds.to_string(), |time| time.to_string())
}
