//! Certificates and CRLs of AMD's profile, under a root of the lab's own.

use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context, Result};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair, KeySize};
use aws_lc_rs::signature::{KeyPair as _, RSA_PSS_SHA384};
use const_oid::ObjectIdentifier;
use der::asn1::{BitString, GeneralizedTime, Ia5String, OctetString, Uint};
use der::{Decode, Encode};
use portcullis_attest::snp::certificate::PSS_SHA384;
use portcullis_attest::snp::generation::Generation;
use portcullis_attest::snp::tcb::Tcb;
use x509_cert::certificate::{TbsCertificate, Version};
use x509_cert::crl::{RevokedCert, TbsCertList};
use x509_cert::ext::Extension;
use x509_cert::ext::pkix::{BasicConstraints, CrlNumber, KeyUsage, KeyUsages};
use x509_cert::name::Name;
use x509_cert::serial_number::SerialNumber;
use x509_cert::spki::{AlgorithmIdentifierOwned, SubjectPublicKeyInfoOwned};
use x509_cert::time::{Time, Validity};

const RSA_ENCRYPTION: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
const EC_PUBLIC_KEY: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
const SECP384R1: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.132.0.34");

/// Validity of everything that the lab makes: 2020 to 2045.
const NOT_BEFORE: u64 = 1_577_836_800;
const NOT_AFTER: u64 = 2_366_841_600;

/// An issuer: name, RSA-4096 key, certificate.
pub(crate) struct Issuer {
    pub(crate) key: KeyPair,
    pub(crate) name: String,
    pub(crate) certificate: Vec<u8>,
}

impl Issuer {
    pub(crate) fn generate() -> Result<KeyPair> {
        Ok(KeyPair::generate(KeySize::Rsa4096)?)
    }

    fn sign(&self, tbs: &[u8]) -> Result<Vec<u8>> {
        sign(&self.key, tbs)
    }
}

fn sign(key: &KeyPair, tbs: &[u8]) -> Result<Vec<u8>> {
    let mut signature = vec![0; key.public_modulus_len()];
    key.sign(&RSA_PSS_SHA384, &SystemRandom::new(), tbs, &mut signature)?;
    Ok(signature)
}

fn distinguished(common_name: &str) -> Result<Name> {
    // RFC 4514 lists the last attribute first; the lab's organisation is its mark.
    Ok(Name::from_str(&format!("CN={common_name},O=Portcullis Lab - not AMD,OU=Engineering"))?)
}

fn time(at: u64) -> Result<Time> {
    Ok(Time::GeneralTime(GeneralizedTime::from_unix_duration(Duration::from_secs(at))?))
}

fn pss() -> Result<AlgorithmIdentifierOwned> {
    Ok(AlgorithmIdentifierOwned::from_der(PSS_SHA384)?)
}

fn extension(oid: &str, critical: bool, value: Vec<u8>) -> Result<Extension> {
    Ok(Extension { extn_id: ObjectIdentifier::new(oid)?, critical, extn_value: OctetString::new(value)? })
}

/// The three parts that a certificate and a CRL share.
fn signed(tbs: &[u8], algorithm: &[u8], signature: &[u8]) -> Result<Vec<u8>> {
    let mut body = tbs.to_vec();
    body.extend(algorithm);
    body.extend(BitString::from_bytes(signature)?.to_der()?);
    Ok(der::Any::new(der::Tag::Sequence, body)?.to_der()?)
}

/// Everything that a certificate contains, changeable before signing.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "the names are those of RFC 5280")]
pub struct Spec {
    pub subject: String,
    pub issuer: String,
    pub serial: Vec<u8>,
    pub not_before: u64,
    pub not_after: u64,
    pub key: SubjectPublicKeyInfoOwned,
    pub extensions: Vec<Extension>,
    /// `AlgorithmIdentifier` inside the signed part, DER.
    pub inner_algorithm: Vec<u8>,
    /// The one beside the signature.
    pub outer_algorithm: Vec<u8>,
}

impl Spec {
    fn new(
        subject: &str,
        issuer: &str,
        serial: &[u8],
        key: SubjectPublicKeyInfoOwned,
        extensions: Vec<Extension>,
    ) -> Self {
        Self {
            subject: subject.to_owned(),
            issuer: issuer.to_owned(),
            serial: serial.to_vec(),
            not_before: NOT_BEFORE,
            not_after: NOT_AFTER,
            key,
            extensions,
            inner_algorithm: PSS_SHA384.to_vec(),
            outer_algorithm: PSS_SHA384.to_vec(),
        }
    }

    /// The certificate, signed with PSS and SHA-384, whatever it contains.
    ///
    /// # Errors
    /// Encoding and cryptography.
    pub fn issue(&self, key: &KeyPair) -> Result<Vec<u8>> {
        let tbs = TbsCertificate {
            version: Version::V3,
            serial_number: SerialNumber::new(&self.serial)?,
            signature: AlgorithmIdentifierOwned::from_der(&self.inner_algorithm)?,
            issuer: distinguished(&self.issuer)?,
            validity: Validity { not_before: time(self.not_before)?, not_after: time(self.not_after)? },
            subject: distinguished(&self.subject)?,
            subject_public_key_info: self.key.clone(),
            issuer_unique_id: None,
            subject_unique_id: None,
            extensions: Some(self.extensions.clone()),
        };
        let tbs = tbs.to_der()?;
        signed(&tbs, &self.outer_algorithm, &sign(key, &tbs)?)
    }

    /// Takes away an extension.
    pub fn without(&mut self, oid: &str) {
        self.extensions.retain(|extension| extension.extn_id.to_string() != oid);
    }

