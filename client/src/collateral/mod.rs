//! Collateral from AMD's Key Distribution Service: fetched patiently, kept for
//! good, carried to where there is no network.

mod cli;
mod fetch;

pub(crate) use cli::{Action, run};
pub use fetch::{AMD, FetchError, Fetcher};
