//! Verifies the bytes of a quote; the result is a [`VerifiedQuote`].
//!
//! 1. the signed structure (`tpm.attest`, `tpm.attest.magic`, `tpm.attest.type`)
//! 2. the key (`tpm.ak`, `tpm.ak.attributes`)
//! 3. the signature (`tpm.scheme`, `tpm.signature`)
//! 4. freshness (`tpm.nonce`)
//! 5. the quoted PCRs (`tpm.selection`, `tpm.bank`, `tpm.pcrs`, `tpm.pcr_digest`)
//! 6. how the PCRs came about (`tpm.expected.N`, `tpm.eventlog`,
//!    `tpm.eventlog.user_space`, `tpm.pcr.N`)
//!
//! Whether the key is in a trusted TPM is not judged here.

use super::attest::{ClockInfo, Head, MAGIC, Quote, TYPE_QUOTE};
use super::key::{AttestationKey, Attributes, KeyMaterial};
use super::pcr::{Bank, PcrValues, Selection};
use super::signature::Signature;
use crate::check::Checks;
use crate::eventlog::{self, EventLog, EventLogError, Unlogged, VerifiedLog};
use portcullis_wire::hex::hex;

/// The inputs of a quote's verification. An absent input is a missing check, never a
/// skipped one.
#[derive(Clone, Copy, Debug)]
pub struct QuoteInput<'a> {
    /// `TPMS_ATTEST`.
    pub attest: &'a [u8],
    /// `TPMT_SIGNATURE`.
    pub signature: &'a [u8],
    /// The attestation key.
    pub ak: KeySource<'a>,
    /// Values of the quoted PCRs.
    pub pcrs: Option<&'a PcrValues>,
    /// Values that the PCRs must have: they explain the quoted values, as an event log
    /// does.
    pub expected: Option<&'a PcrValues>,
    /// Event log in TCG format.
    pub event_log: Option<&'a [u8]>,
    /// Later measurements of user space: systemd's `tpm2-measure.log`, if there is one.
    pub user_space_log: Option<&'a [u8]>,
    /// The consequence if the logs do not lead to a quoted value.
    pub unlogged: Unlogged,
    /// IMA measurement list, if PCR 10 was quoted and Linux measured files.
    pub measured_files: Option<&'a [u8]>,
    /// Required `extraData`.
    pub nonce: Option<&'a [u8]>,
    /// The PCRs that must be quoted.
    pub selection: SelectionRule<'a>,
}

/// The source of the attestation key.
#[derive(Clone, Copy, Debug)]
pub enum KeySource<'a> {
    /// Presented with the quote: `TPMT_PUBLIC`, `TPM2B_PUBLIC` or PEM.
    Presented(&'a [u8]),
    /// Named by the platform that runs the TPM, in data that its report vouches for.
    Platform,
}

/// The PCRs that a quote must cover.
#[derive(Clone, Copy, Debug)]
pub enum SelectionRule<'a> {
    /// Exactly these, in this order.
    Exactly(&'a Selection),
    /// Any, but at least one: for an auditor who examines a quote.
    NotEmpty,
}

/// A quote with every check passed. Only [`verify`] makes one.
#[derive(Clone, Debug)]
pub struct VerifiedQuote {
    ak_name: Option<Vec<u8>>,
    pcrs: PcrValues,
    clock: ClockInfo,
    firmware_version: u64,
    log: Option<VerifiedLog>,
    measured_files: Option<Vec<u8>>,
}

impl VerifiedQuote {
    /// Name of the attestation key; `None` if only the bare key is known.
    #[must_use]
    pub fn ak_name(&self) -> Option<&[u8]> {
        self.ak_name.as_deref()
    }

    /// The quoted values.
    #[must_use]
    pub const fn pcrs(&self) -> &PcrValues {
        &self.pcrs
    }

    /// Clock and boot counters.
    #[must_use]
    pub const fn clock(&self) -> ClockInfo {
        self.clock
    }

    /// The event log, which leads to the quoted values, except for those that it lists as
    /// [unlogged](VerifiedLog::unlogged).
    #[must_use]
    pub const fn event_log(&self) -> Option<&VerifiedLog> {
        self.log.as_ref()
    }

    /// The IMA list that came with the quote: it leads to the quoted PCR 10, if that was
    /// quoted. Policy decides which files it may contain.
    #[must_use]
    pub fn measured_files(&self) -> Option<&[u8]> {
        self.measured_files.as_deref()
    }

    /// Firmware version of the TPM.
    #[must_use]
    pub const fn firmware_version(&self) -> u64 {
        self.firmware_version
    }
}

/// Verifies a quote, recording every check. If the key must come from a platform, it is
/// missing here, because no platform was verified.
pub fn verify(input: &QuoteInput<'_>, checks: &mut Checks) -> Option<VerifiedQuote> {
    run(input, checks, |checks| match input.ak {
        KeySource::Presented(bytes) => check_key(bytes, checks),
        KeySource::Platform => {
            checks.missing("tpm.ak", "the attestation key", "attestation key");
            None
        }
    })
}

