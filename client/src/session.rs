//! A session with an authority that has attested itself.
//!
//! 1. connect; both sides present ephemeral keys
//! 2. challenge the authority; verify statement, endorsement, checkpoint, evidence
//! 3. only then: evidence of this node, bound to this session and one request
//! 4. verify the answer as a gate does

use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::rand;
use hyper::{Method, StatusCode};
use portcullis_attest::binding::{Binding, Role};
use portcullis_attest::check::Checks;
use portcullis_attest::evidence::EvidenceClass;
use portcullis_firmware_policy::{
    ActivateRequest, AttestRequest, AttestResponse, Seen, VerifiedAuthority, VerifiedBundle, decode_credential,
    verify_authority,
};
use portcullis_permit::{
    Checkpoint, Clock, Denial, Execution, GateExpectation, PermitId, PermitLife, PermitRequest, SigningKey, Status,
    StatusList, StatusReference, TransparentPermit, VerifiedPermit, Workload,
};
use portcullis_wire::hex::hex;
use portcullis_wire::sha256;

use crate::clock;
use crate::config::{Config, Trust};
use crate::devices::{Devices, in_background};
use crate::http::{Answer, Connection, PATIENCE, describe};
use crate::refusal::{ClientError, aside};
use crate::state::{State, StateError};
use crate::waiting::doing;

/// Largest number of bundles that a node may have missed.
const MAX_MISSED: usize = 64;

/// The contents of a permit request.
#[derive(Clone, Copy, Debug)]
pub struct Ask<'a> {
    /// The gate's key.
    pub key: &'a SigningKey,
    /// The program to run.
    pub workload: &'a Workload,
    /// The permit to renew.
    pub parent: Option<PermitId>,
}

/// A session with a verified authority.
pub struct Session {
    connection: Connection,
    authority: VerifiedAuthority,
    state: State,
    node: String,
    nonce: Option<[u8; 32]>,
    activated: bool,
    /// Seconds by which the authority's clock may differ from this node's.
    skew: u64,
    /// `CLOCK_BOOTTIME` at which the authority was challenged.
    attested: Duration,
}

