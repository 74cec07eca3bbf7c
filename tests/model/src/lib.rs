//! A second decider, written to be read: loops over lists, no caches, no
//! indices, no evidence. It is told what is true and says what must follow.
//!
//! ```text
//! Case --naive::decide--> Verdict                     what must follow
//! Case --Stage::play--> true evidence --the real decider--> Verdict
//! ```
//!
//! Where the two differ, one of them is wrong. The log has its naive counterpart
//! in [`log`].

pub mod case;
pub mod generate;
pub mod log;
pub mod naive;
pub mod record;
pub mod stage;

pub use case::{Bundle, Case, Told, Verdict};
pub use stage::Stage;
