//! The commands of the tool.

mod bundle;
mod diff;
mod explain;
mod governors;
mod show;

pub(crate) use bundle::{Against, assemble, build, check, sign};
pub(crate) use diff::diff;
pub(crate) use explain::explain;
pub(crate) use governors::{Revoke, endorse, governance, keygen, revoke};
pub(crate) use show::show;
