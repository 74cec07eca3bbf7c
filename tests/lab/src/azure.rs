//! A lab machine as Azure sets one up: the paravisor vouches for the vTPM's key
//! in the runtime data of its report, and keeps that report in the vTPM.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use data_encoding::BASE64URL_NOPAD;
use der::asn1::UintRef;
use der::{Decode, Reader, SliceReader};
use portcullis_attest::crypto::sha256;
use portcullis_attest::evidence::AzureEvidence;
use portcullis_attest::tpm::key::{AttestationKey, KeyMaterial};
use portcullis_attester::{ActivateDevice, AttesterError, AzureDevice, AzureTpm, SealDevice, SnpDevice, TpmHandle};
use portcullis_wire::hex::hex;
use tss_esapi::Context;
use tss_esapi::attributes::{NvIndexAttributesBuilder, ObjectAttributesBuilder};
use tss_esapi::handles::{NvIndexHandle, NvIndexTpmHandle, ObjectHandle, PersistentTpmHandle};
use tss_esapi::interface_types::algorithm::{HashingAlgorithm, PublicAlgorithm};
use tss_esapi::interface_types::dynamic_handles::Persistent;
use tss_esapi::interface_types::key_bits::RsaKeyBits;
use tss_esapi::interface_types::resource_handles::{Hierarchy, NvAuth, Provision};
use tss_esapi::interface_types::session_handles::AuthSession;
use tss_esapi::structures::{
    HashScheme, MaxNvBuffer, NvPublicBuilder, Public, PublicBuilder, PublicKeyRsa, PublicRsaParametersBuilder,
    RsaExponent, RsaScheme,
};

use crate::machine::{LabProcessor, failed};
use crate::tpm::{logs, tcti};

const REPORT: u32 = 0x0140_0001;
/// Largest index that swtpm allows, in bytes.
const REPORT_LENGTH: usize = 2048;
const ATTESTATION_KEY: u32 = 0x8100_0003;
/// Largest piece of an index written at once, in bytes.
const PIECE: usize = 512;

/// Acts as the platform before the guest starts: creates an attestation key at its
/// handle, and the index of the report.
///
/// # Errors
/// The TPM refuses.
pub(crate) fn provision(tpm: &TpmHandle) -> Result<()> {
    tpm.with(|context| {
        let persistent = PersistentTpmHandle::new(ATTESTATION_KEY)?;
        // A second boot finds both in place from the first one.
        if context.execute_without_session(|c| c.tr_from_tpm_public(persistent.into())).is_ok() {
            return Ok(());
        }
        context.execute_with_session(Some(AuthSession::Password), |context| {
            let template = attestation_key()?;
            let key = context.create_primary(Hierarchy::Endorsement, template, None, None, None, None)?;
            context.evict_control(Provision::Owner, key.key_handle.into(), Persistent::Persistent(persistent))?;
            context.flush_context(key.key_handle.into())?;
            let attributes = NvIndexAttributesBuilder::new()
                .with_owner_write(true)
                .with_owner_read(true)
                .with_auth_read(true)
                .with_auth_write(true)
                .build()?;
            let public = NvPublicBuilder::new()
                .with_nv_index(NvIndexTpmHandle::new(REPORT)?)
                .with_index_name_algorithm(HashingAlgorithm::Sha256)
                .with_index_attributes(attributes)
                .with_data_area_size(REPORT_LENGTH)
                .build()?;
            context.nv_define_space(Provision::Owner, None, public).map(drop)
        })
    })
    .map_err(|error: tss_esapi::Error| anyhow::anyhow!("Azure's key and index: {error}"))
}

/// RSA-2048 with RSASSA and SHA-256, restricted.
fn attestation_key() -> tss_esapi::Result<Public> {
    let attributes = ObjectAttributesBuilder::new()
        .with_fixed_tpm(true)
        .with_fixed_parent(true)
        .with_sensitive_data_origin(true)
        .with_user_with_auth(true)
        .with_restricted(true)
        .with_sign_encrypt(true)
        .build()?;
    let parameters = PublicRsaParametersBuilder::new()
        .with_scheme(RsaScheme::RsaSsa(HashScheme::new(HashingAlgorithm::Sha256)))
        .with_key_bits(RsaKeyBits::Rsa2048)
        .with_exponent(RsaExponent::default())
        .with_is_signing_key(true)
        .with_is_decryption_key(false)
        .with_restricted(true)
        .build()?;
    PublicBuilder::new()
        .with_public_algorithm(PublicAlgorithm::Rsa)
        .with_name_hashing_algorithm(HashingAlgorithm::Sha256)
        .with_object_attributes(attributes)
        .with_rsa_parameters(parameters)
        .with_rsa_unique_identifier(PublicKeyRsa::default())
        .build()
}