impl Session {
    /// Connects and verifies the authority. Nothing about this node is sent before.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn open(config: &Config, trust: &Trust) -> Result<Self, ClientError> {
        Self::open_within(PATIENCE, config, trust).await
    }

    /// As [`Self::open`], with a time limit of `patience` for each step.
    pub(crate) async fn open_within(patience: Duration, config: &Config, trust: &Trust) -> Result<Self, ClientError> {
        let at = clock::now();
        let expired = trust.bundle.check_time(at);
        expired.map_err(|error| ClientError::check(error.check(), &error, "a bundle that is valid"))?;
        let (state, seen) = open_state(config, trust).await?;
        let mut nonce = [0; 32];
        rand::fill(&mut nonce).map_err(|_| anyhow::anyhow!("the system gives no randomness"))?;
        let request = AttestRequest { nonce, seen_size: seen.as_ref().map(|seen| seen.size) };
        let attested = clock::boot_time();
        let (connection, answer) = match challenge(&config.authority, patience, &request).await? {
            Ok(answered) => answered,
            // The challenge is repeated once: the authority may just have restarted.
            Err(_broken) => challenge(&config.authority, patience, &request).await??,
        };
        if answer.status != StatusCode::OK {
            return Err(ClientError::Unreachable(describe(&answer)));
        }
        let response = AttestResponse::decode(&answer.body)
            .map_err(|error| ClientError::check("authority.statement", error, "an answer to the challenge"))?;
        let mut checks = Checks::refusals();
        let channel = connection.channel.reversed();
        let binding = Binding { role: Role::Authority, nonce: &nonce, channel, context: &[0; 32] };
        let Trust { governance, bundle } = trust;
        let verified = verify_authority(&response.answer, &binding, governance, bundle, seen.as_ref(), at, &mut checks);
        let authority = verified.ok_or_else(|| ClientError::checks(&checks))?;
        keep_authority(&state, &authority).await?;
        Ok(Self {
            connection,
            authority,
            state,
            node: config.node.clone(),
            nonce: Some(response.nonce),
            activated: false,
            skew: trust.bundle.policy().clock_skew,
            attested,
        })
    }

    /// The authority.
    #[must_use]
    pub const fn authority(&self) -> &VerifiedAuthority {
        &self.authority
    }

    /// Time since the authority attested itself. Without a new attestation, a session is
    /// used for at most one lease.
    #[must_use]
    pub fn age(&self) -> Duration {
        clock::boot_time().saturating_sub(self.attested)
    }

    /// Fetches the authority's bundle if it is newer than the node's, and accepts it if it
    /// succeeds the node's bundle. If the node missed bundles, it fetches those in between.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn update(&mut self, trust: &mut Trust) -> Result<(), ClientError> {
        let refused = |error: portcullis_firmware_policy::BundleError| {
            ClientError::check(error.check(), &error, "a bundle that follows on this node's own")
        };
        for _ in 0..MAX_MISSED {
            if self.authority.bundle_version() <= trust.bundle.policy().version {
                break;
            }
            let next = format!("/v1/policy/after/{}", hex(trust.bundle.digest()));
            let mut answer = self.connection.ask(Method::GET, &next, Vec::new()).await?;
            if answer.status == StatusCode::NOT_FOUND {
                answer = self.connection.ask(Method::GET, "/v1/policy", Vec::new()).await?;
            }
            let bundle = VerifiedBundle::verify(&answer.body, &trust.governance).map_err(refused)?;
            bundle.check_succession(&trust.bundle).map_err(refused)?;
            self.skew = bundle.policy().clock_skew;
            trust.bundle = Arc::new(bundle);
            keep_bundle(&self.state, trust).await?;
        }
        // Bundles in between may have expired; the newest one must not.
        trust.bundle.check_time(clock::now()).map_err(refused)
    }

    /// Requests a permit with fresh evidence of this machine, and verifies the answer.
    ///
    /// # Errors
    /// [`ClientError::Denied`] with the authority's reasons, or with this node's reasons if
    /// the permit does not verify.
    pub async fn permit(
        &mut self,
        devices: &Devices,
        ask: Ask<'_>,
        trust: &Trust,
    ) -> Result<VerifiedPermit, ClientError> {
        let (asked, transparent) = self.request(devices, ask, trust).await?;
        let expectation = GateExpectation {
            issuer: self.authority.endorsement().origin(),
            node: &self.node,
            confirmation: ask.key.public(),
            workload: ask.workload,
            clock: trust.bundle.policy().clock(clock::now()),
            life: PermitLife::FromRequest(asked),
            checkpoint_key: &self.authority.endorsement().checkpoint_key,
            witnesses: trust.bundle.policy().witnesses.as_ref().map(|witnesses| &witnesses.quorum),
        };
        Ok(transparent.expect(&expectation)?)
    }

    async fn request(
        &mut self,
        devices: &Devices,
        ask: Ask<'_>,
        trust: &Trust,
    ) -> Result<(PermitId, TransparentPermit), ClientError> {
        self.activate(devices, trust).await?;
        let nonce = self.take_nonce().await?;
        let endorsement = self.authority.endorsement();
        let origin = endorsement.origin();
        let (state, log) = (self.state.clone(), origin.to_owned());
        let seen = in_background(move || state.seen(&log)).await?;
        let request = PermitRequest {
            audience: origin.to_owned(),
            node: self.node.clone(),
            confirmation: ask.key.public().clone(),
            nonce,
            statement: *self.authority.statement(),
            workload: ask.workload.clone(),
            seen: seen.clone(),
            parent: ask.parent,
        };
        let encoded = request.encode();
        let (asked, context) = (PermitId::of_request(&encoded), sha256(&[&encoded]));
        let binding = Binding { role: Role::Node, nonce: &nonce, channel: self.connection.channel, context: &context };
        let binder = binding.binder(devices.ak_name());
        let selection = trust.bundle.policy().selection(Role::Node).clone();
        doing("taking evidence of this machine");
        let evidence = devices.with(move |machine| machine.collect(&binder, &selection)).await?;
        let signed = request.sign(ask.key, evidence.bytes())?;

        let answer = self.connection.ask(Method::POST, "/v1/permits", signed).await?;
        self.nonce = answer.nonce;
        let endorsement = self.authority.endorsement();
        match answer.status {
            StatusCode::CREATED => {
                let known = seen.as_deref().and_then(Checkpoint::unverified);
                let (permit_key, receipt_key) = (&endorsement.permit_key, &endorsement.receipt_key);
                Ok((asked, TransparentPermit::verify(&answer.body, permit_key, receipt_key, known)?))
            }
            StatusCode::FORBIDDEN => {
                let denial = Denial::verify(&answer.body, &endorsement.permit_key)?;
                let state = self.state.clone();
                if let Err(error) = in_background(move || state.keep_denial(&answer.body)).await {
                    // The stored copy is only for people; the denial does not depend on it.
                    aside(format!("the denial was not kept for portcullis-policy explain: {error}"));
                }
                Err(ClientError::Denied(denial.refusals))
            }
            _ => Err(ClientError::Unreachable(describe(&answer))),
        }
    }

    /// Proves once per connection that this node's attestation key is in the same TPM as
    /// the endorsement key that it is enrolled with, or that a service module vouches for.
    async fn activate(&mut self, devices: &Devices, trust: &Trust) -> Result<(), ClientError> {
        let enrolled = trust.bundle.policy().nodes.get(&self.node).is_some_and(|node| node.ek.is_some());
        let needed = enrolled || devices.class() == EvidenceClass::SnpSvsmVtpm;
        if !needed || self.activated || devices.ak_name().is_none() {
            return Ok(());
        }
        let keys = devices.with(|machine| {
            let tpm = machine.tpm().ok_or_else(no_tpm)?;
            Ok::<_, ClientError>(ActivateRequest::Keys { ek: tpm.endorsement_key()?, ak: tpm.ak_area().to_vec() })
        });
        let answer = self.connection.ask(Method::POST, "/v1/activate", keys.await?.encode()).await?;
        if answer.status != StatusCode::OK {
            return Err(ClientError::Unreachable(describe(&answer)));
        }
        let credential = decode_credential(&answer.body)
            .map_err(|error| ClientError::check("exchange.form", error, "a credential for this TPM"))?;
        doing("activating the credential in this machine's TPM");
        let secret = devices.with(move |machine| {
            let tpm = machine.tpm().ok_or_else(no_tpm)?;
            Ok::<_, ClientError>(ActivateRequest::Secret(*tpm.activate(&credential)?))
        });
        let answer = self.connection.ask(Method::POST, "/v1/activate", secret.await?.encode()).await?;
        if !answer.status.is_success() {
            return Err(ClientError::Unreachable(describe(&answer)));
        }
        self.activated = true;
        // A TPM takes seconds for an activation, and a nonce is valid for ten.
        self.forget_nonce();
        Ok(())
    }

    /// The nonce from the last answer, or a new one.
    async fn take_nonce(&mut self) -> Result<[u8; 32], ClientError> {
        self.challenge().await?;
        self.nonce.take().ok_or_else(|| ClientError::Unreachable("no nonce".into()))
    }

    /// Requests a nonce from the authority, unless there is one. Nonces are valid for ten
    /// seconds, so an old one is not reused.
    pub(crate) async fn challenge(&mut self) -> Result<(), ClientError> {
        if self.nonce.is_none() {
            let answer = self.connection.ask(Method::POST, "/v1/nonce", Vec::new()).await?;
            self.nonce = Some(answer.nonce.ok_or_else(|| ClientError::Unreachable(describe(&answer)))?);
        }
        Ok(())
    }

    /// Discards a nonce that may be too old.
    pub fn forget_nonce(&mut self) {
        self.nonce = None;
    }

    /// The current status of a permit, and for how many seconds the answer holds, counted
    /// from the request.
    ///
    /// # Errors
    /// [`ClientError`]: a stale or foreign list is a denial.
    pub async fn status(&mut self, reference: &StatusReference) -> Result<(Status, u64), ClientError> {
        let answer = self.connection.ask(Method::GET, &reference.uri, Vec::new()).await?;
        if answer.status != StatusCode::OK {
            return Err(ClientError::Unreachable(describe(&answer)));
        }
        let key = &self.authority.endorsement().permit_key;
        let clock = Clock { now: clock::now(), skew: self.skew };
        let list = StatusList::verify(&answer.body, key, &reference.uri, clock)?;
        Ok((list.status(reference.index)?, list.validity()))
    }

    /// Reports an execution.
    ///
    /// # Errors
    /// [`ClientError::Unreachable`]; [`ClientError::Refused`] if the authority does not
    /// accept the report.
    pub async fn report(&mut self, execution: &Execution, key: &SigningKey) -> Result<(), ClientError> {
        let signed = execution.sign(key, &self.node)?;
        let answer = self.connection.ask(Method::POST, "/v1/executions", signed).await?;
        match answer.status {
            status if status.is_success() => Ok(()),
            StatusCode::BAD_REQUEST | StatusCode::FORBIDDEN => {
                Err(ClientError::check("execution.permit", describe(&answer), "a report that the authority takes"))
            }
            _ => Err(ClientError::Unreachable(describe(&answer))),
        }
    }

    /// Whether the authority has closed the connection.
    pub(crate) fn is_closed(&self) -> bool {
        self.connection.is_closed()
    }

    /// Changes the time limit for a step of an exchange.
    pub(crate) const fn set_patience(&mut self, patience: Duration) {
        self.connection.set_patience(patience);
    }

    pub(crate) fn connection(&mut self) -> &mut Connection {
        &mut self.connection
    }
}

