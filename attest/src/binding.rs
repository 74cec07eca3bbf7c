//! Binds evidence to this channel, this key, this request.
//!
//! The binder is the value that a machine puts into its report and quote. It covers the
//! nonce, the TLS channel, both TLS keys, the attestation key and the context, so
//! evidence cannot be relayed, reflected, replayed or moved to another request. An
//! authority answers many sessions with one report: their binders are leaves of a tree,
//! and each session gets its inclusion proof.

use portcullis_wire::{Value, bstr, encode, merkle, or_null};

use crate::crypto::{sha256, sha512};

/// Largest number of sessions in one batch of authority evidence.
pub const MAX_BATCH: usize = 4096;

/// The party that makes the evidence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The permit authority.
    Authority,
    /// A node that asks for a permit.
    Node,
}

impl Role {
    const fn number(self) -> u64 {
        match self {
            Self::Authority => 1,
            Self::Node => 2,
        }
    }
}

/// The facts that both ends of a TLS session share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Channel {
    /// RFC 9266 exporter value.
    pub exporter: [u8; 32],
    /// SHA-256 of the SubjectPublicKeyInfo of the side that makes the evidence.
    pub own_key: [u8; 32],
    /// SHA-256 of the SubjectPublicKeyInfo of the side that verifies it.
    pub peer_key: [u8; 32],
}

impl Channel {
    /// The same session seen from the other end.
    #[must_use]
    pub const fn reversed(self) -> Self {
        Self { exporter: self.exporter, own_key: self.peer_key, peer_key: self.own_key }
    }
}

/// Everything that evidence is bound to.
#[derive(Clone, Copy, Debug)]
pub struct Binding<'a> {
    /// The party that makes the evidence.
    pub role: Role,
    /// The verifier's nonce.
    pub nonce: &'a [u8; 32],
    /// The session.
    pub channel: Channel,
    /// SHA-256 of the authority's statement, or of the node's request.
    pub context: &'a [u8; 32],
}

impl Binding<'_> {
    /// The binder for evidence with this attestation key, or without a TPM.
    #[must_use]
    pub fn binder(&self, ak_name: Option<&[u8]>) -> [u8; 64] {
        sha512(&[&encode(&Value::Array(vec![
            "portcullis/binder/1".into(),
            self.role.number().into(),
            bstr(self.nonce),
            bstr(self.channel.exporter),
            bstr(self.channel.own_key),
            bstr(self.channel.peer_key),
            or_null(ak_name.map(bstr)),
            bstr(self.context),
        ]))])
    }
}

/// The `extraData` of the quote that belongs to a report.
#[must_use]
pub fn quote_nonce(report_data: &[u8; 64]) -> [u8; 32] {
    sha256(&[report_data])
}

/// Position of a binder in a batch of authority evidence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BatchProof {
    /// Position of the binder, from zero.
    pub index: u64,
    /// Number of binders.
    pub size: u64,
    /// Inclusion path (RFC 9162 §2.1.3).
    pub path: Vec<[u8; 32]>,
}

impl BatchProof {
    /// The `REPORT_DATA` of a batch that includes the binder at this position; `None` if
    /// the proof is inconsistent.
    #[must_use]
    pub fn report_data(&self, binder: &[u8; 64]) -> Option<[u8; 64]> {
        let leaf = merkle::leaf_hash(binder);
        let root = merkle::root_from_inclusion(&leaf, self.index, self.size, &self.path)?;
        Some(batch_report_data(self.size, &root))
    }
}

/// A batch of binders that one report and one quote cover.
#[derive(Clone, Debug)]
pub struct Batch {
    leaves: Vec<[u8; 32]>,
}

impl Batch {
    /// A batch of these binders, at least one and at most [`MAX_BATCH`].
    #[must_use]
    pub fn new(binders: &[[u8; 64]]) -> Option<Self> {
        (1..=MAX_BATCH)
            .contains(&binders.len())
            .then(|| Self { leaves: binders.iter().map(|b| merkle::leaf_hash(b)).collect() })
    }

    /// The `REPORT_DATA` that the report must carry.
    #[must_use]
    pub fn report_data(&self) -> [u8; 64] {
        batch_report_data(self.leaves.len() as u64, &merkle::root(&self.leaves))
    }

    /// The proof for the binder at `index`.
    #[must_use]
    pub fn proof(&self, index: usize) -> Option<BatchProof> {
        let path = merkle::inclusion_path(&self.leaves, index)?;
        Some(BatchProof { index: index as u64, size: self.leaves.len() as u64, path })
    }
}

fn batch_report_data(size: u64, root: &[u8; 32]) -> [u8; 64] {
    sha512(&[&encode(&Value::Array(vec!["portcullis/batch/1".into(), size.into(), bstr(root)]))])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn binding(nonce: &[u8; 32]) -> Binding<'_> {
        let channel = Channel { exporter: [1; 32], own_key: [2; 32], peer_key: [3; 32] };
        Binding { role: Role::Node, nonce, channel, context: &[4; 32] }
    }

    #[test]
    fn every_input_moves_the_binder() {
        let nonce = [0; 32];
        let base = binding(&nonce);
        let binder = base.binder(Some(b"ak"));
        assert_ne!(binder, base.binder(None));
        assert_ne!(binder, base.binder(Some(b"other")));
        assert_ne!(binder, Binding { role: Role::Authority, ..base }.binder(Some(b"ak")));
        assert_ne!(binder, Binding { nonce: &[9; 32], ..base }.binder(Some(b"ak")));
        assert_ne!(binder, Binding { context: &[9; 32], ..base }.binder(Some(b"ak")));
        assert_ne!(binder, Binding { channel: base.channel.reversed(), ..base }.binder(Some(b"ak")));
        let other_session = Channel { exporter: [9; 32], ..base.channel };
        assert_ne!(binder, Binding { channel: other_session, ..base }.binder(Some(b"ak")));
    }

    #[test]
    fn a_batch_covers_its_binders_and_no_other() {
        let binders: Vec<[u8; 64]> = (0..5).map(|n| [n; 64]).collect();
        let batch = Batch::new(&binders).unwrap();
        for (index, binder) in binders.iter().enumerate() {
            let proof = batch.proof(index).unwrap();
            assert_eq!(proof.report_data(binder), Some(batch.report_data()));
            assert_ne!(proof.report_data(&[77; 64]), Some(batch.report_data()));
            let larger = BatchProof { size: 6, ..proof };
            assert_ne!(larger.report_data(binder), Some(batch.report_data()));
        }
        assert!(Batch::new(&[]).is_none());
    }
}
