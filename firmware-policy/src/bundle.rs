//! The signed bundle: a deterministic tar with the signatures of m of n governors.

use std::collections::BTreeMap;
use std::fmt;
use std::io::Read;

use portcullis_attest::snp::collateral::{Collateral, CollateralError};
use portcullis_attest::snp::roots::Roots;
use portcullis_attest::snp::verify::SnpVerifier;
use portcullis_authz::{Authorizer, AuthzError};
use portcullis_permit::{Governance, GovernanceError, Quorum};
use portcullis_wire::Digest;

use crate::document::{Document, RootChoice};
use crate::policy::Policy;

/// Largest bundle accepted, in bytes.
pub const MAX_LENGTH: usize = 8 * 1024 * 1024;
/// Type of the document that governors sign.
pub const CONTENT_TYPE: &str = "application/vnd.portcullis.bundle+tar";
const MAX_FILES: usize = 256;
const DOCUMENT: &str = "bundle.toml";
const POLICIES: &str = "policy.cedar";
const SCHEMA: &str = "schema.cedarschema";

/// Why a bundle was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BundleError {
    /// Not enough governors signed, or the envelope is malformed.
    Governance(GovernanceError),
    /// Not the deterministic archive of its own files.
    Archive(&'static str),
    /// A required file is absent.
    File(&'static str),
    /// `bundle.toml` does not parse.
    Document(String),
    /// A value that cannot be.
    Value {
        /// Key in `bundle.toml`.
        field: &'static str,
        /// The value.
        found: String,
    },
    /// The Cedar policies.
    Authz(AuthzError),
    /// A root, certificate or CRL.
    Collateral {
        /// File in the bundle.
        file: String,
        /// Why.
        error: CollateralError,
    },
    /// Not valid yet, or not any more.
    Validity {
        /// Time of the check, Unix seconds.
        at: u64,
        /// Start, Unix seconds.
        not_before: u64,
        /// End, Unix seconds, exclusive.
        expires: u64,
    },
    /// A revocation list is older than the one in the active bundle, or absent.
    CrlNumber {
        /// Number of the list in the active bundle, hex, and its issuer's name.
        found: String,
    },
    /// Does not follow on the bundle that is active.
    Succession {
        /// Version and predecessor of the new bundle.
        found: String,
        /// What would follow.
        required: String,
    },
}

impl BundleError {
    pub(crate) fn value(field: &'static str, found: &str) -> Self {
        Self::Value { field, found: found.chars().take(160).collect() }
    }

    /// The stable id of the check that refused.
    #[must_use]
    pub const fn check(&self) -> &'static str {
        match self {
            Self::Governance(GovernanceError::Threshold { .. }) => "bundle.threshold",
            Self::Governance(_) => "bundle.signature",
            Self::Archive(_) | Self::File(_) => "bundle.archive",
            Self::Document(_) | Self::Value { .. } => "bundle.document",
            Self::Authz(_) => "bundle.cedar",
            Self::Collateral { .. } => "bundle.collateral",
            Self::Validity { at, not_before, .. } if *at < *not_before => "bundle.not_before",
            Self::Validity { .. } => "bundle.expired",
            Self::CrlNumber { .. } => "snp.crl.number",
            Self::Succession { .. } => "bundle.succession",
        }
    }
}

impl fmt::Display for BundleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Governance(error) => error.fmt(f),
            Self::Archive(why) => write!(f, "bundle archive: {why}"),
            Self::File(name) => write!(f, "bundle has no {name}"),
            Self::Document(why) => write!(f, "{DOCUMENT}: {why}"),
            Self::Value { field, found } => write!(f, "{DOCUMENT}: {field} cannot be {found:?}"),
            Self::Authz(error) => error.fmt(f),
            Self::Collateral { file, error } => write!(f, "{file}: {error}"),
            Self::Validity { at, not_before, expires } => {
                write!(f, "valid from {not_before} to {expires}, not at {at}")
            }
            Self::CrlNumber { found } => write!(f, "a revocation list went back, required at least {found}"),
            Self::Succession { found, required } => write!(f, "bundle is {found}, required {required}"),
        }
    }
}

impl std::error::Error for BundleError {}

impl From<GovernanceError> for BundleError {
    fn from(error: GovernanceError) -> Self {
        Self::Governance(error)
    }
}

/// The files of a bundle, by path.
pub type Files = BTreeMap<String, Vec<u8>>;

/// Packs files into the one archive that they have: sorted, without times,
/// owners or modes.
///
/// # Errors
/// [`BundleError::Archive`] for a path that tar cannot hold.
pub fn pack(files: &Files) -> Result<Vec<u8>, BundleError> {
    let refused = |_| BundleError::Archive("cannot be written");
    let mut builder = tar::Builder::new(Vec::new());
    for (path, bytes) in files {
        let mut header = tar::Header::new_ustar();
        header.set_path(path).map_err(refused)?;
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_entry_type(tar::EntryType::Regular);
        header.set_cksum();
        builder.append(&header, bytes.as_slice()).map_err(refused)?;
    }
    builder.into_inner().map_err(refused)
}

/// Unpacks an archive and refuses any other encoding of the same files.
///
/// # Errors
/// [`BundleError::Archive`].
pub fn unpack(archive: &[u8]) -> Result<Files, BundleError> {
    if archive.len() > MAX_LENGTH {
        return Err(BundleError::Archive("too large"));
    }
    let mut files = Files::new();
    let mut reader = tar::Archive::new(archive);
    for entry in reader.entries().map_err(|_| BundleError::Archive("not a tar archive"))? {
        let mut entry = entry.map_err(|_| BundleError::Archive("not a tar archive"))?;
        let path = entry.path().ok().and_then(|p| p.to_str().map(str::to_owned));
        let path = path.ok_or(BundleError::Archive("a path that is no text"))?;
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).map_err(|_| BundleError::Archive("truncated"))?;
        if files.len() >= MAX_FILES || files.insert(path, bytes).is_some() {
            return Err(BundleError::Archive("too many files, or one twice"));
        }
    }
    if pack(&files)? == archive { Ok(files) } else { Err(BundleError::Archive("not deterministic")) }
}

