//! Summaries of checks by topic, for readers who do not know the check ids.

use portcullis_attest::check::{Check, Checks, Outcome};

/// Checks of one topic.
pub(super) struct Topic<'a> {
    pub(super) title: &'static str,
    /// The sentence that the checks prove; `None` unless every check that it depends on has
    /// passed.
    pub(super) meaning: Option<&'static str>,
    pub(super) checks: Vec<&'a Check>,
}

impl Topic<'_> {
    /// Fail outranks missing.
    pub(super) fn outcome(&self) -> Outcome {
        outcome(&self.checks)
    }
}

fn outcome(checks: &[&Check]) -> Outcome {
    let any = |outcome| checks.iter().any(|check| check.outcome == outcome);
    match (any(Outcome::Fail), any(Outcome::Missing)) {
        (true, _) => Outcome::Fail,
        (false, true) => Outcome::Missing,
        (false, false) => Outcome::Pass,
    }
}

/// A sentence for people, and the checks that must pass before it is true.
struct Kind {
    title: &'static str,
    meaning: &'static str,
    /// Prefixes of the topic's checks; the first topic that matches applies.
    prefixes: &'static [&'static str],
    /// Checks that must have been made and have passed; `*` means any number or name, and
    /// `|` means "or".
    proven_by: &'static [&'static str],
    /// Topics whose sentences must be true as well.
    rests_on: &'static [&'static str],
}

const CHAIN: &str = "Certificate chain";
const REVOCATION: &str = "Revocation";
const SIGNATURE: &str = "Signature of the report";
const QUOTE: &str = "Quote of the TPM";
const VALUES: &str = "PCR values";
const AUTHORITY: &str = "Authority";

