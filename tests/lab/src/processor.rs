//! An emulated secure processor: validly signed reports with any field values.

use std::fs;
use std::path::Path;

use anyhow::Result;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use portcullis_attest::crypto::sha256;
use portcullis_attest::evidence::SnpEvidence;
use portcullis_attest::snp::generation::Generation;
use portcullis_attest::snp::report::LENGTH;
use portcullis_attest::snp::tcb::Tcb;
use portcullis_attester::{AttesterError, DerivedKeyRequest, SnpDevice};
use portcullis_wire::hex::hex;
use sev::firmware::host::{CertTableEntry, CertType};
use zeroize::Zeroizing;

use crate::root::LabRoot;
use crate::x509::{self, Endorsed, Owner};

/// Fields of a report, each settable. [`Fields::encode`] lays them out as the
/// ABI says for the version.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "the names are those of the ABI table")]
pub struct Fields {
    pub version: u32,
    pub guest_svn: u32,
    pub policy: u64,
    pub family_id: [u8; 16],
    pub image_id: [u8; 16],
    pub vmpl: u32,
    pub signature_algorithm: u32,
    pub current_tcb: Tcb,
    pub platform_info: u64,
    pub key_info: u32,
    pub report_data: [u8; 64],
    pub measurement: [u8; 48],
    pub host_data: [u8; 32],
    pub id_key_digest: [u8; 48],
    pub author_key_digest: [u8; 48],
    pub report_id: [u8; 32],
    pub reported_tcb: Tcb,
    pub cpuid: [u8; 3],
    pub chip_id: [u8; 64],
    pub committed_tcb: Tcb,
    pub launch_tcb: Tcb,
    pub mitigations: [u64; 2],
}

impl Fields {
    /// A sound report of a generation: VCEK, no debugging, all TCBs equal.
    #[must_use]
    pub fn sound(generation: Generation, chip_id: [u8; 64], tcb: Tcb, measurement: [u8; 48]) -> Self {
        let cpuid = match generation {
            Generation::Milan => [0x19, 0x01, 1],
            Generation::Genoa => [0x19, 0x11, 1],
            Generation::Turin => [0x1a, 0x02, 1],
        };
        Self {
            version: 3,
            guest_svn: 1,
            policy: 0x3_0000,
            family_id: [0; 16],
            image_id: [0; 16],
            vmpl: 0,
            signature_algorithm: 1,
            current_tcb: tcb,
            platform_info: 0b10_0101,
            key_info: 0,
            report_data: [0; 64],
            measurement,
            host_data: [0; 32],
            id_key_digest: [0; 48],
            author_key_digest: [0; 48],
            report_id: [7; 32],
            reported_tcb: tcb,
            cpuid,
            chip_id,
            committed_tcb: tcb,
            launch_tcb: tcb,
            mitigations: [0; 2],
        }
    }

    /// The 1184 bytes, unsigned.
    #[must_use]
    pub fn encode(&self, generation: Generation) -> [u8; LENGTH] {
        let mut bytes = [0; LENGTH];
        let mut put = |at: usize, value: &[u8]| {
            bytes.iter_mut().skip(at).zip(value).for_each(|(to, from)| *to = *from);
        };
        put(0x00, &self.version.to_le_bytes());
        put(0x04, &self.guest_svn.to_le_bytes());
        put(0x08, &self.policy.to_le_bytes());
        put(0x10, &self.family_id);
        put(0x20, &self.image_id);
        put(0x30, &self.vmpl.to_le_bytes());
        put(0x34, &self.signature_algorithm.to_le_bytes());
        put(0x38, &self.current_tcb.encode(generation).0);
        put(0x40, &self.platform_info.to_le_bytes());
        put(0x48, &self.key_info.to_le_bytes());
        put(0x50, &self.report_data);
        put(0x90, &self.measurement);
        put(0xc0, &self.host_data);
        put(0xe0, &self.id_key_digest);
        put(0x110, &self.author_key_digest);
        put(0x140, &self.report_id);
        put(0x160, &[0xff; 32]);
        put(0x180, &self.reported_tcb.encode(generation).0);
        if self.version >= 3 {
            put(0x188, &self.cpuid);
        }
        put(0x1a0, &self.chip_id);
        put(0x1e0, &self.committed_tcb.encode(generation).0);
        put(0x1e8, &[0x31, 0x37, 1, 0, 0x31, 0x37, 1, 0]);
        put(0x1f0, &self.launch_tcb.encode(generation).0);
        if self.version >= 5 {
            put(0x1f8, &self.mitigations[0].to_le_bytes());
            put(0x200, &self.mitigations[1].to_le_bytes());
        }
        bytes
    }
}

