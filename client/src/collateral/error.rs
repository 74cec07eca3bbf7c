//! Why a certificate or a list did not come, and what to do about it.

use std::fmt;

use hyper::StatusCode;

/// Why nothing came.
#[derive(Debug)]
pub enum FetchError {
    /// The base address cannot be used, and why.
    Address(String, String),
    /// This environment variable names a proxy that cannot be used.
    Proxy(&'static str),
    /// Something on the way lets nothing through.
    Blocked {
        /// What was asked for.
        url: String,
        /// Why.
        why: String,
    },
    /// The service refused for good.
    Refused {
        /// What was asked for.
        url: String,
        /// HTTP status.
        status: StatusCode,
    },
    /// The service, or what answers in its place, sends elsewhere.
    Redirect {
        /// What was asked for.
        url: String,
        /// Where to.
        target: String,
    },
    /// A web page came instead.
    WebPage {
        /// What was asked for.
        url: String,
        /// Its title, ready to print behind other words.
        title: String,
    },
    /// Something else came.
    Answer {
        /// What was asked for.
        url: String,
        /// What came.
        what: String,
        /// What should have come.
        required: &'static str,
    },
    /// The service could not be reached, or said "later", once too often.
    Unreachable {
        /// What was asked for.
        url: String,
        /// How often.
        attempts: u32,
        /// Seconds for everything.
        limit: u64,
        /// The last failure.
        why: String,
    },
    /// A report whose certificate no service has.
    Report(&'static str),
}

impl FetchError {
    /// Exit code: 1 refused, 2 not what was asked for, 4 not reached.
    #[must_use]
    pub const fn exit_code(&self) -> u8 {
        match self {
            Self::Blocked { .. } | Self::Refused { .. } | Self::Redirect { .. } | Self::WebPage { .. } => 1,
            Self::Address(..) | Self::Proxy(_) | Self::Answer { .. } | Self::Report(_) => 2,
            Self::Unreachable { .. } => 4,
        }
    }
}

/// How to do without this machine's network.
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
