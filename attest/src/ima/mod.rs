//! Linux's Integrity Measurement Architecture: the list of files that a kernel
//! measured into PCR 10 before it used them.
//!
//! ```text
//! bytes --Entries--> Entry by Entry --verify--> VerifiedList (how many of them the PCR covers)
//! ```
//!
//! An entry's template hash is recomputed from its data, and the list must lead
//! to the quoted PCR. The kernel goes on measuring while somebody quotes, so a
//! list may be longer than the PCR; what lies beyond it is not believed.

mod allow;
mod parse;
mod verify;

pub use allow::{AllowError, AllowList};
pub use parse::{Entries, Entry, FileDigest, ListError, MAX_LENGTH, Template};
pub use verify::{PCR, VerifiedList, verify};
