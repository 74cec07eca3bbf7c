//! TCP connections; each step has a time limit and an error message.

use std::time::Duration;

use tokio::net::{TcpStream, ToSocketAddrs, lookup_host};

use crate::waiting::within;

/// Least time for which each address of a host is tried.
const EACH: Duration = Duration::from_secs(2);

/// Connects to the first address of a host that answers. `name` is the target's name in
/// messages; `limit` is the longest wait for the name service, and for a connection.
///
/// # Errors
/// The step that failed.
pub(crate) async fn dial(target: impl ToSocketAddrs, name: &str, limit: Duration) -> Result<TcpStream, String> {
    let what = format!("looking up the name {name}");
    let found = within(limit, &what, lookup_host(target)).await?;
    let addresses: Vec<_> = found.map_err(|error| format!("{what}: {error}"))?.collect();
    let each = limit.checked_div(u32::try_from(addresses.len()).unwrap_or(1)).unwrap_or(limit).max(EACH.min(limit));
    let mut failure = format!("{what}: it has no address");
    for address in addresses {
        let what = format!("connecting to {address}");
        match within(each, &what, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => failure = format!("{what}: {error}"),
            Err(why) => failure = why,
        }
    }
    Err(failure)
}
