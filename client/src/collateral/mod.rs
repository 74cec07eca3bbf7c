//! Certificates and revocation lists from AMD's Key Distribution Service:
//! fetched with patience, kept, and carried to where there is no network.

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
