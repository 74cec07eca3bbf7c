//! A node for attacks, which follows the protocol only in part.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context, Result};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use portcullis_attest::binding::{Binding, Channel, Role};
use portcullis_attest::evidence::Evidence;
use portcullis_attest::tpm::pcr::Selection;
use portcullis_attester::{Machine, SealDevice};
use portcullis_channel::{Identity, facts};
use portcullis_firmware_policy::{ActivateRequest, AttestRequest, AttestResponse, decode_credential};
use portcullis_permit::{
    AuthorityStatement, Denial, DynamicLinking, Endorsement, PermitRequest, Quorum, SigningKey, Workload,
};
use portcullis_wire::hex::unhex_array;
use portcullis_wire::sha256;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::boot::PCRS;

/// A session whose authority is not verified.
pub struct RawSession {
    sender: SendRequest<Full<Bytes>>,
    /// The session as this side sees it.
    pub channel: Channel,
    /// The authority's answer to the challenge.
    pub answer: AttestResponse,
    /// The nonce to use next.
    pub nonce: [u8; 32],
    /// The authority's endorsement, unverified.
    pub endorsement: Endorsement,
}

/// An answer: status, body, and caching time.
#[derive(Clone, Debug)]
pub struct RawAnswer {
    /// HTTP status.
    pub status: u16,
    /// `Cache-Control`, empty if absent.
    pub caching: String,
    /// Body.
    pub body: Vec<u8>,
}

impl RawSession {
    /// Connects without verifying the authority.
    ///
    /// # Errors
    /// It does not answer.
    pub async fn open(authority: SocketAddr) -> Result<Self> {
        Self::open_with(authority, Arc::new(Identity::generate()?), [7; 32]).await
    }

    /// As [`Self::open`], with a TLS identity (perhaps a leaked one) and a nonce.
    ///
    /// # Errors
    /// It does not answer.
    pub async fn open_with(authority: SocketAddr, identity: Arc<Identity>, nonce: [u8; 32]) -> Result<Self> {
        let (mut sender, channel) = connect(authority, &identity).await?;
        let request = AttestRequest { nonce, seen_size: None };
        let (answer, _) = exchange(&mut sender, Method::POST, "/v1/attest", request.encode()).await?;
        anyhow::ensure!(answer.status == 200, "attest: {} {}", answer.status, String::from_utf8_lossy(&answer.body));
        let answer = AttestResponse::decode(&answer.body)?;
        let statement = AuthorityStatement::decode(&answer.answer.statement)?;
        let quorum = Quorum::decode(&statement.endorsement, 1 << 16)?;
        let endorsement = Endorsement::decode(quorum.unverified_document())?;
        Ok(Self { sender, channel, nonce: answer.nonce, answer, endorsement })
    }

    /// A sound request of a node.
    #[must_use]
    pub fn request(&self, node: &str, key: &SigningKey, digest: [u8; 32]) -> PermitRequest {
        PermitRequest {
            audience: self.endorsement.origin().to_owned(),
            node: node.to_owned(),
            confirmation: key.public().clone(),
            nonce: self.nonce,
            statement: AuthorityStatement::digest(&self.answer.answer.statement),
            workload: Workload { digest, arguments: [0; 32], environment: [0; 32], linking: DynamicLinking::Dynamic },
            seen: None,
            parent: None,
        }
    }

    /// Evidence bound to this session and a request.
    ///
    /// # Errors
    /// The machine's devices.
    pub fn evidence(&self, machine: &mut Machine, request: &PermitRequest) -> Result<Evidence> {
        evidence_for(machine, Role::Node, &request.nonce, self.channel, &sha256(&[&request.encode()]))
    }

    /// Sends a signed request and takes the next nonce from the answer.
    ///
    /// # Errors
    /// It does not answer.
    pub async fn ask(&mut self, signed: Vec<u8>) -> Result<RawAnswer> {
        self.post("/v1/permits", signed).await
    }

