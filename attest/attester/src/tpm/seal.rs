//! Seals secrets to the values of PCRs.

use portcullis_attest::tpm::pcr::Selection;
use tss_esapi::Context;
use tss_esapi::attributes::{ObjectAttributesBuilder, SessionAttributesBuilder};
use tss_esapi::constants::SessionType;
use tss_esapi::handles::KeyHandle;
use tss_esapi::interface_types::algorithm::{HashingAlgorithm, PublicAlgorithm};
use tss_esapi::interface_types::resource_handles::Hierarchy;
use tss_esapi::interface_types::session_handles::{AuthSession, PolicySession};
use tss_esapi::structures::{
    Digest, KeyedHashScheme, PcrSelectionList, Private, Public, PublicBuilder, PublicKeyedHashParameters,
    SensitiveData, SymmetricDefinition,
};
use tss_esapi::traits::{Marshall, UnMarshall};
use zeroize::Zeroizing;

use super::{Tpm, end_session, pcr_list, template};
use crate::error::AttesterError;
use crate::machine::SealDevice;
use crate::passing::patiently;

/// A secret that only this TPM unseals, and only under the PCR values at sealing. The
/// blob itself is not secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SealedBlob {
    /// `TPMT_PUBLIC` of the sealed object.
    pub public: Vec<u8>,
    /// `TPM2B_PRIVATE` contents of the sealed object.
    pub private: Vec<u8>,
}

impl SealDevice for Tpm {
    fn seal(&mut self, secret: &[u8; 32], selection: &Selection) -> Result<SealedBlob, AttesterError> {
        let list = pcr_list(selection)?;
        let mut context = self.handle.lock();
        let policy = policy_digest(&mut context, list)?;
        let attributes = ObjectAttributesBuilder::new().with_fixed_tpm(true).with_fixed_parent(true).build();
        let template = attributes.and_then(|attributes| {
            PublicBuilder::new()
                .with_public_algorithm(PublicAlgorithm::KeyedHash)
                .with_name_hashing_algorithm(HashingAlgorithm::Sha256)
                .with_object_attributes(attributes)
                .with_auth_policy(policy)
                .with_keyed_hash_parameters(PublicKeyedHashParameters::new(KeyedHashScheme::Null))
                .with_keyed_hash_unique_identifier(Digest::default())
                .build()
        });
        let template = template.map_err(AttesterError::tpm("Create"))?;
        let data = SensitiveData::try_from(secret.to_vec()).map_err(AttesterError::tpm("Create"))?;
        let sealed = with_storage_key(&mut context, |context, parent| {
            // The secret crosses the bus inside a salted, encrypted session.
            let session = encrypted_session(context, parent, SessionType::Hmac)?;
            let sealed = context.execute_with_session(Some(session), |context| {
                context.create(parent, template, None, Some(data), None, None)
            });
            end_session(context, session)?;
            sealed
        })?;
        Ok(SealedBlob {
            public: sealed.out_public.marshall().map_err(AttesterError::tpm("Create"))?,
            private: sealed.out_private.value().to_vec(),
        })
    }

    fn unseal(&mut self, blob: &SealedBlob, selection: &Selection) -> Result<Zeroizing<[u8; 32]>, AttesterError> {
        let list = pcr_list(selection)?;
        let public = Public::unmarshall(&blob.public).map_err(AttesterError::tpm("Load"))?;
        let private = Private::try_from(blob.private.clone()).map_err(AttesterError::tpm("Load"))?;
        let data = patiently(&self.device, || {
            with_storage_key(&mut self.handle.lock(), |context, parent| {
                let object = context.execute_with_session(Some(AuthSession::Password), |context| {
                    context.load(parent, private.clone(), public.clone())
                })?;
                let session = encrypted_session(context, parent, SessionType::Policy)?;
                let unsealed = PolicySession::try_from(session)
                    .and_then(|policy| context.policy_pcr(policy, Digest::default(), list.clone()))
                    .and_then(|()| {
                        context.execute_with_session(Some(session), |context| context.unseal(object.into()))
                    });
                end_session(context, session)?;
                context.flush_context(object.into())?;
                unsealed
            })
        })?;
        let bytes = Zeroizing::new(data.value().to_vec());
        bytes.as_slice().try_into().map(Zeroizing::new).map_err(|_| AttesterError::Form("sealed secret"))
    }
}

/// Runs with the storage primary key loaded, and flushes it afterwards: a TPM
/// has three slots.
fn with_storage_key<T>(
    context: &mut Context,
    run: impl FnOnce(&mut Context, KeyHandle) -> tss_esapi::Result<T>,
) -> Result<T, AttesterError> {
    let template = template::storage_key();
    let key = template
        .and_then(|template| {
            context.execute_with_session(Some(AuthSession::Password), |context| {
                context.create_primary(Hierarchy::Owner, template, None, None, None, None)
            })
        })
        .map_err(AttesterError::tpm("CreatePrimary"))?;
    let outcome = run(context, key.key_handle).map_err(AttesterError::tpm("seal or unseal"));
    context.flush_context(key.key_handle.into()).map_err(AttesterError::tpm("FlushContext"))?;
    outcome
}

/// A session salted by the storage key, with parameters encrypted both ways.
fn encrypted_session(context: &mut Context, salt: KeyHandle, kind: SessionType) -> tss_esapi::Result<AuthSession> {
    let session = context.start_auth_session(
        Some(salt),
        None,
        None,
        kind,
        SymmetricDefinition::AES_128_CFB,
        HashingAlgorithm::Sha256,
    )?;
    let session = session.ok_or(tss_esapi::Error::WrapperError(tss_esapi::WrapperErrorKind::InternalError))?;
    let (attributes, mask) =
        SessionAttributesBuilder::new().with_decrypt(true).with_encrypt(true).with_continue_session(true).build();
    context.tr_sess_set_attributes(session, attributes, mask)?;
    Ok(session)
}

/// The policy digest for the current values of the PCRs.
pub(super) fn policy_digest(context: &mut Context, list: PcrSelectionList) -> Result<Digest, AttesterError> {
    let (kind, symmetric) = (SessionType::Trial, SymmetricDefinition::AES_128_CFB);
    let session = context
        .start_auth_session(None, None, None, kind, symmetric, HashingAlgorithm::Sha256)
        .map_err(AttesterError::tpm("StartAuthSession"))?
        .ok_or(AttesterError::Form("session"))?;
    let digest = PolicySession::try_from(session).and_then(|policy| {
        context.policy_pcr(policy, Digest::default(), list)?;
        context.policy_get_digest(policy)
    });
    end_session(context, session).map_err(AttesterError::tpm("FlushContext"))?;
    digest.map_err(AttesterError::tpm("PolicyPCR"))
}
