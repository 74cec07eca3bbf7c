//! Emulated confidential machines, and attacks on Portcullis with them.
//!
//! A lab machine has a secure processor that signs true reports under a root of
//! the lab's own, and swtpm as its TPM. Trust in it needs a bundle that names
//! its root: production bundles name AMD.

mod azure;
pub mod bench;
pub mod boot;
pub mod busy;
pub mod chain;
pub mod crash;
pub mod daemon;
pub mod deployment;
pub mod kds;
pub mod machine;
pub mod processor;
pub mod raw;
pub mod root;
pub mod scene;
pub mod story;
pub mod tpm;
pub mod tunnel;
pub mod up;
pub mod user_space;
pub mod witness;
mod x509;

pub use daemon::Daemon;
pub use deployment::{Deployment, Options};
pub use machine::{Booted, Description, LabPlatform, Vtpm};
pub use root::LabRoot;
pub use witness::Witness;
