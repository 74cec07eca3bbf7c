//! The gate: no permit, no execution.
//!
//! | step | file |
//! |---|---|
//! | the program's bytes, sealed and hashed | `program` |
//! | pid 1 of the program's namespace, with its own deadline | `init` |
//! | which signals the program has already | `delivery` |
//! | what gate and init tell each other | `control` |
//! | reaching init | `reach` |
//! | signals to the gate | `signals` |
//! | waiting for descriptors | `descriptor` |
//! | waking up in time, also after sleep | `alarm` |
//! | asking again and again, beside everything else | `errand` |
//! | what the answers mean for a running program | `running` |
//! | reports for the log | `reports` |
//! | how it ended | `ended` |
//! | permit, start, renew, kill | `supervise` |
//!
//! The program stays in the cgroup in which the gate was started, with its limits.
//! It is killed as a whole by its PID namespace, and leaves nothing behind.

mod alarm;
mod control;
mod delivery;
mod descriptor;
mod ended;
mod errand;
mod init;
mod program;
mod reach;
mod reports;
mod running;
mod signals;
mod supervise;

pub use ended::{Ended, Stage};
pub use program::{Program, ProgramError};
pub use supervise::{GateOptions, run};
