//! From an HCL report and a quote to [`VerifiedAzure`].
//!
//! 1. form of the HCL report, its runtime data, and their binding to the SNP
//!    report (`azure.form`, `azure.runtime_data`, `azure.keys`)
//! 2. the SNP report (`snp.*`)
//! 3. the vTPM's key and the quote (`azure.ak`, `tpm.*`)
//! 4. freshness of the report itself (`azure.user_data`)

use super::hcl::{HclReport, RuntimeData};
use crate::check::Checks;
use crate::snp::verify::{Presented, SnpVerifier, VerifiedSnpReport};
use crate::tpm::key::AttestationKey;
use crate::tpm::verify::{KeySource, QuoteInput, VerifiedQuote, verify as verify_quote, verify_named};
use portcullis_wire::hex::hex;

/// The evidence of an Azure VM.
#[derive(Clone, Copy, Debug)]
pub struct AzureInput<'a> {
    /// The HCL report.
    pub hcl: &'a [u8],
    /// The host's certificates for the SNP report.
    pub certificates: Presented<'a>,
    /// The quote; if it is absent, its checks are missing. Its key is the one that the
    /// runtime data name; a presented key is compared with it.
    pub quote: Option<QuoteInput<'a>>,
    /// The user data that the guest must have written before the report was made.
    pub user_data: UserData<'a>,
}

/// The data that the guest had to write to NV index 0x01400002.
#[derive(Clone, Copy, Debug)]
pub enum UserData<'a> {
    /// Unknown: the check is missing.
    Unknown,
    /// None: the index is absent or holds zeroes.
    Nothing,
    /// These bytes.
    Exactly(&'a [u8]),
}

/// An Azure VM's evidence. Only [`verify`] makes one.
#[derive(Clone, Debug)]
pub struct VerifiedAzure {
    snp: VerifiedSnpReport,
    quote: Option<VerifiedQuote>,
    runtime: RuntimeData,
}

impl VerifiedAzure {
    /// The SNP report.
    #[must_use]
    pub const fn snp(&self) -> &VerifiedSnpReport {
        &self.snp
    }

    /// The quote of the vTPM.
    #[must_use]
    pub const fn quote(&self) -> Option<&VerifiedQuote> {
        self.quote.as_ref()
    }

    /// The paravisor's statements about the VM.
    #[must_use]
    pub const fn runtime(&self) -> &RuntimeData {
        &self.runtime
    }

    /// The parts.
    #[must_use]
    pub fn into_parts(self) -> (VerifiedSnpReport, Option<VerifiedQuote>) {
        (self.snp, self.quote)
    }
}

/// Verifies at a time (Unix seconds), recording every check.
pub fn verify(input: &AzureInput<'_>, verifier: &SnpVerifier, at: u64, checks: &mut Checks) -> Option<VerifiedAzure> {
    let parsed = HclReport::parse(input.hcl);
    let hcl = checks.step("azure.form", parsed, "an HCL report with an SNP report", "form of the HCL report")?;
    let snp = verifier.verify(hcl.snp, input.certificates, at, checks);
    let found = hcl.snp.get(0x50..0x90).unwrap_or_default();
    let bound = checks.require(
        "azure.runtime_data",
        found == hcl.report_data(),
        || hex(found),
        || hex(&hcl.report_data()),
        "REPORT_DATA, against the hash of the runtime data",
    );
    // Runtime data that the report does not vouch for are not read.
    if !bound {
        return None;
    }
    let runtime = RuntimeData::parse(hcl.json);
    let runtime = checks.step("azure.keys", runtime, "runtime data with HCLAkPub", "runtime data of the paravisor")?;
    let quote = check_quote(input, &runtime, snp.is_some(), checks);
    check_user_data(input, &runtime, checks);
    let snp = snp?;
    checks.passed().then_some(VerifiedAzure { snp, quote, runtime })
}

fn check_quote(
    input: &AzureInput<'_>,
    runtime: &RuntimeData,
    vouched: bool,
    checks: &mut Checks,
) -> Option<VerifiedQuote> {
    const DETAIL: &str = "key that signed the quote, against the runtime data";
    let required = || "HCLAkPub of the runtime data".to_owned();
    let Some(quote) = &input.quote else {
        checks.missing("tpm.attest", "a quote of the vTPM", "quote of the vTPM");
        return None;
    };
    match quote.ak {
        KeySource::Presented(bytes) => {
            let same = AttestationKey::parse(bytes).is_ok_and(|ak| *ak.key() == runtime.ak);
            let found = || if same { "the same key".into() } else { "another key".into() };
            checks.require("azure.ak", same, found, required, DETAIL);
            verify_quote(quote, checks)
        }
        // A signature by another key does not verify against the named key.
        KeySource::Platform => {
            checks.require("azure.ak", true, required, required, DETAIL);
            verify_named(quote, &runtime.ak, vouched, checks)
        }
    }
}

fn check_user_data(input: &AzureInput<'_>, runtime: &RuntimeData, checks: &mut Checks) {
    const DETAIL: &str = "user data in the report, which make it fresh";
    let found = &runtime.user_data;
    match input.user_data {
        // Empty data prove no freshness; a caller that expects none uses `Nothing`.
        UserData::Unknown | UserData::Exactly([]) => {
            checks.missing("azure.user_data", "what the guest was to write to NV index 0x01400002", DETAIL);
        }
        UserData::Nothing => {
            let nothing = found.iter().all(|byte| *byte == 0);
            checks.require("azure.user_data", nothing, || hex(found), || "nothing but zeroes".into(), DETAIL);
        }
        UserData::Exactly(required) => {
            checks.require("azure.user_data", found == required, || hex(found), || hex(required), DETAIL);
        }
    }
}
