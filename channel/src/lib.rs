//! The TLS session that evidence is bound to: TLS 1.3 only, post-quantum
//! hybrid preferred, no resumption, no early data, both sides with ephemeral
//! self-signed keys.
//!
//! There is no PKI. A certificate proves possession of its key and nothing else.
//! Attestation says who holds the key, through the binder.
//!
//! ```
//! use portcullis_channel::Identity;
//!
//! let identity = Identity::generate()?;
//! let _config = identity.server_config()?;
//! # Ok::<(), portcullis_channel::ChannelError>(())
//! ```
//!
//! It does not authenticate the peer.

mod verifier;

use std::fmt;
use std::sync::Arc;

use der::{Decode, Encode};
use portcullis_attest::binding::Channel;
use portcullis_wire::{Digest, sha256};
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::{self, cipher_suite, kx_group};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::NoServerSessionStorage;
use rustls::{ClientConfig, CommonState, ServerConfig};

use verifier::AnyKey;

/// RFC 9266 §2.
const EXPORTER_LABEL: &[u8] = b"EXPORTER-Channel-Binding";

/// Why no channel was established. Each is a denial.
#[derive(Debug)]
pub enum ChannelError {
    /// Making the ephemeral key or certificate failed.
    Identity,
    /// TLS refused.
    Tls(rustls::Error),
    /// The peer presented no certificate, or one that cannot be read.
    Peer,
}

impl fmt::Display for ChannelError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Identity => f.write_str("the key is not a P-256 private key, or its certificate cannot be made"),
            Self::Tls(error) => write!(f, "TLS: {error}"),
            Self::Peer => f.write_str("the TLS peer presented no readable certificate"),
        }
    }
}

impl std::error::Error for ChannelError {}

impl From<rustls::Error> for ChannelError {
    fn from(error: rustls::Error) -> Self {
        Self::Tls(error)
    }
}

/// A P-256 key with its self-signed certificate. It is ephemeral, except for auditors,
/// whose keys governors list in the bundle.
pub struct Identity {
    certificate: CertificateDer<'static>,
    key: PrivatePkcs8KeyDer<'static>,
    spki: Digest,
}

impl Identity {
    /// Makes a new identity.
    ///
    /// # Errors
    /// [`ChannelError::Identity`].
    pub fn generate() -> Result<Self, ChannelError> {
        let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256);
        Self::of(key.map_err(|_| ChannelError::Identity)?)
    }

    /// An identity with a stored key: a P-256 private key, PKCS#8.
    ///
    /// # Errors
    /// [`ChannelError::Identity`].
    pub fn from_pkcs8(key: &[u8]) -> Result<Self, ChannelError> {
        let key = rcgen::KeyPair::from_pkcs8_der_and_sign_algo(&key.into(), &rcgen::PKCS_ECDSA_P256_SHA256);
        Self::of(key.map_err(|_| ChannelError::Identity)?)
    }

    fn of(key: rcgen::KeyPair) -> Result<Self, ChannelError> {
        let refused = |_| ChannelError::Identity;
        let parameters = rcgen::CertificateParams::new(vec!["portcullis".into()]).map_err(refused)?;
        let certificate = parameters.self_signed(&key).map_err(refused)?.der().clone();
        let spki = spki_digest(&certificate)?;
        Ok(Self { spki, certificate, key: key.serialize_der().into() })
    }

    /// SHA-256 of its SubjectPublicKeyInfo.
    #[must_use]
    pub const fn spki(&self) -> &Digest {
        &self.spki
    }

    fn private_key(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::Pkcs8(self.key.clone_key())
    }

    /// Configuration of the server side. Every client must present a key.
    ///
    /// # Errors
    /// [`ChannelError::Tls`].
    pub fn server_config(&self) -> Result<ServerConfig, ChannelError> {
        let provider = provider();
        let mut config = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_client_cert_verifier(Arc::new(AnyKey::new(provider)))
            .with_single_cert(vec![self.certificate.clone()], self.private_key())?;
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        config.max_early_data_size = 0;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(config)
    }

    /// Configuration of the client side.
    ///
    /// # Errors
    /// [`ChannelError::Tls`].
    pub fn client_config(&self, alpn: &[&[u8]]) -> Result<ClientConfig, ChannelError> {
        let provider = provider();
        let mut config = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(AnyKey::new(provider)))
            .with_client_auth_cert(vec![self.certificate.clone()], self.private_key())?;
        config.resumption = rustls::client::Resumption::disabled();
        config.enable_early_data = false;
        config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
        Ok(config)
    }
}

/// aws-lc-rs, TLS 1.3 suites, the post-quantum hybrid first.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(CryptoProvider {
        cipher_suites: vec![cipher_suite::TLS13_AES_256_GCM_SHA384, cipher_suite::TLS13_CHACHA20_POLY1305_SHA256],
        kx_groups: vec![kx_group::X25519MLKEM768, kx_group::X25519],
        ..aws_lc_rs::default_provider()
    })
}

/// What this side knows of the session once the handshake is complete:
/// the exporter value and both keys, this side's own first.
///
/// # Errors
/// [`ChannelError`]: without the exporter there is no channel to bind to.
pub fn facts(
    state: &CommonState,
    export: impl FnOnce([u8; 32], &[u8], Option<&[u8]>) -> Result<[u8; 32], rustls::Error>,
    own: &Digest,
) -> Result<Channel, ChannelError> {
    // RFC 9266 §4.2: the exporter context is empty, not absent.
    let exporter = export([0; 32], EXPORTER_LABEL, Some(&[]))?;
    let peer = state.peer_certificates().and_then(|chain| chain.first()).ok_or(ChannelError::Peer)?;
    Ok(Channel { exporter, own_key: *own, peer_key: spki_digest(peer)? })
}

fn spki_digest(certificate: &CertificateDer<'_>) -> Result<Digest, ChannelError> {
    let parsed = x509_cert::Certificate::from_der(certificate).map_err(|_| ChannelError::Peer)?;
    let spki = parsed.tbs_certificate.subject_public_key_info.to_der().map_err(|_| ChannelError::Peer)?;
    Ok(sha256(&[&spki]))
}
