//! A permit with its receipt, and what a gate requires of it.

use portcullis_lineage::{RECEIPTS_LABEL, ReceiptKey, VerifiedInclusion, VerifyingKey, verify_receipts};
use portcullis_wire::{Digest, Sign1, Value, hex, rfc3339};

use crate::clock::Clock;
use crate::error::PermitError;
use crate::key::PublicKey;
use crate::permit::{DynamicLinking, Permit, PermitId, Workload};
use crate::statement::{self, Kind};
use crate::witnessed::{WITNESSED_LABEL, WitnessQuorum, Witnessed};

/// A signed permit together with proof that it is in the log. The constructor
/// verifies both.
#[derive(Clone, Debug)]
pub struct TransparentPermit {
    permit: Permit,
    inclusion: VerifiedInclusion,
    witnessed: Option<Witnessed>,
    entry: Vec<u8>,
    bytes: Vec<u8>,
}

impl TransparentPermit {
    /// Attaches receipts to a signed permit, and the checkpoint that witnesses
    /// have cosigned: what the authority answers with.
    ///
    /// # Errors
    /// [`PermitError`].
    pub fn attach(signed: &[u8], receipts: Value, witnessed: Option<&Witnessed>) -> Result<Vec<u8>, PermitError> {
        let witnessed = witnessed.map(|witnessed| (WITNESSED_LABEL, witnessed.to_value()));
        let headers = std::iter::once((RECEIPTS_LABEL, receipts)).chain(witnessed);
        Ok(Sign1::parse(signed, statement::MAX_LENGTH)?.with_unprotected(headers.collect()))
    }

    /// Verifies `typ`, algorithm, key, signature and receipts; `seen` is the
    /// largest checkpoint accepted before.
    ///
    /// # Errors
    /// [`PermitError`]; a permit without a receipt is [`PermitError::Receipt`].
    pub fn verify(
        bytes: &[u8],
        permit_key: &PublicKey,
        receipt_key: &ReceiptKey,
        seen: Option<(u64, Digest)>,
    ) -> Result<Self, PermitError> {
        let statement = statement::verify(bytes, Kind::Permit, permit_key)?;
        let entry = statement.object().signed_part();
        let receipts = statement.object().unprotected(RECEIPTS_LABEL);
        let inclusion = verify_receipts(receipts, &entry, receipt_key, seen)?;
        let witnessed = statement.object().unprotected(WITNESSED_LABEL).map(Witnessed::from_value).transpose()?;
        let permit = Permit::decode(statement.payload())?;
        Ok(Self { permit, inclusion, witnessed, entry, bytes: bytes.to_vec() })
    }

    /// The content.
    #[must_use]
    pub const fn permit(&self) -> &Permit {
        &self.permit
    }

    /// Where in the log it is.
    #[must_use]
    pub const fn inclusion(&self) -> &VerifiedInclusion {
        &self.inclusion
    }

    /// The log entry.
    #[must_use]
    pub fn entry(&self) -> &[u8] {
        &self.entry
    }

    /// The permit as received.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Checks that the permit is for this gate, key and workload, now.
    ///
    /// # Errors
    /// [`PermitError::Claim`] with the first check that fails.
    pub fn expect(self, gate: &GateExpectation<'_>) -> Result<VerifiedPermit, PermitError> {
        gate.check(&self.permit)?;
        if let Some(quorum) = gate.witnesses {
            let witnessed = self.witnessed.as_ref().ok_or_else(|| {
                claim("permit.witness", "no cosigned checkpoint".into(), "one, as the bundle demands".into())
            })?;
            witnessed.check(quorum, gate.checkpoint_key, &self.inclusion, gate.clock)?;
        }
        Ok(VerifiedPermit { transparent: self })
    }
}

