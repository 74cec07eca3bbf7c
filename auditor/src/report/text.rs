//! The report on a terminal.

use std::borrow::Cow;
use std::io::{IsTerminal, stdout};

use portcullis_attest::check::{Check, Outcome, Verdict};
use portcullis_cli::{rfc3339, say};
use portcullis_firmware_policy::{Reader, remedy};

use super::Report;
use super::topics::topics;

/// Colour, if the output is a terminal.
struct Paint(bool);

impl Paint {
    fn mark(&self, outcome: Outcome) -> String {
        let (code, mark) = match outcome {
            Outcome::Pass => ("32", "✓"),
            Outcome::Fail => ("31", "✗"),
            Outcome::Missing => ("33", "?"),
        };
        if self.0 { format!("\x1b[{code}m{mark}\x1b[0m") } else { mark.to_owned() }
    }

    fn strong(&self, text: &str) -> String {
        if self.0 { format!("\x1b[1m{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// Prints everything, with the verdict last, where readers look first.
pub(super) fn print(report: &Report) {
    let paint = Paint(stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none());
    let at = report.at.map(|at| format!(" at {}", rfc3339(at))).unwrap_or_default();
    say!("{}{at}", paint.strong(&report.title));
    for topic in topics(&report.checks) {
        say!("\n{}", paint.strong(topic.title));
        topic.meaning.iter().for_each(|meaning| say!("  {meaning}"));
        topic.checks.iter().for_each(|check| print_check(check, &paint));
    }
    for facts in &report.facts {
        say!("\n{}", paint.strong(facts.title));
        let width = facts.rows.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
        facts.rows.iter().for_each(|(name, value)| say!("  {name:<width$}  {}", printable(value)));
    }
    if !report.beyond.is_empty() {
        say!("\n{}", paint.strong("Not checked"));
        report.beyond.iter().for_each(|sentence| say!("  {sentence}"));
    }
    let note = if report.note.is_empty() { String::new() } else { format!("; {}", report.note) };
    say!("\nverdict: {}{note}", paint.strong(report.checks.verdict().as_str()));
    if report.checks.verdict() == Verdict::Undetermined {
        say!("nothing failed, but the checks marked ? could not be made");
    }
}

/// Prints one line; for a check that did not pass, also the found value, the required
/// value and the remedy.
fn print_check(check: &Check, paint: &Paint) {
    let word = match check.outcome {
        Outcome::Pass => "pass",
        Outcome::Fail => "FAIL",
        Outcome::Missing => "missing",
    };
    say!("  {} {word:<8}{:<26}{}", paint.mark(check.outcome), check.id, check.detail);
    if check.outcome != Outcome::Pass {
        for (name, text) in [("found", &check.found), ("required", &check.required)] {
            say!("             {name:<10}{}", printable(text.as_deref().unwrap_or("nothing")));
        }
        say!("             {:<10}{}", "remedy", remedy(&check.id, Reader::Auditor));
    }
}

/// Untrusted text for a terminal: control sequences are shown escaped.
fn printable(text: &str) -> Cow<'_, str> {
    if text.chars().all(|c| !c.is_control()) {
        return text.into();
    }
    text.chars().map(|c| if c.is_control() { c.escape_default().to_string() } else { c.into() }).collect()
}

#[cfg(test)]
mod tests {
    use super::printable;

    #[test]
    fn text_of_others_does_not_steer_the_terminal() {
        assert_eq!(printable("root=/dev/vda1 é"), "root=/dev/vda1 é");
        assert_eq!(printable("a\u{1b}[31m\nb"), "a\\u{1b}[31m\\nb");
    }
}
