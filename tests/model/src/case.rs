//! The input of both deciders: a bundle and a request, without bytes.

use std::fmt;

/// The time around which all cases are placed, Unix seconds.
pub const NOW: u64 = 1_795_046_400;

/// Patch levels: boot loader, TEE, SNP, microcode.
pub type Levels = [u8; 4];

/// The TCB versions of a report, in the order in which they are checked.
pub const KINDS: [&str; 4] = ["current", "committed", "reported", "launch"];

/// A floor.
#[derive(Clone, Debug)]
pub struct Floor {
    /// TCB versions that it is for; see [`KINDS`].
    pub on: Vec<&'static str>,
    /// From when on it denies.
    pub deny_from: Option<u64>,
    /// The levels.
    pub levels: Levels,
}

/// Reference values.
#[derive(Clone, Debug)]
pub struct Image {
    /// Launch measurements, by number.
    pub measurements: Vec<u8>,
    /// Valid from and until.
    pub valid: (u64, u64),
    /// Privilege level.
    pub vmpl: u32,
    /// Lowest security version.
    pub guest_svn: u32,
    /// First byte of the host data, or any.
    pub host_data: Option<u8>,
    /// Boots that PCR 4 may show, by number.
    pub boots: Vec<u8>,
}

/// The one enrolled node.
#[derive(Clone, Debug)]
pub struct Node {
    /// Whether its chip is enrolled.
    pub by_chip: bool,
    /// Whether its attestation key is.
    pub by_ak: bool,
    /// Whether its endorsement key is.
    pub by_ek: bool,
    /// Weakest class.
    pub minimum: &'static str,
    /// Tags.
    pub tags: Vec<&'static str>,
}

/// The one workload.
#[derive(Clone, Debug)]
pub struct Workload {
    /// First byte of the digest of its arguments, or any.
    pub arguments: Option<u8>,
    /// Of its environment.
    pub environment: Option<u8>,
    /// Whether it may load libraries.
    pub dynamic: bool,
}

/// Cedar policies that both deciders know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// Permits nodes with the tag `lab`.
    PermitLab,
    /// Permits class `snp+tpm`.
    PermitBoth,
    /// Permits workloads that load no libraries.
    PermitStatic,
    /// Forbids nodes with the tag `blue`.
    ForbidBlue,
    /// Forbids what is no renewal.
    ForbidFirst,
    /// Forbids the second image.
    ForbidSecondImage,
    /// Forbids lines of renewals older than 500 seconds.
    ForbidOldLines,
    /// Errs.
    Err,
}

impl Rule {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::PermitLab,
        Self::PermitBoth,
        Self::PermitStatic,
        Self::ForbidBlue,
        Self::ForbidFirst,
        Self::ForbidSecondImage,
        Self::ForbidOldLines,
        Self::Err,
    ];
}

/// A bundle.
#[derive(Clone, Debug)]
pub struct Bundle {
    /// Whether it is for the authority that decides.
    pub for_us: bool,
    /// Valid from and until.
    pub valid: (u64, u64),
    /// Seconds by which clocks may differ; ten if the bundle says nothing.
    pub skew: Option<u64>,
    /// Admitted classes.
    pub classes: Vec<&'static str>,
    /// Greatest age of a nonce.
    pub evidence_seconds: u64,
    /// Greatest age of a line of renewals.
    pub renewal_seconds: u64,
    /// Whether the chip's generation is distrusted.
    pub distrusts_generation: bool,
    /// Whether the node's chip is.
    pub distrusts_chip: bool,
    /// Whether it requires alias check, ciphertext hiding, ECC, SMT off.
    pub requires: [bool; 4],
    /// Floors.
    pub floors: Vec<Floor>,
    /// Images.
    pub images: Vec<Image>,
    /// The node, if it is enrolled.
    pub node: Option<Node>,
    /// The workload, if it is known.
    pub workload: Option<Workload>,
    /// Policies.
    pub rules: Vec<Rule>,
}

