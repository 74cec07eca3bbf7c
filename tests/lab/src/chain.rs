//! Certificate chains in which anything can be changed before signing, for the attacks
//! of THREATS row 10.

use anyhow::Result;
use aws_lc_rs::rsa::{KeyPair, KeySize};
use x509_cert::spki::SubjectPublicKeyInfoOwned;

use crate::processor::Processor;
use crate::root::LabRoot;
pub use crate::x509::Spec;
use crate::x509::{authority_spec, rsa_key};

/// Which certificate of a chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Link {
    /// The root.
    Ark,
    /// The intermediate authority.
    Ask,
    /// The endorsement key.
    Vcek,
}

/// Certificates, DER.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "AMD's names")]
pub struct Chain {
    pub ark: Vec<u8>,
    pub ask: Vec<u8>,
    pub vcek: Vec<u8>,
}

/// Who signs a forged certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signer {
    /// The issuer that the certificate names.
    Named,
    /// The key of another link of the same root.
    Link(Link),
}

/// A sound chain for a processor's key, but for one certificate.
///
/// # Errors
/// Encoding and cryptography.
pub fn forge(
    root: &LabRoot,
    processor: &Processor,
    link: Link,
    signer: Signer,
    change: impl FnOnce(&mut Spec) -> Result<()>,
) -> Result<Chain> {
    let mut chain =
        Chain { ark: root.ark().to_vec(), ask: root.ask().to_vec(), vcek: processor.certificate().to_vec() };
    let key = |link: Link| match link {
        Link::Ark => &root.ark.key,
        Link::Ask => &root.ask.key,
        Link::Vcek => &root.asvk.key,
    };
    let (mut spec, named) = match link {
        Link::Ark => (authority_spec(&root.ark.name, &root.ark.name, &[1, 0, 0], &root.ark.key)?, Link::Ark),
        Link::Ask => (authority_spec(&root.ask.name, &root.ark.name, &[1, 0, 1], &root.ask.key)?, Link::Ark),
        Link::Vcek => (processor.vek_spec(&root.ask.name)?, Link::Ask),
    };
    change(&mut spec)?;
    let der = spec.issue(key(match signer {
        Signer::Named => named,
        Signer::Link(other) => other,
    }))?;
    match link {
        Link::Ark => chain.ark = der,
        Link::Ask => chain.ask = der,
        Link::Vcek => chain.vcek = der,
    }
    Ok(chain)
}

/// An RSA key of 2048 bits, where AMD's have 4096.
///
/// # Errors
/// Cryptography.
pub fn short_key() -> Result<(KeyPair, SubjectPublicKeyInfoOwned)> {
    let key = KeyPair::generate(KeySize::Rsa2048)?;
    let public = rsa_key(&key)?;
    Ok((key, public))
}
