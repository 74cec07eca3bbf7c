//! Verifies evidence: signatures, chains, and the binding to one challenge. The result
//! is a [`VerifiedEvidence`].

use crate::azure::{self, AzureInput, UserData, VerifiedAzure};
use crate::binding::{BatchProof, Binding, quote_nonce};
use crate::check::Checks;
use crate::eventlog::Unlogged;
use crate::evidence::{AzureEvidence, Collected, Evidence, EvidenceClass, SnpEvidence, TpmEvidence};
use crate::snp::verify::{Presented, SnpVerifier, VerifiedSnpReport};
use crate::svsm::{self, SvsmInput, VerifiedSvsm};
use crate::tpm::key::AttestationKey;
use crate::tpm::pcr::Selection;
use crate::tpm::verify::{KeySource, QuoteInput, SelectionRule, VerifiedQuote, verify as verify_quote};
use portcullis_wire::hex::hex;

/// How the report carries the binder.
#[derive(Clone, Copy, Debug)]
pub enum Carriage<'a> {
    /// The report carries the binder itself. Used by nodes.
    Direct,
    /// The report carries a batch that includes the binder. Used by authorities.
    Batch(&'a BatchProof),
}

/// The challenge that evidence must answer.
#[derive(Clone, Copy, Debug)]
pub struct Challenge<'a> {
    /// Everything that evidence is bound to.
    pub binding: Binding<'a>,
    /// How the report carries the binder.
    pub carriage: Carriage<'a>,
    /// PCRs that a quote must cover, exactly.
    pub selection: &'a Selection,
}

/// Evidence that is authentic and answers the challenge. Appraisal decides whether the
/// machine should be trusted. Only [`verify`] makes one.
#[derive(Clone, Debug)]
pub struct VerifiedEvidence {
    class: EvidenceClass,
    digest: [u8; 32],
    snp: Option<VerifiedSnpReport>,
    tpm: Option<VerifiedQuote>,
    vouched_ek: Option<[u8; 32]>,
}

impl VerifiedEvidence {
    /// The class.
    #[must_use]
    pub const fn class(&self) -> EvidenceClass {
        self.class
    }

    /// SHA-256 of the encoded evidence.
    #[must_use]
    pub const fn digest(&self) -> &[u8; 32] {
        &self.digest
    }

    /// The SNP report, in the classes that have one.
    #[must_use]
    pub const fn snp(&self) -> Option<&VerifiedSnpReport> {
        self.snp.as_ref()
    }

    /// The endorsement key that a service module vouches for: SHA-256 of its
    /// `SubjectPublicKeyInfo`. The quote's key must have been activated under it.
    #[must_use]
    pub const fn vouched_ek(&self) -> Option<&[u8; 32]> {
        self.vouched_ek.as_ref()
    }

    /// The TPM quote, in the classes that have one.
    #[must_use]
    pub const fn tpm(&self) -> Option<&VerifiedQuote> {
        self.tpm.as_ref()
    }
}

/// Verifies evidence against a challenge at a time (Unix seconds).
///
/// Returns a value only if every check passed.
pub fn verify(
    evidence: &Evidence,
    challenge: &Challenge<'_>,
    snp_verifier: &SnpVerifier,
    at: u64,
    checks: &mut Checks,
) -> Option<VerifiedEvidence> {
    let ak_name = ak_name(evidence.collected());
    let binder = challenge.binding.binder(ak_name.as_deref());
    let report_data = match challenge.carriage {
        Carriage::Direct => Some(binder),
        Carriage::Batch(proof) => proof.report_data(&binder),
    };
    let required = "an inclusion proof that fits its own numbers";
    let report_data =
        checks.step("evidence.batch", report_data.ok_or("a proof that does not"), required, "batch proof")?;

    let parts = match evidence.collected() {
        Collected::SnpTpm(snp, tpm) => Parts {
            snp: verify_snp(snp, &report_data, snp_verifier, at, checks),
            tpm: verify_tpm(tpm, &report_data, challenge.selection, checks),
            vouched: None,
        },
        Collected::Snp(snp) => {
            Parts { snp: verify_snp(snp, &report_data, snp_verifier, at, checks), tpm: None, vouched: None }
        }
        Collected::Tpm(tpm) => {
            Parts { snp: None, tpm: verify_tpm(tpm, &report_data, challenge.selection, checks), vouched: None }
        }
        Collected::AzureVtpm(azure, tpm) => {
            verify_azure(azure, tpm, &report_data, challenge.selection, snp_verifier, at, checks)
        }
        Collected::SvsmVtpm(svsm, tpm) => {
            let input = SvsmInput {
                report: &svsm.snp.report,
                manifest: &svsm.manifest,
                certificates: Presented::table(&svsm.snp.certificates),
                nonce: Some(&report_data),
            };
            let module = svsm::verify(&input, snp_verifier, at, checks).map(VerifiedSvsm::into_parts);
            let tpm = verify_tpm(tpm, &report_data, challenge.selection, checks);
            let (snp, vouched) = module.unzip();
            Parts { snp, tpm, vouched }
        }
    };
    checks.passed().then(|| VerifiedEvidence {
        class: evidence.class(),
        digest: *evidence.digest(),
        snp: parts.snp,
        tpm: parts.tpm,
        vouched_ek: parts.vouched,
    })
}