/// How the holder of a permit knows when it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PermitLife {
    /// It answers the request with this id, which the gate has just sent. The gate measures
    /// the lease from then on a clock that cannot be set, so the wall clocks need to agree
    /// only within the tolerance.
    FromRequest(PermitId),
    /// It was stored: it ends exactly when the clock reaches its end.
    ByClock,
}

/// What a gate requires of a permit.
#[derive(Clone, Copy, Debug)]
pub struct GateExpectation<'a> {
    /// Origin of the authority's log.
    pub issuer: &'a str,
    /// The node's name.
    pub node: &'a str,
    /// The gate's own key.
    pub confirmation: &'a PublicKey,
    /// What the gate is about to run.
    pub workload: &'a Workload,
    /// The gate's clock, with the tolerance of its bundle.
    pub clock: Clock,
    /// How the gate knows when the permit ends.
    pub life: PermitLife,
    /// Key of the log's checkpoints.
    pub checkpoint_key: &'a VerifyingKey,
    /// Whose cosignatures the bundle demands, if any.
    pub witnesses: Option<&'a WitnessQuorum>,
}

impl GateExpectation<'_> {
    fn check(&self, permit: &Permit) -> Result<(), PermitError> {
        equal("permit.issuer", &permit.issuer, self.issuer)?;
        equal("permit.subject", &permit.subject, self.node)?;
        equal("permit.audience", &permit.audience, &Permit::gate_audience(self.node))?;
        same("permit.cnf", &permit.confirmation, self.confirmation.thumbprint())?;
        same("permit.workload", &permit.workload, &self.workload.digest)?;
        if let Some(arguments) = &permit.constraints.arguments {
            same("permit.arguments", arguments, &self.workload.arguments)?;
        }
        if let Some(environment) = &permit.constraints.environment {
            same("permit.environment", environment, &self.workload.environment)?;
        }
        let linking = (permit.constraints.linking, self.workload.linking);
        if linking == (DynamicLinking::Static, DynamicLinking::Dynamic) {
            return Err(claim("permit.linking", "static only".into(), "dynamic allowed".into()));
        }
        let Clock { now, skew } = self.clock;
        if !self.clock.has_reached(permit.not_before) {
            let required = format!("at most {skew} s after {}", rfc3339(now));
            return Err(claim("permit.not_before", rfc3339(permit.not_before), required));
        }
        let (ended, required) = match self.life {
            PermitLife::FromRequest(id) => {
                equal("permit.request", &permit.id.to_string(), &id.to_string())?;
                (self.clock.is_past_everywhere(permit.expires), format!("later than {skew} s before {}", rfc3339(now)))
            }
            PermitLife::ByClock => (now >= permit.expires, format!("later than {}", rfc3339(now))),
        };
        if ended {
            return Err(claim("permit.expired", rfc3339(permit.expires), required));
        }
        Ok(())
    }
}

fn claim(check: &'static str, found: String, required: String) -> PermitError {
    PermitError::Claim { check, found, required }
}

fn equal(check: &'static str, found: &str, required: &str) -> Result<(), PermitError> {
    if found == required { Ok(()) } else { Err(claim(check, found.to_owned(), required.to_owned())) }
}

fn same(check: &'static str, found: &Digest, required: &Digest) -> Result<(), PermitError> {
    equal(check, &hex::hex(found), &hex::hex(required))
}

/// A permit that this gate may act on. Only [`TransparentPermit::expect`] makes one.
#[derive(Clone, Debug)]
pub struct VerifiedPermit {
    transparent: TransparentPermit,
}

impl VerifiedPermit {
    /// The content.
    #[must_use]
    pub const fn permit(&self) -> &Permit {
        &self.transparent.permit
    }

    /// With its receipt.
    #[must_use]
    pub const fn transparent(&self) -> &TransparentPermit {
        &self.transparent
    }

    /// Seconds for which it was granted, from when it was asked for.
    #[must_use]
    pub const fn granted_seconds(&self) -> u64 {
        self.transparent.permit.expires.saturating_sub(self.transparent.permit.not_before)
    }
}
