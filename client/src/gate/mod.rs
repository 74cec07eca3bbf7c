//! The gate: no permit, no execution.
//!
//! | step | file |
//! |---|---|
//! | the program's bytes, sealed and hashed | `program` |
//! | pid 1 of the program's namespace, with its own deadline | `init` |
//! | what gate and init tell each other | `control` |
//! | reaching init, and passing signals on | `reach` |
//! | a cgroup, where there is one | `cgroup` |
//! | permit, start, renew, kill | `supervise` |

mod cgroup;
mod control;
mod init;
mod program;
mod reach;
mod supervise;

pub use program::{Program, ProgramError};
pub use supervise::{Ended, GateOptions, Stage, run};
