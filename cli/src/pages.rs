//! Completions and manual pages, generated from the definition of the command line.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use clap::{Command, Parser, Subcommand};
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};

use crate::say;

/// Section of the manual for user commands.
const SECTION: &str = "1";

/// Commands that every program has in addition to its own.
#[derive(Debug, Subcommand)]
pub enum Common {
    /// Print a completion script for a shell.
    Completions {
        /// Shell.
        shell: clap_complete::Shell,
    },
    /// Print a manual page, or write all of them into a folder.
    Man {
        /// Command of the page, such as `log verify`. Default: the page of the program.
        #[arg(value_name = "COMMAND")]
        command: Vec<String>,
        /// Write the pages of the program and all its commands into this folder, as
        /// `PROGRAM-COMMAND.1`.
        #[arg(long, value_name = "FOLDER", conflicts_with = "command")]
        out: Option<PathBuf>,
    },
}

impl Common {
    /// Prints or writes the requested pages or script for the program of type `A`.
    ///
    /// # Errors
    /// The command does not exist, or the folder cannot be written.
    pub fn print<A: Parser>(&self) -> io::Result<()> {
        let mut program = A::command();
        match self {
            Self::Completions { shell } => {
                let (name, mut script) = (program.get_name().to_owned(), Vec::new());
                clap_complete::generate(*shell, &mut program, name, &mut script);
                say!("{}", String::from_utf8_lossy(&script).trim_end());
            }
            Self::Man { out: Some(folder), .. } => {
                fs::create_dir_all(folder).map_err(|error| named(folder, &error))?;
                let written = write_pages(&built(program), None, folder)?;
                say!("{}: {written} pages; man -l {} shows one", folder.display(), sample(folder, &A::command()));
            }
            Self::Man { command, out: None } => say!("{}", page_of(&built(program), command)?.trim_end()),
        }
        Ok(())
    }
}

/// The whole command line, with the names that clap assigns when it parses.
fn built(program: Command) -> Command {
    let mut program = program.disable_help_subcommand(true);
    program.build();
    program
}

fn sample(folder: &Path, program: &Command) -> String {
    folder.join(format!("{}.{SECTION}", program.get_name())).display().to_string()
}

fn named(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

/// The page of a command; `path` names the command, without the program.
fn page_of(program: &Command, path: &[String]) -> io::Result<String> {
    let (mut command, mut parent) = (program, None);
    for name in path {
        let next = command.find_subcommand(name).ok_or_else(|| {
            let known: Vec<&str> = command.get_subcommands().map(Command::get_name).collect();
            let text = format!("{} has no command {name:?}; it has {}", title(command), known.join(", "));
            io::Error::new(io::ErrorKind::InvalidInput, text)
        })?;
        parent = Some(title(command));
        command = next;
    }
    page(command, parent.as_deref())
}

/// Writes the pages of a command and of all its subcommands. Returns their number.
fn write_pages(command: &Command, parent: Option<&str>, folder: &Path) -> io::Result<usize> {
    let path = folder.join(format!("{}.{SECTION}", title(command)));
    fs::write(&path, page(command, parent)?).map_err(|error| named(&path, &error))?;
    let own = title(command);
    command
        .get_subcommands()
        .filter(|below| !below.is_hide_set())
        .try_fold(1_usize, |sum, below| Ok(sum.saturating_add(write_pages(below, Some(&own), folder)?)))
}

/// Name of a page: `portcullis-permit-request`.
fn title(command: &Command) -> String {
    command.get_display_name().unwrap_or_else(|| command.get_name()).to_owned()
}

/// One page. The text after the options in `--help` becomes sections of the page.
fn page(command: &Command, parent: Option<&str>) -> io::Result<String> {
    let version = env!("CARGO_PKG_VERSION");
    let man = Man::new(command.clone()).source(format!("Portcullis {version}")).manual("Portcullis");
    let mut page = Vec::new();
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    man.render_options_section(&mut page)?;
    if command.has_subcommands() {
        man.render_subcommands_section(&mut page)?;
    }
    let mut rest = Roff::default();
    let after = command.get_after_long_help().or_else(|| command.get_after_help());
    after.into_iter().for_each(|text| sections(&mut rest, &text.to_string()));
    see_also(&mut rest, command, parent);
    rest.to_writer(&mut page)?;
    Ok(String::from_utf8_lossy(&page).into_owned())
}

/// Blocks that begin with a line such as `Exit codes:` become sections.
fn sections(page: &mut Roff, text: &str) {
    for line in text.lines() {
        match line.strip_suffix(':') {
            Some(heading) if !line.starts_with(' ') => {
                page.control("SH", [heading.to_uppercase().as_str()]);
            }
            _ if line.trim().is_empty() => {}
            _ => {
                page.control("br", []);
                page.text([roman(line.trim())]);
            }
        }
    }
}

fn see_also(page: &mut Roff, command: &Command, parent: Option<&str>) {
    let below = command.get_subcommands().filter(|below| !below.is_hide_set()).map(title);
    let names: Vec<String> = parent.map(str::to_owned).into_iter().chain(below).collect();
    if names.is_empty() {
        return;
    }
    page.control("SH", ["SEE ALSO"]);
    let last = names.len().saturating_sub(1);
    for (place, name) in names.into_iter().enumerate() {
        let end = if place == last { "" } else { "," };
        page.text([bold(name), roman(format!("({SECTION}){end}"))]);
    }
}
