//! Activates credentials: proves that the attestation key and the endorsement key are
//! in this TPM.

use portcullis_attest::tpm::credential::Credential;
use tss_esapi::Context;
use tss_esapi::abstraction::AsymmetricAlgorithmSelection;
use tss_esapi::abstraction::ek::create_ek_public_from_default_template_2;
use tss_esapi::constants::SessionType;
use tss_esapi::handles::{AuthHandle, KeyHandle};
use tss_esapi::interface_types::algorithm::HashingAlgorithm;
use tss_esapi::interface_types::key_bits::RsaKeyBits;
use tss_esapi::interface_types::resource_handles::Hierarchy;
use tss_esapi::interface_types::session_handles::{AuthSession, PolicySession};
use tss_esapi::structures::{EncryptedSecret, IdObject, Nonce, Public, SymmetricDefinition};
use tss_esapi::traits::Marshall;
use zeroize::Zeroizing;

use super::{Tpm, end_session};
use crate::error::AttesterError;
use crate::machine::ActivateDevice;
use crate::passing::patiently;

impl ActivateDevice for Tpm {
    fn endorsement_key(&mut self) -> Result<Vec<u8>, AttesterError> {
        patiently(&self.device, || with_endorsement_key(&mut self.handle.lock(), |_, _, public| public.marshall()))
    }

    fn ak_area(&self) -> &[u8] {
        &self.ak_area
    }

    fn activate(&mut self, credential: &Credential) -> Result<Zeroizing<[u8; 32]>, AttesterError> {
        let ak = self.ak;
        let id_object = IdObject::try_from(credential.id_object.clone());
        let id_object = id_object.map_err(AttesterError::tpm("ActivateCredential"))?;
        let seed = EncryptedSecret::try_from(credential.encrypted_seed.clone());
        let seed = seed.map_err(AttesterError::tpm("ActivateCredential"))?;
        let secret = patiently(&self.device, || {
            with_endorsement_key(&mut self.handle.lock(), |context, ek, _| {
                let session = endorsement_session(context)?;
                context.set_sessions((Some(AuthSession::Password), Some(session), None));
                let secret = context.activate_credential(ak, ek, id_object.clone(), seed.clone());
                context.clear_sessions();
                // A policy session ends when it is used; an unused one must be flushed.
                if secret.is_err() {
                    end_session(context, session)?;
                }
                secret
            })
        })?;
        let bytes = Zeroizing::new(secret.value().to_vec());
        bytes.as_slice().try_into().map(Zeroizing::new).map_err(|_| AttesterError::Form("activated secret"))
    }
}

/// Runs with the RSA-2048 endorsement key of the default template loaded (EK
/// Credential Profile, template L-1: the one that every PC Client TPM certifies).
fn with_endorsement_key<T>(
    context: &mut Context,
    run: impl FnOnce(&mut Context, KeyHandle, Public) -> tss_esapi::Result<T>,
) -> Result<T, AttesterError> {
    let rsa = AsymmetricAlgorithmSelection::Rsa(RsaKeyBits::Rsa2048);
    let template = create_ek_public_from_default_template_2(rsa, None);
    let key = template
        .and_then(|template| {
            context.execute_with_session(Some(AuthSession::Password), |context| {
                context.create_primary(Hierarchy::Endorsement, template, None, None, None, None)
            })
        })
        .map_err(AttesterError::tpm("CreatePrimary"))?;
    let outcome = run(context, key.key_handle, key.out_public).map_err(AttesterError::tpm("ActivateCredential"));
    context.flush_context(key.key_handle.into()).map_err(AttesterError::tpm("FlushContext"))?;
    outcome
}

/// A session that satisfies the endorsement key's policy: the endorsement
/// hierarchy's authorization, which is empty.
fn endorsement_session(context: &mut Context) -> tss_esapi::Result<AuthSession> {
    let symmetric = SymmetricDefinition::AES_128_CFB;
    let session =
        context.start_auth_session(None, None, None, SessionType::Policy, symmetric, HashingAlgorithm::Sha256)?;
    let session = session.ok_or(tss_esapi::Error::WrapperError(tss_esapi::WrapperErrorKind::InternalError))?;
    let satisfied = PolicySession::try_from(session).and_then(|policy| {
        context.execute_with_session(Some(AuthSession::Password), |context| {
            context.policy_secret(
                policy,
                AuthHandle::Endorsement,
                Nonce::default(),
                Default::default(),
                Nonce::default(),
                None,
            )
        })
    });
    match satisfied {
        Ok(_) => Ok(session),
        Err(error) => {
            end_session(context, session)?;
            Err(error)
        }
    }
}