/// One chip with its endorsement keys.
pub struct Processor {
    generation: Generation,
    key: EcdsaKeyPair,
    certificate: Vec<u8>,
    issuer: Vec<u8>,
    root: Vec<u8>,
    is_vlek: bool,
    seed: [u8; 32],
    /// Fields of the next report.
    pub fields: Fields,
}

impl Processor {
    /// Makes a chip with a VCEK for its reported TCB.
    ///
    /// # Errors
    /// Encoding and cryptography.
    pub fn vcek(root: &LabRoot, fields: Fields) -> Result<Self> {
        let chip_id = fields.chip_id;
        Self::make(root, fields, None, &Owner::Chip(&chip_id))
    }

    /// A chip whose key and certificate are kept in a folder, a pair for each
    /// reported TCB, as a real chip's key follows from it.
    ///
    /// # Errors
    /// I/O, encoding and cryptography.
    pub fn kept(root: &LabRoot, fields: Fields, folder: &Path) -> Result<Self> {
        let tcb = hex(&fields.reported_tcb.encode(root.generation()).0);
        let (key, certificate) = (folder.join(format!("vek-{tcb}.p8")), folder.join(format!("vek-{tcb}.der")));
        let chip_id = fields.chip_id;
        if let (Ok(key), Ok(certificate)) = (fs::read(&key), fs::read(&certificate)) {
            return Self::with(root, fields, &key, certificate);
        }
        let made = Self::make(root, fields, None, &Owner::Chip(&chip_id))?;
        fs::write(key, made.key.to_pkcs8v1()?.as_ref())?;
        fs::write(certificate, &made.certificate)?;
        Ok(made)
    }

    fn with(root: &LabRoot, fields: Fields, pkcs8: &[u8], certificate: Vec<u8>) -> Result<Self> {
        Ok(Self {
            generation: root.generation(),
            key: EcdsaKeyPair::from_pkcs8(&ECDSA_P384_SHA384_FIXED_SIGNING, pkcs8)?,
            seed: sha256(&[b"lab derived key", &fields.chip_id]),
            issuer: root.ask().to_vec(),
            root: root.ark().to_vec(),
            is_vlek: false,
            certificate,
            fields,
        })
    }

    /// Makes a chip whose host loaded a VLEK.
    ///
    /// # Errors
    /// Encoding and cryptography.
    pub fn vlek(root: &LabRoot, mut fields: Fields, provider: &str) -> Result<Self> {
        fields.key_info |= 1 << 2;
        Self::make(root, fields, None, &Owner::Provider(provider))
    }

    fn make(root: &LabRoot, fields: Fields, pkcs8: Option<&[u8]>, owner: &Owner<'_>) -> Result<Self> {
        let key = match pkcs8 {
            Some(bytes) => EcdsaKeyPair::from_pkcs8(&ECDSA_P384_SHA384_FIXED_SIGNING, bytes)?,
            None => EcdsaKeyPair::generate(&ECDSA_P384_SHA384_FIXED_SIGNING)?,
        };
        let is_vlek = matches!(owner, Owner::Provider(_));
        let issuer = if is_vlek { &root.asvk } else { &root.ask };
        let owner = match owner {
            Owner::Chip(id) => Owner::Chip(id),
            Owner::Provider(name) => Owner::Provider(name),
        };
        let endorsed = Endorsed {
            generation: root.generation(),
            tcb: fields.reported_tcb,
            owner,
            point: key.public_key().as_ref(),
        };
        let certificate = x509::endorsement(&endorsed, issuer)?;
        Ok(Self {
            generation: root.generation(),
            seed: sha256(&[b"lab derived key", &fields.chip_id]),
            certificate,
            issuer: issuer.certificate.clone(),
            root: root.ark().to_vec(),
            is_vlek,
            key,
            fields,
        })
    }

