//! The node's side: a library for permits, the gate, and the CLI `portcullis`.
//!
//! ```text
//! Session::open   the authority attests itself; nothing is sent before
//! Session::permit this node attests itself; the answer is verified as a gate does
//! gate::run       the program runs under the permit, or not at all
//! ```
//!
//! ```
//! use portcullis_attester::RealPlatform;
//! use portcullis_client::run;
//!
//! let code = run(["portcullis", "run", "--config", "/nonexistent", "--", "/bin/true"], &RealPlatform);
//! assert_eq!(code, 125); // no configuration, no permit, no execution
//! ```
//!
//! What it does not check: the libraries of a dynamically linked program. A
//! permit must allow such a program explicitly.

mod cli;
mod clock;
pub mod collateral;
mod config;
mod devices;
mod dial;
mod events;
mod export;
pub mod gate;
mod http;
mod identity;
mod line;
mod mirror;
mod refusal;
mod runtime;
mod session;
mod state;
mod submit;
mod waiting;

pub use cli::run;
pub use config::{Config, GateConfig, Trust};
pub use devices::Devices;
pub use refusal::ClientError;
pub use session::{Ask, Session};
pub use state::{State, StateError};
