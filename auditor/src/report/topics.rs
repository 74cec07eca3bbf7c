//! What checks amount to, topic by topic, for readers who do not know their ids.

use portcullis_attest::check::{Check, Checks, Outcome};

/// Checks of one topic.
pub(super) struct Topic<'a> {
    pub(super) title: &'static str,
    /// What it means that all of them passed.
    pub(super) meaning: &'static str,
    pub(super) checks: Vec<&'a Check>,
}

impl Topic<'_> {
    /// Fail outranks missing.
    pub(super) fn outcome(&self) -> Outcome {
        let any = |outcome| self.checks.iter().any(|check| check.outcome == outcome);
        match (any(Outcome::Fail), any(Outcome::Missing)) {
            (true, _) => Outcome::Fail,
            (false, true) => Outcome::Missing,
            (false, false) => Outcome::Pass,
        }
    }
}

/// Titles and meanings with the prefixes of their checks; the first that fits counts.
const TOPICS: [(&str, &str, &[&str]); 18] = [
    (
        "Form of the report",
        "The report is complete, of a known version, and states nothing that AMD reserves.",
        &["snp.length", "snp.version", "snp.reserved", "snp.signature_algorithm", "snp.signature.form"],
    ),
    (
        "Platform policy",
        "The platform is as the policy demands: patch levels, mitigations, guest policy.",
        &["snp.tcb.floor", "snp.platform", "snp.mitigations", "snp.policy", "chip."],
    ),
    (
        "Image",
        "The guest was launched from an image that the policy admits.",
        &["snp.measurement", "snp.vmpl", "snp.guest_svn", "snp.host_data", "snp.id_key", "snp.author_key", "bundle."],
    ),
    (
        "Chip and patch level",
        "Certificate and report speak of the same chip at the same patch level.",
        &["snp.product", "snp.csp_id", "snp.chip_id", "snp.tcb"],
    ),
    (
        "Signature of the report",
        "The chip signed this report, and nothing in it was changed since.",
        &["snp.signature"],
    ),
    ("Revocation", "Nobody has withdrawn a certificate of the chain.", &["snp.crl", "snp.revoked"]),
    (
        "Certificate chain",
        "The signing key belongs to a genuine chip: its certificate leads to a trusted root.",
        &["snp."],
    ),
    ("Azure's paravisor", "The paravisor that AMD measured vouches for the virtual TPM and its key.", &["azure."]),
    ("Envelope", "The evidence could be taken out of its envelope.", &["evidence."]),
    ("Certificate of the TPM's key", "The vendor of the TPM vouches for the key.", &["tpm.certificate"]),
    (
        "Quote of the TPM",
        "A TPM signed the values of its registers with a key that signs nothing else.",
        &["tpm.attest", "tpm.ak", "tpm.signature", "tpm.scheme"],
    ),
    ("Freshness of the quote", "The quote was made for this verification.", &["tpm.nonce"]),
    (
        "Registers",
        "The registers named are those that were quoted.",
        &["tpm.selection", "tpm.bank", "tpm.pcrs", "tpm.pcr_digest"],
    ),
    ("Event log", "The log leads to exactly the values of the registers.", &["tpm.eventlog", "tpm.pcr."]),
    ("Measured files", "The list of measured files leads to the register.", &["ima."]),
    ("Authority", "The governors endorsed the authority.", &["authority."]),
    ("Permit", "The authority granted the permit, and logged it.", &["permit."]),
    ("Log", "The log is whole, in order, and signed by the authority.", &["log."]),
];

/// The topics of a list of checks, in the order in which they were first met.
pub(super) fn topics(checks: &Checks) -> Vec<Topic<'_>> {
    let mut found: Vec<Topic<'_>> = Vec::new();
    for check in checks.list() {
        let fits = |prefixes: &[&str]| prefixes.iter().any(|prefix| check.id.starts_with(prefix));
        let topic = TOPICS.iter().find(|(.., prefixes)| fits(prefixes));
        let (title, meaning) = topic.map_or(("Other checks", ""), |(title, meaning, _)| (*title, *meaning));
        match found.iter_mut().find(|topic| topic.title == title) {
            Some(topic) => topic.checks.push(check),
            None => found.push(Topic { title, meaning, checks: vec![check] }),
        }
    }
    found
}
