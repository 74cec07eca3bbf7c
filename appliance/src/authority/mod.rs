//! The authority decides, signs and logs before it answers.

mod commands;
mod decisions;
mod records;
mod standing;

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock};

use aws_lc_rs::rand;
use bytes::Bytes;
use portcullis_attest::binding::{Binding, Channel, Role};
use portcullis_firmware_policy::{Activation, AuthorityAnswer, NoncePreimage, VerifiedBundle};
use portcullis_lineage::{Storage, Writer};
use portcullis_permit::{AuthorityStatement, Checkpoint, Endorsement, Governance, PermitError, SigningKey};
use portcullis_wire::Digest;

use crate::anchor::Fence;
use crate::attestor::Attestor;
use crate::clock;
use crate::config::Config;
use crate::doubts::Doubts;
use crate::events::Events;
use crate::instance::Refused;
use crate::kept::Folders;
use crate::ledger::Ledger;
use crate::metrics::Metrics;
use crate::signer::{Signer, Stopped};
use crate::status::KeptStatus;
use crate::strangers::Strangers;
use crate::witnesses::Vouched;

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
    /// The authority signs nothing, permanently or temporarily.
    Stopped(Stopped),
    /// A command of governors or a report is refused.
    Refused(Refused),
    /// Every status index is held by a live permit.
    OverBudget,
    /// A stranger is denied; the denial is counted in the log together with others.
    Counted,
    /// The authority itself failed.
    Internal(String),
}

impl From<Stopped> for Failure {
    fn from(stopped: Stopped) -> Self {
        Self::Stopped(stopped)
    }
}

/// The outcome of a decision.
pub(crate) enum Answered {
    /// A transparent permit.
    Permit(Vec<u8>),
    /// A signed, logged denial.
    Denial(Vec<u8>),
}

/// The facts of a connection that a permit request needs.
pub(crate) struct Session {
    /// The session as the node sees it.
    pub(crate) channel: Channel,
    /// Digest of the statement that was sent to the node in this session.
    pub(crate) statement: Digest,
    /// The outstanding nonce, which is consumed.
    pub(crate) nonce: Option<NoncePreimage>,
    /// The credential that was activated in this session.
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
    ledger: Arc<Mutex<Ledger>>,
    storage: Arc<dyn Storage>,
    pub(crate) fence: Fence,
    strangers: Strangers,
    /// One command of governors at a time, because each succeeds the one before.
    turn: tokio::sync::Mutex<()>,
    vouched: Vouched,
    /// How long the witnesses have lagged. Only permits wait for them.
    pub(crate) lag: Doubts,
    status: Mutex<KeptStatus>,
    folders: Folders,
    /// SHA-256 of this process' boot entry.
    boot: OnceLock<Digest>,
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
        ledger: Arc<Mutex<Ledger>>,
        storage: Arc<dyn Storage>,
    ) -> Self {
        Self {
            folders: Folders::of(&config),
            config,
            governance,
            signer: Signer::new(key),
            attestor,
            events: Events::new(),
            metrics: Metrics::new(),
            writer,
            endorsement: RwLock::new(Arc::new(endorsement)),
            bundle: RwLock::new(Arc::new(bundle)),
            ledger,
            storage,
            fence: Fence::new(),
            strangers: Strangers::default(),
            turn: tokio::sync::Mutex::default(),
            vouched: Vouched::default(),
            lag: Doubts::default(),
            status: Mutex::default(),
            boot: OnceLock::new(),
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

    /// Anchors the head in the TPM.
    pub(crate) async fn anchor(&self, clean: bool) -> Result<(), String> {
        let head = self.head().map_err(|_| "an empty log".to_owned())?;
        self.attestor.anchor(self.bundle(), head, clean).await
    }

    /// Sends the head to the witnesses that the bundle names. Returns the reason of each
    /// witness that did not cosign.
    pub(crate) async fn ask_witnesses(&self) -> Result<Vec<String>, Failure> {
        let bundle = self.bundle();
        let Some(witnesses) = &bundle.policy().witnesses else { return Ok(Vec::new()) };
        let failed = self.vouched.ask(witnesses, self.head()?, self.writer.view(), bundle.policy().clock_skew).await;
        if let Some(note) = self.vouched.note() {
            // For auditors; gates get the cosignatures with each permit.
            let put = self.storage.put_durable("witnessed", note.as_bytes());
            put.map_err(|error| Failure::Internal(error.to_string()))?;
        }
        Ok(failed)
    }

    /// When a quorum of witnesses last cosigned the log, Unix seconds.
    pub(crate) fn witnessed(&self) -> Option<u64> {
        self.vouched.reached()
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

    /// The authority's current statement about itself.
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
        if let Some(stopped) = self.silent(clock::now()) {
            return Err(stopped.into());
        }
        let statement = self.statement()?;
        let size = self.head()?.size();
        let context = AuthorityStatement::digest(&statement);
        let binder =
            Binding { role: Role::Authority, nonce, channel, context: &context }.binder(self.attestor.ak_name());
        let answer = self.attestor.attest(binder, self.bundle()).await;
        let answer = answer.map_err(|why| Stopped::for_now("watch.device", why))?;
        let consistency =
            seen_size.and_then(|seen| self.writer.view().with_tree(|tree| tree.consistency(seen, size)).ok());
        Ok(AuthorityAnswer {
            statement,
            evidence: answer.evidence.to_vec(),
            batch: answer.proof,
            consistency: consistency.unwrap_or_default(),
        })
    }

    /// The signed status list, valid from now. Requests within one second share a list
    /// while it does not change, so that strangers cannot cause many signatures.
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
}
