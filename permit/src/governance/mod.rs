//! Governors: m of n people whose signatures change what an authority does.

mod governor;
mod quorum;

use std::fmt;

use portcullis_wire::Error;
use portcullis_wire::hex::hex;

use crate::filekind::FileKind;

pub use governor::{Governance, Governor};
pub use quorum::Quorum;

/// Most governors.
const MAX_GOVERNORS: usize = 32;

/// Why a governed document was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GovernanceError {
    /// Malformed CBOR or COSE.
    Malformed(Error),
    /// A threshold of zero or above the number of governors, a governor twice,
    /// or too many.
    Set,
    /// An invalid governor name, or a name that another governor has.
    Name(String),
    /// A file of another kind than the governors' keys and threshold.
    File(FileKind),
    /// Not signed as this type of document.
    ContentType {
        /// The required type.
        required: &'static str,
    },
    /// Nobody signed.
    Unsigned,
    /// One governor signed twice.
    Twice,
    /// Fewer distinct governors signed than the threshold demands.
    Threshold {
        /// Governors with a valid signature, as they are shown.
        signers: Vec<String>,
        /// The threshold.
        required: usize,
        /// Signatures that do not count.
        others: Vec<Other>,
    },
    /// The signatures are for another document.
    OtherDocument,
    /// Signing failed.
    Signing,
}

impl fmt::Display for GovernanceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed(error) => error.fmt(f),
            Self::Set => f.write_str("not a set of distinct governors with a threshold that they can reach"),
            Self::Name(name) => {
                write!(f, "the name {name:?} is not 1 to 64 printable ASCII characters, or two governors have it")
            }
            Self::File(found) => {
                write!(
                    f,
                    "{found}; required the governors' keys and threshold, as portcullis-policy governance writes them"
                )
            }
            Self::ContentType { required } => write!(f, "not signed as {required}"),
            Self::Unsigned => f.write_str("nobody signed"),
            Self::Twice => f.write_str("one governor signed twice"),
            Self::Threshold { signers, required, others } => {
                match signers.as_slice() {
                    [] => write!(f, "signed by no governor, {required} needed")?,
                    some => write!(f, "signed by {} of {required} governors needed: {}", some.len(), some.join(", "))?,
                }
                others.iter().try_for_each(|other| write!(f, "; {other}"))
            }
            Self::OtherDocument => f.write_str("the signatures are for another document"),
            Self::Signing => f.write_str("signing failed"),
        }
    }
}

impl std::error::Error for GovernanceError {}

impl From<Error> for GovernanceError {
    fn from(error: Error) -> Self {
        Self::Malformed(error)
    }
}

/// Whose signatures a document has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signatures<'g> {
    /// Governors with a valid signature.
    pub governors: Vec<&'g Governor>,
    /// Other signatures. They do not count.
    pub others: Vec<Other>,
}

/// A signature that does not count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Other {
    /// Made by a key that belongs to no governor.
    Stranger {
        /// Thumbprint that the signature names.
        thumbprint: Vec<u8>,
    },
    /// It names a governor's key and does not verify.
    Invalid {
        /// The governor, as it is shown.
        governor: String,
    },
    /// Not a signature.
    Malformed,
}

impl fmt::Display for Other {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stranger { thumbprint } => {
                write!(f, "the signature by the key {} does not count: it is no governor's", hex(thumbprint))
            }
            Self::Invalid { governor } => {
                write!(
                    f,
                    "the signature in the name of {governor} does not verify: it is not by that key, or for another document"
                )
            }
            Self::Malformed => f.write_str("a signature is malformed"),
        }
    }
}
