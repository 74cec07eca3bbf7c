//! The signed bundle: a deterministic tar with the signatures of m of n governors.

mod advice;
mod archive;
mod content;
mod error;

use portcullis_permit::{Governance, Quorum};
use portcullis_wire::{Digest, hex};

pub use advice::Advice;
pub use archive::{Files, MAX_LENGTH, pack, unpack};
pub use content::{Content, References, documents};
pub use error::BundleError;

use crate::policy::Policy;

/// Type of the document that governors sign.
pub const CONTENT_TYPE: &str = "application/vnd.portcullis.bundle+tar";

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
        self.content.check_time(at)
    }

    /// Whether the bundle is for an authority, by the origin of its log.
    ///
    /// # Errors
    /// [`BundleError::Authority`].
    pub fn check_authority(&self, origin: &str) -> Result<(), BundleError> {
        self.content.check_authority(origin)
    }

    /// Selects the bundle to use: the configured one, or the newest verified one that was
    /// kept. An older bundle never becomes active again, and a newer one must name the kept
    /// one as its predecessor.
    ///
    /// # Errors
    /// [`BundleError`].
    pub fn newest(configured: Self, kept: Option<Self>) -> Result<Self, BundleError> {
        let Some(kept) = kept else { return Ok(configured) };
        if kept.digest == configured.digest || kept.policy().version > configured.policy().version {
            return Ok(kept);
        }
        configured.check_succession(&kept).map(|()| configured)
    }

    /// Whether this bundle may replace another: its version is higher, its predecessor is
    /// the other's digest, and no revocation list is older. It may name another authority:
    /// governors decide that.
    ///
    /// # Errors
    /// [`BundleError`].
    pub fn check_succession(&self, active: &Self) -> Result<(), BundleError> {
        let (new, old) = (self.policy(), active.policy());
        if new.version <= old.version {
            return Err(BundleError::Version { found: new.version, active: old.version });
        }
        if new.predecessor != Some(active.digest) {
            let found = new.predecessor.map_or_else(|| "none".into(), |digest| hex::hex(&digest));
            return Err(BundleError::Predecessor { found, required: hex::hex(&active.digest) });
        }
        match self.content.verifier().older_crl(active.content.verifier()) {
            Some(found) => Err(BundleError::CrlNumber { found }),
            None => Ok(()),
        }
    }

    /// The content.
    #[must_use]
    pub const fn content(&self) -> &Content {
        &self.content
    }

    /// The policy that the documents define.
    #[must_use]
    pub const fn policy(&self) -> &Policy {
        self.content.policy()
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
