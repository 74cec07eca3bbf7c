//! A signed CoRIM: COSE_Sign1 with the content type of a CoRIM, signed by a given key
//! or under a chain of certificates.

use std::path::Path;

use anyhow::{Context, Result, bail};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, EcdsaVerificationAlgorithm, ParsedPublicKey,
};
use portcullis_attest::x509;
use portcullis_wire::{Fields, Sign1, Value};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, UnixTime};
use serde_json::Value as Json;
use webpki::{EndEntityCert, KeyUsage};

use super::Account;
use super::read::{self, MAX_LENGTH};
use crate::files::{self, Refused};

const CONTENT_TYPE: i64 = 3;
const RIM: &str = "application/rim+cbor";
const KID: i64 = 4;
const META: i64 = 8;
const CWT_CLAIMS: i64 = 15;
const X5CHAIN: i64 = 33;
/// ES256 and ES384, and their fully specified forms (RFC 9864).
const P256: [i64; 2] = [-7, -9];
const P384: [i64; 2] = [-35, -51];
/// `anyExtendedKeyUsage` (RFC 5280, §4.2.1.12): certificates do not have to name a
/// purpose.
const ANY_PURPOSE: &[u8] = &[0x55, 0x1d, 0x25, 0x00];

/// The trust anchor of a signature.
pub(super) enum Trust<'a> {
    Key(&'a Path),
    Root(&'a Path),
}

/// Whether these bytes are a signed object.
pub(super) fn is_signed(bytes: &[u8]) -> bool {
    bytes.first() == Some(&0xd2)
}

/// Verifies a signed CoRIM. Returns the inner CoRIM, and the name of the signer.
pub(super) fn open(bytes: &[u8], trust: &Trust<'_>, at: u64, account: &mut Account) -> Result<(Vec<u8>, String)> {
    let object = Sign1::parse(bytes, MAX_LENGTH).map_err(|error| refused(format!("signed CoRIM: {error}")))?;
    if object.protected(CONTENT_TYPE) != Some(&RIM.into()) {
        return Err(refused(format!("content type of the signed CoRIM: required {RIM}")));
    }
    object
        .only_labels(&[1, CONTENT_TYPE, KID, META, CWT_CLAIMS, X5CHAIN], &[X5CHAIN])
        .map_err(|error| refused(format!("signed CoRIM: {error}")))?;
    let payload = object.payload().context("a signed CoRIM without its payload")?.to_vec();
    let key = match trust {
        Trust::Key(path) => key(path, object.algorithm())?,
        Trust::Root(path) => {
            let (leaf, others) = chain(&object)?;
            leaf_key(&leaf, &others, path, at, object.algorithm())?
        }
    };
    if key.verify_sig(&object.to_be_signed(None), object.signature()).is_err() {
        return Err(refused("the signature of the CoRIM does not verify".into()));
    }
    Ok((payload, signer(&object, at, account)?))
}

/// The stated name of the signer, from `corim-meta` or from CWT claims. Also checks
/// that the stated validity of the signature includes `at`.
fn signer(object: &Sign1, at: u64, account: &mut Account) -> Result<String> {
    let (name, span) = match (object.protected(META), object.protected(CWT_CLAIMS)) {
        (Some(Value::Bytes(meta)), _) => read::meta(meta, account)?,
        (None, Some(claims)) => {
            let mut claims = Fields::of(claims.clone())?;
            let (name, _subject) = (claims.text(1)?, claims.optional(2));
            let (end, start) = (claims.optional(4), claims.optional(5));
            let seconds = |value: Value| value.as_integer().and_then(|n| u64::try_from(n).ok());
            let end = end.map(|value| seconds(value).context("exp: not a time")).transpose()?;
            let start = start.map(|value| seconds(value).context("nbf: not a time")).transpose()?;
            claims.finish()?;
            (name, end.map(|end| (start, end)))
        }
        _ => return Err(refused("the signed CoRIM does not say who signed it".into())),
    };
    match span {
        Some((start, end)) if at > end || start.is_some_and(|start| at < start) => {
            Err(refused(format!("the signature was meant until {}", portcullis_cli::rfc3339(end))))
        }
        _ => Ok(name),
    }
}

fn refused(why: String) -> anyhow::Error {
    Refused::new(why).into()
}

fn algorithm(cose: i64) -> Result<&'static EcdsaVerificationAlgorithm> {
    match cose {
        alg if P256.contains(&alg) => Ok(&ECDSA_P256_SHA256_FIXED),
        alg if P384.contains(&alg) => Ok(&ECDSA_P384_SHA384_FIXED),
        other => Err(refused(format!("COSE algorithm {other}: required ES256 or ES384"))),
    }
}

