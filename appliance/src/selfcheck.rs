//! The authority attests itself with the code and the bundle that it applies to others.

use anyhow::{Context, Result};
use aws_lc_rs::rand;
use portcullis_attest::binding::{Batch, Binding, Channel, Role};
use portcullis_attest::check::Checks;
use portcullis_attest::evidence::EvidenceClass;
use portcullis_attest::tpm::attest::ClockInfo;
use portcullis_attest::verified::{Carriage, Challenge, verify};
use portcullis_attester::Machine;
use portcullis_firmware_policy::{AttestationResult, Identity, VerifiedBundle, appraise, identify};

use crate::instance::Refused;

/// The result of the authority's appraisal of itself.
pub(crate) struct Own {
    pub(crate) result: AttestationResult,
    pub(crate) evidence: Vec<u8>,
    pub(crate) chip_id: Vec<u8>,
    pub(crate) measurement: Vec<u8>,
    /// The TPM's clock and boot counters, from its quote.
    pub(crate) tpm_clock: ClockInfo,
}

/// Collects evidence of this machine and appraises it in the role of authority.
pub(crate) fn appraise_own(machine: &mut Machine, origin: &str, bundle: &VerifiedBundle, at: u64) -> Result<Own> {
    let mut nonce = [0; 32];
    rand::fill(&mut nonce).map_err(|_| anyhow::anyhow!("the system gives no randomness"))?;
    // A session with itself, so that the evidence is fresh and bound to this check.
    let channel = Channel { exporter: [0; 32], own_key: [0; 32], peer_key: [0; 32] };
    let binding = Binding { role: Role::Authority, nonce: &nonce, channel, context: &[0; 32] };
    let binder = binding.binder(machine.ak_name());
    let batch = Batch::new(&[binder]).context("a batch of one")?;
    let selection = bundle.policy().selection(Role::Authority);
    let evidence = machine.collect(&batch.report_data(), selection)?;
    let proof = batch.proof(0).context("a batch of one")?;

    let mut checks = Checks::refusals();
    let challenge = Challenge { binding, carriage: Carriage::Batch(&proof), selection };
    let verified = verify(&evidence, &challenge, bundle.content().verifier(), at, &mut checks);
    let identity = Identity {
        name: origin,
        role: Role::Authority,
        chip_id: None,
        ak_name: None,
        ek: None,
        activation: None,
        minimum_class: EvidenceClass::SnpTpm,
    };
    let result = verified.as_ref().and_then(|verified| {
        identify(verified, &identity, &mut checks);
        appraise(verified, &identity, bundle.policy(), at, &mut checks).result
    });
    let refused =
        || checks.refused().next().map_or_else(|| Refused::new("internal", "no result"), |c| Refused::new(&c.id, c));
    let (Some(verified), Some(result)) = (verified, result) else { return Err(refused().into()) };
    let report = verified.snp().context("an SNP report")?.report();
    Ok(Own {
        tpm_clock: verified.tpm().context("a quote")?.clock(),
        chip_id: report.chip_id.to_vec(),
        measurement: report.measurement.to_vec(),
        evidence: evidence.bytes().to_vec(),
        result,
    })
}
