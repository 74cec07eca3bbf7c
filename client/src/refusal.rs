//! Why a node goes no further, with the exit code that says so.

use std::fmt;

use portcullis_attest::check::Checks;
use portcullis_cli::rfc3339;
use portcullis_firmware_policy::{Reader, remedy};
use portcullis_permit::{Permit, PermitError, PermitWarning, Refusal};

/// Why there is no permit, or none any more.
#[derive(Debug)]
pub enum ClientError {
    /// A check of this node did not pass, or the authority denied.
    Denied(Vec<Refusal>),
    /// The authority cannot be reached, or does not answer as it should.
    Unreachable(String),
    /// This node itself failed.
    Own(anyhow::Error),
}

impl ClientError {
    /// One refused check of this node.
    #[must_use]
    pub fn check(id: &str, found: impl fmt::Display, required: impl fmt::Display) -> Self {
        Self::read_by(Reader::Node, id, found, required)
    }

    /// One refused check, read by somebody who can do something about it.
    pub(crate) fn read_by(reader: Reader, id: &str, found: impl fmt::Display, required: impl fmt::Display) -> Self {
        Self::Denied(vec![Refusal {
            check: id.to_owned(),
            found: Some(found.to_string()),
            required: Some(required.to_string()),
            remedy: Some(remedy(id, reader).to_owned()),
        }])
    }

    /// All refused checks of a verification.
    #[must_use]
    pub fn checks(checks: &Checks) -> Self {
        let refusal = |check: &portcullis_attest::check::Check| Refusal {
            check: check.id.to_string(),
            found: check.found.clone(),
            required: check.required.clone(),
            remedy: Some(remedy(&check.id, Reader::Node).to_owned()),
        };
        Self::Denied(checks.refused().map(refusal).collect())
    }

    /// The id of the first check that refused.
    #[must_use]
    pub fn first_check(&self) -> Option<&str> {
        match self {
            Self::Denied(refusals) => refusals.first().map(|refusal| refusal.check.as_str()),
            Self::Unreachable(_) | Self::Own(_) => None,
        }
    }
}

impl fmt::Display for ClientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable(why) => write!(f, "authority unreachable: {why}"),
            Self::Own(error) => write!(f, "{error:#}"),
            Self::Denied(refusals) => {
                f.write_str("denied")?;
                for r in refusals {
                    write!(f, "\n  {}", r.check)?;
                    for (name, text) in [("found", &r.found), ("required", &r.required), ("remedy", &r.remedy)] {
                        if let Some(text) = text {
                            write!(f, "\n      {name:<9}{text}")?;
                        }
                    }
                }
                Ok(())
            }
        }
    }
}

impl std::error::Error for ClientError {}

impl From<anyhow::Error> for ClientError {
    fn from(error: anyhow::Error) -> Self {
        Self::Own(error)
    }
}

impl From<std::io::Error> for ClientError {
    fn from(error: std::io::Error) -> Self {
        Self::Own(error.into())
    }
}

impl From<portcullis_attester::AttesterError> for ClientError {
    fn from(error: portcullis_attester::AttesterError) -> Self {
        Self::Own(error.into())
    }
}

/// A permit, denial or status list that does not verify is a denial.
impl From<PermitError> for ClientError {
    fn from(error: PermitError) -> Self {
        match &error {
            PermitError::Claim { check, found, required } => Self::check(check, found, required),
            other => Self::check(other.check(), other, "a statement of the endorsed authority"),
        }
    }
}

/// What a permit's warning says to people.
pub(crate) fn warning(warning: &PermitWarning) -> String {
    format!("{} denies from {} on", warning.check, rfc3339(warning.deny_from))
}

/// Tells whoever runs this node what will be denied, while there is time.
pub(crate) fn warn(permit: &Permit) {
    for told in &permit.warnings {
        eprintln!("portcullis: warning: {}: {}", warning(told), remedy(&told.check, Reader::Node));
    }
}
