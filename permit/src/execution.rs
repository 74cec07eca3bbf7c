//! What a gate reports of the programs that it ran.

use portcullis_wire::{Error, Fields, Sign1, bstr, decode, encode, map, or_null};

use crate::error::PermitError;
use crate::key::{PublicKey, SigningKey};
use crate::permit::PermitId;
use crate::statement::{self, Kind};

const MAX_REPORT: usize = 8 * 1024;

/// How far an execution has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExecutionStage {
    /// The program runs.
    Started,
    /// It ended by itself.
    Ended,
    /// The gate killed it.
    Killed,
    /// The kernel did not execute it: nothing ran.
    Failed,
}

impl ExecutionStage {
    const ALL: [Self; 4] = [Self::Started, Self::Ended, Self::Killed, Self::Failed];

    /// `started`, `ended`, `killed` or `failed`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Started => "started",
            Self::Ended => "ended",
            Self::Killed => "killed",
            Self::Failed => "failed",
        }
    }
}

/// A report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Execution {
    /// The permit that the program ran under last.
    pub permit: PermitId,
    /// State of the execution.
    pub stage: ExecutionStage,
    /// Exit code after the program ended; the gate's exit code if the execution failed.
    pub code: Option<u64>,
    /// Check id for which it was killed, or not executed.
    pub check: Option<String>,
    /// Milliseconds from the decision to kill until everything was dead.
    pub kill_milliseconds: Option<u64>,
    /// Unix seconds.
    pub time: u64,
}

impl Execution {
    /// Signs the report with the gate's key.
    ///
    /// # Errors
    /// [`PermitError::Signing`].
    pub fn sign(&self, key: &SigningKey, node: &str) -> Result<Vec<u8>, PermitError> {
        let payload = encode(&map([
            (1, bstr(self.permit.bytes())),
            (2, self.stage.name().into()),
            (3, or_null(self.code.map(Into::into))),
            (4, or_null(self.check.as_deref().map(Into::into))),
            (5, or_null(self.kill_milliseconds.map(Into::into))),
            (6, self.time.into()),
            (7, bstr(key.public().to_cose())),
        ]));
        statement::sign(Kind::Execution, key, node, "execution", &payload)
    }

    /// Verifies a report by the key that it carries, and returns the key:
    /// whether it is that of the permit's gate is for the caller to compare.
    ///
    /// # Errors
    /// [`PermitError`].
    pub fn verify(bytes: &[u8]) -> Result<(Self, PublicKey), PermitError> {
        let object = Sign1::parse(bytes, MAX_REPORT)?;
        let mut fields = Fields::of(decode(object.payload().unwrap_or_default(), MAX_REPORT)?)?;
        let stage = fields.text(2)?;
        let report = Self {
            permit: PermitId::from_bytes(fields.array(1)?),
            stage: ExecutionStage::ALL.into_iter().find(|s| s.name() == stage).ok_or(Error::WrongType(2))?,
            code: fields.maybe(3, Fields::uint)?,
            check: fields.maybe(4, Fields::text)?,
            kill_milliseconds: fields.maybe(5, Fields::uint)?,
            time: fields.uint(6)?,
        };
        let key = PublicKey::from_cose(&fields.bytes(7)?).map_err(|_| Error::WrongType(7))?;
        fields.finish()?;
        statement::verify_object(object, Kind::Execution, &key)?;
        Ok((report, key))
    }
}