/// A bundle's content, checked against itself, whoever signed it.
pub struct Content {
    policy: Policy,
    authorizer: Authorizer,
    verifier: SnpVerifier,
}

impl Content {
    /// Reads the files of a bundle: the document, Cedar policies with strict
    /// validation, roots and collateral.
    ///
    /// # Errors
    /// [`BundleError`].
    pub fn read(files: &Files) -> Result<Self, BundleError> {
        let text = |name: &'static str| {
            let bytes = files.get(name).ok_or(BundleError::File(name))?;
            std::str::from_utf8(bytes).map_err(|_| BundleError::Archive("a text file that is no UTF-8"))
        };
        let document: Document = toml::from_str(text(DOCUMENT)?).map_err(|e| BundleError::Document(e.to_string()))?;
        let policy = Policy::read(&document)?;
        let authorizer = Authorizer::load(text(POLICIES)?, text(SCHEMA)?).map_err(BundleError::Authz)?;
        let roots = match document.roots {
            RootChoice::Amd => Roots::amd()
                .map_err(|error| BundleError::Collateral { file: "pinned roots".into(), error: error.into() })?,
            RootChoice::Given => Roots::given(below(files, "roots/")?.certificates),
        };
        if roots.arks().is_empty() {
            return Err(BundleError::File("roots/"));
        }
        let known = |path: &str| {
            [DOCUMENT, POLICIES, SCHEMA].contains(&path)
                || path.starts_with("roots/")
                || path.starts_with("collateral/")
        };
        if !files.keys().all(|path| known(path)) {
            return Err(BundleError::Archive("a file that no part of the bundle reads"));
        }
        let verifier = SnpVerifier::new(roots, below(files, "collateral/")?);
        Ok(Self { policy, authorizer, verifier })
    }

    /// What the document says.
    #[must_use]
    pub const fn policy(&self) -> &Policy {
        &self.policy
    }

    /// The Cedar policies.
    #[must_use]
    pub const fn authorizer(&self) -> &Authorizer {
        &self.authorizer
    }

    /// The verifier with the bundle's roots and collateral.
    #[must_use]
    pub const fn verifier(&self) -> &SnpVerifier {
        &self.verifier
    }
}

fn below(files: &Files, folder: &str) -> Result<Collateral, BundleError> {
    let mut all = Collateral::default();
    for (path, bytes) in files.iter().filter(|(path, _)| path.starts_with(folder)) {
        let found = Collateral::parse(bytes).and_then(Collateral::strict);
        all.extend(found.map_err(|error| BundleError::Collateral { file: path.clone(), error })?);
    }
    Ok(all)
}

/// A bundle that enough governors signed and that is consistent in itself.
/// Only [`VerifiedBundle::verify`] makes one. Validity depends on time:
/// [`VerifiedBundle::check_time`].
pub struct VerifiedBundle {
    content: Content,
    digest: Digest,
    bytes: Vec<u8>,
}

impl VerifiedBundle {
    /// Verifies a signed bundle (`.pcb`).
    ///
    /// # Errors
    /// [`BundleError`].
    pub fn verify(bytes: &[u8], governance: &Governance) -> Result<Self, BundleError> {
        let quorum = Quorum::decode(bytes, MAX_LENGTH)?;
        let archive = quorum.verify(CONTENT_TYPE, governance)?;
        let content = Content::read(&unpack(archive)?)?;
        Ok(Self { content, digest: quorum.digest(), bytes: bytes.to_vec() })
    }

    /// Whether the bundle is valid at a time, Unix seconds.
    ///
    /// # Errors
    /// [`BundleError::Validity`].
    pub const fn check_time(&self, at: u64) -> Result<(), BundleError> {
        let Policy { not_before, expires, .. } = self.content.policy;
        if at < not_before || at >= expires {
            return Err(BundleError::Validity { at, not_before, expires });
        }
        Ok(())
    }

    /// Whether this bundle may take the place of another: the version goes up
    /// and the predecessor is the other's digest.
    ///
    /// # Errors
    /// [`BundleError::Succession`].
    pub fn check_succession(&self, active: &Self) -> Result<(), BundleError> {
        if let Some(number) = self.content.verifier.older_crl(&active.content.verifier) {
            return Err(BundleError::CrlNumber { found: number });
        }
        let (new, old) = (&self.content.policy, &active.content.policy);
        if new.version > old.version && new.predecessor == Some(active.digest) {
            return Ok(());
        }
        let name = |digest: Option<Digest>| digest.map_or_else(|| "none".into(), |d| portcullis_wire::hex::hex(&d));
        Err(BundleError::Succession {
            found: format!("version {} after {}", new.version, name(new.predecessor)),
            required: format!("a version above {} after {}", old.version, name(Some(active.digest))),
        })
    }

    /// The content.
    #[must_use]
    pub const fn content(&self) -> &Content {
        &self.content
    }

    /// What the document says.
    #[must_use]
    pub const fn policy(&self) -> &Policy {
        &self.content.policy
    }

    /// SHA-256 of the archive, which the governors signed.
    #[must_use]
    pub const fn digest(&self) -> &Digest {
        &self.digest
    }

    /// The bundle as received, with its signatures.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}
