//! The gate: no permit, no execution.
//!
//! | step | file |
//! |---|---|
//! | the program's bytes, sealed and hashed | `program` |
//! | pid 1 of the program's namespace, with its own deadline | `init` |
//! | signals that the program has already received | `delivery` |
//! | messages between gate and init | `control` |
//! | connection to init | `reach` |
//! | signals to the gate | `signals` |
//! | waiting on file descriptors | `descriptor` |
//! | timer that works across sleep | `alarm` |
//! | recurring requests in the background | `errand` |
//! | reaction of a running program to the answers | `running` |
//! | reports for the log | `reports` |
//! | the result | `ended` |
//! | permit, start, renew, kill | `supervise` |
//!
//! The program stays in the cgroup in which the gate was started, with its limits. The
//! end of its PID namespace kills every process of the program.

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
