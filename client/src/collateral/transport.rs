//! One request over a new connection: name, connection, tunnel, TLS, answer. Each step
//! has a time limit and an error message.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::{CONNECTION, HOST, PROXY_AUTHORIZATION, USER_AGENT};
use hyper::{HeaderMap, Request, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::Proxy;
use crate::dial::dial;
use crate::waiting::within;

/// Longest wait for each step of the connection, and for the answer.
const OPEN: Duration = Duration::from_secs(10);
const ANSWER: Duration = Duration::from_secs(30);
/// Largest answer, in bytes.
const MAX_ANSWER: usize = 256 * 1024;

/// Why a request was not answered.
#[derive(Debug)]
pub(super) enum Failure {
    /// The failure may pass.
    Passing(String),
    /// The failure lasts until somebody changes the configuration.
    Lasting(String),
}

/// An answer in memory.
pub(super) struct Reply {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Vec<u8>,
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}
type Boxed = Box<dyn Stream>;

/// The connection parameters of one service.
pub(super) struct Transport {
    host: String,
    port: u16,
    /// Path of the base address, without a trailing slash; a mirror may have one.
    prefix: String,
    tls: Option<TlsConnector>,
    proxy: Option<Proxy>,
}

impl Transport {
    /// The parameters for a base address, which has scheme and host. `roots` are trusted
    /// for TLS in addition to the public ones.
    pub(super) fn new(base: &Uri, proxy: Option<Proxy>, roots: &[CertificateDer<'static>]) -> Result<Self, String> {
        let https = base.scheme_str() == Some("https");
        let host = base.host().ok_or("no host")?.to_owned();
        let port = base.port_u16().unwrap_or(if https { 443 } else { 80 });
        let tls = https.then(|| connector(roots)).transpose()?;
        let prefix = base.path().trim_end_matches('/').to_owned();
        Ok(Self { host, port, prefix, tls, proxy })
    }

    /// Sends one request for a path below the base address.
    pub(super) async fn get(&self, path: &str) -> Result<Reply, Failure> {
        let stream = self.open().await?;
        let mut sender = sender(stream).await?;
        let request = Request::get(format!("{}{path}", self.prefix))
            .header(HOST, self.authority())
            .header(USER_AGENT, concat!("portcullis/", env!("CARGO_PKG_VERSION")))
            .header(CONNECTION, "close")
            .body(Empty::new())
            .map_err(|error| Failure::Lasting(error.to_string()))?;
        let what = format!("waiting for the answer of {}", self.host);
        within(ANSWER, &what, read(&mut sender, request)).await.map_err(Failure::Passing)?
    }

    fn authority(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }

    /// Opens a connection to the service, through the proxy if there is one.
    async fn open(&self) -> Result<Boxed, Failure> {
        let stream = match &self.proxy {
            None => Box::new(tcp(&self.host, self.port).await?),
            Some(proxy) => self.tunnel(proxy).await?,
        };
        match &self.tls {
            None => Ok(stream),
            Some(tls) => secure(tls, &self.host, stream).await,
        }
    }

    /// Opens a tunnel through a proxy (RFC 9110 §9.3.6).
    async fn tunnel(&self, proxy: &Proxy) -> Result<Boxed, Failure> {
        let named = |failure: Failure| failure.within(&format!("proxy {} ({})", proxy.address, proxy.variable));
        let https = proxy.address.scheme_str() == Some("https");
        let host = proxy.address.host().unwrap_or_default();
        let port = proxy.address.port_u16().unwrap_or(if https { 443 } else { 80 });
        let mut stream: Boxed = Box::new(tcp(host, port).await.map_err(named)?);
        if https {
            let public = connector(&[]).map_err(Failure::Lasting)?;
            let tls = self.tls.as_ref().unwrap_or(&public);
            stream = secure(tls, host, stream).await.map_err(named)?;
        }
        let mut request = Request::connect(self.authority()).header(HOST, self.authority());
        if let Some(authorization) = &proxy.authorization {
            request = request.header(PROXY_AUTHORIZATION, authorization);
        }
        let request = request.body(Empty::new()).map_err(|error| Failure::Lasting(error.to_string()))?;
        let mut sender = sender(stream).await.map_err(named)?;
        let what = format!("waiting for the proxy {}", proxy.address);
        let answer = within(OPEN, &what, sender.send_request(request)).await.map_err(Failure::Passing)?;
        let answer = answer.map_err(|error| named(Failure::Passing(chain(&error))))?;
        match answer.status() {
            status if status.is_success() => {
                let upgraded = hyper::upgrade::on(answer).await;
                Ok(Box::new(TokioIo::new(upgraded.map_err(|error| named(Failure::Passing(chain(&error))))?)))
            }
            StatusCode::PROXY_AUTHENTICATION_REQUIRED => {
                let why = match proxy.authorization {
                    None => format!("it wants credentials: {}=http://USER:PASSWORD@HOST:PORT", proxy.variable),
                    Some(_) => format!("it refuses the credentials in {}", proxy.variable),
                };
                Err(named(Failure::Lasting(why)))
            }
            status if status.is_server_error() => {
                Err(named(Failure::Passing(format!("it does not reach {}: status {status}", self.authority()))))
            }
            status => {
                Err(named(Failure::Lasting(format!("it refuses a tunnel to {}: status {status}", self.authority()))))
            }
        }
    }
}

impl Failure {
    /// The same failure, with the step in which it occurred.
    fn within(self, part: &str) -> Self {
        match self {
            Self::Passing(why) => Self::Passing(format!("{part}: {why}")),
            Self::Lasting(why) => Self::Lasting(format!("{part}: {why}")),
        }
    }
}

fn connector(roots: &[CertificateDer<'static>]) -> Result<TlsConnector, String> {
    let mut store = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    for root in roots {
        store.add(root.clone()).map_err(|error| format!("a CA certificate: {error}"))?;
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = config.map_err(|error| error.to_string())?;
    Ok(TlsConnector::from(Arc::new(config.with_root_certificates(store).with_no_client_auth())))
}

async fn tcp(host: &str, port: u16) -> Result<TcpStream, Failure> {
    let name = host.trim_start_matches('[').trim_end_matches(']');
    dial((name, port), name, OPEN).await.map_err(Failure::Passing)
}

/// TLS over a connection. A certificate that does not match will not match the next
/// time either.
async fn secure(tls: &TlsConnector, host: &str, stream: Boxed) -> Result<Boxed, Failure> {
    let name = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    let server = ServerName::try_from(name).map_err(|error| Failure::Lasting(format!("{host}: {error}")))?;
    let what = format!("setting up TLS with {host}");
    let tls = within(OPEN, &what, tls.connect(server, stream)).await.map_err(Failure::Passing)?;
    match tls {
        Ok(stream) => Ok(Box::new(stream)),
        Err(error) => Err(match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
            Some(rustls::Error::InvalidCertificate(_)) => Failure::Lasting(format!(
                "{what}: {error}. A proxy that inspects TLS needs --tls-root with its CA; also look at this machine's clock"
            )),
            Some(_) => Failure::Lasting(format!("{what}: {error}")),
            None => Failure::Passing(format!("{what}: {error}")),
        }),
    }
}

async fn sender(stream: Boxed) -> Result<SendRequest<Empty<Bytes>>, Failure> {
    let (sender, connection) =
        handshake(TokioIo::new(stream)).await.map_err(|error| Failure::Passing(chain(&error)))?;
    tokio::spawn(async move { drop(connection.with_upgrades().await) });
    Ok(sender)
}

async fn read(sender: &mut SendRequest<Empty<Bytes>>, request: Request<Empty<Bytes>>) -> Result<Reply, Failure> {
    let response = sender.send_request(request).await.map_err(|error| Failure::Passing(chain(&error)))?;
    let (status, headers) = (response.status(), response.headers().clone());
    let body = Limited::new(response.into_body(), MAX_ANSWER).collect().await;
    let body = body.map_err(|error| match error.downcast::<hyper::Error>() {
        Ok(broken) => Failure::Passing(format!("the answer ended early: {}", chain(&*broken))),
        Err(_) => Failure::Lasting(format!("an answer of more than {MAX_ANSWER} bytes")),
    })?;
    Ok(Reply { status, headers, body: body.to_bytes().to_vec() })
}

/// An error with its chain of causes.
fn chain(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {}", chain(source)),
        None => error.to_string(),
    }
}
