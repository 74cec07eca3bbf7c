//! The Key Distribution Service (KDS specification 57230): GET requests whose
//! answers prove themselves, since AMD signed them. TLS hides what is asked.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::header::RETRY_AFTER;
use hyper::{Request, StatusCode, Uri};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use portcullis_attest::snp::fields::SigningKey;
use portcullis_attest::snp::generation::Generation;
use portcullis_attest::snp::report::Report;
use portcullis_wire::hex::hex;

/// AMD's service.
pub const AMD: &str = "https://kdsintf.amd.com";
/// Largest answer, in bytes.
const MAX_ANSWER: usize = 256 * 1024;
/// Time for one request.
const PATIENCE: Duration = Duration::from_secs(30);
/// Attempts before giving up, and the longest pause between two.
const ATTEMPTS: u32 = 6;
const LONGEST: Duration = Duration::from_secs(120);

/// Why nothing came.
#[derive(Debug)]
pub enum FetchError {
    /// The base address is none: https, or http on this machine.
    Address(String),
    /// The service refused for good.
    Refused {
        /// What was asked for.
        path: String,
        /// HTTP status.
        status: u16,
    },
    /// The service could not be reached, or asked for patience, once too often.
    Unreachable {
        /// What was asked for.
        path: String,
        /// The last failure.
        why: String,
    },
    /// A report whose certificate no service has.
    Report(&'static str),
}

impl fmt::Display for FetchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => write!(f, "{address}: an https address, or http on this machine"),
            Self::Refused { path, status } => write!(f, "{path}: refused with status {status}"),
            Self::Unreachable { path, why } => write!(f, "{path}: given up after {ATTEMPTS} attempts: {why}"),
            Self::Report(why) => f.write_str(why),
        }
    }
}

impl std::error::Error for FetchError {}

/// Asks one service.
pub struct Fetcher {
    base: String,
    client: Client<HttpsConnector<HttpConnector>, Empty<Bytes>>,
    /// Pause after the first failure; it doubles.
    pause: Duration,
}

impl Fetcher {
    /// A fetcher for a base address, with the pause after a first failure.
    ///
    /// # Errors
    /// [`FetchError::Address`].
    pub fn new(base: &str, pause: Duration) -> Result<Self, FetchError> {
        let refused = || FetchError::Address(base.to_owned());
        let uri: Uri = base.parse().map_err(|_| refused())?;
        let local = matches!(uri.host(), Some("127.0.0.1" | "localhost" | "[::1]"));
        if uri.scheme_str() != Some("https") && !(local && uri.scheme_str() == Some("http")) {
            return Err(refused());
        }
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        let builder = HttpsConnectorBuilder::new().with_provider_and_webpki_roots(provider).map_err(|_| refused())?;
        let connector = builder.https_or_http().enable_http1().build();
        let client = Client::builder(TokioExecutor::new()).build(connector);
        Ok(Self { base: base.trim_end_matches('/').to_owned(), client, pause })
    }

    /// The chain above VCEKs of a generation: ASK and ARK, PEM.
    ///
    /// # Errors
    /// [`FetchError`].
    pub async fn vcek_chain(&self, generation: Generation) -> Result<Vec<u8>, FetchError> {
        self.get(&format!("/vcek/v1/{generation}/cert_chain")).await
    }

    /// The chain above VLEKs of a generation: ASVK and ARK, PEM.
    ///
    /// # Errors
    /// [`FetchError`].
    pub async fn vlek_chain(&self, generation: Generation) -> Result<Vec<u8>, FetchError> {
        self.get(&format!("/vlek/v1/{generation}/cert_chain")).await
    }

    /// The revocation list of a generation's root, DER.
    ///
    /// # Errors
    /// [`FetchError`].
    pub async fn crl(&self, generation: Generation) -> Result<Vec<u8>, FetchError> {
        self.get(&format!("/vcek/v1/{generation}/crl")).await
    }

    /// The certificate of the key that signed a report, DER.
    ///
    /// # Errors
    /// [`FetchError`]: VLEKs are the provider's to hand out.
    pub async fn vcek(&self, report: &Report, generation: Generation) -> Result<Vec<u8>, FetchError> {
        self.get(&vcek_path(report, generation)?).await
    }

    /// One request, with pauses that double, and as long as the service asks.
    async fn get(&self, path: &str) -> Result<Vec<u8>, FetchError> {
        let uri: Uri = format!("{}{path}", self.base).parse().map_err(|_| FetchError::Address(self.base.clone()))?;
        let (mut pause, mut why) = (self.pause, String::new());
        for attempt in 1..=ATTEMPTS {
            let asked = match tokio::time::timeout(PATIENCE, self.once(&uri)).await {
                Ok(Ok(Attempt::Answer(body))) => return Ok(body),
                Ok(Ok(Attempt::Refused(status))) => {
                    return Err(FetchError::Refused { path: path.to_owned(), status: status.as_u16() });
                }
                Ok(Ok(Attempt::Later(status, asked))) => {
                    why = format!("status {}", status.as_u16());
                    asked
                }
                Ok(Err(error)) => {
                    why = error;
                    None
                }
                Err(_) => {
                    why = format!("no answer within {PATIENCE:?}");
                    None
                }
            };
            if attempt < ATTEMPTS {
                let pause_now = asked.unwrap_or(pause).min(LONGEST);
                tracing::info!(
                    path,
                    attempt,
                    pause_ms = u64::try_from(pause_now.as_millis()).unwrap_or(0),
                    why,
                    "again"
                );
                tokio::time::sleep(pause_now).await;
                pause = pause.saturating_mul(2);
            }
        }
        Err(FetchError::Unreachable { path: path.to_owned(), why })
    }

    async fn once(&self, uri: &Uri) -> Result<Attempt, String> {
        let request = Request::get(uri.clone()).body(Empty::new()).map_err(|error| error.to_string())?;
        let response = self.client.request(request).await.map_err(|error| chain(&error))?;
        let status = response.status();
        if status == StatusCode::TOO_MANY_REQUESTS || status.is_server_error() {
            let seconds = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
            return Ok(Attempt::Later(status, seconds.map(Duration::from_secs)));
        }
        if status != StatusCode::OK {
            return Ok(Attempt::Refused(status));
        }
        let body = Limited::new(response.into_body(), MAX_ANSWER).collect().await;
        body.map(|body| Attempt::Answer(body.to_bytes().to_vec())).map_err(|error| error.to_string())
    }
}

enum Attempt {
    Answer(Vec<u8>),
    Later(StatusCode, Option<Duration>),
    Refused(StatusCode),
}

/// An error with what it was caused by.
fn chain(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {}", chain(source)),
        None => error.to_string(),
    }
}

/// Where a report's certificate is: hardware id, and patch levels as a query.
fn vcek_path(report: &Report, generation: Generation) -> Result<String, FetchError> {
    if report.key_info.signing_key() != SigningKey::Vcek {
        return Err(FetchError::Report("the report is not signed by a VCEK: a VLEK comes from the provider's host"));
    }
    let tcb = report.reported_tcb.decode(generation);
    let length = if generation == Generation::Turin { 8 } else { 64 };
    let hwid = hex(report.chip_id.get(..length).unwrap_or_default());
    let fmc = tcb.fmc.map(|fmc| format!("fmcSPL={fmc:02}&")).unwrap_or_default();
    Ok(format!(
        "/vcek/v1/{generation}/{hwid}?{fmc}blSPL={:02}&teeSPL={:02}&snpSPL={:02}&ucodeSPL={:02}",
        tcb.boot_loader, tcb.tee, tcb.snp, tcb.microcode
    ))
}
