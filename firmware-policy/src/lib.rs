//! Policy: the trust settings of a deployment, and the decision on one request.
//!
//! ```text
//! .pcb --VerifiedBundle::verify--> bundle
//! VerifiedEvidence --appraise--> AttestationResult
//! AttestationResult + request --decide--> Decision::{Authorized, Denied}
//! ```
//!
//! Everything here is pure: no clock, network or randomness. The client and the
//! appliance use the same code to check each other.
//!
//! ```
//! use portcullis_firmware_policy::{Files, pack, unpack};
//!
//! let files = Files::from([("policy.cedar".to_owned(), b"permit(principal, action, resource);".to_vec())]);
//! assert_eq!(unpack(&pack(&files)?)?, files);
//! # Ok::<(), portcullis_firmware_policy::BundleError>(())
//! ```
//!
//! Not in this crate: verifying signatures of evidence (`portcullis-attest`), and
//! carrying out a decision (`portcullis-appliance`).

mod appraise;
mod authority;
mod bundle;
mod decide;
pub mod document;
pub mod ear;
mod exchange;
mod finding;
mod history;
mod nonce;
pub mod policy;
mod remedy;
mod revocations;
mod time;

pub use appraise::{Activation, Appraisal, AttestationResult, Identity, Warning, appraise, appraise_report, identify};
pub use authority::{AuthorityAnswer, Seen, VerifiedAuthority, verify_authority};
pub use bundle::{
    Advice, BundleError, CONTENT_TYPE, Content, Files, MAX_LENGTH, References, VerifiedBundle, documents, pack, unpack,
};
pub use decide::{Decision, Facts, ParentState, RecordedFacts, Rehearsal, SeenState, decide, rehearse};
pub use exchange::{
    ActivateRequest, AttestRequest, AttestResponse, MAX_ANSWER, MAX_CHALLENGE, decode_credential, encode_credential,
};
pub use finding::Finding;
pub use history::{History, HistoryError, PastDecision, Replayed};
pub use nonce::{LIFETIME as NONCE_LIFETIME, NoncePreimage};
pub use policy::Policy;
pub use portcullis_authz::{SCHEMA, SCHEMA_FILE};
pub use remedy::{CATALOGUE, Entry, Reader, entry, remedy};
pub use revocations::{Retired, Revocations};
