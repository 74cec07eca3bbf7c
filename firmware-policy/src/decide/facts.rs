//! Inputs of a decision besides request and bundle, recorded with it.

use portcullis_attest::binding::Channel;
use portcullis_permit::{BootCounters, PermitId, ReceivedRequest, StatusReference};
use portcullis_wire::{Digest, Error, Value, bstr, decode, encode, or_null};

use crate::appraise::Activation;
use crate::nonce::NoncePreimage;
use crate::revocations::Revocations;

const LABEL: &str = "portcullis/facts/2";
/// Largest record of facts, in bytes. Most of it is a post-quantum signature.
const MAX_LENGTH: usize = 16 * 1024;

/// The log's knowledge of a parent permit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ParentState {
    /// The request names no parent.
    None,
    /// The request names a parent that is not in the log, or that has ended.
    Unknown,
    /// The parent is in the log.
    Logged {
        /// Its subject.
        subject: String,
        /// Its confirmation key.
        confirmation: Digest,
        /// Its workload.
        workload: Digest,
        /// First permit of its line of renewals.
        origin: PermitId,
        /// Time at which that first permit was granted, Unix seconds.
        since: u64,
        /// Recorded boot counters of the node's TPM.
        boot: Option<BootCounters>,
    },
}

/// How the checkpoint that the node has seen relates to the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SeenState {
    /// The node has not seen a checkpoint.
    None,
    /// The log extends it.
    Extended,
    /// The log does not extend it, or it is unreadable.
    Contradicted,
}

/// All inputs of a decision besides request and bundle.
#[derive(Clone, Debug)]
pub struct Facts<'a> {
    /// Unix seconds.
    pub time: u64,
    /// Origin of the authority's log.
    pub issuer: &'a str,
    /// SHA-256 of the boot entry of the authority that decides.
    pub boot: Digest,
    /// Digest of the statement that the authority sent on this connection.
    pub statement: Digest,
    /// The connection's nonce, consumed by this request; `None` if the connection has no
    /// nonce.
    pub nonce: Option<NoncePreimage>,
    /// The session as the node sees it.
    pub channel: Channel,
    /// The credential that was activated on this connection, if any.
    pub activation: Option<Activation>,
    /// How the checkpoint that the request names relates to the log.
    pub seen: SeenState,
    /// The log's knowledge of the parent.
    pub parent: ParentState,
    /// The revocations by governors.
    pub revocations: &'a Revocations,
    /// Location of the permit's status.
    pub status: StatusReference,
}

impl Facts<'_> {
    /// The facts as archived, with the signature of the request. Permits and denials carry
    /// the digest of this record.
    #[must_use]
    pub fn encode(&self, received: &ReceivedRequest) -> Vec<u8> {
        let parent = match &self.parent {
            ParentState::None => Value::Null,
            ParentState::Unknown => Value::Bool(false),
            ParentState::Logged { subject, confirmation, workload, origin, since, boot } => Value::Array(vec![
                subject.as_str().into(),
                bstr(confirmation),
                bstr(workload),
                bstr(origin.bytes()),
                (*since).into(),
                or_null(boot.map(|boot| boot.to_value())),
            ]),
        };
        let activation = |Activation { ek, ak_name }: &Activation| Value::Array(vec![bstr(ek), bstr(ak_name)]);
        encode(&Value::Array(vec![
            LABEL.into(),
            self.time.into(),
            self.issuer.into(),
            bstr(self.boot),
            bstr(self.statement),
            or_null(self.nonce.map(NoncePreimage::to_value)),
            bstr(self.channel.exporter),
            bstr(self.channel.own_key),
            bstr(self.channel.peer_key),
            or_null(self.activation.as_ref().map(activation)),
            (self.seen as u64).into(),
            parent,
            bstr(self.revocations.digest()),
            self.status.uri.as_str().into(),
            self.status.index.into(),
            bstr(received.envelope()),
        ]))
    }
}

/// Facts read from the archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordedFacts {
    time: u64,
    issuer: String,
    boot: Digest,
    statement: Digest,
    nonce: Option<NoncePreimage>,
    channel: Channel,
    activation: Option<Activation>,
    seen: SeenState,
    parent: ParentState,
    revocations: Digest,
    status: StatusReference,
    envelope: Vec<u8>,
}

