//! Why a bundle is refused, each reason under its own check id.

use std::fmt;

use portcullis_attest::snp::collateral::CollateralError;
use portcullis_permit::{Clock, GovernanceError};
use portcullis_wire::rfc3339;

use crate::finding::Finding;

/// Why a bundle was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BundleError {
    /// Not signed by enough governors, or not as a bundle.
    Governance(GovernanceError),
    /// Not the deterministic archive of the files that it contains.
    Archive(&'static str),
    /// A text is malformed or contradicts itself: every mistake.
    Document(Vec<Finding>),
    /// Cedar policies or schema: every mistake.
    Cedar(Vec<Finding>),
    /// A root, certificate or CRL.
    Collateral {
        /// File in the bundle.
        file: String,
        /// The reason.
        error: CollateralError,
    },
    /// Not valid yet, or expired.
    Validity {
        /// Time of the check, and the bundle's tolerance.
        clock: Clock,
        /// Start, Unix seconds.
        not_before: u64,
        /// End, Unix seconds, exclusive.
        expires: u64,
    },
    /// For another authority.
    Authority {
        /// The authority that it names.
        found: String,
        /// The authority that asks.
        required: String,
    },
    /// A revocation list is older than the one in the active bundle, or absent.
    CrlNumber {
        /// Number of the list in the active bundle, hex, and its issuer's name.
        found: String,
    },
    /// Not newer than the active bundle.
    Version {
        /// Version of the refused bundle.
        found: u64,
        /// Version of the active bundle.
        active: u64,
    },
    /// Its predecessor is not the active bundle.
    Predecessor {
        /// The predecessor's digest that it names, in hex, or `none`.
        found: String,
        /// Digest of the active bundle, in hex.
        required: String,
    },
}

impl BundleError {
    /// The stable id of the check that refused.
    #[must_use]
    pub const fn check(&self) -> &'static str {
        match self {
            Self::Governance(GovernanceError::Unsigned) => "bundle.unsigned",
            Self::Governance(GovernanceError::Twice) => "bundle.signer",
            Self::Governance(GovernanceError::Threshold { .. }) => "bundle.threshold",
            Self::Governance(_) => "bundle.signature",
            Self::Archive(_) => "bundle.archive",
            Self::Document(_) => "bundle.document",
            Self::Cedar(_) => "bundle.cedar",
            Self::Collateral { .. } => "bundle.collateral",
            Self::Validity { clock, not_before, .. } if clock.now < *not_before => "bundle.not_before",
            Self::Validity { .. } => "bundle.expired",
            Self::Authority { .. } => "bundle.authority",
            Self::CrlNumber { .. } => "snp.crl.number",
            Self::Version { .. } => "bundle.version",
            Self::Predecessor { .. } => "bundle.predecessor",
        }
    }

    /// The mistakes in texts; empty for other refusals.
    #[must_use]
    pub fn findings(&self) -> &[Finding] {
        match self {
            Self::Document(findings) | Self::Cedar(findings) => findings,
            _ => &[],
        }
    }
}

impl fmt::Display for BundleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Governance(error) => error.fmt(f),
            Self::Archive(why) => write!(f, "bundle archive: {why}"),
            Self::Document(findings) | Self::Cedar(findings) => {
                let texts: Vec<String> = findings.iter().map(Finding::to_string).collect();
                f.write_str(&texts.join("\n"))
            }
            Self::Collateral { file, error } => write!(f, "{file}: {error}"),
            Self::Validity { clock: Clock { now, skew }, not_before, expires } => {
                let (now, from, until) = (rfc3339(*now), rfc3339(*not_before), rfc3339(*expires));
                write!(f, "found {now}, required {from} (less {skew} s of tolerance) or later, and before {until}")
            }
            Self::Authority { found, required } => write!(f, "found a bundle for {found}, required {required}"),
            Self::CrlNumber { found } => write!(f, "a revocation list went back, required at least {found}"),
            Self::Version { found, active } => write!(f, "found version {found}, required more than {active}"),
            Self::Predecessor { found, required } => write!(f, "found predecessor {found}, required {required}"),
        }
    }
}

impl std::error::Error for BundleError {}

impl From<GovernanceError> for BundleError {
    fn from(error: GovernanceError) -> Self {
        Self::Governance(error)
    }
}