const TOPICS: [Kind; 23] = [
    Kind {
        title: "Form of the report",
        meaning: "The report is complete, of a known version, and states nothing that AMD reserves.",
        prefixes: &["snp.length", "snp.version", "snp.reserved", "snp.signature_algorithm", "snp.signature.form"],
        proven_by: &["snp.length", "snp.version", "snp.reserved", "snp.signature_algorithm", "snp.signature.form"],
        rests_on: &[],
    },
    Kind {
        title: "Platform policy",
        meaning: "The platform is as the policy demands: chip, patch levels, mitigations, guest policy.",
        prefixes: &["snp.tcb.floor", "snp.platform", "snp.mitigations", "snp.policy", "chip."],
        proven_by: &["chip.id", "snp.tcb.floor.*", "snp.mitigations", "snp.policy.debug", "snp.policy.migration"],
        rests_on: &[SIGNATURE],
    },
    Kind {
        title: "Image",
        meaning: "The guest was launched from an image that the policy admits.",
        prefixes: &[
            "snp.measurement",
            "snp.vmpl",
            "snp.guest_svn",
            "snp.host_data",
            "snp.id_key",
            "snp.author_key",
            "bundle.",
            "reference.",
        ],
        proven_by: &[
            "bundle.expired",
            "snp.measurement",
            "reference.validity",
            "snp.vmpl",
            "snp.guest_svn",
            "snp.host_data",
            "snp.id_key_digest",
            "snp.author_key_digest",
        ],
        rests_on: &[SIGNATURE],
    },
    Kind {
        title: "Chip and patch level",
        meaning: "Certificate and report agree on product and patch level, and on the chip or the provider.",
        prefixes: &["snp.product", "snp.csp_id", "snp.chip_id", "snp.tcb"],
        proven_by: &["snp.product", "snp.chip_id|snp.csp_id", "snp.tcb.form", "snp.tcb.order", "snp.tcb.certificate"],
        rests_on: &[],
    },
    Kind {
        title: SIGNATURE,
        meaning: "The key of that certificate signed this report, and nothing in it was changed since.",
        prefixes: &["snp.signature"],
        proven_by: &["snp.signature"],
        rests_on: &[CHAIN, REVOCATION],
    },
    Kind {
        title: REVOCATION,
        meaning: "A current list of the root names no certificate of the chain.",
        prefixes: &["snp.crl", "snp.revoked"],
        proven_by: &["snp.crl", "snp.revoked"],
        rests_on: &[CHAIN],
    },
    Kind {
        title: CHAIN,
        meaning: "The certificate of the signing key leads to a trusted root, and was valid at this time.",
        prefixes: &["snp."],
        proven_by: &[
            "snp.signing_key",
            "snp.vek.profile",
            "snp.chain.vek",
            "snp.issuer.profile",
            "snp.root",
            "snp.root.profile",
            "snp.chain.issuer",
            "snp.validity",
        ],
        rests_on: &[],
    },
    Kind {
        title: "Azure's paravisor",
        meaning: "The report vouches for the paravisor's runtime data, and they name the key of the quote.",
        prefixes: &["azure."],
        proven_by: &["azure.form", "azure.runtime_data", "azure.keys", "azure.ak"],
        rests_on: &[SIGNATURE, QUOTE],
    },
    Kind {
        title: "Freshness of the report",
        meaning: "The report carries the data that was named.",
        prefixes: &["evidence.binding"],
        proven_by: &["evidence.binding"],
        rests_on: &[SIGNATURE],
    },
    Kind {
        title: "Envelope",
        meaning: "The key that was named signed the envelope.",
        prefixes: &["evidence."],
        proven_by: &["evidence.signature"],
        rests_on: &[],
    },
    Kind {
        title: "Certificate of the TPM's key",
        meaning: "The certificate is for the key of the quote, was issued for such keys, and leads to a root that was named.",
        prefixes: &["tpm.certificate"],
        proven_by: &[
            "tpm.certificate",
            "tpm.certificate.chain",
            "tpm.certificate.purpose",
            "tpm.certificate.usage",
            "tpm.certificate.key",
            "tpm.certificate.same_key",
        ],
        rests_on: &[],
    },
    Kind {
        title: QUOTE,
        meaning: "The attestation key signed this quote, and by its attributes, or by the platform's word, it signs \
                  only what its TPM made.",
        prefixes: &["tpm.attest", "tpm.ak", "tpm.signature", "tpm.scheme"],
        proven_by: &[
            "tpm.attest",
            "tpm.attest.magic",
            "tpm.attest.type",
            "tpm.attest.form",
            "tpm.ak",
            "tpm.ak.attributes",
            "tpm.signature.form",
            "tpm.scheme",
            "tpm.signature",
        ],
        rests_on: &[],
    },
    Kind {
        title: "Freshness of the quote",
        meaning: "The quote carries the nonce that was named.",
        prefixes: &["tpm.nonce"],
        proven_by: &["tpm.nonce"],
        rests_on: &[],
    },
    Kind {
        title: VALUES,
        meaning: "The PCR values are those in the quote.",
        prefixes: &["tpm.selection", "tpm.bank", "tpm.pcrs", "tpm.pcr_digest"],
        proven_by: &["tpm.selection", "tpm.bank", "tpm.pcrs", "tpm.pcr_digest"],
        rests_on: &[],
    },
    Kind {
        title: "Expected values",
        meaning: "The quoted PCRs that are named here have the values that were named for them.",
        prefixes: &["tpm.expected."],
        proven_by: &["tpm.expected.*"],
        rests_on: &[QUOTE, VALUES],
    },
    Kind {
        title: "Event log",
        meaning: "The event log leads to the value of every PCR named here.",
        prefixes: &["tpm.eventlog", "tpm.pcr."],
        proven_by: &["tpm.eventlog", "tpm.pcr.*"],
        rests_on: &[],
    },
    Kind {
        title: "Measured files",
        meaning: "The list of measured files leads to the PCR value, as far as it says here.",
        prefixes: &["ima."],
        proven_by: &["ima.form", "ima.bank", "ima.template", "ima.pcr", "ima.boot_aggregate"],
        rests_on: &[],
    },
    Kind {
        title: AUTHORITY,
        meaning: "The governors endorsed the keys of this authority.",
        prefixes: &["authority."],
        proven_by: &["authority.endorsement"],
        rests_on: &[],
    },
    Kind {
        title: "Permit",
        meaning: "The endorsed keys signed the permit and its place in the log, and it is valid at this time.",
        prefixes: &["permit."],
        proven_by: &["permit.receipt.proof", "permit.issuer", "permit.not_before", "permit.expired"],
        rests_on: &[AUTHORITY],
    },
    Kind {
        title: "Log",
        meaning: "Every entry that was read is in the log whose checkpoint the endorsed key signed.",
        prefixes: &["log."],
        proven_by: &["log.tree"],
        rests_on: &[AUTHORITY],
    },
    Kind {
        title: "Archive",
        meaning: "Every archived file that an examined entry names is there.",
        prefixes: &["archive."],
        proven_by: &["archive.hole"],
        rests_on: &["Log"],
    },
    Kind {
        title: "Decisions",
        meaning: "Every decision that was made again came to the bytes that are in the log.",
        prefixes: &["replay."],
        proven_by: &["replay.decision", "replay.archive"],
        rests_on: &["Log"],
    },
    Kind {
        title: "Trail",
        meaning: "The permit is in the log.",
        prefixes: &["trail."],
        proven_by: &["trail.permit"],
        rests_on: &["Log"],
    },
];
const OTHER: &str = "Other checks";

/// The topic of a check.
fn kind_of(check: &Check) -> Option<&'static Kind> {
    TOPICS.iter().find(|kind| kind.prefixes.iter().any(|prefix| check.id.starts_with(prefix)))
}

