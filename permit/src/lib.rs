//! What Portcullis says on the wire: requests, permits, denials, status lists,
//! events, and the commands of governors.
//!
//! Every object is a COSE_Sign1 whose protected `typ` names what it is, signed
//! by a key that is good for that kind alone; a signature of one kind is never
//! taken for another.
//!
//! ```
//! use portcullis_permit::{Kind, SigningKey, Suite, statement};
//!
//! let key = SigningKey::generate(Suite::Classic)?;
//! let signed = statement::sign(Kind::Boot, &key, "authority", "boot", b"payload")?;
//! let read = statement::verify(&signed, Kind::Boot, key.public())?;
//! assert_eq!(read.payload(), b"payload");
//! assert!(statement::verify(&signed, Kind::Trip, key.public()).is_err());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! What this crate does not do: decide. It says what was asked and answered,
//! not whether the answer is right.

pub mod claims;
mod clock;
mod denial;
mod endorsement;
mod error;
mod event;
mod execution;
mod filekind;
mod governance;
mod key;
mod permit;
mod records;
mod request;
mod revocation;
pub mod statement;
mod status;
mod succession;
mod transparent;
mod witnessed;

pub use portcullis_lineage::{Checkpoint, ReceiptKey, VerifyingKey, WitnessKey};

pub use clock::{Clock, DEFAULT_SKEW, MAX_SKEW};
pub use denial::{Denial, Refusal};
pub use endorsement::{AuthorityStatement, Endorsement};
pub use error::PermitError;
pub use event::{Event, EventKind};
pub use execution::{Execution, ExecutionStage};
pub use filekind::FileKind;
pub use governance::{Governance, GovernanceError, Governor, Other, Quorum, Signatures};
pub use key::{KeyError, PublicKey, SigningKey, Suite};
pub use permit::{BootCounters, Constraints, DynamicLinking, Permit, PermitId, PermitWarning, Workload};
pub use records::{
    BootRecord, DenialCountRecord, GenesisRecord, PolicyRecord, RetentionRecord, SnapshotRecord, TripRecord, names,
    recorded_time,
};
pub use request::{PermitRequest, ReceivedRequest};
pub use revocation::{Revocation, RevocationTarget};
pub use statement::Kind;
pub use status::{Status, StatusList, StatusReference};
pub use succession::{Inherited, Passage, Predecessor, SuccessionRecord};
pub use transparent::{GateExpectation, PermitLife, TransparentPermit, VerifiedPermit};
pub use witnessed::{WITNESSED_LABEL, WitnessQuorum, Witnessed};
