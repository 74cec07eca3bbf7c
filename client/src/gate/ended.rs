//! The result of an execution, with the gate's exit code.

use std::fmt;
use std::io;
use std::time::Duration;

use portcullis_permit::PermitId;
use portcullis_sys::process::Step;

use super::control::Failure;
use super::program::ProgramError;
use crate::refusal::ClientError;

/// The stage that the gate reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// The program cannot be executed; nothing ran.
    Program,
    /// Attestation, request or verification failed; nothing ran.
    Permit,
    /// The program ran and ended without the gate's action.
    Ended,
    /// The program ran and the gate stopped it.
    Stopped,
}

impl Stage {
    /// `program`, `permit`, `ended` or `stopped`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Program => "program",
            Self::Permit => "permit",
            Self::Ended => "ended",
            Self::Stopped => "stopped",
        }
    }
}

/// The result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// The stage that the gate reached.
    pub stage: Stage,
    /// Exit code of the gate.
    pub code: u8,
    /// Check that refused or stopped.
    pub check: Option<String>,
    /// Message for people.
    pub message: String,
    /// The last permit in force.
    pub permit: Option<PermitId>,
    /// The permit under which the program was started: the first of its line.
    pub first_permit: Option<PermitId>,
    /// Renewals that succeeded.
    pub renewals: u64,
    /// Time from the decision to kill until every process was dead.
    pub time_to_kill: Option<Duration>,
}

impl Ended {
    pub(super) fn new(stage: Stage, code: u8, check: Option<&str>, message: impl fmt::Display) -> Self {
        Self {
            stage,
            code,
            check: check.map(str::to_owned),
            message: message.to_string(),
            permit: None,
            first_permit: None,
            renewals: 0,
            time_to_kill: None,
        }
    }

    /// The gate itself failed before anything ran.
    pub(super) fn own(error: impl fmt::Display) -> Self {
        Self::new(Stage::Program, 125, None, error)
    }

    /// No permit: 77 denied, 75 authority unreachable, 125 own failure.
    pub(super) fn without_permit(error: &ClientError) -> Self {
        let code = match error {
            ClientError::Denied(_) | ClientError::Refused(_) => 77,
            ClientError::Unreachable(_) => 75,
            ClientError::Own(_) => 125,
        };
        Self::new(Stage::Permit, code, error.first_check(), error)
    }

    /// A signal ended the gate before there was a permit.
    pub(super) fn before_permit(signal: i32) -> Self {
        let message = format!("ended by signal {signal} before there was a permit; nothing ran");
        Self::new(Stage::Permit, by_signal(signal), None, message)
    }

    /// The program exited.
    pub(super) fn exited(code: u64) -> Self {
        Self::new(Stage::Ended, u8::try_from(code).unwrap_or(255), None, format!("exit code {code}"))
    }

    /// A signal ended the program.
    pub(super) fn signalled(signal: u64) -> Self {
        let code = by_signal(i32::try_from(signal).unwrap_or(0));
        Self::new(Stage::Ended, code, None, format!("ended by signal {signal}"))
    }

    /// The kernel did not execute the program: 127 if a part of it is missing, otherwise
    /// 126, as for env(1).
    pub(super) fn not_executed(program: &str, failure: Failure<Step>) -> Self {
        let reason = failure.reason();
        if failure.what != Step::Execution {
            return Self::own(format!("{program} was not executed: {}: {reason}", failure.what.call()));
        }
        let (code, hint) = match reason.kind() {
            io::ErrorKind::NotFound => (127, ": its ELF interpreter is missing"),
            io::ErrorKind::PermissionDenied => (
                126,
                ": the program runs from sealed memory, which sysctl vm.memfd_noexec or a security module forbids here",
            ),
            _ => (126, ""),
        };
        let message = format!("{program}: the kernel did not execute it: {reason}{hint}");
        Self::new(Stage::Program, code, Some("program.execution"), message)
    }
}

impl From<ProgramError> for Ended {
    fn from(error: ProgramError) -> Self {
        let code = match error {
            ProgramError::NotFound(..) => 127,
            ProgramError::NotExecutable(..) => 126,
            ProgramError::Own(_) => 125,
        };
        Self::new(Stage::Program, code, None, error)
    }
}

fn by_signal(signal: i32) -> u8 {
    u8::try_from(signal.saturating_add(128)).unwrap_or(255)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_was_not_executed_is_named_with_the_reason() {
        let ended = |what, errno| Ended::not_executed("/bin/sleep", Failure { what, errno });
        let refused = ended(Step::Execution, 13);
        assert_eq!((refused.stage, refused.code), (Stage::Program, 126));
        assert_eq!(refused.check.as_deref(), Some("program.execution"));
        let said = "/bin/sleep: the kernel did not execute it: Permission denied (os error 13): ";
        assert!(refused.message.starts_with(said), "{}", refused.message);
        assert_eq!(ended(Step::Execution, 2).code, 127);
        let own = ended(Step::User, 11);
        assert_eq!((own.code, own.check), (125, None));
        assert!(own.message.starts_with("/bin/sleep was not executed: setresuid: "), "{}", own.message);
    }
}
