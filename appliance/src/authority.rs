//! The authority: it decides, signs, logs, and only then answers.

use std::fs;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use anyhow::{Context, Result};
use aws_lc_rs::rand;
use bytes::Bytes;
use portcullis_attest::binding::{Binding, Channel, Role};
use portcullis_firmware_policy::{
    Activation, AuthorityAnswer, Decision, Facts, NoncePreimage, SeenState, VerifiedBundle, decide,
};
use portcullis_lineage::{Committed, NewEntry, Writer};
use portcullis_permit::{
    AuthorityStatement, Checkpoint, Endorsement, EventKind, Execution, Governance, Kind, PermitError, ReceivedRequest,
    Revocation, SigningKey, TransparentPermit, statement,
};
use portcullis_wire::hex::hex;
use portcullis_wire::{Digest, Value, bstr, encode, map};
use tokio::sync::oneshot;

use crate::attestor::Attestor;
use crate::clock;
use crate::config::Config;
use crate::events::Events;
use crate::instance::Refused;
use crate::ledger::Ledger;
use crate::metrics::{ByCheck, Metrics};
use crate::signer::{Signer, Tripped};
use crate::status::KeptStatus;

/// An endorsement with the governors' signatures.
pub(crate) struct SignedEndorsement {
    pub(crate) bytes: Vec<u8>,
    pub(crate) endorsement: Endorsement,
}

/// Why a request gets no decision.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The input cannot be parsed, or proves no possession of its key.
    Malformed(PermitError),
    /// The authority has stopped signing.
    Tripped(Tripped),
    /// A governors' command, or a report, is refused.
    Refused(Refused),
    /// Every status index is held by a live permit.
    OverBudget,
    /// The authority itself failed.
    Internal(String),
}

impl From<Tripped> for Failure {
    fn from(tripped: Tripped) -> Self {
        Self::Tripped(tripped)
    }
}

/// What a decision became.
pub(crate) enum Answered {
    /// A transparent permit.
    Permit(Vec<u8>),
    /// A signed, logged denial.
    Denial(Vec<u8>),
}

/// What a connection brings to a permit request.
pub(crate) struct Session {
    /// The session as the node sees it.
    pub(crate) channel: Channel,
    /// Digest of the statement that was shown to the node on it.
    pub(crate) statement: Digest,
    /// The nonce that was outstanding; it is consumed.
    pub(crate) nonce: Option<NoncePreimage>,
    /// The credential that was activated on it.
    pub(crate) activation: Option<Activation>,
}

pub(crate) struct Authority {
    pub(crate) config: Config,
    pub(crate) governance: Governance,
    pub(crate) signer: Signer,
    pub(crate) attestor: Attestor,
    pub(crate) events: Events,
    pub(crate) metrics: Metrics,
    writer: Writer,
    endorsement: RwLock<Arc<SignedEndorsement>>,
    bundle: RwLock<Arc<VerifiedBundle>>,
    ledger: Mutex<Ledger>,
    status: Mutex<KeptStatus>,
}

impl Authority {
    #[expect(clippy::too_many_arguments, reason = "the parts of an authority, put together in one place")]
    pub(crate) fn new(
        config: Config,
        governance: Governance,
        key: SigningKey,
        attestor: Attestor,
        writer: Writer,
        endorsement: SignedEndorsement,
        bundle: VerifiedBundle,
        ledger: Ledger,
    ) -> Self {
        Self {
            config,
            governance,
            signer: Signer::new(key),
            attestor,
            events: Events::new(),
            metrics: Metrics::new(),
            writer,
            endorsement: RwLock::new(Arc::new(endorsement)),
            bundle: RwLock::new(Arc::new(bundle)),
            ledger: Mutex::new(ledger),
            status: Mutex::default(),
        }
    }

    pub(crate) fn origin(&self) -> &str {
        &self.config.origin
    }

