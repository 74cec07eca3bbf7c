//! The texts that governors write: `policy.toml`, and a file for each image in
//! `reference/`. Unknown keys are refused.

mod reference;

pub use reference::{Boot, Coverage, Ima, OneOf, Reference, RoleName, Uki};

use serde::{Deserialize, Serialize};

/// The document's file in a bundle.
pub const FILE: &str = "policy.toml";

/// `policy.toml`.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct Document {
    /// Origin of the authority that the bundle is for.
    pub authority: String,
    /// Only goes up.
    pub version: u64,
    /// SHA-256 of the bundle before this one; absent in the first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub predecessor: Option<String>,
    /// RFC 3339.
    pub not_before: String,
    /// RFC 3339, exclusive.
    pub expires: String,
    /// Evidence classes that are admitted at all.
    pub classes: Vec<String>,
    /// Where certificate chains must end.
    pub roots: RootChoice,
    /// Times and sizes.
    pub limits: Limits,
    /// Whose cosignatures gates demand; nobody's where absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub witnesses: Option<Witnesses>,
    /// What is not trusted although it verifies.
    #[serde(default)]
    pub distrust: Distrust,
    /// What the platform must have enabled.
    pub platform: Platform,
    /// TCB floors. A generation without a floor is refused.
    #[serde(default, rename = "floor")]
    pub floors: Vec<Floor>,
    /// Enrolled nodes.
    #[serde(default, rename = "node")]
    pub nodes: Vec<Node>,
    /// Known workloads.
    #[serde(default, rename = "workload")]
    pub workloads: Vec<Workload>,
    /// Who may read entries and archive of the log.
    #[serde(default, rename = "auditor", skip_serializing_if = "Vec::is_empty")]
    pub auditors: Vec<Auditor>,
}

/// Who may read entries and archive of the log.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct Auditor {
    /// For people, and for the authority's own log.
    pub name: String,
    /// SHA-256 of the key (`SubjectPublicKeyInfo`) with which it connects, as
    /// `portcullis log key` prints it.
    pub key: String,
}

/// Times and sizes.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Seconds for which a permit is granted, 2 to 3600.
    pub lease_seconds: u64,
    /// Seconds for which a status list is valid, at most one lease.
    pub status_seconds: u64,
    /// Age in seconds that the nonce of evidence may have, 1 to 10.
    pub evidence_seconds: u64,
    /// Seconds for which a permit and its renewals may follow on each other
    /// before the node must ask anew; at least one lease.
    pub renewal_seconds: u64,
    /// Seconds by which two clocks may differ wherever times of one are compared by
    /// another, 1 to 60; 10 where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clock_skew_seconds: Option<u64>,
    /// Seconds after which the evidence of a decision is taken out of the
    /// archive, a day at least; kept for ever where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evidence_kept_seconds: Option<u64>,
}

/// Whose cosignatures gates demand.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct Witnesses {
    /// How many of them, at least one.
    pub threshold: u64,
    /// Seconds for which a cosignature counts, 5 to 3600. An authority whose
    /// witnesses lag further behind trips.
    pub max_age_seconds: u64,
    /// The witnesses.
    #[serde(rename = "witness")]
    pub members: Vec<Witness>,
}

/// A witness.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct Witness {
    /// Its key, as `portcullis-witness init` prints it.
    pub key: String,
    /// Where it listens: `http://host:port`.
    pub url: String,
}

/// Where certificate chains must end.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum RootChoice {
    /// AMD's pinned ARKs.
    Amd,
    /// The certificates in the bundle's folder `roots`.
    Given,
}

/// What is not trusted although it verifies.
#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct Distrust {
    /// Chip generations.
    #[serde(default)]
    pub generations: Vec<String>,
    /// SHA-256 of endorsement keys, in hex.
    #[serde(default)]
    pub veks: Vec<String>,
    /// Chip ids, in hex.
    #[serde(default)]
    pub chips: Vec<String>,
}

/// What the platform must have enabled. Every key is required: silence is no choice.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct Platform {
    /// Memory aliases were ruled out at boot (BadRAM).
    pub alias_check: Requirement,
    /// The host cannot read ciphertext.
    pub ciphertext_hiding: Requirement,
    /// Memory with error correction.
    pub ecc: Requirement,
    /// Simultaneous multithreading is off.
    pub smt_disabled: Requirement,
    /// Bits that both mitigation vectors of a report must have (version 5 and
    /// later); 0 asks for none, and then older reports are admitted.
    pub mitigations: u64,
}

/// Whether something must hold.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum Requirement {
    /// It must hold.
    Required,
    /// It may hold or not.
    Optional,
}

/// Lowest patch levels of a generation.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct Floor {
    /// `Milan`, `Genoa` or `Turin`.
    pub generation: String,
    /// TCB versions of the report that it is for: `reported`, `committed`,
    /// `launch`, `current`; all four where absent.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub on: Vec<String>,
    /// RFC 3339: until then a version below this floor is warned of, from then
    /// on it is denied. Denied at once where absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deny_from: Option<String>,
    /// FMC; Turin only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fmc: Option<u8>,
    /// Boot loader.
    pub boot_loader: u8,
    /// TEE.
    pub tee: u8,
    /// SNP firmware.
    pub snp: u8,
    /// Microcode.
    pub microcode: u8,
}

/// An enrolled node.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct Node {
    /// Name.
    pub name: String,
    /// Chip id, 64 bytes in hex; absent only in class `tpm`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub chip_id: Option<String>,
    /// Name of its attestation key in hex. With a TPM, this or `ek` is needed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ak_name: Option<String>,
    /// SHA-256 of the `SubjectPublicKeyInfo` of its endorsement key in hex: the
    /// node then activates a credential under it on every connection.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ek: Option<String>,
    /// Weakest evidence that it may show: `snp+tpm`, `snp` or `tpm`.
    pub minimum_class: String,
    /// Tags for Cedar.
    #[serde(default)]
    pub tags: Vec<String>,
}

/// A workload that may be asked for.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct Workload {
    /// Name, for Cedar and messages.
    pub name: String,
    /// SHA-256 of the executable in hex.
    pub digest: String,
    /// `any`, or SHA-256 of the arguments in hex.
    pub arguments: String,
    /// `any`, or SHA-256 of the environment in hex.
    pub environment: String,
    /// Whether it may load shared libraries.
    pub linking: Linking,
}

/// Whether a workload may load shared libraries, which no digest covers.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum Linking {
    /// It must be statically linked.
    Static,
    /// It may be dynamically linked.
    Dynamic,
}
