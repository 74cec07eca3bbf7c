//! TCG event logs (PC Client Platform Firmware Profile, §10): what firmware and
//! boot loaders say that they measured.
//!
//! A log proves nothing by itself. Replayed, it must yield exactly the quoted
//! PCRs; then its *digests* are as good as the quote. Its event *data* is not
//! looked at here at all.

mod parse;
mod replay;

pub use parse::{Event, EventLog, EventLogError, Format, MAX_LENGTH};
pub use replay::{ReplayError, Replayed};