    pub(crate) fn bundle(&self) -> Arc<VerifiedBundle> {
        Arc::clone(&self.bundle.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn endorsement(&self) -> Arc<SignedEndorsement> {
        Arc::clone(&self.endorsement.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn head(&self) -> Result<Arc<Checkpoint>, Failure> {
        self.writer.view().head().ok_or_else(|| Failure::Internal("an empty log".into()))
    }

    pub(crate) fn live_permits(&self) -> usize {
        self.ledger().live_count(clock::now())
    }

    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A nonce for a node: it contains the latest root and the time.
    pub(crate) fn nonce(&self) -> Result<NoncePreimage, Failure> {
        let mut random = [0; 32];
        rand::fill(&mut random).map_err(|_| Failure::Internal("no randomness".into()))?;
        Ok(NoncePreimage { root: *self.head()?.root(), issued: clock::now(), random })
    }

    /// What this authority says of itself now.
    pub(crate) fn statement(&self) -> Result<Vec<u8>, Failure> {
        let bundle = self.bundle();
        let statement = AuthorityStatement {
            endorsement: self.endorsement().bytes.clone(),
            governance_root: self.governance.root(),
            bundle: *bundle.digest(),
            bundle_version: bundle.policy().version,
            checkpoint: self.head()?.note().to_owned(),
        };
        Ok(statement.encode())
    }

    /// Answers a node's challenge with fresh evidence of this machine.
    pub(crate) async fn attest(
        &self,
        nonce: &[u8; 32],
        channel: Channel,
        seen_size: Option<u64>,
    ) -> Result<AuthorityAnswer, Failure> {
        if let Some(tripped) = self.signer.tripped() {
            return Err(tripped.into());
        }
        let statement = self.statement()?;
        let size = self.head()?.size();
        let context = AuthorityStatement::digest(&statement);
        let binder =
            Binding { role: Role::Authority, nonce, channel, context: &context }.binder(self.attestor.ak_name());
        let answer = self.attestor.attest(binder, self.bundle()).await.map_err(Failure::Internal)?;
        let consistency = seen_size.and_then(|seen| self.writer.view().with_tree(|tree| tree.consistency(seen, size)));
        Ok(AuthorityAnswer {
            statement,
            evidence: answer.evidence.to_vec(),
            batch: answer.proof,
            consistency: consistency.unwrap_or_default(),
        })
    }

    /// Decides on a request: the decision is in the log before it is answered.
    pub(crate) async fn decide(&self, body: &[u8], session: Session) -> Result<Answered, Failure> {
        if let Some(tripped) = self.signer.tripped() {
            return Err(tripped.into());
        }
        let received = ReceivedRequest::verify(body).map_err(Failure::Malformed)?;
        let bundle = self.bundle();
        let now = clock::now();
        if let Err(expired) = bundle.check_time(now) {
            self.trip(expired.check(), &expired.to_string()).await;
            return Err(Failure::Tripped(Tripped { check: expired.check().into(), why: expired.to_string() }));
        }
        let (seen, seen_size) = self.judge_seen(received.request().seen.as_deref());
        let (facts_bytes, decision) = {
            let mut ledger = self.ledger();
            let until = now.saturating_add(bundle.policy().lease_seconds);
            let parent = ledger.parent(received.request().parent, now);
            let status = ledger.reserve_index(now, until).ok_or(Failure::OverBudget)?;
            let revocations = ledger.revocations().clone();
            drop(ledger);
            let reserved = status.clone();
            let facts = Facts {
                time: now,
                issuer: self.origin(),
                statement: session.statement,
                nonce: session.nonce,
                channel: session.channel,
                activation: session.activation,
                seen,
                parent,
                revocations: &revocations,
                status,
            };
            let decision = decide(&received, &facts, &bundle);
            if matches!(decision, Decision::Denied(_)) {
                self.ledger().release_index(&reserved);
            }
            (facts.encode(&received), decision)
        };
        let answered = self.issue(&received, decision, facts_bytes, seen_size).await;
        if seen == SeenState::Contradicted {
            self.trip_on_fork(received.request().seen.as_deref()).await;
        }
        answered
    }

    /// Signs a decision, appends it, and answers with the receipt.
    async fn issue(
        &self,
        received: &ReceivedRequest,
        decision: Decision,
        facts: Vec<u8>,
        seen: Option<u64>,
    ) -> Result<Answered, Failure> {
        let signing = |error: PermitError| Failure::Internal(error.to_string());
        let mut archive = vec![received.encoded().to_vec(), received.evidence().to_vec(), facts];
        match decision {
            Decision::Authorized { permit, result } => {
                let signed = permit.sign(&*self.signer.key()?).map_err(signing)?;
                archive.push(result.bytes().to_vec());
                for warning in result.warnings() {
                    let check = warning.check.clone();
                    self.metrics.warnings.get_or_create(&ByCheck { check }).inc();
                }
                let committed = self.append(signed.clone(), archive, seen).await?;
                self.ledger().record(&permit);
                self.metrics.permits.inc();
                let receipts = committed.receipts.ok_or_else(|| Failure::Internal("no receipt".into()))?;
                TransparentPermit::attach(&signed, receipts).map(Answered::Permit).map_err(signing)
            }
            Decision::Denied(denial) => {
                let check = denial.refusals.first().map_or_else(String::new, |r| r.check.clone());
                let signed = denial.sign(&*self.signer.key()?).map_err(signing)?;
                let committed = self.append(signed.clone(), archive, seen).await?;
                self.metrics.denials.get_or_create(&ByCheck { check }).inc();
                let receipts = committed.receipts.ok_or_else(|| Failure::Internal("no receipt".into()))?;
                TransparentPermit::attach(&signed, receipts).map(Answered::Denial).map_err(signing)
            }
        }
    }

    /// Hands an entry to the log and waits until it is durable. A log that
    /// cannot be written trips the authority.
    async fn append(&self, statement: Vec<u8>, blobs: Vec<Vec<u8>>, seen: Option<u64>) -> Result<Committed, Failure> {
        let (reply, outcome) = oneshot::channel();
        self.writer.append(NewEntry { statement, blobs, seen }, move |done| drop(reply.send(done)));
        match outcome.await {
            Ok(Ok(committed)) => {
                self.metrics.log_size.set(committed.checkpoint.size());
                Ok(committed)
            }
            Ok(Err(stopped)) => Err(self.trip_silently("log.write", &stopped.reason)),
            Err(_) => Err(self.trip_silently("log.write", "the log's thread ended")),
        }
    }

    /// Without a log there is no last entry.
    fn trip_silently(&self, check: &str, why: &str) -> Failure {
        let tripped = Tripped { check: check.into(), why: why.into() };
        drop(self.signer.trip(tripped.clone()));
        self.metrics.tripped.set(1);
        tracing::error!(check, why, "tripped");
        Failure::Tripped(tripped)
    }

    /// Stops signing for good. The trip entry is the last signature.
    pub(crate) async fn trip(&self, check: &str, why: &str) {
        let Some(key) = self.signer.trip(Tripped { check: check.into(), why: why.into() }) else { return };
        self.metrics.tripped.set(1);
        tracing::error!(check, why, "tripped");
        self.events.send(EventKind::Trip, &key, self.origin());
        let payload = encode(&map([(1, clock::now().into()), (2, check.into()), (3, why.into())]));
        if let Ok(entry) = statement::sign(Kind::Trip, &key, self.origin(), check, &payload) {
            // If the log fails as well, the trip stands all the same.
            drop(self.append(entry, Vec::new(), None).await);
        }
    }

    /// Whether the log extends the checkpoint that a node has seen.
    fn judge_seen(&self, note: Option<&str>) -> (SeenState, Option<u64>) {
        let Some(note) = note else { return (SeenState::None, None) };
        match Checkpoint::unverified(note) {
            Some((size, root)) if self.writer.view().with_tree(|tree| tree.root_at(size)) == Some(root) => {
                (SeenState::Extended, Some(size))
            }
            _ => (SeenState::Contradicted, None),
        }
    }

    /// A contradiction trips only with proof: the note bears our own signature.
    async fn trip_on_fork(&self, note: Option<&str>) {
        let key = &self.endorsement().endorsement.checkpoint_key;
        if let Some(Ok(checkpoint)) = note.map(|note| Checkpoint::verify(note, key)) {
            self.trip("log.fork", &format!("a node has our checkpoint of size {}", checkpoint.size())).await;
        }
    }

    /// The signed status list, valid from now. One is signed for all who ask
    /// within a second, as strangers may: as long as it does not change, another
    /// would say the same.
    pub(crate) fn status_list(&self) -> Result<Bytes, Failure> {
        let key = self.signer.key()?;
        let (now, validity) = (clock::now(), self.bundle().policy().status_seconds);
        let mut kept = self.status.lock().unwrap_or_else(PoisonError::into_inner);
        let ledger = self.ledger();
        if let Some(bytes) = kept.fresh(ledger.status_changes(), now) {
            return Ok(bytes);
        }
        let changes = ledger.status_changes();
        let list = ledger.status_list(now, now.saturating_add(validity));
        drop(ledger);
        let signed = list.sign(&key, self.origin()).map_err(|error| Failure::Internal(error.to_string()))?;
        Ok(kept.keep(signed.into(), changes, now))
    }

    /// Puts a revocation into effect: logged first, then told.
    pub(crate) async fn revoke(&self, signed: &[u8]) -> Result<usize, Failure> {
        let refused = |check, why: String| Failure::Refused(Refused::new(check, why));
        let command = Revocation::verify(signed, &self.governance)
            .map_err(|error| refused("governance.signature", error.to_string()))?;
        if command.authority != self.origin() {
            return Err(refused(
                "governance.authority",
                format!("found {}, required {}", command.authority, self.origin()),
            ));
        }
        let now = clock::now();
        if now >= command.expires {
            return Err(refused("governance.expired", format!("found {}, required later than {now}", command.expires)));
        }
        let (sequence, last) = {
            let ledger = self.ledger();
            (ledger.revocations().sequence().saturating_add(1), ledger.revocations().last().copied())
        };
        if command.sequence != sequence {
            return Err(refused("governance.sequence", format!("found {}, required {sequence}", command.sequence)));
        }
        if command.predecessor != last {
            let name = |digest: Option<Digest>| digest.map_or_else(|| "none".to_owned(), |digest| hex(&digest));
            let (found, required) = (name(command.predecessor), name(last));
            return Err(refused("governance.predecessor", format!("found {found}, required {required}")));
        }
        let key = self.signer.key()?;
        let entry = statement::sign(Kind::Revocation, &key, self.origin(), "revocation", signed)
            .map_err(|error| Failure::Internal(error.to_string()))?;
        self.append(entry, Vec::new(), None).await?;
        let hit = self.ledger().revoke(&command);
        self.events.send(EventKind::Status, &key, self.origin());
        tracing::info!(sequence = command.sequence, hit, "revocation in effect");
        Ok(hit)
    }

    /// Activates the next bundle: it follows on the active one, this machine
    /// passes it, and the activation is logged.
    pub(crate) async fn activate_policy(&self, bytes: &[u8]) -> Result<u64, Failure> {
        let refused =
            |error: portcullis_firmware_policy::BundleError| Failure::Refused(Refused::new(error.check(), error));
        let bundle = Arc::new(VerifiedBundle::verify(bytes, &self.governance).map_err(refused)?);
        let now = clock::now();
        bundle.check_time(now).map_err(refused)?;
        bundle.check_succession(&self.bundle()).map_err(refused)?;
        self.attestor.self_check(Arc::clone(&bundle), self.origin().to_owned(), now).await.map_err(|error| {
            match error.downcast::<Refused>() {
                Ok(refused) => Failure::Refused(refused),
                Err(error) => Failure::Internal(error.to_string()),
            }
        })?;
        let key = self.signer.key()?;
        let version = bundle.policy().version;
        let payload = encode(&map([(1, version.into()), (2, bstr(bundle.digest())), (3, now.into())]));
        let entry = statement::sign(Kind::Policy, &key, self.origin(), "policy", &payload)
            .map_err(|error| Failure::Internal(error.to_string()))?;
        // On the disk before the log says that it is active.
        let internal = |error: std::io::Error| Failure::Internal(error.to_string());
        fs::write(self.config.state.join("active.pcb"), bytes).map_err(internal)?;
        if let Some(predecessor) = &bundle.policy().predecessor {
            let path = self.successor_path(predecessor);
            fs::create_dir_all(path.parent().unwrap_or(&self.config.state)).map_err(internal)?;
            fs::write(path, bytes).map_err(internal)?;
        }
        self.append(entry, vec![bytes.to_vec()], None).await?;
        self.ledger().set_bundle_version(version);
        *self.bundle.write().unwrap_or_else(PoisonError::into_inner) = bundle;
        self.events.send(EventKind::Policy, &key, self.origin());
        tracing::info!(version, "bundle active");
        Ok(version)
    }

    /// The bundle that followed on another one here, for nodes that missed it.
    pub(crate) fn successor(&self, predecessor: &Digest) -> Option<Vec<u8>> {
        fs::read(self.successor_path(predecessor)).ok()
    }

    fn successor_path(&self, predecessor: &Digest) -> PathBuf {
        self.config.state.join("bundles").join(format!("{}.pcb", hex(predecessor)))
    }

    /// Takes a newer endorsement of this instance.
    pub(crate) async fn activate_instance(&self, bytes: &[u8]) -> Result<(), Failure> {
        let refused = |check, why: String| Failure::Refused(Refused::new(check, why));
        let new = Endorsement::verify(bytes, &self.governance)
            .map_err(|error| refused("authority.endorsement", error.to_string()))?;
        let now = clock::now();
        let active = self.endorsement();
        let same =
            Endorsement { expires: new.expires, bundle_version: new.bundle_version, ..active.endorsement.clone() };
        if new != same || new.bundle_version > self.bundle().policy().version {
            return Err(refused("authority.endorsement", "not an endorsement of this instance".into()));
        }
        if now >= new.expires {
            return Err(refused(
                "authority.endorsement.expired",
                format!("found {}, required later than {now}", new.expires),
            ));
        }
        let key = self.signer.key()?;
        let entry = statement::sign(Kind::Instance, &key, self.origin(), "instance", bytes)
            .map_err(|error| Failure::Internal(error.to_string()))?;
        fs::write(self.config.state.join("active.pce"), bytes).map_err(|error| Failure::Internal(error.to_string()))?;
        self.append(entry, Vec::new(), None).await?;
        let signed = SignedEndorsement { bytes: bytes.to_vec(), endorsement: new };
        *self.endorsement.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(signed);
        Ok(())
    }

    /// Logs what a gate reports of a permit that it holds.
    pub(crate) async fn record_execution(&self, report: &[u8]) -> Result<(), Failure> {
        let (execution, gate) = Execution::verify(report).map_err(Failure::Malformed)?;
        if self.ledger().confirmation(&execution.permit) != Some(*gate.thumbprint()) {
            let why = format!("permit {} is not one of this gate", execution.permit);
            return Err(Failure::Refused(Refused::new("execution.permit", why)));
        }
        let subject = execution.permit.to_string();
        let key = self.signer.key()?;
        let entry = statement::sign(Kind::ExecutionRecord, &key, self.origin(), &subject, report)
            .map_err(|error| Failure::Internal(error.to_string()))?;
        self.append(entry, Vec::new(), None).await.map(|_| ())
    }

    /// Writes the boot entry: what runs, under which bundle, as attested.
    pub(crate) async fn log_boot(&self, result: &[u8], evidence: Vec<u8>) -> Result<()> {
        let bundle = self.bundle();
        let digest = portcullis_wire::sha256(&[result]);
        let payload = encode(&map([
            (1, bundle.policy().version.into()),
            (2, bstr(bundle.digest())),
            (3, clock::now().into()),
            (4, bstr(digest)),
            (5, Value::from(env!("CARGO_PKG_VERSION"))),
        ]));
        let key = self.signer.key().map_err(|tripped| anyhow::anyhow!(tripped.why))?;
        let entry = statement::sign(Kind::Boot, &key, self.origin(), "boot", &payload)?;
        let logged = self.append(entry, vec![result.to_vec(), evidence], None).await;
        logged.map(|_| ()).map_err(|failure| anyhow::anyhow!("{failure:?}")).context("boot entry")
    }

    /// Ends the log and the attestor in order.
    pub(crate) fn close(&self) {
        self.attestor.close();
        self.writer.close();
    }
}