fn parsed(point: &[u8], cose: i64) -> Result<ParsedPublicKey> {
    ParsedPublicKey::new(algorithm(cose)?, point).map_err(|_| refused("a key that is not of the algorithm".into()))
}

/// A key from a JWK, a COSE_Key, or PEM.
fn key(path: &Path, cose: i64) -> Result<ParsedPublicKey> {
    let bytes = files::read(path)?;
    let unknown = || format!("{}: neither a JWK, a COSE_Key nor PEM", path.display());
    if let Ok(jwk) = serde_json::from_slice::<Json>(&bytes) {
        let coordinate = |name: &str| {
            let text = jwk.get(name)?.as_str()?;
            data_encoding::BASE64URL_NOPAD.decode(text.as_bytes()).ok()
        };
        let (x, y) = coordinate("x").zip(coordinate("y")).with_context(unknown)?;
        return parsed(&[&[4][..], &x, &y].concat(), cose);
    }
    if let Ok(mut fields) = portcullis_wire::decode(&bytes, MAX_LENGTH).and_then(Fields::of) {
        // RFC 9053, §7.1.1: x and y of an EC2 key.
        let (x, y) = fields.bytes(-2).and_then(|x| Ok((x, fields.bytes(-3)?))).with_context(unknown)?;
        return parsed(&[&[4][..], &x, &y].concat(), cose);
    }
    let spki = rustls_pki_types::SubjectPublicKeyInfoDer::from_pem_slice(&bytes);
    let spki = spki.map_err(|_| anyhow::anyhow!(unknown()))?;
    ParsedPublicKey::new(algorithm(cose)?, spki.as_ref()).map_err(|_| anyhow::anyhow!(unknown()))
}

/// `x5chain` (RFC 9360): one certificate, or several with the signer's first.
fn chain(object: &Sign1) -> Result<(Vec<u8>, Vec<Vec<u8>>)> {
    let header = object.protected(X5CHAIN).or_else(|| object.unprotected(X5CHAIN));
    match header.context("the CoRIM brings no certificates: give --key instead")? {
        Value::Bytes(leaf) => Ok((leaf.clone(), Vec::new())),
        Value::Array(list) => {
            let ders: Vec<Vec<u8>> = list.iter().filter_map(|der| der.as_bytes().cloned()).collect();
            match ders.split_first() {
                Some((leaf, rest)) if ders.len() == list.len() => Ok((leaf.clone(), rest.to_vec())),
                _ => bail!("x5chain: not certificates"),
            }
        }
        _ => bail!("x5chain: not certificates"),
    }
}

fn leaf_key(leaf: &[u8], others: &[Vec<u8>], root: &Path, at: u64, cose: i64) -> Result<ParsedPublicKey> {
    let root = CertificateDer::from_pem_slice(&files::read(root)?)
        .map_err(|_| anyhow::anyhow!("{}: not a certificate in PEM", root.display()))?;
    let anchor = webpki::anchor_from_trusted_cert(&root).map_err(|error| anyhow::anyhow!("root: {error}"))?;
    let leaf = CertificateDer::from(leaf);
    let signer =
        EndEntityCert::try_from(&leaf).map_err(|error| refused(format!("the signer's certificate: {error}")))?;
    let intermediates: Vec<CertificateDer<'_>> =
        others.iter().map(|der| CertificateDer::from(der.as_slice())).collect();
    let time = UnixTime::since_unix_epoch(std::time::Duration::from_secs(at));
    let algorithms = &[webpki::aws_lc_rs::ECDSA_P256_SHA256, webpki::aws_lc_rs::ECDSA_P384_SHA384];
    let purpose = KeyUsage::required_if_present(ANY_PURPOSE);
    let anchors = [anchor];
    let issuers: &dyn Fn(&webpki::VerifiedPath<'_>) -> Result<(), webpki::Error> = &x509::issuers_may_issue;
    let verified = signer.verify_for_usage(algorithms, &anchors, &intermediates, time, purpose, None, Some(issuers));
    verified.map_err(|error| refused(format!("the signer's certificates do not lead to the root: {error}")))?;
    if !x509::may_sign(&leaf) {
        return Err(refused("the signer's certificate is not for digital signatures (key usage)".into()));
    }
    let spki = signer.subject_public_key_info();
    ParsedPublicKey::new(algorithm(cose)?, spki.as_ref())
        .map_err(|_| refused("the signer's key is not of the algorithm".into()))
}