impl Kind {
    /// Whether the checks behind the sentence were made and passed.
    fn is_shown_by(&self, checks: &[Check]) -> bool {
        let own = checks.iter().filter(|check| kind_of(check).is_some_and(|kind| kind.title == self.title));
        let passed = |ids: &&str| {
            let named = |check: &Check| {
                ids.split('|')
                    .any(|id| id.strip_suffix('*').map_or(check.id == id, |family| check.id.starts_with(family)))
            };
            checks.iter().any(|check| named(check) && check.outcome == Outcome::Pass)
        };
        let shown = |title: &&str| TOPICS.iter().any(|kind| kind.title == *title && kind.is_shown_by(checks));
        outcome(&own.collect::<Vec<_>>()) == Outcome::Pass
            && self.proven_by.iter().all(passed)
            && self.rests_on.iter().all(shown)
    }
}

/// The topics of a list of checks, in the order of their first check.
pub(super) fn topics(checks: &Checks) -> Vec<Topic<'_>> {
    let mut found: Vec<Topic<'_>> = Vec::new();
    for check in checks.list() {
        let kind = kind_of(check);
        let title = kind.map_or(OTHER, |kind| kind.title);
        match found.iter_mut().find(|topic| topic.title == title) {
            Some(topic) => topic.checks.push(check),
            None => {
                let meaning = kind.filter(|kind| kind.is_shown_by(checks.list())).map(|kind| kind.meaning);
                found.push(Topic { title, meaning, checks: vec![check] });
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use portcullis_firmware_policy::CATALOGUE;

    use super::*;

    /// Every check that a sentence depends on, in the order of the table.
    fn needed(kind: &Kind) -> Vec<String> {
        let first = |ids: &&str| ids.split('|').next().unwrap().replace('*', "4");
        let mut all: Vec<String> = kind.proven_by.iter().map(first).collect();
        let below = kind
            .rests_on
            .iter()
            .flat_map(|title| TOPICS.iter().filter(move |other| other.title == *title).flat_map(needed));
        all.extend(below);
        // Topics that two others depend on.
        let mut seen = std::collections::BTreeSet::new();
        all.retain(|id| seen.insert(id.clone()));
        all
    }

    fn checks(ids: &[String], except: Option<(usize, Option<Outcome>)>) -> Checks {
        let mut checks = Checks::all();
        for (at, id) in ids.iter().enumerate() {
            let outcome = match except {
                Some((other, outcome)) if other == at => outcome,
                _ => Some(Outcome::Pass),
            };
            match outcome {
                Some(Outcome::Missing) => checks.missing(id.clone(), "it", "detail"),
                Some(outcome) => {
                    checks.require(id.clone(), outcome == Outcome::Pass, String::new, String::new, "detail");
                }
                None => {}
            }
        }
        checks
    }

    fn says(kind: &Kind, checks: &Checks) -> bool {
        topics(checks).iter().any(|topic| topic.title == kind.title && topic.meaning == Some(kind.meaning))
    }

    /// A sentence appears exactly if every check that it depends on was made and passed.
    #[test]
    fn no_sentence_says_more_than_its_checks() {
        for kind in &TOPICS {
            assert!(!kind.proven_by.is_empty(), "{}", kind.title);
            let ids = needed(kind);
            assert!(says(kind, &checks(&ids, None)), "{}", kind.title);
            for (at, id) in ids.iter().enumerate() {
                for outcome in [None, Some(Outcome::Fail), Some(Outcome::Missing)] {
                    let less = checks(&ids, Some((at, outcome)));
                    assert!(!says(kind, &less), "{:?} without {id}: {outcome:?}", kind.meaning);
                }
            }
            // Another check of the same topic that did not pass.
            let more = [ids, vec![format!("{}another", kind.prefixes.last().unwrap())]].concat();
            let last = more.len() - 1;
            assert!(!says(kind, &checks(&more, Some((last, Some(Outcome::Missing))))), "{}", kind.title);
        }
    }

    /// Each title belongs to one topic. Sentences depend on existing topics, and on
    /// documented checks of their topic.
    #[test]
    fn sentences_rest_on_checks_that_exist() {
        for kind in &TOPICS {
            assert_eq!(TOPICS.iter().filter(|other| other.title == kind.title).count(), 1, "{}", kind.title);
            for title in kind.rests_on {
                assert!(TOPICS.iter().any(|other| other.title == *title), "{title}");
            }
            for id in kind.proven_by.iter().flat_map(|ids| ids.split('|')) {
                let documented = CATALOGUE.iter().any(|entry| entry.id == id);
                assert!(documented, "{id} is no check");
                let counted = checks(&[id.replace('*', "4")], None);
                assert_eq!(kind_of(&counted.list()[0]).map(|kind| kind.title), Some(kind.title), "{id}");
            }
        }
    }
}
