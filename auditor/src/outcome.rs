//! Checks as people and scripts read them.

use std::io::{IsTerminal, stdout};

use portcullis_attest::check::{Check, Checks, Outcome, Verdict};
use portcullis_firmware_policy::remedy;
use serde_json::{Map, Value, json};

/// The exit code of a verdict.
pub(crate) const fn exit_code(verdict: Verdict) -> u8 {
    match verdict {
        Verdict::Pass => 0,
        Verdict::Fail => 1,
        Verdict::Undetermined => 3,
    }
}

/// The members that every report has.
pub(crate) fn json_report(schema: &str, checks: &Checks) -> Map<String, Value> {
    let missing = checks.list().iter().filter(|c| c.outcome == Outcome::Missing);
    let missing: Vec<&str> = missing.map(|c| c.id.as_ref()).collect();
    let list: Vec<Value> = checks.list().iter().map(json_check).collect();
    let mut report = Map::new();
    report.insert("schema".into(), schema.into());
    report.insert("verdict".into(), checks.verdict().as_str().into());
    report.insert("missing".into(), json!(missing));
    report.insert("checks".into(), Value::Array(list));
    report
}

fn json_check(check: &Check) -> Value {
    json!({
        "id": check.id,
        "outcome": check.outcome.as_str(),
        "found": check.found,
        "required": check.required,
        "detail": check.detail,
    })
}

/// Prints checks for people: one line each, and for what did not pass what was
/// found, what is required, and what to do.
pub(crate) fn print_checks(checks: &Checks) {
    let colour = stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let paint = |code: &str, text: &str| if colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() };
    for check in checks.list() {
        let (mark, word) = match check.outcome {
            Outcome::Pass => (paint("32", "✓"), "pass"),
            Outcome::Fail => (paint("31", "✗"), "FAIL"),
            Outcome::Missing => (paint("33", "?"), "missing"),
        };
        println!("{mark} {word:<8}{:<26}{}", check.id, check.detail);
        if check.outcome != Outcome::Pass {
            for (name, text) in [("found", &check.found), ("required", &check.required)] {
                println!("             {name:<10}{}", text.as_deref().unwrap_or("nothing"));
            }
            println!("             {:<10}{}", "remedy", remedy(&check.id));
        }
    }
}

/// The last line for people.
pub(crate) fn print_verdict(verdict: Verdict, note: &str) {
    println!("\nverdict: {}{}{note}", verdict.as_str(), if note.is_empty() { "" } else { "; " });
}
