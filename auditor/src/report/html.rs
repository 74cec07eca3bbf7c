//! The report as a page without scripts, images or external resources.

use std::fmt::Write as _;

use portcullis_attest::check::{Check, Outcome, Verdict};
use portcullis_cli::rfc3339;
use portcullis_firmware_policy::{Reader, remedy};

use super::Report;
use super::topics::topics;

const STYLE: &str = "
:root { color-scheme: light dark; --pass: #1a7f37; --fail: #b42318; --missing: #9a6700; --line: #d0d7de; --soft: #656d76; }
@media (prefers-color-scheme: dark) { :root { --pass: #3fb950; --fail: #f85149; --missing: #d29922; --line: #30363d; --soft: #8d96a0; } }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.4rem; margin-bottom: 0; overflow-wrap: anywhere; } h2 { font-size: 1.05rem; margin: 1.8rem 0 .3rem; }
p { margin: .3rem 0; } .soft { color: var(--soft); }
.verdict { border: 2px solid; border-radius: .5rem; padding: .7rem 1rem; margin: 1.2rem 0; font-size: 1.15rem; }
.pass { color: var(--pass); } .fail { color: var(--fail); } .missing, .undetermined { color: var(--missing); }
table { border-collapse: collapse; width: 100%; font-size: .9rem; table-layout: fixed; }
th, td { text-align: left; vertical-align: top; padding: .3rem .6rem .3rem 0; border-top: 1px solid var(--line); overflow-wrap: anywhere; }
th { font-weight: 600; } code { font: .85em ui-monospace, monospace; }
col.mark { width: 5.2rem; } col.id { width: 14rem; } col.name { width: 12rem; }
@media (max-width: 40rem) {
body { margin: 1rem auto; }
table, tbody, tr, th, td { display: block; width: auto; } colgroup { display: none; }
tr { border-top: 1px solid var(--line); padding: .4rem 0; } th, td { border: 0; padding: 0; }
td:not(:only-of-type):not(:last-child) { display: inline; margin-right: .5rem; }
}
@media print { body { max-width: none; margin: 0; } h2 { break-after: avoid; } tr { break-inside: avoid; } }
";

/// The page.
pub(super) fn page(report: &Report) -> String {
    let title = escape(&report.title);
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>{title}</title><style>{STYLE}</style></head><body>\n<h1>{title}</h1>\n"
    );
    if let Some(at) = report.at {
        add(&mut page, format_args!("<p class=\"soft\">as of {}</p>\n", rfc3339(at)));
    }
    verdict(&mut page, report);
    for topic in topics(&report.checks) {
        let outcome = topic.outcome();
        let class = outcome.as_str();
        add(
            &mut page,
            format_args!("<h2>{} <span class=\"{class}\">{}</span></h2>\n", escape(topic.title), word(outcome)),
        );
        if let Some(meaning) = topic.meaning {
            add(&mut page, format_args!("<p>{}</p>\n", escape(meaning)));
        }
        page.push_str("<table><colgroup><col class=\"mark\"><col class=\"id\"><col></colgroup>\n");
        topic.checks.iter().for_each(|check| row(&mut page, check));
        page.push_str("</table>\n");
    }
    for facts in &report.facts {
        add(&mut page, format_args!("<h2>{}</h2>\n", escape(facts.title)));
        pairs(&mut page, facts.rows.iter().map(|(name, value)| (name.as_str(), value.as_str())));
    }
    page.push_str("<h2>Inputs</h2>\n");
    let inputs = report.inputs.list();
    pairs(&mut page, inputs.iter().map(|input| (input.path.as_str(), input.description.as_str())));
    if !report.beyond.is_empty() {
        page.push_str("<h2>What was not checked</h2>\n<ul>\n");
        report.beyond.iter().for_each(|sentence| add(&mut page, format_args!("<li>{}</li>\n", escape(sentence))));
        page.push_str("</ul>\n");
    }
    let version = env!("CARGO_PKG_VERSION");
    add(
        &mut page,
        format_args!("<p class=\"soft\">portcullis-audit {version}, {}</p>\n</body></html>\n", report.schema),
    );
    page
}

fn verdict(page: &mut String, report: &Report) {
    let verdict = report.checks.verdict();
    let sentence = match verdict {
        Verdict::Pass => "Every check passed.",
        Verdict::Fail => "At least one check failed: do not rely on this evidence.",
        Verdict::Undetermined => "Nothing failed, but something is missing, so nothing can be concluded yet.",
    };
    let word = verdict.as_str();
    add(page, format_args!("<p class=\"verdict {word}\"><strong>{word}</strong> — {sentence}"));
    if !report.note.is_empty() {
        add(page, format_args!(" ({})", escape(report.note)));
    }
    page.push_str("</p>\n");
}

const fn word(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Pass => "✓",
        Outcome::Fail => "✗ failed",
        Outcome::Missing => "? missing",
    }
}

fn row(page: &mut String, check: &Check) {
    let class = check.outcome.as_str();
    add(page, format_args!("<tr><td class=\"{class}\">{class}</td><td><code>{}</code></td><td>", escape(&check.id)));
    page.push_str(&escape(&check.detail));
    if check.outcome != Outcome::Pass {
        for (name, text) in [("found", &check.found), ("required", &check.required)] {
            let text = escape(text.as_deref().unwrap_or("nothing"));
            add(page, format_args!("<br><span class=\"soft\">{name}</span> <code>{text}</code>"));
        }
        add(
            page,
            format_args!("<br><span class=\"soft\">remedy</span> {}", escape(remedy(&check.id, Reader::Auditor))),
        );
    }
    page.push_str("</td></tr>\n");
}

fn pairs<'a>(page: &mut String, rows: impl Iterator<Item = (&'a str, &'a str)>) {
    page.push_str("<table><colgroup><col class=\"name\"><col></colgroup>\n");
    for (name, value) in rows {
        add(page, format_args!("<tr><th>{}</th><td><code>{}</code></td></tr>\n", escape(name), escape(value)));
    }
    page.push_str("</table>\n");
}

/// Writing to a string does not fail.
fn add(page: &mut String, text: std::fmt::Arguments<'_>) {
    let _never_fails = page.write_fmt(text);
}

/// Escapes text from any source for HTML.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            // Control characters and characters that change the direction of text.
            c if c.is_control() || ('\u{202a}'..='\u{202e}').contains(&c) || ('\u{2066}'..='\u{2069}').contains(&c) => {
                out.push('\u{fffd}');
            }
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::{STYLE, escape};

    /// A phone is 400 pixels wide: columns of a fixed width leave none for the text.
    #[test]
    fn on_a_narrow_screen_the_cells_of_a_row_stand_below_each_other() {
        let narrow = STYLE.split("@media (max-width: 40rem)").nth(1).unwrap();
        assert!(
            narrow.contains("table, tbody, tr, th, td { display: block; width: auto; } colgroup { display: none; }")
        );
        assert!(STYLE.matches("overflow-wrap: anywhere").count() >= 2, "long digests wrap, in titles and in cells");
    }

    #[test]
    fn nothing_in_a_page_is_markup_that_somebody_else_wrote() {
        assert_eq!(escape("<script>'\"&\u{7}\u{202e}"), "&lt;script&gt;&#39;&quot;&amp;\u{fffd}\u{fffd}");
    }
}
