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
    /// Version of the bundle; it only increases.
    pub version: u64,
    /// SHA-256 of the bundle before this one; absent in the first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub predecessor: Option<String>,
    /// RFC 3339.
    pub not_before: String,
    /// RFC 3339, exclusive.
    pub expires: String,
    /// Evidence classes that are admitted.
    pub classes: Vec<String>,
    /// Trusted roots of certificate chains.
    pub roots: RootChoice,
    /// Limits on times and sizes.
    pub limits: Limits,
    /// The witnesses whose cosignatures gates demand; where absent, gates demand no
    /// cosignature.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub witnesses: Option<Witnesses>,
    /// Hardware and keys that are not trusted, even if their evidence verifies.
    #[serde(default)]
    pub distrust: Distrust,
    /// Platform features that must be enabled.
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
    /// Auditors that may read the entries and the archive of the log.
    #[serde(default, rename = "auditor", skip_serializing_if = "Vec::is_empty")]
    pub auditors: Vec<Auditor>,
}

/// An auditor that may read the entries and the archive of the log.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct Auditor {
    /// Name, for people and for the authority's own log.
    pub name: String,
    /// SHA-256 of the key (`SubjectPublicKeyInfo`) with which the auditor connects, as
    /// `portcullis log key` prints it.
    pub key: String,
}

/// Limits on times and sizes.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Seconds for which a permit is granted, 2 to 3600.
    pub lease_seconds: u64,
    /// Seconds for which a status list is valid, at most one lease.
    pub status_seconds: u64,
    /// Largest allowed age of the evidence's nonce in seconds, 1 to 10.
    pub evidence_seconds: u64,
    /// Seconds for which a permit can be renewed in sequence before the node must make a
    /// new request; at least one lease.
    pub renewal_seconds: u64,
    /// Seconds by which two clocks may differ wherever a time from one clock is compared
    /// with another, 1 to 60; 10 where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clock_skew_seconds: Option<u64>,
    /// Seconds after which the evidence of a decision is removed from the archive, at least
    /// one day; kept without limit where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evidence_kept_seconds: Option<u64>,
}

/// The witnesses whose cosignatures gates demand.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct Witnesses {
    /// Number of cosignatures that a gate demands, at least one.
    pub threshold: u64,
    /// Seconds for which a cosignature is valid, 5 to 3600. An authority whose witnesses
    /// lag further behind stops signing.
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
    /// Its address: `http://host:port`.
    pub url: String,
}

/// Trusted roots of certificate chains.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum RootChoice {
    /// AMD's pinned ARKs.
    Amd,
    /// The certificates in the bundle's folder `roots`.
    Given,
}

/// Hardware and keys that are not trusted, even if their evidence verifies.
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

/// Platform features that must be enabled. Every key is required: there is no default.
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
    /// Bits that must be set in both mitigation vectors of a report (version 5 and later).
    /// 0 requires no bit, and also admits older reports.
    pub mitigations: u64,
}

/// Whether a property is required.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum Requirement {
    /// The property is required.
    Required,
    /// The property is optional.
    Optional,
}

/// Lowest patch levels of a generation.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct Floor {
    /// `Milan`, `Genoa` or `Turin`.
    pub generation: String,
    /// TCB versions of the report that the floor applies to: `reported`, `committed`,
    /// `launch`, `current`; all four where absent.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub on: Vec<String>,
    /// RFC 3339. A version below this floor is warned of before this time, and denied from
    /// then on. Where absent, it is always denied.
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
    /// SHA-256 of the `SubjectPublicKeyInfo` of its endorsement key in hex. With it, the
    /// node activates a credential under this key on every connection.
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
