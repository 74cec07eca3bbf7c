//! Mistakes in the governors' texts, with their places.

use std::fmt;

use portcullis_authz::Mistake;
use toml::de::{DeTable, DeValue};

/// One mistake in a file of a bundle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// File in the bundle.
    pub file: String,
    /// Line, counted from one, where it is known.
    pub line: Option<usize>,
    /// Key such as `node[2].chip_id`; empty if the mistake is not at a key.
    pub key: String,
    /// The mistake.
    pub what: String,
    /// The remedy.
    pub hint: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        let key = if self.key.is_empty() { String::new() } else { format!(" {}:", self.key) };
        write!(f, ":{key} {}", self.what)
    }
}

impl From<Mistake> for Finding {
    fn from(mistake: Mistake) -> Self {
        let Mistake { file, line, what, hint } = mistake;
        Self { file, line, key: String::new(), what, hint }
    }
}

impl Finding {
    /// The TOML parser's error, at its place.
    pub(crate) fn toml(file: &str, text: &str, error: &toml::de::Error) -> Self {
        let place = error.span();
        let written = place.as_ref().and_then(|span| text.get(span.clone())).unwrap_or_default();
        // TOML has its own type for times, which the parser calls a map.
        let time = written.parse::<toml::value::Datetime>().is_ok();
        let (what, hint) = if time {
            ("a time without quotes".to_owned(), format!("write it in quotes: \"{written}\""))
        } else {
            let hint = "docs/policy.md lists every key; what is not listed there is refused";
            (error.message().replace('\n', "; "), hint.to_owned())
        };
        let line = place.map(|span| line_of(text, span.start));
        Self { file: file.to_owned(), line, key: String::new(), what, hint }
    }

    /// Fills in the line of the key.
    pub(crate) fn locate(&mut self, text: &str) {
        if self.line.is_none() && !self.key.is_empty() {
            self.line = locate(text, &self.key);
        }
    }
}

fn line_of(text: &str, offset: usize) -> usize {
    text.as_bytes().iter().take(offset).filter(|byte| **byte == b'\n').count().saturating_add(1)
}

/// The line of a key such as `node[2].chip_id`, or of the longest part of it that
/// exists.
fn locate(text: &str, key: &str) -> Option<usize> {
    let table = DeTable::parse(text).ok()?;
    let mut span = None;
    let mut here: Option<&DeValue<'_>> = None;
    for (depth, segment) in key.split('.').enumerate() {
        let (name, index) = match segment.strip_suffix(']').and_then(|s| s.split_once('[')) {
            Some((name, index)) => (name, index.parse::<usize>().ok()),
            None => (segment, None),
        };
        let inside = if depth == 0 { Some(table.get_ref()) } else { here.and_then(DeValue::as_table) };
        let Some((found, value)) = inside.and_then(|table| table.get_key_value(name)) else { break };
        span = Some(found.span());
        here = Some(value.get_ref());
        if let Some(element) = index.and_then(|index| value.get_ref().as_array()?.get(index)) {
            span = Some(element.span());
            here = Some(element.get_ref());
        }
    }
    span.map(|span| line_of(text, span.start))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_found_or_the_table_that_lacks_it() {
        let text =
            "a = 1\n[limits]\nlease = 2\n\n[[node]]\nname = \"x\"\n[[node]]\nname = \"y\"\ntags = [\"p\",\n \"q\"]\n";
        for (key, line) in [
            ("a", 1),
            ("limits.lease", 3),
            ("limits.gone", 2),
            ("node[1].name", 8),
            ("node[1].gone", 7),
            ("node[1].tags[1]", 10),
        ] {
            assert_eq!(locate(text, key), Some(line), "{key}");
        }
        assert_eq!(locate(text, "gone"), None);
    }
}
