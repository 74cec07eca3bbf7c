//! Linux's Integrity Measurement Architecture: the list of files that a kernel
//! measured into PCR 10, or into others that its policy names, before it used them.
//!
//! ```text
//! bytes --Entries--> Entry by Entry --verify--> VerifiedList (how many of them the PCRs cover)
//! ```
//!
//! An entry's template hash is recomputed from its data, and the list must lead to the
//! quoted PCRs. The kernel continues to measure during a quote, so a list may be longer
//! than the PCRs; entries beyond them are not trusted.

mod allow;
mod ascii;
mod entry;
mod parse;
mod template;
mod verify;

pub use allow::{AllowError, AllowList, Refusal};
pub use entry::{Entry, FileDigest, FileName};
pub use parse::{Entries, ListError, MAX_LENGTH};
pub use template::{Custom, Field, Template};
pub use verify::{PCR, VerifiedList, pcrs, verify, verify_after};
