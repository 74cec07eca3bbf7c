//! Two NV indices that only the machine in its measured state can write: a counter that
//! never decreases, and a few bytes beside it.
//!
//! The owner of the TPM can remove them, and define others under the same numbers. A
//! counter that is defined again starts above every earlier one (TPM 2.0 Part 1, "NV
//! counters"), so the bytes, which contain the counter's value, no longer match it.

use portcullis_attest::tpm::pcr::Selection;
use tss_esapi::Context;
use tss_esapi::abstraction::nv::list;
use tss_esapi::attributes::NvIndexAttributesBuilder;
use tss_esapi::constants::{NvIndexType, SessionType};
use tss_esapi::handles::{NvIndexHandle, NvIndexTpmHandle};
use tss_esapi::interface_types::algorithm::HashingAlgorithm;
use tss_esapi::interface_types::resource_handles::{NvAuth, Provision};
use tss_esapi::interface_types::session_handles::{AuthSession, PolicySession};
use tss_esapi::structures::{Digest, MaxNvBuffer, NvPublicBuilder, PcrSelectionList, SymmetricDefinition};

use super::seal::policy_digest;
use super::{Tpm, end_session, pcr_list};
use crate::error::AttesterError;
use crate::machine::{ANCHOR_LENGTH, Anchor, AnchorDevice};

/// Owner-defined indices (TCG registry of reserved handles, 0x01800000 and up).
const COUNTER: u32 = 0x0180_5043;
const DATA: u32 = 0x0180_5044;

impl AnchorDevice for Tpm {
    fn define_anchor(&mut self, selection: &Selection) -> Result<(), AttesterError> {
        let pcrs = pcr_list(selection)?;
        let mut context = self.handle.lock();
        let policy = policy_digest(&mut context, pcrs.clone())?;
        let defined = [(COUNTER, NvIndexType::Counter, 8), (DATA, NvIndexType::Ordinary, ANCHOR_LENGTH)]
            .into_iter()
            .try_for_each(|(number, kind, length)| define(&mut context, number, kind, length, policy.clone()));
        defined.map_err(AttesterError::tpm("NV_DefineSpace"))?;
        // A counter that was never incremented cannot be read.
        increment(&mut context, pcrs).map_err(AttesterError::tpm("NV_Increment"))
    }

    fn read_anchor(&mut self) -> Result<Option<Anchor>, AttesterError> {
        let read = |context: &mut Context, number, length| -> tss_esapi::Result<Option<Vec<u8>>> {
            let index = NvIndexTpmHandle::new(number)?;
            if !list(context)?.iter().any(|(public, _)| public.nv_index() == index) {
                return Ok(None);
            }
            let handle = handle(context, number)?;
            let bytes = context.execute_with_session(Some(AuthSession::Password), |context| {
                context.nv_read(NvAuth::NvIndex(handle), handle, length, 0)
            })?;
            Ok(Some(bytes.value().to_vec()))
        };
        let counter = self.command("NV_Read", |context| read(context, COUNTER, 8))?;
        let data = self.command("NV_Read", |context| read(context, DATA, ANCHOR_LENGTH as u16))?;
        let (Some(counter), Some(data)) = (counter, data) else { return Ok(None) };
        let counter = counter.try_into().map(u64::from_be_bytes).map_err(|_| AttesterError::Form("NV counter"))?;
        let data = data.try_into().map_err(|_| AttesterError::Form("NV anchor"))?;
        Ok(Some(Anchor { counter, data }))
    }

    fn read_counter(&mut self) -> Result<u64, AttesterError> {
        let bytes = self.command("NV_Read", |context| {
            let handle = handle(context, COUNTER)?;
            context.execute_with_session(Some(AuthSession::Password), |context| {
                context.nv_read(NvAuth::NvIndex(handle), handle, 8, 0)
            })
        })?;
        bytes.value().to_vec().try_into().map(u64::from_be_bytes).map_err(|_| AttesterError::Form("NV counter"))
    }

    fn increment_counter(&mut self, selection: &Selection) -> Result<(), AttesterError> {
        let pcrs = pcr_list(selection)?;
        self.command("NV_Increment", |context| increment(context, pcrs.clone()))
    }

    fn write_anchor(&mut self, data: &[u8; ANCHOR_LENGTH], selection: &Selection) -> Result<(), AttesterError> {
        let pcrs = pcr_list(selection)?;
        self.command("NV_Write", |context| {
            in_measured_state(context, pcrs.clone(), |context, session| {
                let handle = handle(context, DATA)?;
                let data = MaxNvBuffer::try_from(data.to_vec())?;
                context.execute_with_session(Some(session), |context| {
                    context.nv_write(NvAuth::NvIndex(handle), handle, data, 0)
                })
            })
        })
    }
}

fn handle(context: &mut Context, number: u32) -> tss_esapi::Result<NvIndexHandle> {
    let index = NvIndexTpmHandle::new(number)?;
    Ok(context.execute_without_session(|context| context.tr_from_tpm_public(index.into()))?.into())
}

/// Defines an index that the policy writes and anyone can read. An existing index with
/// its number belongs to a former authority.
fn define(
    context: &mut Context,
    number: u32,
    kind: NvIndexType,
    length: usize,
    policy: Digest,
) -> tss_esapi::Result<()> {
    let index = NvIndexTpmHandle::new(number)?;
    if list(context)?.iter().any(|(public, _)| public.nv_index() == index) {
        let old = handle(context, number)?;
        context.execute_with_session(Some(AuthSession::Password), |context| {
            context.nv_undefine_space(Provision::Owner, old)
        })?;
    }
    let attributes = NvIndexAttributesBuilder::new()
        .with_nv_index_type(kind)
        .with_policy_write(true)
        .with_auth_read(true)
        .with_no_da(true)
        .build()?;
    let public = NvPublicBuilder::new()
        .with_nv_index(index)
        .with_index_name_algorithm(HashingAlgorithm::Sha256)
        .with_index_attributes(attributes)
        .with_index_auth_policy(policy)
        .with_data_area_size(length)
        .build()?;
    context
        .execute_with_session(Some(AuthSession::Password), |context| {
            context.nv_define_space(Provision::Owner, None, public)
        })
        .map(|_| ())
}

fn increment(context: &mut Context, pcrs: PcrSelectionList) -> tss_esapi::Result<()> {
    in_measured_state(context, pcrs, |context, session| {
        let handle = handle(context, COUNTER)?;
        context.execute_with_session(Some(session), |context| context.nv_increment(NvAuth::NvIndex(handle), handle))
    })
}

/// Runs with a session that proves the current values of PCRs.
fn in_measured_state<T>(
    context: &mut Context,
    pcrs: PcrSelectionList,
    run: impl FnOnce(&mut Context, AuthSession) -> tss_esapi::Result<T>,
) -> tss_esapi::Result<T> {
    let (kind, symmetric) = (SessionType::Policy, SymmetricDefinition::AES_128_CFB);
    let session = context.start_auth_session(None, None, None, kind, symmetric, HashingAlgorithm::Sha256)?;
    let session = session.ok_or(tss_esapi::Error::WrapperError(tss_esapi::WrapperErrorKind::InternalError))?;
    let done = PolicySession::try_from(session)
        .and_then(|policy| context.policy_pcr(policy, Digest::default(), pcrs))
        .and_then(|()| run(context, session));
    // A session that its command ended no longer exists.
    let ended = end_session(context, session);
    match (done, ended) {
        (Ok(value), _) => Ok(value),
        (Err(error), _) => Err(error),
    }
}