/// Verifies a quote by the key that a platform names as the attestation key of its TPM.
/// If a verified report vouches for the platform, the permitted use of the key is
/// known: the platform made it for quotes.
pub(crate) fn verify_named(
    input: &QuoteInput<'_>,
    key: &KeyMaterial,
    vouched: bool,
    checks: &mut Checks,
) -> Option<VerifiedQuote> {
    run(input, checks, |checks| {
        let found = || "named by the platform as its attestation key".to_owned();
        checks.require("tpm.ak", true, found, || "the attestation key".into(), "attestation key");
        if vouched {
            checks.require("tpm.ak.attributes", true, found, attributes_required, ATTRIBUTES);
        } else {
            checks.missing("tpm.ak.attributes", "a verified report, which vouches for the platform", ATTRIBUTES);
        }
        Some(AttestationKey::Bare(key.clone()))
    })
}

fn run(
    input: &QuoteInput<'_>,
    checks: &mut Checks,
    key: impl FnOnce(&mut Checks) -> Option<AttestationKey>,
) -> Option<VerifiedQuote> {
    let quote = parse_attest(input.attest, checks)?;
    let ak = key(checks);
    let hash = ak.as_ref().and_then(|ak| check_signature(input, ak, checks));
    check_nonce(input, &quote, checks);
    check_selection(input, &quote, checks);
    let log = check_pcrs(input, &quote, hash, checks);

    let ak_name = ak?.name().map(<[u8]>::to_vec);
    let pcrs = quoted_only(input.pcrs?, &quote.selection);
    checks.passed().then_some(VerifiedQuote {
        ak_name,
        pcrs,
        clock: quote.clock,
        firmware_version: quote.firmware_version,
        log,
        measured_files: input.measured_files.map(<[u8]>::to_vec),
    })
}

/// Step 1.
fn parse_attest(bytes: &[u8], checks: &mut Checks) -> Option<Quote> {
    let head = checks.step("tpm.attest", Head::parse(bytes), "a TPMS_ATTEST", "signed structure")?;
    let magic = checks.require(
        "tpm.attest.magic",
        head.magic == MAGIC,
        || format!("{:#010x}", head.magic),
        || format!("{MAGIC:#010x}"),
        "TPM_GENERATED_VALUE: made by a TPM, not supplied to it",
    );
    let kind = checks.require(
        "tpm.attest.type",
        head.kind == TYPE_QUOTE,
        || format!("{:#06x}", head.kind),
        || format!("{TYPE_QUOTE:#06x}, a quote"),
        "kind of attestation",
    );
    if !magic || !kind {
        return None;
    }
    checks.step("tpm.attest.form", Quote::parse(bytes), "a TPMS_QUOTE_INFO", "structure of the quote")
}

const ATTRIBUTES: &str = "attributes of a key that signs only what its TPM made";

fn attributes_required() -> String {
    Attributes::of_an_attestation_key().describe()
}

/// Step 2.
fn check_key(bytes: &[u8], checks: &mut Checks) -> Option<AttestationKey> {
    let parsed = AttestationKey::parse(bytes);
    let ak = checks.step("tpm.ak", parsed, "an RSA, P-256 or P-384 public key", "attestation key")?;
    match &ak {
        AttestationKey::Area { attributes, .. } => {
            let holds = attributes.are_of_an_attestation_key();
            checks.require("tpm.ak.attributes", holds, || attributes.describe(), attributes_required, ATTRIBUTES);
        }
        AttestationKey::Bare(_) => {
            checks.missing("tpm.ak.attributes", "the key's TPM2B_PUBLIC or TPMT_PUBLIC", ATTRIBUTES);
        }
    }
    Some(ak)
}

/// Step 3. Returns the hash of the scheme, under which PCRs are digested.
fn check_signature(input: &QuoteInput<'_>, ak: &AttestationKey, checks: &mut Checks) -> Option<Bank> {
    let signature = Signature::parse(input.signature);
    let signature = checks.step("tpm.signature.form", signature, "a TPMT_SIGNATURE", "form of the signature")?;
    let allowed = checks.require(
        "tpm.scheme",
        signature.scheme(ak.key()).is_some(),
        || signature.describe(),
        || "RSASSA, RSAPSS or ECDSA of the key, with SHA-256 or SHA-384".into(),
        "signature scheme",
    );
    if allowed {
        let holds = signature.verifies(ak.key(), input.attest);
        checks.require(
            "tpm.signature",
            holds,
            || if holds { "valid".into() } else { "invalid".into() },
            || "valid under the attestation key".into(),
            "signature over the TPMS_ATTEST",
        );
    }
    Some(signature.hash)
}

