//! One HTTP/1.1 connection over the attested channel.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use portcullis_attest::binding::Channel;
use portcullis_channel::{Identity, facts};
use portcullis_wire::hex::unhex_array;
use rustls::pki_types::ServerName;
use tokio_rustls::TlsConnector;

use crate::dial::dial;
use crate::refusal::ClientError;
use crate::waiting::within;

/// Longest wait for each step: name, connection, TLS, answer, body.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);
/// Largest answer accepted, in bytes.
const MAX_BODY: usize = portcullis_firmware_policy::MAX_LENGTH;

/// An answer in memory.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) body: Vec<u8>,
    /// Next nonce, if the authority issued one.
    pub(crate) nonce: Option<[u8; 32]>,
}

/// A connection with its channel facts, own key first.
pub(crate) struct Connection {
    sender: SendRequest<Full<Bytes>>,
    pub(crate) channel: Channel,
    host: String,
    patience: Duration,
}

pub(crate) fn unreachable(error: impl std::fmt::Display) -> ClientError {
    ClientError::Unreachable(error.to_string())
}

impl Connection {
    /// Connects with a fresh ephemeral identity. No step, now or later, takes longer than
    /// `patience`.
    pub(crate) async fn open(authority: &str, patience: Duration) -> Result<Self, ClientError> {
        let identity = Identity::generate().map_err(|error| ClientError::Own(error.into()))?;
        Self::open_as(&identity, authority, patience).await
    }

    /// Connects with a key that the authority may know.
    pub(crate) async fn open_as(identity: &Identity, authority: &str, patience: Duration) -> Result<Self, ClientError> {
        let config = identity.client_config(&[b"http/1.1"]).map_err(|error| ClientError::Own(error.into()))?;
        let stream = dial(authority, authority, patience).await.map_err(unconnected)?;
        stream.set_nodelay(true)?;
        // The name is neither sent nor checked: attestation identifies the authority.
        let name = ServerName::try_from("portcullis").map_err(unreachable)?;
        let tls = TlsConnector::from(Arc::new(config));
        let what = format!("setting up TLS with the authority at {authority}");
        let tls = within(patience, &what, tls.connect(name, stream)).await.map_err(unconnected)?;
        let tls = tls.map_err(|error| unconnected(format!("{what}: {error}")))?;
        let session = tls.get_ref().1;
        let channel =
            facts(session, |out, label, context| session.export_keying_material(out, label, context), identity.spki())
                .map_err(unreachable)?;
        let (sender, connection) = handshake(TokioIo::new(tls)).await.map_err(unreachable)?;
        tokio::spawn(async move { drop(connection.await) });
        Ok(Self { sender, channel, host: authority.to_owned(), patience })
    }

    /// Whether the other side has closed the connection.
    pub(crate) fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }

    /// Changes the time limit for a step.
    pub(crate) const fn set_patience(&mut self, patience: Duration) {
        self.patience = patience;
    }

    /// Sends a request and reads the whole answer.
    pub(crate) async fn ask(&mut self, method: Method, path: &str, body: Vec<u8>) -> Result<Answer, ClientError> {
        let response = self.send(method, path, body).await?;
        let status = response.status();
        let nonce = response.headers().get("portcullis-nonce").and_then(|value| unhex_array(value.to_str().ok()?));
        let body = self.read(path, response.into_body(), MAX_BODY).await?;
        Ok(Answer { status, body, nonce })
    }

    /// Reads a file from an offset, as a stream.
    pub(crate) async fn fetch(&mut self, path: &str, from: u64) -> Result<Response<Incoming>, ClientError> {
        let request = Request::get(path).header("host", &self.host);
        let request = if from > 0 { request.header("range", format!("bytes={from}-")) } else { request };
        self.dispatch(path, request.body(Full::new(Bytes::new())).map_err(unreachable)?).await
    }

    /// Sends a request whose answer is read as a stream.
    pub(crate) async fn send(
        &mut self,
        method: Method,
        path: &str,
        body: Vec<u8>,
    ) -> Result<Response<Incoming>, ClientError> {
        let request = Request::builder().method(method).uri(path).header("host", &self.host);
        self.dispatch(path, request.body(Full::new(Bytes::from(body))).map_err(unreachable)?).await
    }

    /// Reads the rest of an answer.
    pub(crate) async fn read(&self, path: &str, body: Incoming, limit: usize) -> Result<Vec<u8>, ClientError> {
        let body = Limited::new(body, limit).collect();
        let body = within(self.patience, &self.waiting(path), body).await.map_err(unreachable)?;
        Ok(body.map_err(|error| unreachable(format!("{}: {error}", self.waiting(path))))?.to_bytes().to_vec())
    }

    async fn dispatch(&mut self, path: &str, request: Request<Full<Bytes>>) -> Result<Response<Incoming>, ClientError> {
        let what = self.waiting(path);
        let answered = async {
            self.sender.ready().await?;
            self.sender.send_request(request).await
        };
        let answered = within(self.patience, &what, answered).await.map_err(unreachable)?;
        answered.map_err(|error| unreachable(format!("{what}: {error}")))
    }

    fn waiting(&self, path: &str) -> String {
        format!("waiting for the authority at {} to answer {path}", self.host)
    }
}

/// Error for a failed connection, with what to check.
fn unconnected(why: impl std::fmt::Display) -> ClientError {
    unreachable(format!(
        "{why}\n      remedy   is portcullisd running there, is this the address of its `[listen] nodes`, \
         and does a firewall let it through?"
    ))
}

/// Text of an answer that is not a statement, shortened for a message: problem details
/// (RFC 9457) as title, detail and remedy, anything else unchanged.
pub(crate) fn describe(answer: &Answer) -> String {
    let problem = serde_json::from_slice::<serde_json::Value>(&answer.body).ok();
    let member = |name: &str| problem.as_ref()?.get(name)?.as_str().map(str::to_owned);
    let text = match (member("title"), member("detail")) {
        (Some(title), Some(detail)) => format!("{title}: {detail}"),
        _ => String::from_utf8_lossy(&answer.body).into_owned(),
    };
    let text: String = text.chars().take(400).collect();
    let remedy = member("remedy").map(|remedy| format!("\n      remedy   {remedy}")).unwrap_or_default();
    format!("HTTP {}: {text}{remedy}", answer.status.as_u16())
}