/// The verified parts of evidence.
struct Parts {
    snp: Option<VerifiedSnpReport>,
    tpm: Option<VerifiedQuote>,
    vouched: Option<[u8; 32]>,
}

/// The name that the binder covers, as the evidence claims it. A wrong claim
/// leads to another binder, which the signed report then does not carry.
fn ak_name(collected: &Collected) -> Option<Vec<u8>> {
    let area = &collected.tpm()?.ak;
    AttestationKey::from_area(area).ok()?.name().map(<[u8]>::to_vec)
}

fn verify_snp(
    snp: &SnpEvidence,
    report_data: &[u8; 64],
    verifier: &SnpVerifier,
    at: u64,
    checks: &mut Checks,
) -> Option<VerifiedSnpReport> {
    let verified = verifier.verify(&snp.report, Presented::table(&snp.certificates), at, checks)?;
    let found = &verified.report().report_data;
    checks.require(
        "evidence.binding",
        found == report_data,
        || hex(found),
        || hex(report_data),
        "REPORT_DATA: the evidence was made for this session, nonce and request",
    );
    Some(verified)
}

fn verify_tpm(
    tpm: &TpmEvidence,
    report_data: &[u8; 64],
    selection: &Selection,
    checks: &mut Checks,
) -> Option<VerifiedQuote> {
    let nonce = quote_nonce(report_data);
    verify_quote(&quote_input(tpm, &nonce, selection), checks)
}

fn quote_input<'a>(tpm: &'a TpmEvidence, nonce: &'a [u8; 32], selection: &'a Selection) -> QuoteInput<'a> {
    QuoteInput {
        attest: tpm.attest.as_slice(),
        signature: tpm.signature.as_slice(),
        ak: KeySource::Presented(&tpm.ak),
        pcrs: Some(&tpm.pcrs),
        expected: None,
        event_log: Some(tpm.event_log.as_slice()),
        user_space_log: tpm.user_space_log.as_deref(),
        // Appraisal has reference values, and refuses values that none of them admits.
        unlogged: Unlogged::Listed,
        measured_files: tpm.measured_files.as_deref(),
        nonce: Some(nonce),
        selection: SelectionRule::Exactly(selection),
    }
}

/// The paravisor's report is fresh because it repeats the binder as user data, and the
/// quote because it carries the binder as its nonce.
fn verify_azure(
    azure: &AzureEvidence,
    tpm: &TpmEvidence,
    report_data: &[u8; 64],
    selection: &Selection,
    verifier: &SnpVerifier,
    at: u64,
    checks: &mut Checks,
) -> Parts {
    let nonce = quote_nonce(report_data);
    let input = AzureInput {
        hcl: &azure.hcl,
        certificates: Presented::table(&azure.certificates),
        quote: Some(quote_input(tpm, &nonce, selection)),
        user_data: UserData::Exactly(report_data),
    };
    let verified = azure::verify(&input, verifier, at, checks).map(VerifiedAzure::into_parts);
    let (snp, tpm) = verified.unzip();
    Parts { snp, tpm: tpm.flatten(), vouched: None }
}
