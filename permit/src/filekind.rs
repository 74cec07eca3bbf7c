//! Detects the kind of a file that was given in place of another, so that the error can
//! name it.

use std::fmt;

use data_encoding::BASE64;
use portcullis_wire::decode;

use crate::endorsement::Endorsement;
use crate::governance::{Governance, GovernanceError, Quorum};
use crate::key::PublicKey;
use crate::revocation::Revocation;

/// Largest file that is looked at, in bytes.
const MAX_FILE: usize = 1 << 23;

/// Kind of a file, judged by its content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileKind {
    /// Nothing.
    Empty,
    /// A COSE_Key, the public half of a key.
    PublicKey,
    /// The governors' keys and threshold.
    Governance,
    /// A bundle, or another document with signatures.
    Bundle,
    /// An endorsement, or the request for one.
    Endorsement,
    /// A revocation.
    Revocation,
    /// Signatures without their document.
    Signatures,
    /// A private key in PEM (PKCS#8), of whatever algorithm.
    PrivateKey,
    /// The same, encrypted with a passphrase.
    Encrypted,
    /// A private key in PEM of a form that names its algorithm: SEC1, PKCS#1.
    OldPrivateKey,
    /// A private key of OpenSSH.
    OpenSsh,
    /// A public key in PEM.
    PublicPem,
    /// A certificate in PEM.
    Certificate,
    /// Other PEM.
    OtherPem,
    /// ASN.1 without an envelope of text.
    Der,
    /// CBOR of some other kind.
    Cbor,
    /// A text.
    Text,
    /// Bytes.
    Bytes,
}

impl FileKind {
    /// The kind of file that these bytes are.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        let trimmed = bytes.trim_ascii();
        if trimmed.is_empty() {
            return Self::Empty;
        }
        if let Some(label) = label(trimmed) {
            return match label {
                "PRIVATE KEY" => Self::PrivateKey,
                "ENCRYPTED PRIVATE KEY" => Self::Encrypted,
                "OPENSSH PRIVATE KEY" => Self::OpenSsh,
                "PUBLIC KEY" => Self::PublicPem,
                "CERTIFICATE" | "X509 CERTIFICATE" | "TRUSTED CERTIFICATE" => Self::Certificate,
                // OpenSSL's own encryption of these names itself in a header.
                label if label.ends_with(" PRIVATE KEY") => {
                    let text = String::from_utf8_lossy(trimmed);
                    if text.contains("ENCRYPTED") { Self::Encrypted } else { Self::OldPrivateKey }
                }
                _ => Self::OtherPem,
            };
        }
        if PublicKey::from_cose(bytes).is_ok() {
            Self::PublicKey
        } else if Governance::decode(bytes).is_ok() {
            Self::Governance
        } else if let Ok(quorum) = Quorum::decode(bytes, MAX_FILE) {
            let document = quorum.unverified_document();
            match (Endorsement::decode(document), Revocation::decode(document)) {
                (Ok(_), _) => Self::Endorsement,
                (_, Ok(_)) => Self::Revocation,
                _ => Self::Bundle,
            }
        } else if Quorum::unsigned(Vec::new()).attach(bytes) == Err(GovernanceError::OtherDocument) {
            Self::Signatures
        } else if bytes.starts_with(&[0x30]) && BASE64.decode(trimmed).is_err() && !trimmed.is_ascii() {
            Self::Der
        } else if decode(bytes, MAX_FILE).is_ok_and(|value| value.is_map() || value.is_array()) {
            Self::Cbor
        } else if std::str::from_utf8(bytes).is_ok() {
            Self::Text
        } else {
            Self::Bytes
        }
    }
}

/// The label of the first PEM block (RFC 7468).
fn label(bytes: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(bytes).ok()?;
    let (_, rest) = text.split_once("-----BEGIN ")?;
    rest.split_once("-----").map(|(label, _)| label)
}

impl fmt::Display for FileKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "an empty file",
            Self::PublicKey => "a public key (COSE_Key)",
            Self::Governance => "the governors' keys and threshold",
            Self::Bundle => "a bundle",
            Self::Endorsement => "an endorsement, or the request for one",
            Self::Revocation => "a revocation",
            Self::Signatures => "a set of signatures",
            Self::PrivateKey => "a private key in PEM",
            Self::Encrypted => "an encrypted private key",
            Self::OldPrivateKey => "a private key in an older form of PEM",
            Self::OpenSsh => "a private key of OpenSSH",
            Self::PublicPem => "a public key in PEM",
            Self::Certificate => "a certificate in PEM",
            Self::OtherPem => "PEM of no known kind",
            Self::Der => "DER",
            Self::Cbor => "CBOR of no known kind",
            Self::Text => "a text",
            Self::Bytes => "a file of no known kind",
        })
    }
}

/// What to do where a private key was required.
pub(crate) const fn private_hint(found: FileKind) -> &'static str {
    match found {
        FileKind::PublicKey | FileKind::PublicPem | FileKind::Certificate => {
            "name the private key that belongs to it; keygen wrote it beside the public one, as .pem"
        }
        FileKind::Encrypted => "decrypt it on the machine where it is used: openssl pkcs8 -in FILE -out key.pem",
        FileKind::OldPrivateKey | FileKind::Der => {
            "convert it: openssl pkcs8 -topk8 -nocrypt -in FILE -out key.pem (-inform DER for DER)"
        }
        FileKind::PrivateKey => "it is of another algorithm, or damaged: make one with portcullis-policy keygen",
        FileKind::OpenSsh => "keys of OpenSSH are not used here: make one with portcullis-policy keygen",
        _ => "portcullis-policy keygen makes one",
    }
}

/// What to do where a public key was required.
pub(crate) const fn public_hint(found: FileKind) -> &'static str {
    match found {
        FileKind::PrivateKey | FileKind::Encrypted | FileKind::OldPrivateKey | FileKind::OpenSsh => {
            "name the public key that belongs to it; keygen wrote it beside the private one, as .cose. Nobody else \
             needs the private one"
        }
        _ => "name the .cose file that portcullis-policy keygen wrote",
    }
}