impl RecordedFacts {
    /// Reads archived facts.
    ///
    /// # Errors
    /// Any [`Error`] of the encoding.
    pub fn decode(bytes: &[u8]) -> Result<Self, Error> {
        let refused = || Error::Shape("recorded facts");
        let items = decode(bytes, MAX_LENGTH)?.into_array().map_err(|_| refused())?;
        let items = <[Value; 16]>::try_from(items).map_err(|_| refused())?;
        let [
            label,
            time,
            issuer,
            boot,
            statement,
            nonce,
            exporter,
            own,
            peer,
            activation,
            seen,
            parent,
            revocations,
            uri,
            index,
            envelope,
        ] = items;
        if label != LABEL.into() {
            return Err(refused());
        }
        Ok(Self {
            time: uint(time)?,
            issuer: issuer.into_text().map_err(|_| refused())?,
            boot: array(boot)?,
            statement: array(statement)?,
            nonce: maybe(nonce, NoncePreimage::from_value)?,
            channel: Channel { exporter: array(exporter)?, own_key: array(own)?, peer_key: array(peer)? },
            activation: maybe(activation, read_activation)?,
            seen: read_seen(uint(seen)?)?,
            parent: read_parent(parent)?,
            revocations: array(revocations)?,
            status: StatusReference { uri: uri.into_text().map_err(|_| refused())?, index: uint(index)? },
            envelope: envelope.into_bytes().map_err(|_| refused())?,
        })
    }

    /// Digest of the revocations at that time: [`Revocations::digest`].
    #[must_use]
    pub const fn revocations(&self) -> &Digest {
        &self.revocations
    }

    /// Time of the decision, Unix seconds.
    #[must_use]
    pub const fn time(&self) -> u64 {
        self.time
    }

    /// SHA-256 of the boot entry of the authority that decided.
    #[must_use]
    pub const fn boot(&self) -> &Digest {
        &self.boot
    }

    /// The log's knowledge of the parent at that time.
    #[must_use]
    pub const fn parent(&self) -> &ParentState {
        &self.parent
    }

    /// The signature of the request, for [`ReceivedRequest::rejoin`].
    #[must_use]
    pub fn envelope(&self) -> &[u8] {
        &self.envelope
    }

    /// The facts, with the revocations that their digest names.
    #[must_use]
    pub fn with<'a>(&'a self, revocations: &'a Revocations) -> Option<Facts<'a>> {
        (*revocations.digest() == self.revocations).then(|| Facts {
            time: self.time,
            issuer: &self.issuer,
            boot: self.boot,
            statement: self.statement,
            nonce: self.nonce,
            channel: self.channel,
            activation: self.activation.clone(),
            seen: self.seen,
            parent: self.parent.clone(),
            revocations,
            status: self.status.clone(),
        })
    }
}

fn wrong() -> Error {
    Error::Shape("recorded facts")
}

fn uint(value: Value) -> Result<u64, Error> {
    value.into_integer().ok().and_then(|n| u64::try_from(n).ok()).ok_or_else(wrong)
}

fn array<const N: usize>(value: Value) -> Result<[u8; N], Error> {
    value.into_bytes().ok().and_then(|bytes| bytes.try_into().ok()).ok_or_else(wrong)
}

fn maybe<T>(value: Value, read: impl FnOnce(Value) -> Result<T, Error>) -> Result<Option<T>, Error> {
    if value == Value::Null { Ok(None) } else { read(value).map(Some) }
}

fn items<const N: usize>(value: Value) -> Result<[Value; N], Error> {
    value.into_array().ok().and_then(|items| items.try_into().ok()).ok_or_else(wrong)
}

fn read_activation(value: Value) -> Result<Activation, Error> {
    let [ek, ak_name] = items(value)?;
    Ok(Activation { ek: array(ek)?, ak_name: ak_name.into_bytes().map_err(|_| wrong())? })
}

fn read_seen(number: u64) -> Result<SeenState, Error> {
    let states = [SeenState::None, SeenState::Extended, SeenState::Contradicted];
    states.into_iter().find(|state| *state as u64 == number).ok_or_else(wrong)
}

fn read_parent(value: Value) -> Result<ParentState, Error> {
    match value {
        Value::Null => return Ok(ParentState::None),
        Value::Bool(false) => return Ok(ParentState::Unknown),
        _ => {}
    }
    let [subject, confirmation, workload, origin, since, boot] = items(value)?;
    Ok(ParentState::Logged {
        subject: subject.into_text().map_err(|_| wrong())?,
        confirmation: array(confirmation)?,
        workload: array(workload)?,
        origin: PermitId::from_bytes(array(origin)?),
        since: uint(since)?,
        boot: maybe(boot, BootCounters::from_value)?,
    })
}