/// What the log contains about a parent.
#[derive(Clone, Debug)]
pub struct Parent {
    /// Of the same node, key and workload.
    pub same: bool,
    /// When the first of its line was granted.
    pub since: u64,
    /// Of the same boot, and not later.
    pub same_boot: bool,
    /// Revoked.
    pub revoked: bool,
}

/// Contents of a report, in the classes that have one.
#[derive(Clone, Debug)]
pub struct Report {
    /// Of the node's chip.
    pub own_chip: bool,
    /// Launch measurement, by number.
    pub measurement: u8,
    /// Privilege level.
    pub vmpl: u32,
    /// Security version.
    pub guest_svn: u32,
    /// First byte of the host data.
    pub host_data: u8,
    /// Alias check done, ciphertext hidden, ECC, SMT off.
    pub has: [bool; 4],
    /// Debugging allowed, migration allowed.
    pub allows: [bool; 2],
    /// TCBs in the order of [`KINDS`].
    pub tcbs: [Levels; 4],
}

/// Contents of a quote, in the classes that have one.
#[derive(Clone, Debug)]
pub struct Quote {
    /// By the node's own TPM.
    pub own_ak: bool,
    /// The boot that PCR 4 shows.
    pub boot: u8,
}

/// A request and the authority's knowledge beside it.
#[derive(Clone, Debug)]
pub struct Told {
    /// Recorded time.
    pub time: u64,
    /// Age of the nonce; negative is of the future.
    pub nonce_age: i64,
    /// For the authority that decides.
    pub audience: bool,
    /// Repeats the statement that was shown.
    pub statement: bool,
    /// Repeats the nonce that was given.
    pub nonce: bool,
    /// What it has seen of the log contradicts it.
    pub contradicted: bool,
    /// By the name that is enrolled.
    pub own_name: bool,
    /// Evidence was made for this session.
    pub this_session: bool,
    /// The report.
    pub report: Option<Report>,
    /// The quote.
    pub quote: Option<Quote>,
    /// The credential that was activated: of the enrolled endorsement key, with
    /// the quote's key.
    pub activated: bool,
    /// Names a parent; what the log knows of it.
    pub parent: Option<Option<Parent>>,
    /// Node and workload are revoked.
    pub revoked: [bool; 2],
    /// Their revocations were lifted.
    pub lifted: [bool; 2],
    /// Asks for the workload that bundles may know.
    pub known_workload: bool,
    /// First byte of the digest of the arguments.
    pub arguments: u8,
    /// Of the environment.
    pub environment: u8,
    /// Loads libraries.
    pub dynamic: bool,
}

impl Told {
    /// The evidence class.
    #[must_use]
    pub const fn class(&self) -> &'static str {
        match (&self.report, &self.quote) {
            (Some(_), Some(_)) => "snp+tpm",
            (Some(_), None) => "snp",
            (None, _) => "tpm",
        }
    }
}

/// One comparison.
#[derive(Clone, Debug)]
pub struct Case<'a> {
    /// The bundle.
    pub bundle: &'a Bundle,
    /// The request.
    pub told: &'a Told,
}

/// The expected result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// A permit: binds arguments and environment, allows libraries; warnings by
    /// check and date.
    Permit {
        /// Digest of the arguments that it binds.
        arguments: Option<u8>,
        /// Digest of the environment.
        environment: Option<u8>,
        /// Whether libraries are allowed.
        dynamic: bool,
        /// What will be denied, and from when on.
        warnings: Vec<(String, u64)>,
    },
    /// A denial with these checks, in this order, and whether it tells more.
    Denial {
        /// Check ids.
        checks: Vec<String>,
        /// Whether found, required and remedy stand with them.
        told: bool,
    },
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Permit { .. } => f.write_str("permit"),
            Self::Denial { checks, .. } => f.write_str(&checks.join(" ")),
        }
    }
}
