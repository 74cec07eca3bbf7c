//! Certificates and revocation lists from AMD's Key Distribution Service: fetch with
//! retries, store, and export to machines without network access.

mod cli;
mod error;
mod fetch;
mod proxy;
mod transport;
mod wanted;

pub(crate) use cli::{Action, run};
pub use error::FetchError;
pub use fetch::{AMD, Fetcher, Patience};
pub use proxy::Proxy;
