//! `portcullisd`, the attested permit authority.
//!
//! ```text
//! init    keys made inside, sealed to TPM and chip; genesis; a request for endorsement
//! serve   attest self -> unseal -> check endorsement -> recover log -> serve -> watch
//! ```
//!
//! A request takes one path: session facts and nonce, then
//! [`portcullis_firmware_policy::decide`], then signature, log, receipt, answer.
//! If the authority fails one of its own checks, it trips: it removes the permit key,
//! and programs end when their leases expire.
//!
//! [`run`] is the whole program; the shipped binary calls it with the real
//! platform and file storage.
//!
//! ```
//! use portcullis_appliance::{file_storage, run};
//! use portcullis_attester::RealPlatform;
//!
//! let code = run(["portcullisd", "serve", "--config", "/nonexistent"], &RealPlatform, &file_storage);
//! assert_eq!(code, 2);
//! ```

mod anchor;
mod attestor;
mod authority;
mod cli;
mod clock;
mod config;
mod credential;
mod daemon;
mod doubts;
mod events;
mod genesis;
mod instance;
mod kept;
mod ledger;
mod metrics;
mod recover;
mod retention;
mod sealing;
mod selfcheck;
mod serve;
mod signer;
mod status;
mod strangers;
mod succession;
mod threads;
mod watch;
mod witnesses;

pub use cli::run;
pub use daemon::{OpenStorage, file_storage};
