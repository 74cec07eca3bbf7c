//! Why an object was refused.

use std::fmt;

use portcullis_lineage::ReceiptError;
use portcullis_wire::Error;

use crate::statement::Kind;

/// A refusal, with what was found and what was required.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PermitError {
    /// Malformed CBOR or COSE.
    Malformed(Error),
    /// Another kind of statement.
    Kind {
        /// The required kind.
        required: Kind,
    },
    /// Another algorithm than that of the required key.
    Algorithm {
        /// COSE algorithm of the object.
        found: i64,
        /// COSE algorithm of the key.
        required: i64,
    },
    /// Signed by another key than the required one.
    Key,
    /// The signature does not verify.
    Signature,
    /// No acceptable receipt.
    Receipt(ReceiptError),
    /// A claim that is not what the gate requires.
    Claim {
        /// Stable check id.
        check: &'static str,
        /// What the permit says.
        found: String,
        /// What the gate requires.
        required: String,
    },
    /// A status list index beyond the list.
    StatusRange {
        /// The index.
        index: u64,
        /// Entries in the list.
        size: u64,
    },
    /// Signing failed.
    Signing,
}

impl PermitError {
    /// The stable id of the check that refused.
    #[must_use]
    pub const fn check(&self) -> &'static str {
        match self {
            Self::Malformed(_) => "permit.form",
            Self::Kind { .. } => "permit.typ",
            Self::Algorithm { .. } => "permit.algorithm",
            Self::Key => "permit.key",
            Self::Signature => "permit.signature",
            Self::Receipt(ReceiptError::Absent) => "permit.receipt",
            Self::Receipt(ReceiptError::Inconsistent { .. }) => "permit.receipt.consistency",
            Self::Receipt(_) => "permit.receipt.proof",
            Self::Claim { check, .. } => check,
            Self::StatusRange { .. } => "permit.status.range",
            Self::Signing => "internal.signing",
        }
    }
}

impl fmt::Display for PermitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed(error) => error.fmt(f),
            Self::Kind { required } => write!(f, "not a {required}"),
            Self::Algorithm { found, required } => {
                write!(f, "signed under COSE algorithm {found}, required {required}")
            }
            Self::Key => f.write_str("signed by another key"),
            Self::Signature => f.write_str("signature does not verify"),
            Self::Receipt(error) => error.fmt(f),
            Self::Claim { check, found, required } => write!(f, "{check}: found {found}, required {required}"),
            Self::StatusRange { index, size } => write!(f, "status index {index} in a list of {size}"),
            Self::Signing => f.write_str("signing failed"),
        }
    }
}

impl std::error::Error for PermitError {}

impl From<Error> for PermitError {
    fn from(error: Error) -> Self {
        Self::Malformed(error)
    }
}

impl From<ReceiptError> for PermitError {
    fn from(error: ReceiptError) -> Self {
        Self::Receipt(error)
    }
}