/// Connects and challenges the authority. The inner error means that the connection
/// broke before the answer.
async fn challenge(
    authority: &str,
    patience: Duration,
    request: &AttestRequest,
) -> Result<Result<(Connection, Answer), ClientError>, ClientError> {
    let mut connection = Connection::open(authority, patience).await?;
    let answer = connection.ask(Method::POST, "/v1/attest", request.encode()).await;
    Ok(answer.map(|answer| (connection, answer)))
}

/// Opens the stored state of this node: the largest checkpoint of its authority's log.
async fn open_state(config: &Config, trust: &Trust) -> Result<(State, Option<Seen>), ClientError> {
    let (folder, trust) = (config.state.clone(), trust.clone());
    in_background(move || {
        let state = State::open(&folder)?;
        state.keep_bundle(&trust.bundle, &trust.governance)?;
        let last = state.last()?;
        let seen = last
            .and_then(|(origin, note)| Checkpoint::unverified(&note).map(|(size, root)| Seen { origin, size, root }));
        Ok::<_, StateError>((state, seen))
    })
    .await
}

async fn keep_authority(state: &State, authority: &VerifiedAuthority) -> Result<(), ClientError> {
    let (state, checkpoint) = (state.clone(), authority.checkpoint().clone());
    let key = authority.endorsement().checkpoint_key.clone();
    in_background(move || {
        state.keep(&checkpoint, &key)?;
        Ok::<_, StateError>(state.keep_origin(key.origin())?)
    })
    .await
}

async fn keep_bundle(state: &State, trust: &Trust) -> Result<(), ClientError> {
    let (state, trust) = (state.clone(), trust.clone());
    in_background(move || state.keep_bundle(&trust.bundle, &trust.governance)).await
}

fn no_tpm() -> ClientError {
    ClientError::Own(anyhow::anyhow!("the TPM is gone"))
}