    /// Adds an extension after the existing ones.
    ///
    /// # Errors
    /// The object identifier is malformed.
    pub fn with(&mut self, oid: &str, critical: bool, value: &[u8]) -> Result<()> {
        self.extensions.push(extension(oid, critical, value.to_vec())?);
        Ok(())
    }
}

pub(crate) fn rsa_key(key: &KeyPair) -> Result<SubjectPublicKeyInfoOwned> {
    let public = key.public_key().as_ref();
    Ok(SubjectPublicKeyInfoOwned {
        algorithm: AlgorithmIdentifierOwned { oid: RSA_ENCRYPTION, parameters: Some(der::Any::null()) },
        subject_public_key: BitString::from_bytes(public)?,
    })
}

fn ca_extensions() -> Result<Vec<Extension>> {
    let constraints = BasicConstraints { ca: true, path_len_constraint: None };
    Ok(vec![
        extension("2.5.29.19", true, constraints.to_der()?)?,
        extension("2.5.29.15", true, KeyUsage(KeyUsages::KeyCertSign.into()).to_der()?)?,
    ])
}

/// Contents of the certificate of a self-signed root, or of an ASK or ASVK.
pub(crate) fn authority_spec(name: &str, issuer: &str, serial: &[u8], key: &KeyPair) -> Result<Spec> {
    Ok(Spec::new(name, issuer, serial, rsa_key(key)?, ca_extensions()?))
}

/// A self-signed root, or an ASK or ASVK under one.
pub(crate) fn authority(name: &str, serial: &[u8], key: KeyPair, issuer: Option<&Issuer>) -> Result<Issuer> {
    let spec = authority_spec(name, issuer.map_or(name, |issuer| &issuer.name), serial, &key)?;
    let der = spec.issue(issuer.map_or(&key, |issuer| &issuer.key))?;
    Ok(Issuer { key, name: name.to_owned(), certificate: der })
}

/// Contents of an endorsement key's certificate.
pub(crate) struct Endorsed<'a> {
    pub(crate) generation: Generation,
    pub(crate) tcb: Tcb,
    /// Chip id of a VCEK, or provider of a VLEK.
    pub(crate) owner: Owner<'a>,
    /// Uncompressed P-384 point.
    pub(crate) point: &'a [u8],
}

/// Whose key it is.
pub(crate) enum Owner<'a> {
    Chip(&'a [u8; 64]),
    Provider(&'a str),
}

pub(crate) fn endorsement(endorsed: &Endorsed<'_>, issuer: &Issuer) -> Result<Vec<u8>> {
    endorsement_spec(endorsed, &issuer.name)?.issue(&issuer.key)
}

pub(crate) fn endorsement_spec(endorsed: &Endorsed<'_>, issuer: &str) -> Result<Spec> {
    let Tcb { fmc, boot_loader, tee, snp, microcode } = endorsed.tcb;
    let product = match endorsed.generation {
        Generation::Milan => "Milan-B0",
        Generation::Genoa => "Genoa",
        Generation::Turin => "Turin",
    };
    let oid = |suffix: &str| format!("1.3.6.1.4.1.3704.1.{suffix}");
    let number = |suffix: &str, value: u8| extension(&oid(suffix), false, value.to_der()?);
    let mut extensions = vec![
        number("1", 1)?,
        extension(&oid("2"), false, Ia5String::new(product)?.to_der()?)?,
        number("3.1", boot_loader)?,
        number("3.2", tee)?,
        number("3.3", snp)?,
        number("3.8", microcode)?,
    ];
    if let Some(fmc) = fmc {
        extensions.push(number("3.9", fmc)?);
    }
    let subject = match endorsed.owner {
        Owner::Chip(id) => {
            let length = if endorsed.generation == Generation::Turin { 8 } else { 64 };
            let hwid = id.get(..length).context("chip id")?.to_vec();
            extensions.push(extension(&oid("4"), false, hwid)?);
            "SEV-VCEK"
        }
        Owner::Provider(id) => {
            extensions.push(extension(&oid("5"), false, Ia5String::new(id)?.to_der()?)?);
            "SEV-VLEK"
        }
    };
    let key = SubjectPublicKeyInfoOwned {
        algorithm: AlgorithmIdentifierOwned {
            oid: EC_PUBLIC_KEY,
            parameters: Some(der::Any::encode_from(&SECP384R1)?),
        },
        subject_public_key: BitString::from_bytes(endorsed.point)?,
    };
    Ok(Spec::new(subject, issuer, &[1], key, extensions))
}

/// A CRL of the root, current from 2020 to 2045 unless a window is given.
pub(crate) fn crl(root: &Issuer, number: u8, revoked: &[&[u8]], window: Option<(u64, u64)>) -> Result<Vec<u8>> {
    let (from, to) = window.unwrap_or((NOT_BEFORE, NOT_AFTER));
    let entries = revoked.iter().map(|serial| {
        Ok(RevokedCert {
            serial_number: SerialNumber::new(serial)?,
            revocation_date: time(from)?,
            crl_entry_extensions: None,
        })
    });
    let entries = entries.collect::<Result<Vec<_>>>()?;
    let tbs = TbsCertList {
        version: Version::V2,
        signature: pss()?,
        issuer: distinguished(&root.name)?,
        this_update: time(from)?,
        next_update: Some(time(to)?),
        revoked_certificates: (!entries.is_empty()).then_some(entries),
        crl_extensions: Some(vec![extension("2.5.29.20", false, CrlNumber(Uint::new(&[number])?).to_der()?)?]),
    };
    let tbs = tbs.to_der()?;
    signed(&tbs, PSS_SHA384, &root.sign(&tbs)?)
}