/// Azure's vTPM on a lab machine, with its paravisor.
pub(crate) struct LabAzure {
    vtpm: AzureTpm,
    processor: LabProcessor,
}

impl LabAzure {
    /// Connects to a booted machine.
    pub(crate) fn open(machine: &Path) -> Result<Self, AttesterError> {
        let processor = LabProcessor { machine: machine.to_owned() };
        let log: PathBuf = machine.join("eventlog.bin");
        let tcti = tcti(machine)?;
        let vtpm = AzureTpm::open(&tcti, || {
            let failed = |error| AttesterError::Device { what: "lab machine's event log", error };
            Ok(logs(machine, fs::read(log).map_err(failed)?))
        })?;
        Ok(Self { vtpm: vtpm.ok_or(AttesterError::Form("lab machine of Azure"))?, processor })
    }

    /// Acts as the paravisor after the guest has written user data.
    fn renew(&mut self, user_data: &[u8; 64]) -> Result<Vec<u8>> {
        let json = runtime_data(self.vtpm.tpm().ak_area(), user_data)?;
        let mut report_data = [0; 64];
        report_data.iter_mut().zip(sha256(&[&json])).for_each(|(to, from)| *to = from);
        let report = self.processor.report(&report_data)?;
        let hcl = hcl_report(&report.report, &json)?;
        let handle = self.vtpm.tpm().handle();
        handle.with(|context| write_report(context, &hcl))?;
        Ok(report.certificates)
    }
}

/// The JSON whose hash is REPORT_DATA.
fn runtime_data(ak_area: &[u8], user_data: &[u8; 64]) -> Result<Vec<u8>> {
    let ak = AttestationKey::from_area(ak_area)?;
    let KeyMaterial::Rsa(key) = ak.key() else { anyhow::bail!("Azure's attestation keys are RSA") };
    let mut reader = SliceReader::new(key)?;
    let (modulus, exponent) = reader.sequence(|inner| Ok((UintRef::decode(inner)?, UintRef::decode(inner)?)))?;
    let (n, e) = (BASE64URL_NOPAD.encode(modulus.as_bytes()), BASE64URL_NOPAD.encode(exponent.as_bytes()));
    let json = serde_json::json!({
        "keys": [{ "kid": "HCLAkPub", "key_ops": ["sign"], "kty": "RSA", "e": e, "n": n }],
        "vm-configuration": { "console-enabled": false, "secure-boot": true, "tpm-enabled": true },
        "user-data": hex(user_data),
    });
    Ok(json.to_string().into_bytes())
}

/// Header, report, header of the runtime data, runtime data, zeroes.
fn hcl_report(report: &[u8], json: &[u8]) -> Result<Vec<u8>> {
    let length = u32::try_from(json.len())?;
    let words = |words: &[u32]| words.iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<u8>>();
    let size = u32::try_from(32 + report.len() + 20)? + length;
    let mut hcl = [b"HCLA".to_vec(), words(&[2, size, 2, 0, 0, 0, 0])].concat();
    hcl.extend(report);
    hcl.extend(words(&[20 + length, 1, 2, 1, length]));
    hcl.extend(json);
    anyhow::ensure!(hcl.len() <= REPORT_LENGTH, "a report of {} bytes", hcl.len());
    hcl.resize(REPORT_LENGTH, 0);
    Ok(hcl)
}

fn write_report(context: &mut Context, hcl: &[u8]) -> Result<()> {
    let index = NvIndexTpmHandle::new(REPORT)?;
    let handle: ObjectHandle = context.execute_without_session(|context| context.tr_from_tpm_public(index.into()))?;
    let handle = NvIndexHandle::from(handle);
    for (piece, at) in hcl.chunks(PIECE).zip((0_u16..).step_by(PIECE)) {
        let data = MaxNvBuffer::try_from(piece.to_vec())?;
        context
            .execute_with_session(Some(AuthSession::Password), |c| c.nv_write(NvAuth::Owner, handle, data, at))
            .context("NV_Write")?;
    }
    Ok(())
}

impl AzureDevice for LabAzure {
    fn hcl_report(&mut self, user_data: &[u8; 64]) -> Result<AzureEvidence, AttesterError> {
        self.vtpm.write_user_data(user_data)?;
        let certificates = self.renew(user_data).map_err(failed)?;
        Ok(AzureEvidence { hcl: self.vtpm.read_report()?, certificates })
    }

    fn tpm(&self) -> &dyn SealDevice {
        self.vtpm.tpm()
    }

    fn tpm_mut(&mut self) -> &mut dyn SealDevice {
        self.vtpm.tpm_mut()
    }
}
