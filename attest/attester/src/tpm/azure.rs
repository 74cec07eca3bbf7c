//! Azure's vTPM: the platform creates its attestation key, and its NV indices hold the
//! paravisor's report.

use std::str::FromStr;

use portcullis_attest::evidence::AzureEvidence;
use tss_esapi::Context;
use tss_esapi::abstraction::nv::{list, read_full};
use tss_esapi::attributes::NvIndexAttributesBuilder;
use tss_esapi::handles::{KeyHandle, NvIndexHandle, NvIndexTpmHandle, TpmHandle};
use tss_esapi::interface_types::algorithm::HashingAlgorithm;
use tss_esapi::interface_types::resource_handles::{NvAuth, Provision};
use tss_esapi::interface_types::session_handles::AuthSession;
use tss_esapi::structures::{MaxNvBuffer, NvPublicBuilder};
use tss_esapi::tcti_ldr::TctiNameConf;

use super::{Logs, Tpm, device_of};
use crate::error::AttesterError;
use crate::machine::{AzureDevice, SealDevice};
use crate::passing::patiently;

/// The paravisor's report, the guest's user data, the attestation key.
const REPORT: u32 = 0x0140_0001;
const USER_DATA: u32 = 0x0140_0002;
const ATTESTATION_KEY: u32 = 0x8100_0003;
const USER_DATA_LENGTH: usize = 64;

/// A vTPM of Azure.
pub struct AzureTpm {
    tpm: Tpm,
}

impl AzureTpm {
    /// Connects by a TCTI name; `None` if the TPM holds no paravisor's report and so is not
    /// Azure's.
    ///
    /// # Errors
    /// [`AttesterError`].
    pub fn open(tcti: &str, logs: impl FnOnce() -> Result<Logs, AttesterError>) -> Result<Option<Self>, AttesterError> {
        let name = TctiNameConf::from_str(tcti).map_err(AttesterError::tpm("connection"))?;
        let device = device_of(tcti);
        let (mut context, indices) = patiently(&device, || {
            let mut context = Context::new(name.clone()).map_err(AttesterError::tpm("connection"))?;
            let indices = list(&mut context).map_err(AttesterError::tpm("GetCapability"))?;
            Ok((context, indices))
        })?;
        if !indices.iter().any(|(public, _)| u32::from(public.nv_index()) == REPORT) {
            return Ok(None);
        }
        let handle = TpmHandle::try_from(ATTESTATION_KEY).map_err(AttesterError::tpm("attestation key"))?;
        let ak: KeyHandle = context
            .execute_without_session(|context| context.tr_from_tpm_public(handle))
            .map_err(AttesterError::tpm("attestation key at 0x81000003"))?
            .into();
        let (public, _, _) = context.read_public(ak).map_err(AttesterError::tpm("ReadPublic"))?;
        Ok(Some(Self { tpm: Tpm::with_key(device, context, ak, &public, logs()?)? }))
    }

    /// The TPM.
    #[must_use]
    pub const fn tpm(&self) -> &Tpm {
        &self.tpm
    }

    /// Writes the user data; the paravisor then makes a new report.
    ///
    /// # Errors
    /// [`AttesterError`].
    pub fn write_user_data(&mut self, data: &[u8; USER_DATA_LENGTH]) -> Result<(), AttesterError> {
        self.tpm.command("NV_Write", |context| write_index(context, USER_DATA, data))
    }

    /// The current report of the paravisor.
    ///
    /// # Errors
    /// [`AttesterError`].
    pub fn read_report(&mut self) -> Result<Vec<u8>, AttesterError> {
        self.tpm.command("NV_Read", |context| {
            let index = NvIndexTpmHandle::new(REPORT)?;
            context
                .execute_with_session(Some(AuthSession::Password), |context| read_full(context, NvAuth::Owner, index))
        })
    }
}

/// Writes an index of the owner, and first defines it if it does not exist.
fn write_index(context: &mut Context, number: u32, data: &[u8]) -> tss_esapi::Result<()> {
    let index = NvIndexTpmHandle::new(number)?;
    let known = list(context)?.iter().any(|(public, _)| u32::from(public.nv_index()) == number);
    context.execute_with_session(Some(AuthSession::Password), |context| {
        let handle: NvIndexHandle = if known {
            context.execute_without_session(|context| context.tr_from_tpm_public(index.into()))?.into()
        } else {
            let attributes = NvIndexAttributesBuilder::new()
                .with_owner_write(true)
                .with_owner_read(true)
                .with_auth_read(true)
                .with_auth_write(true)
                .build()?;
            let public = NvPublicBuilder::new()
                .with_nv_index(index)
                .with_index_name_algorithm(HashingAlgorithm::Sha256)
                .with_index_attributes(attributes)
                .with_data_area_size(data.len())
                .build()?;
            context.nv_define_space(Provision::Owner, None, public)?
        };
        context.nv_write(NvAuth::Owner, handle, MaxNvBuffer::try_from(data.to_vec())?, 0)
    })
}

impl AzureDevice for AzureTpm {
    /// The paravisor answers a write of the user data with a new report; the
    /// verifier checks that the report repeats them.
    fn hcl_report(&mut self, user_data: &[u8; 64]) -> Result<AzureEvidence, AttesterError> {
        self.write_user_data(user_data)?;
        Ok(AzureEvidence { hcl: self.read_report()?, certificates: Vec::new() })
    }

    fn tpm(&self) -> &dyn SealDevice {
        &self.tpm
    }

    fn tpm_mut(&mut self) -> &mut dyn SealDevice {
        &mut self.tpm
    }
}
