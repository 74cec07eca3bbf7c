//! Errors of a node, with their exit codes.

use std::fmt;
use std::io::Write;

use portcullis_attest::check::Checks;
use portcullis_cli::rfc3339;
use portcullis_firmware_policy::{Reader, remedy};
use portcullis_permit::{Permit, PermitError, PermitWarning, Refusal, Status};

/// Why there is no permit, or no longer one.
#[derive(Debug)]
pub enum ClientError {
    /// The authority denied or revoked, in a signed statement.
    Denied(Vec<Refusal>),
    /// A check of this node failed, so it has no usable answer.
    Refused(Vec<Refusal>),
    /// The authority cannot be reached, or its answer is invalid.
    Unreachable(String),
    /// This node itself failed.
    Own(anyhow::Error),
}

impl ClientError {
    /// The authority's status that a permit is no longer valid.
    pub(crate) fn withdrawn(status: Status) -> Self {
        let required = Some(Status::Valid.as_str().to_owned());
        let (check, found) = ("permit.revoked".to_owned(), Some(status.as_str().to_owned()));
        let remedy = Some(remedy(&check, Reader::Node).to_owned());
        Self::Denied(vec![Refusal { check, found, required, remedy }])
    }

    /// One refused check of this node.
    #[must_use]
    pub fn check(id: &str, found: impl fmt::Display, required: impl fmt::Display) -> Self {
        Self::read_by(Reader::Node, id, found, required)
    }

    /// One refused check, with the remedy for its reader.
    pub(crate) fn read_by(reader: Reader, id: &str, found: impl fmt::Display, required: impl fmt::Display) -> Self {
        Self::Refused(vec![Refusal {
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
        Self::Refused(checks.refused().map(refusal).collect())
    }

    /// The id of the first check that refused.
    #[must_use]
    pub fn first_check(&self) -> Option<&str> {
        match self {
            Self::Denied(refusals) | Self::Refused(refusals) => refusals.first().map(|refusal| refusal.check.as_str()),
            Self::Unreachable(_) | Self::Own(_) => None,
        }
    }

    /// Whether a new session may get another answer: the old one broke, or the request came
    /// too late in it.
    pub(crate) fn is_of_session(&self) -> bool {
        matches!(self, Self::Unreachable(_)) || self.is_late()
    }

    /// Whether the authority has decided against this node. All other errors can pass: a
    /// broken connection, an answer that does not verify, a full disk, a request that took
    /// too long to prepare.
    pub(crate) fn is_final(&self) -> bool {
        matches!(self, Self::Denied(_)) && !self.is_late()
    }

    /// Whether the denial is due to the time of the request, not to its contents.
    fn is_late(&self) -> bool {
        let late = ["request.statement", "request.nonce", "request.nonce.age"];
        matches!(self, Self::Denied(_)) && self.first_check().is_some_and(|check| late.contains(&check))
    }
}

impl fmt::Display for ClientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable(why) => write!(f, "authority unreachable: {why}"),
            Self::Own(error) => write!(f, "{error:#}"),
            Self::Denied(refusals) | Self::Refused(refusals) => {
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

/// Text of a permit's warning, for people.
pub(crate) fn warning(warning: &PermitWarning) -> String {
    format!("{} denies from {} on", warning.check, rfc3339(warning.deny_from))
}

/// Warnings for the operator of this node about coming denials.
pub(crate) fn warnings(permit: &Permit) -> impl Iterator<Item = String> {
    let text = |told: &PermitWarning| format!("warning: {}: {}", warning(told), remedy(&told.check, Reader::Node));
    permit.warnings.iter().map(text)
}

/// Prints a message to standard error from a separate thread. It neither waits for a
/// slow reader nor fails if the reader is gone.
pub(crate) fn aside(text: String) {
    tokio::task::spawn_blocking(move || complain(&text));
}

/// Writes a line to standard error; errors are ignored.
pub(crate) fn complain(text: &str) {
    let _read = writeln!(std::io::stderr(), "portcullis: {text}");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn denied(check: &str) -> ClientError {
        let refusal = Refusal { check: check.to_owned(), found: None, required: None, remedy: None };
        ClientError::Denied(vec![refusal])
    }

    #[test]
    fn only_the_authoritys_word_is_final() {
        assert!(denied("authz.forbid").is_final());
        assert!(ClientError::withdrawn(Status::Suspended).is_final());
        let passing = [
            denied("request.nonce"),
            denied("request.nonce.age"),
            denied("request.statement"),
            ClientError::check("authority.endorsement", "another key", "an endorsed authority"),
            ClientError::Unreachable("connection refused".into()),
            std::io::Error::from(std::io::ErrorKind::StorageFull).into(),
        ];
        for error in passing {
            assert!(!error.is_final(), "{error}");
        }
        assert!(denied("request.nonce").is_of_session() && !denied("authz.forbid").is_of_session());
    }
}