/// Step 4.
fn check_nonce(input: &QuoteInput<'_>, quote: &Quote, checks: &mut Checks) {
    const DETAIL: &str = "extraData, which makes the quote fresh";
    // A quote without a nonce proves no freshness; an empty nonce counts as absent.
    match input.nonce.filter(|nonce| !nonce.is_empty()) {
        None => checks.missing("tpm.nonce", "the nonce that the verifier sent", DETAIL),
        Some(nonce) => {
            checks.require("tpm.nonce", quote.extra_data == nonce, || hex(&quote.extra_data), || hex(nonce), DETAIL);
        }
    }
}

/// Step 5, without the PCR values.
fn check_selection(input: &QuoteInput<'_>, quote: &Quote, checks: &mut Checks) {
    let not_empty = quote.selection.pcrs().next().is_some();
    let (holds, required) = match input.selection {
        SelectionRule::Exactly(selection) => (not_empty && quote.selection == *selection, selection.to_string()),
        SelectionRule::NotEmpty => (not_empty, "at least one PCR".into()),
    };
    checks.require("tpm.selection", holds, || quote.selection.to_string(), || required, "PCRs that were quoted");
    let weak = quote.selection.0.iter().any(|(bank, set)| *bank == Bank::Sha1 && !set.is_empty());
    checks.require(
        "tpm.bank",
        !weak,
        || if weak { "sha1".into() } else { quote.selection.to_string() },
        || "no SHA-1 bank".into(),
        "PCR banks that can be trusted",
    );
}

/// Step 5 with the values, and step 6.
fn check_pcrs(input: &QuoteInput<'_>, quote: &Quote, hash: Option<Bank>, checks: &mut Checks) -> Option<VerifiedLog> {
    let Some(values) = input.pcrs else {
        checks.missing("tpm.pcrs", "the values of the quoted PCRs", "values of the quoted PCRs");
        return None;
    };
    let absent = quote.selection.pcrs().find(|(bank, pcr)| values.value(*bank, *pcr).is_none());
    let complete = checks.require(
        "tpm.pcrs",
        absent.is_none(),
        || absent.map_or_else(|| "all".into(), |(bank, pcr)| format!("no value for {bank}:{pcr}")),
        || quote.selection.to_string(),
        "values of the quoted PCRs",
    );
    if !complete {
        return None;
    }
    if let Some(digest) = hash.and_then(|hash| values.digest(&quote.selection, hash)) {
        checks.require(
            "tpm.pcr_digest",
            digest == quote.pcr_digest,
            || hex(&quote.pcr_digest),
            || hex(&digest),
            "digest in the quote, against the digest of the values",
        );
    }
    let explained = check_expected(input.expected, values, &quote.selection, checks);
    match input.event_log {
        None if explained => None,
        None => {
            checks.missing("tpm.eventlog", "an event log", "how the PCRs came to their values");
            None
        }
        Some(bytes) => {
            let log = EventLog::parse(bytes);
            let log = match input.user_space_log {
                Some(later) => add_user_space(log, later, checks)?,
                None => log,
            };
            // Values that were not quoted are unproven.
            let quoted = quoted_only(values, &quote.selection);
            eventlog::verify_parsed(log, &quoted, &quote.selection, input.measured_files, input.unlogged, checks)
        }
    }
}

/// Compares quoted values with the expected ones. Returns whether there was an expected
/// value for every quoted PCR.
fn check_expected(
    expected: Option<&PcrValues>,
    values: &PcrValues,
    selection: &Selection,
    checks: &mut Checks,
) -> bool {
    let Some(expected) = expected else { return false };
    let mut all = true;
    for (bank, pcr) in selection.pcrs() {
        let found = values.value(bank, pcr).unwrap_or_default();
        match expected.value(bank, pcr) {
            None => all = false,
            Some(required) => {
                checks.require(
                    format!("tpm.expected.{pcr}"),
                    found == required,
                    || format!("{bank}:{}", hex(found)),
                    || format!("{bank}:{}", hex(required)),
                    "quoted value, against the expected one",
                );
            }
        }
    }
    all
}

/// The log followed by that of user space; `None` if the latter cannot be read.
fn add_user_space(
    log: Result<EventLog, EventLogError>,
    later: &[u8],
    checks: &mut Checks,
) -> Option<Result<EventLog, EventLogError>> {
    let Ok(log) = log else { return Some(log) };
    let both = log.with_user_space(later);
    let required = "JSON records of a canonical event log";
    checks.step("tpm.eventlog.user_space", both, required, "log of what user space measured").map(Ok)
}

fn quoted_only(values: &PcrValues, selection: &Selection) -> PcrValues {
    let mut quoted = PcrValues::default();
    for (bank, pcr) in selection.pcrs() {
        if let Some(value) = values.value(bank, pcr) {
            // The values come from a map of the same kind, so their lengths are right.
            let _fits = quoted.insert(bank, pcr, value.to_vec());
        }
    }
    quoted
}
