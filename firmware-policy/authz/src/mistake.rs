//! A mistake in a text, with its place.

use std::fmt;

use miette::Diagnostic;

/// A mistake in a policy or schema file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// The file.
    pub file: String,
    /// Line, counted from one, if it is known.
    pub line: Option<usize>,
    /// What is wrong.
    pub what: String,
    /// What to do.
    pub hint: String,
}

impl Mistake {
    /// A mistake that Cedar found, with its position and help text.
    pub(crate) fn found(file: &str, text: &str, error: &dyn Diagnostic, hint: &str) -> Self {
        let offset = error.labels().and_then(|mut labels| labels.next()).map(|label| label.offset());
        let help = error.help().map(|help| help.to_string()).filter(|help| !help.is_empty());
        Self {
            file: file.to_owned(),
            line: offset.map(|offset| line_of(text, offset)),
            what: error.to_string(),
            hint: help.unwrap_or_else(|| hint.to_owned()),
        }
    }

    /// A mistake that Portcullis found, at a byte offset of the file.
    pub(crate) fn ours(file: &str, line: Option<usize>, what: String, hint: &str) -> Self {
        Self { file: file.to_owned(), line, what, hint: hint.to_owned() }
    }
}

/// The line of a byte offset, counted from one.
fn line_of(text: &str, offset: usize) -> usize {
    let before = text.as_bytes().iter().take(offset);
    before.filter(|byte| **byte == b'\n').count().saturating_add(1)
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        write!(f, ": {}", self.what)
    }
}

impl std::error::Error for Mistake {}