    /// Activates a credential for the endorsement key of one machine's TPM and the
    /// attestation key of another's, which is the same in all honest cases.
    ///
    /// # Errors
    /// The authority answers otherwise, or the TPM refuses.
    pub async fn activate(&mut self, tpm: &mut dyn SealDevice, ak: &[u8]) -> Result<RawAnswer> {
        let keys = ActivateRequest::Keys { ek: tpm.endorsement_key()?, ak: ak.to_vec() };
        let answer = self.post("/v1/activate", keys.encode()).await?;
        anyhow::ensure!(answer.status == 200, "activate: {}", String::from_utf8_lossy(&answer.body));
        let secret = tpm.activate(&decode_credential(&answer.body)?)?;
        self.post("/v1/activate", ActivateRequest::Secret(*secret).encode()).await
    }

    /// As [`Self::activate`], with the machine's own keys.
    ///
    /// # Errors
    /// The machine has no TPM, or as there.
    pub async fn activate_machine(&mut self, machine: &mut Machine) -> Result<()> {
        let tpm = machine.tpm().context("no TPM")?;
        let ak = tpm.ak_area().to_vec();
        let answer = self.activate(tpm, &ak).await?;
        anyhow::ensure!(answer.status == 204, "activate: {}", String::from_utf8_lossy(&answer.body));
        Ok(())
    }

    /// Posts anything.
    ///
    /// # Errors
    /// It does not answer.
    pub async fn post(&mut self, path: &str, body: Vec<u8>) -> Result<RawAnswer> {
        let (answer, nonce) = exchange(&mut self.sender, Method::POST, path, body).await?;
        self.nonce = nonce.unwrap_or(self.nonce);
        Ok(answer)
    }

    /// Gets anything.
    ///
    /// # Errors
    /// It does not answer.
    pub async fn get(&mut self, path: &str) -> Result<RawAnswer> {
        Ok(exchange(&mut self.sender, Method::GET, path, Vec::new()).await?.0)
    }

    /// The check ids of a signed denial.
    ///
    /// # Errors
    /// The answer is not a denial.
    pub fn denied(&self, answer: &RawAnswer) -> Result<Vec<String>> {
        anyhow::ensure!(answer.status == 403, "status {}: {}", answer.status, String::from_utf8_lossy(&answer.body));
        let denial = Denial::verify(&answer.body, &self.endorsement.permit_key)?;
        Ok(denial.refusals.into_iter().map(|refusal| refusal.check).collect())
    }
}

/// Evidence of a machine for any binding.
///
/// # Errors
/// The machine's devices.
pub fn evidence_for(
    machine: &mut Machine,
    role: Role,
    nonce: &[u8; 32],
    channel: Channel,
    context: &[u8; 32],
) -> Result<Evidence> {
    let binder = Binding { role, nonce, channel, context }.binder(machine.ak_name());
    Ok(machine.collect(&binder, &Selection::sha256(PCRS))?)
}

async fn connect(authority: SocketAddr, identity: &Identity) -> Result<(SendRequest<Full<Bytes>>, Channel)> {
    let config = identity.client_config(&[b"http/1.1"])?;
    let stream = TcpStream::connect(authority).await?;
    stream.set_nodelay(true)?;
    let tls = TlsConnector::from(Arc::new(config)).connect("portcullis".try_into()?, stream).await?;
    let session = tls.get_ref().1;
    let channel =
        facts(session, |out, label, context| session.export_keying_material(out, label, context), identity.spki())?;
    let (sender, connection) = handshake(TokioIo::new(tls)).await?;
    tokio::spawn(async move { drop(connection.await) });
    Ok((sender, channel))
}

async fn exchange(
    sender: &mut SendRequest<Full<Bytes>>,
    method: Method,
    path: &str,
    body: Vec<u8>,
) -> Result<(RawAnswer, Option<[u8; 32]>)> {
    let request =
        Request::builder().method(method).uri(path).header("host", "lab").body(Full::new(Bytes::from(body)))?;
    sender.ready().await?;
    let response = sender.send_request(request).await.context("no answer")?;
    let status = response.status().as_u16();
    let nonce = response.headers().get("portcullis-nonce").and_then(|value| unhex_array(value.to_str().ok()?));
    let caching = response.headers().get("cache-control").and_then(|value| value.to_str().ok());
    let caching = caching.unwrap_or_default().to_owned();
    let body = response.into_body().collect().await?.to_bytes().to_vec();
    Ok((RawAnswer { status, caching, body }, nonce))
}
