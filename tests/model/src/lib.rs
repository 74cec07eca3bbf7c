//! A second decider, written to be read: loops over lists, no caches, no indices, no
//! evidence. It gets facts and returns the expected result.
//!
//! ```text
//! Case --naive::decide--> Verdict                     what must follow
//! Case --Stage::play--> true evidence --the real decider--> Verdict
//! ```
//!
//! If the two differ, one of them is wrong. [`log`] is the naive model of the log.

pub mod case;
pub mod generate;
pub mod log;
pub mod naive;
pub mod record;
pub mod stage;

pub use case::{Bundle, Case, Told, Verdict};
pub use stage::Stage;