    /// The endorsement key's certificate, DER.
    #[must_use]
    pub fn certificate(&self) -> &[u8] {
        &self.certificate
    }

    /// The contents of its VCEK's certificate, for an issuer.
    pub(crate) fn vek_spec(&self, issuer: &str) -> Result<x509::Spec> {
        let endorsed = Endorsed {
            generation: self.generation,
            tcb: self.fields.reported_tcb,
            owner: Owner::Chip(&self.fields.chip_id),
            point: self.key.public_key().as_ref(),
        };
        x509::endorsement_spec(&endorsed, issuer)
    }

    /// The certificate table of the host, written by the `sev` crate, so that the reader
    /// here is tested against another implementation.
    ///
    /// # Panics
    /// The `sev` crate does not write the GUIDs that it defines.
    #[must_use]
    pub fn certificate_table(&self) -> Vec<u8> {
        let vek = if self.is_vlek { CertType::VLEK } else { CertType::VCEK };
        let entries = [(vek, &self.certificate), (CertType::ASK, &self.issuer), (CertType::ARK, &self.root)];
        let entries = entries.map(|(kind, der)| CertTableEntry::new(kind, der.clone()));
        CertTableEntry::cert_table_to_vec_bytes(&entries).expect("a table of known kinds")
    }

    /// A report with the present fields, signed.
    ///
    /// # Errors
    /// Cryptography.
    pub fn sign(&self) -> Result<[u8; LENGTH]> {
        self.sign_bytes(self.fields.encode(self.generation))
    }

    /// Signs bytes in the layout of a report, without checking their values.
    ///
    /// # Errors
    /// Cryptography.
    pub fn sign_bytes(&self, mut report: [u8; LENGTH]) -> Result<[u8; LENGTH]> {
        let (message, tail) = report.split_at_mut(0x2a0);
        let signature = self.key.sign(&SystemRandom::new(), message)?;
        let (r, s) = signature.as_ref().split_at(48);
        tail.fill(0);
        tail.iter_mut().zip(r.iter().rev()).for_each(|(to, from)| *to = *from);
        tail.iter_mut().skip(72).zip(s.iter().rev()).for_each(|(to, from)| *to = *from);
        Ok(report)
    }
}

impl SnpDevice for Processor {
    fn report(&mut self, report_data: &[u8; 64]) -> Result<SnpEvidence, AttesterError> {
        self.fields.report_data = *report_data;
        let report = self.sign().map_err(|error| AttesterError::Device {
            what: "emulated secure processor",
            error: std::io::Error::other(error),
        })?;
        Ok(SnpEvidence { report: report.to_vec(), certificates: self.certificate_table() })
    }

    /// Mixes the inputs that the firmware mixes: policy, measurement, SVN, TCB, host data
    /// and the digests of ID and author key.
    fn derived_key(&mut self, request: &DerivedKeyRequest) -> Result<Zeroizing<[u8; 32]>, AttesterError> {
        let committed = u64::from_le_bytes(self.fields.committed_tcb.encode(self.generation).0);
        if request.guest_svn > self.fields.guest_svn || request.tcb_version > committed {
            return Err(AttesterError::Form("derived key request"));
        }
        Ok(Zeroizing::new(sha256(&[
            &self.seed,
            &DerivedKeyRequest::FIELDS.to_le_bytes(),
            &self.fields.policy.to_le_bytes(),
            &self.fields.measurement,
            &request.guest_svn.to_le_bytes(),
            &request.tcb_version.to_le_bytes(),
            &self.fields.host_data,
            &self.fields.id_key_digest,
            &self.fields.author_key_digest,
        ])))
    }
}
