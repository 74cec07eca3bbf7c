//! TCG event logs (PC Client Platform Firmware Profile, §10): what firmware and
//! boot loaders say that they measured.
//!
//! A log proves nothing by itself. Replayed, it must yield exactly the quoted
//! PCRs; then its *digests* are as good as the quote. Its event *data* counts
//! where it hashes to its digest ([`BootClaims`]).

mod cel;
mod claims;
mod parse;
mod replay;
mod variable;
mod verify;

pub use claims::{BootClaims, NotProven, SecureBoot};
pub use parse::{Event, EventLog, EventLogError, Format, MAX_LENGTH};
pub use replay::{ReplayError, Replayed};
pub use variable::SignatureDatabase;
pub use verify::{VerifiedLog, verify, verify_parsed};
