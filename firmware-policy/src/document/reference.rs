//! A file in `reference/`: the allowed measurements of one image.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The role that an image is for.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum RoleName {
    /// Images of authorities.
    Authority,
    /// Images of nodes with a gate.
    Node,
}

/// The components that a launch measurement covers.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum Coverage {
    /// Firmware, kernel, initrd and command line.
    BootChain,
    /// Firmware, with a vTPM that measures later components; needs `[uki]`.
    FirmwareAndUki,
    /// Firmware alone: not sufficient for any image admitted here.
    Firmware,
}

/// Reference values of one image.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct Reference {
    /// Name, for policies and messages.
    pub name: String,
    /// The role that the image is for.
    pub role: RoleName,
    /// The components that the launch measurements cover.
    pub covers: Coverage,
    /// Whether a person has reviewed the values and vouches for them. Drafts are not
    /// reviewed, and a bundle with a draft cannot be signed.
    pub reviewed: bool,
    /// RFC 3339; the bundle's own start where absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_before: Option<String>,
    /// RFC 3339, exclusive; the bundle's own end where absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires: Option<String>,
    /// Virtual machine privilege level of the report.
    pub vmpl: u32,
    /// Lowest guest SVN.
    pub guest_svn: u32,
    /// `any`, or 32 bytes in hex.
    pub host_data: String,
    /// `any`, or 48 bytes in hex.
    pub id_key_digest: String,
    /// `any`, or 48 bytes in hex.
    pub author_key_digest: String,
    /// Launch measurements, 48 bytes in hex, each with a name: an image is
    /// measured differently for every number and type of processors.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub measurements: BTreeMap<String, String>,
    /// PCR number to SHA-256 value in hex, or to several.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub pcrs: BTreeMap<String, OneOf>,
    /// Requirements for the boot, as the event log shows it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub boot: Option<Boot>,
    /// Requirements for the unified kernel image, as the event log shows it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uki: Option<Uki>,
    /// Requirements for Linux's list of measured files.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ima: Option<Ima>,
    /// PCR number to all events that may be measured into it. An event is a text that the
    /// log contains and that hashes to the digest, the beginning of such a text with `*`,
    /// or `sha256:` and a digest in hex.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub events: BTreeMap<String, Vec<String>>,
}

/// One value, or several alternatives.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
#[serde(untagged)]
pub enum OneOf {
    /// One value.
    One(String),
    /// Several.
    Any(Vec<String>),
}

impl OneOf {
    /// The values.
    #[must_use]
    pub fn values(&self) -> &[String] {
        match self {
            Self::One(value) => std::slice::from_ref(value),
            Self::Any(values) => values,
        }
    }
}

/// Rules for the boot, proven by PCR 4, 7 and 11.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct Boot {
    /// Whether Secure Boot must be on (PCR 7).
    pub secure_boot: super::Requirement,
    /// Authenticode SHA-256 digests in hex of all binaries that may be started (PCR 4); any
    /// other started binary causes a denial. Absent: not checked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub started: Option<Vec<String>>,
    /// Phases that user space may have reached (PCR 11): each path as words joined by
    /// colons, such as `enter-initrd:leave-initrd:sysinit:ready`, or `none`. Absent: not
    /// checked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub phases: Option<Vec<String>>,
}

/// Rules for a unified kernel image, proven by PCR 11 and 12.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct Uki {
    /// Section name to SHA-256 of its content in hex, or to several. Exactly
    /// these sections must have been measured.
    pub sections: BTreeMap<String, OneOf>,
    /// Command lines that may be given besides the image's own (PCR 12).
    #[serde(default)]
    pub command_lines: Vec<String>,
}

/// Rules for Linux's list of measured files, proven by PCR 10 and those named.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct Ima {
    /// File in the folder `ima/` with a line `DIGEST  NAME` for every file that
    /// may be measured, as `sha256sum` writes it.
    pub allow: String,
    /// PCRs besides 10 into which the kernel's IMA policy measures (`pcr=`).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pcrs: Vec<u8>,
}
