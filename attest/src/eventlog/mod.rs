//! TCG event logs (PC Client Platform Firmware Profile, §10): what firmware and
//! boot loaders say that they measured.
//!
//! A log proves nothing by itself. Replayed, it must yield exactly the quoted
//! PCRs; then its *digests* are as good as the quote. Its event *data* counts
//! where it hashes to its digest ([`BootClaims`]). User space keeps a log of its
//! own, which is replayed behind that of the firmware.

mod cel;
mod claims;
mod measurements;
mod parse;
mod replay;
mod variable;
mod verify;

pub use cel::NvRecord;
pub use claims::{BootClaims, NotProven, SecureBoot};
pub use measurements::Measurement;
pub use parse::{Event, EventLog, EventLogError, Format, MAX_LENGTH};
pub use replay::{ReplayError, Replayed};
pub use variable::SignatureDatabase;
pub use verify::{Unlogged, UnloggedPcr, VerifiedLog, verify, verify_parsed};
