//! Rules for the values of all options of all programs.

use std::ffi::OsStr;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{ArgMatches, Command, Error};

/// Refuses an option or argument with an empty value, which usually comes from an unset
/// shell variable. An empty nonce would match any quote without a nonce, and an empty
/// path means the current folder.
///
/// # Errors
/// A usage error that names the option.
pub(crate) fn refuse_empty(command: &Command, matches: &ArgMatches) -> Result<(), Error> {
    for argument in command.get_arguments() {
        // The arguments of the program that a gate starts may be empty. An option whose
        // default is empty may also be set to an empty value.
        let of_another = argument.is_last_set() || argument.is_trailing_var_arg_set();
        let by_default = argument.get_default_values().iter().any(|value| value.is_empty());
        let given = matches.try_get_raw(argument.get_id().as_str()).ok().flatten();
        if !of_another && !by_default && given.into_iter().flatten().any(OsStr::is_empty) {
            let mut error = Error::new(ErrorKind::InvalidValue).with_cmd(command);
            error.insert(ContextKind::InvalidArg, ContextValue::String(argument.to_string()));
            error.insert(ContextKind::InvalidValue, ContextValue::String(String::new()));
            return Err(error);
        }
    }
    match matches.subcommand() {
        Some((name, below)) => command.find_subcommand(name).map_or(Ok(()), |command| refuse_empty(command, below)),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;
    use std::path::PathBuf;

    use clap::Parser;

    use crate::{USAGE, parse};

    #[derive(Debug, Parser)]
    #[command(name = "program")]
    struct Arguments {
        #[arg(long, global = true)]
        config: Option<PathBuf>,
        #[command(subcommand)]
        action: Action,
    }

    #[derive(Debug, clap::Subcommand)]
    enum Action {
        Verify {
            file: PathBuf,
            #[arg(long, value_name = "HEX")]
            nonce: Option<String>,
            #[arg(long, num_args = 1..)]
            certs: Vec<PathBuf>,
            #[arg(long)]
            number: Option<u32>,
            #[arg(long, default_value = "")]
            append: String,
            #[arg(long)]
            json: bool,
        },
        Run {
            #[arg(last = true, required = true)]
            command: Vec<OsString>,
        },
    }

    fn code(arguments: &[&str]) -> Option<u8> {
        parse::<Arguments>(std::iter::once(&"program").chain(arguments)).err()
    }

    #[test]
    fn an_empty_value_is_wrong_usage_wherever_it_stands() {
        assert_eq!(code(&["verify", "file", "--nonce", "00", "--certs", "a", "b", "--number", "1", "--json"]), None);
        assert_eq!(code(&["verify", "file", "--append", ""]), None);
        for arguments in [
            &["verify", ""][..],
            &["verify", "file", "--nonce", ""],
            &["verify", "file", "--nonce="],
            &["verify", "file", "--certs", "a", ""],
            &["verify", "file", "--number", ""],
            &["--config", "", "verify", "file"],
            &["verify", "file", "--config", ""],
        ] {
            assert_eq!(code(arguments), Some(USAGE), "{arguments:?}");
        }
        // The rule does not apply to the command line of the program that a gate starts.
        assert_eq!(code(&["run", "--", "sh", "-c", ""]), None);
    }

    #[test]
    fn the_message_names_the_option() {
        let mut command = <Arguments as clap::CommandFactory>::command();
        let matches = command.try_get_matches_from_mut(["program", "verify", "file", "--nonce", ""]).unwrap();
        let said = super::refuse_empty(&command, &matches).unwrap_err().to_string();
        assert!(said.contains("a value is required for '--nonce <HEX>' but none was supplied"), "{said}");
    }
}
