//! The result of a check, and the list in which a verification records them.

use std::borrow::Cow;
use std::fmt;

/// A stable dotted id such as `snp.tcb.order` or `tpm.pcr.11`.
pub type CheckId = Cow<'static, str>;

/// The outcome of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The requirement holds.
    Pass,
    /// The requirement does not hold, or could not be evaluated.
    Fail,
    /// An input of the check was not supplied. The authority denies in this case.
    Missing,
}

impl Outcome {
    /// `pass`, `fail` or `missing`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Fail => "fail",
            Self::Missing => "missing",
        }
    }
}

/// One check: the required and the found value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// Stable dotted id, documented in `docs/checks.md`.
    pub id: CheckId,
    /// The outcome.
    pub outcome: Outcome,
    /// The value in the evidence.
    pub found: Option<String>,
    /// The required value.
    pub required: Option<String>,
    /// One line on the subject of the check.
    pub detail: Cow<'static, str>,
}

/// The verdict of a list of checks. Fail outranks missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Every check passed.
    Pass,
    /// At least one check failed.
    Fail,
    /// Nothing failed, but an input of a check is missing.
    Undetermined,
}

impl Verdict {
    /// `pass`, `fail` or `undetermined`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Fail => "fail",
            Self::Undetermined => "undetermined",
        }
    }
}

/// The checks that a list keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Keep {
    All,
    Refusals,
}

/// Checks in the order in which they ran.
#[derive(Clone, Debug)]
pub struct Checks {
    keep: Keep,
    list: Vec<Check>,
}

impl Checks {
    /// Keeps every check, for people and reports.
    #[must_use]
    pub const fn all() -> Self {
        Self { keep: Keep::All, list: Vec::new() }
    }

    /// Keeps only checks that did not pass, for the hot path. The same checks run.
    #[must_use]
    pub const fn refusals() -> Self {
        Self { keep: Keep::Refusals, list: Vec::new() }
    }

    /// An empty list with the same setting.
    #[must_use]
    pub const fn another(&self) -> Self {
        Self { keep: self.keep, list: Vec::new() }
    }

    /// Records whether a requirement holds, and returns it.
    pub fn require(
        &mut self,
        id: impl Into<CheckId>,
        holds: bool,
        found: impl FnOnce() -> String,
        required: impl FnOnce() -> String,
        detail: &'static str,
    ) -> bool {
        if !holds || self.keep == Keep::All {
            self.list.push(Check {
                id: id.into(),
                outcome: if holds { Outcome::Pass } else { Outcome::Fail },
                found: Some(found()),
                required: Some(required()),
                detail: detail.into(),
            });
        }
        holds
    }

    /// Records that two values are equal, and returns it.
    pub fn equal<T: PartialEq + fmt::Display>(
        &mut self,
        id: impl Into<CheckId>,
        found: &T,
        required: &T,
        detail: &'static str,
    ) -> bool {
        self.require(id, found == required, || found.to_string(), || required.to_string(), detail)
    }

    /// Records a step that yields a value or an error, and returns the value.
    pub fn step<T, E: fmt::Display>(
        &mut self,
        id: impl Into<CheckId>,
        result: Result<T, E>,
        required: &str,
        detail: &'static str,
    ) -> Option<T> {
        match result {
            Ok(value) => {
                self.require(id, true, || required.to_owned(), || required.to_owned(), detail);
                Some(value)
            }
            Err(error) => {
                self.require(id, false, || error.to_string(), || required.to_owned(), detail);
                None
            }
        }
    }

    /// Records that a check could not be made because its input was not supplied.
    pub fn missing(&mut self, id: impl Into<CheckId>, required: impl Into<String>, detail: &'static str) {
        self.record_missing(id.into(), None, required.into(), detail);
    }

    /// Records that a check could not be made, because the supplied input lacks a value
    /// that the check needs.
    pub fn lacking(
        &mut self,
        id: impl Into<CheckId>,
        found: impl Into<String>,
        required: impl Into<String>,
        detail: &'static str,
    ) {
        self.record_missing(id.into(), Some(found.into()), required.into(), detail);
    }

    fn record_missing(&mut self, id: CheckId, found: Option<String>, required: String, detail: &'static str) {
        let required = Some(required);
        self.list.push(Check { id, outcome: Outcome::Missing, found, required, detail: detail.into() });
    }

    /// Appends the checks of another list.
    pub fn extend(&mut self, other: &Self) {
        let keep = self.keep;
        self.list.extend(other.list.iter().filter(|c| keep == Keep::All || c.outcome != Outcome::Pass).cloned());
    }

    /// The recorded checks, in order.
    #[must_use]
    pub fn list(&self) -> &[Check] {
        &self.list
    }

    /// The checks that did not pass, failures before missing inputs.
    pub fn refused(&self) -> impl Iterator<Item = &Check> {
        let with = |outcome| self.list.iter().filter(move |c| c.outcome == outcome);
        with(Outcome::Fail).chain(with(Outcome::Missing))
    }

    /// The verdict of the list.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        match self.refused().next().map(|c| c.outcome) {
            None => Verdict::Pass,
            Some(Outcome::Missing) => Verdict::Undetermined,
            Some(_) => Verdict::Fail,
        }
    }

    /// Whether nothing failed and nothing is missing.
    #[must_use]
    pub fn passed(&self) -> bool {
        self.verdict() == Verdict::Pass
    }
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let none = "nothing";
        write!(
            f,
            "{}: found {}, required {}",
            self.id,
            self.found.as_deref().unwrap_or(none),
            self.required.as_deref().unwrap_or(none)
        )
    }
}
