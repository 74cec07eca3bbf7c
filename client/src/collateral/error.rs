//! Reasons why a certificate or a list could not be fetched, with remedies.

use std::fmt;

use hyper::StatusCode;

/// Why a fetch failed.
#[derive(Debug)]
pub enum FetchError {
    /// The base address is unusable: the address, and the reason.
    Address(String, String),
    /// The environment variable with this name holds an unusable proxy.
    Proxy(&'static str),
    /// A proxy or network on the way blocks the request.
    Blocked {
        /// The requested address.
        url: String,
        /// The reason.
        why: String,
    },
    /// The service refused permanently.
    Refused {
        /// The requested address.
        url: String,
        /// HTTP status.
        status: StatusCode,
    },
    /// The service, or a server in its place, redirects to another address.
    Redirect {
        /// The requested address.
        url: String,
        /// The target of the redirect.
        target: String,
    },
    /// The answer is a web page.
    WebPage {
        /// The requested address.
        url: String,
        /// Its title, formatted to be appended to a message.
        title: String,
    },
    /// The answer is not the requested document.
    Answer {
        /// The requested address.
        url: String,
        /// Description of the answer.
        what: String,
        /// The required kind of document.
        required: &'static str,
    },
    /// The service was unreachable or asked to retry later, and all attempts are used up.
    Unreachable {
        /// The requested address.
        url: String,
        /// Number of attempts.
        attempts: u32,
        /// Time limit for the whole fetch, seconds.
        limit: u64,
        /// The last failure.
        why: String,
    },
    /// A report whose certificate no service provides.
    Report(&'static str),
}

impl FetchError {
    /// Exit code: 1 refused, 2 unusable answer or input, 4 unreachable.
    #[must_use]
    pub const fn exit_code(&self) -> u8 {
        match self {
            Self::Blocked { .. } | Self::Refused { .. } | Self::Redirect { .. } | Self::WebPage { .. } => 1,
            Self::Address(..) | Self::Proxy(_) | Self::Answer { .. } | Self::Report(_) => 2,
            Self::Unreachable { .. } => 4,
        }
    }
}

/// How to proceed without network access on this machine.
const ELSEWHERE: &str = "fetch where there is a network with `portcullis collateral fetch`, `export` there, and \
                         `portcullis collateral import` here";

impl fmt::Display for FetchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address, why) => write!(f, "{address}: {why}"),
            Self::Proxy(name) => {
                write!(f, "{name} names no proxy that can be used: http://HOST:PORT or https://HOST:PORT is required")
            }
            Self::Blocked { url, why } => write!(f, "{url}: {why}"),
            Self::Refused { url, status } if *status == StatusCode::NOT_FOUND && url.contains("SPL=") => write!(
                f,
                "{url}: status {status}: AMD has no certificate for this chip at these patch levels\n  \
                 remedy: is the product right? A report of version 2 does not name it; otherwise take the certificate \
                 from the host's certificate table"
            ),
            Self::Refused { url, status } => write!(f, "{url}: refused with status {status}"),
            Self::Redirect { url, target } => write!(
                f,
                "{url}: redirected to {target}, which is not followed\n  remedy: a login page or a proxy may stand \
                 between; if AMD's service moved, name it with --url"
            ),
            Self::WebPage { url, title } => write!(
                f,
                "{url}: a web page{title} came instead of a certificate or list\n  remedy: a login page (captive \
                 portal) or a proxy answers in AMD's place; sign in there, set HTTPS_PROXY, or {ELSEWHERE}"
            ),
            Self::Answer { url, what, required } => {
                write!(f, "{url}: {what} came, not {required}; nothing of it was kept")
            }
            Self::Unreachable { url, attempts, limit, why } => write!(
                f,
                "{url}: given up after {attempts} attempts (time limit {limit} s): {why}\n  remedy: look at the name \
                 service, the firewall and HTTPS_PROXY; allow more time with --timeout; or {ELSEWHERE}"
            ),
            Self::Report(why) => f.write_str(why),
        }
    }
}

impl std::error::Error for FetchError {}
