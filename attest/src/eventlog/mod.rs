//! TCG event logs (PC Client Platform Firmware Profile, §10): the measurements that
//! firmware and boot loaders claim.
//!
//! A log alone proves nothing. Replayed, it must yield exactly the quoted PCRs; then
//! its *digests* are as good as the quote. Event *data* count only if they hash to
//! their digest ([`BootClaims`]). User space has a separate log, which is replayed
//! after that of the firmware.

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
