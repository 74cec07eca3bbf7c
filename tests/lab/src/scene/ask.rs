//! Requests of a scene's devices: sound ones, and ones with any part wrong.

use anyhow::{Context, Result};
use portcullis_attest::binding::{Binding, Channel, Role, quote_nonce};
use portcullis_attest::crypto::sha256;
use portcullis_attest::evidence::{Collected, Evidence};
use portcullis_attest::tpm::pcr::Selection;
use portcullis_attester::{QuoteDevice, SnpDevice};
use portcullis_firmware_policy::{
    Activation, Decision, Facts, NoncePreimage, ParentState, Revocations, SeenState, VerifiedBundle, decide,
};
use portcullis_permit::{
    DynamicLinking, PermitId, PermitRequest, ReceivedRequest, SigningKey, StatusReference, Workload as Asked,
};

use super::{ORIGIN, WORKLOAD};
use crate::processor::Processor;
use crate::tpm::SoftTpm;

/// The evidence that a device shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shows {
    /// Report and quote.
    SnpTpm,
    /// A report.
    Snp,
    /// A quote.
    Tpm,
}

/// A machine with a gate.
pub struct Device {
    /// Name that it gives.
    pub name: String,
    /// Its chip.
    pub processor: Processor,
    /// Its TPM.
    pub tpm: SoftTpm,
    /// Its gate's key.
    pub key: SigningKey,
    /// The evidence that it shows.
    pub shows: Shows,
}

impl Device {
    /// A sound ask for a scene's workload at a time.
    ///
    /// # Errors
    /// Cryptography.
    pub fn ask(&mut self, time: u64, selection: &Selection) -> Result<Ask> {
        Plan::at(time).ask(self, selection)
    }
}

/// Plan of an ask: every part that is not in the evidence.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Recorded time.
    pub time: u64,
    /// Seconds since the nonce was given.
    pub nonce_age: i64,
    /// Authority that the request names.
    pub audience: String,
    /// Whether it repeats the statement that was shown.
    pub statement_repeated: bool,
    /// Whether it repeats the nonce that was given.
    pub nonce_repeated: bool,
    /// Workload to run.
    pub workload: Asked,
    /// The permit that it renews.
    pub parent: Option<PermitId>,
    /// State of that permit in the log.
    pub parent_state: ParentState,
    /// State of the request in the log.
    pub seen: SeenState,
    /// Activation on the connection.
    pub activation: Option<Activation>,
    /// Whether the evidence is of this session.
    pub channel_kept: bool,
    /// The governors' revocations.
    pub revocations: Revocations,
    /// Makes one ask different from the next.
    pub salt: u64,
}

impl Plan {
    /// A sound plan.
    #[must_use]
    pub fn at(time: u64) -> Self {
        Self {
            time,
            nonce_age: 1,
            audience: ORIGIN.into(),
            statement_repeated: true,
            nonce_repeated: true,
            workload: Asked {
                digest: WORKLOAD,
                arguments: [1; 32],
                environment: [2; 32],
                linking: DynamicLinking::Static,
            },
            parent: None,
            parent_state: ParentState::None,
            seen: SeenState::None,
            activation: None,
            channel_kept: true,
            revocations: Revocations::default(),
            salt: 0,
        }
    }

    /// Has a device ask by the plan.
    ///
    /// # Errors
    /// Cryptography.
    pub fn ask(&self, device: &mut Device, selection: &Selection) -> Result<Ask> {
        let salted = |label: &str| sha256(&[label.as_bytes(), &self.salt.to_be_bytes()]);
        let statement = salted("statement");
        let issued = self.time.checked_add_signed(self.nonce_age.saturating_neg()).context("nonce age")?;
        let nonce = NoncePreimage { root: salted("root"), issued, random: salted("random") };
        let channel = Channel { exporter: salted("exporter"), own_key: salted("own"), peer_key: salted("peer") };
        let request = PermitRequest {
            audience: self.audience.clone(),
            node: device.name.clone(),
            confirmation: device.key.public().clone(),
            nonce: if self.nonce_repeated { nonce.nonce() } else { [0xee; 32] },
            statement: if self.statement_repeated { statement } else { [0xee; 32] },
            workload: self.workload.clone(),
            seen: None,
            parent: self.parent,
        };
        let shown = if self.channel_kept { channel } else { channel.reversed() };
        let context = sha256(&[&request.encode()]);
        let evidence = device.evidence(&request.nonce, shown, &context, selection)?;
        let received = ReceivedRequest::verify(&request.sign(&device.key, evidence.bytes())?)?;
        Ok(Ask { received, statement, nonce, channel, plan: self.clone() })
    }
}

impl Device {
    fn evidence(
        &mut self,
        nonce: &[u8; 32],
        channel: Channel,
        context: &[u8; 32],
        selection: &Selection,
    ) -> Result<Evidence> {
        let binding = Binding { role: Role::Node, nonce, channel, context };
        let ak_name = (self.shows != Shows::Snp).then(|| self.tpm.ak_name().to_vec());
        let report_data = binding.binder(ak_name.as_deref());
        let quoted = quote_nonce(&report_data);
        Ok(Evidence::of(match self.shows {
            Shows::Snp => Collected::Snp(self.processor.report(&report_data)?),
            Shows::Tpm => Collected::Tpm(self.tpm.quote(&quoted, selection)?),
            Shows::SnpTpm => {
                Collected::SnpTpm(self.processor.report(&report_data)?, self.tpm.quote(&quoted, selection)?)
            }
        }))
    }
}

/// A request as an authority received it, with the recorded facts.
pub struct Ask {
    received: ReceivedRequest,
    statement: [u8; 32],
    nonce: NoncePreimage,
    channel: Channel,
    plan: Plan,
}

impl Ask {
    /// The request.
    #[must_use]
    pub const fn received(&self) -> &ReceivedRequest {
        &self.received
    }

    /// The facts that are recorded with it.
    #[must_use]
    pub fn facts(&self) -> Facts<'_> {
        Facts {
            time: self.plan.time,
            issuer: ORIGIN,
            boot: sha256(&[b"boot"]),
            statement: self.statement,
            nonce: Some(self.nonce),
            channel: self.channel,
            activation: self.plan.activation.clone(),
            seen: self.plan.seen,
            parent: self.plan.parent_state.clone(),
            revocations: &self.plan.revocations,
            status: StatusReference { uri: "/v1/status/0".into(), index: self.plan.salt % (1 << 18) },
        }
    }

    /// The parts that an authority archives: signature, request, evidence, facts.
    #[must_use]
    pub fn archived(&self) -> [Vec<u8>; 4] {
        let received = &self.received;
        let facts = self.facts().encode(received);
        [received.envelope().to_vec(), received.encoded().to_vec(), received.evidence().to_vec(), facts]
    }

    /// The governors' revocations.
    #[must_use]
    pub const fn revocations(&self) -> &Revocations {
        &self.plan.revocations
    }

    /// The decision of an authority with this bundle.
    #[must_use]
    pub fn decide(&self, bundle: &VerifiedBundle) -> Decision {
        decide(&self.received, &self.facts(), bundle)
    }

    /// The check ids of the denial; empty for a permit.
    #[must_use]
    pub fn refusals(&self, bundle: &VerifiedBundle) -> Vec<String> {
        match self.decide(bundle) {
            Decision::Authorized { .. } => Vec::new(),
            Decision::Denied(denial) => denial.refusals.into_iter().map(|refusal| refusal.check).collect(),
        }
    }
}
