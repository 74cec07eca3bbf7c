//! A TPM 2.0 through `tss-esapi`.
//!
//! The attestation key is a primary key of the endorsement hierarchy: its
//! template and the TPM's seed determine it, so it is the same after every boot
//! and its boot counters are not obfuscated. It is made once and kept loaded;
//! HMAC sessions cost milliseconds a command, so quotes use a password session.

use std::str::FromStr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use portcullis_attest::evidence::TpmEvidence;
use portcullis_attest::tpm::key::AttestationKey;
use portcullis_attest::tpm::pcr::{Bank, PcrValues, Selection};
use tss_esapi::Context;
use tss_esapi::attributes::{ObjectAttributesBuilder, SessionAttributesBuilder};
use tss_esapi::constants::SessionType;
use tss_esapi::handles::{KeyHandle, ObjectHandle};
use tss_esapi::interface_types::algorithm::{HashingAlgorithm, PublicAlgorithm};
use tss_esapi::interface_types::ecc::EccCurve;
use tss_esapi::interface_types::resource_handles::Hierarchy;
use tss_esapi::interface_types::session_handles::{AuthSession, PolicySession};
use tss_esapi::structures::{
    Data, Digest, EccPoint, EccScheme, HashScheme, KeyDerivationFunctionScheme, KeyedHashScheme, PcrSelectionList,
    PcrSelectionListBuilder, PcrSlot, Private, Public, PublicBuilder, PublicEccParametersBuilder,
    PublicKeyedHashParameters, SensitiveData, SignatureScheme, SymmetricDefinition, SymmetricDefinitionObject,
};
use tss_esapi::tcti_ldr::TctiNameConf;
use tss_esapi::traits::{Marshall, UnMarshall};
use zeroize::Zeroizing;

use crate::error::AttesterError;
use crate::machine::{QuoteDevice, SealDevice};

/// A secret that only this TPM unseals, and only under the PCR values of the
/// time of sealing. Not secret itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SealedBlob {
    /// `TPMT_PUBLIC` of the sealed object.
    pub public: Vec<u8>,
    /// `TPM2B_PRIVATE` contents of the sealed object.
    pub private: Vec<u8>,
}

/// A connection to a TPM with its attestation key. Clones share it.
#[derive(Clone)]
pub struct TpmHandle(Arc<Mutex<Context>>);

impl TpmHandle {
    /// Runs commands while nobody else does.
    pub fn with<T>(&self, run: impl FnOnce(&mut Context) -> T) -> T {
        run(&mut self.lock())
    }

    fn lock(&self) -> MutexGuard<'_, Context> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A TPM ready to quote.
pub struct Tpm {
    handle: TpmHandle,
    ak: KeyHandle,
    ak_area: Vec<u8>,
    ak_name: Vec<u8>,
    event_log: Arc<Mutex<Vec<u8>>>,
}

impl Tpm {
    /// Connects by a TCTI name such as `device:/dev/tpmrm0`, and makes the
    /// attestation key.
    ///
    /// # Errors
    /// [`AttesterError`].
    pub fn open(tcti: &str, event_log: Vec<u8>) -> Result<Self, AttesterError> {
        let name = TctiNameConf::from_str(tcti).map_err(AttesterError::tpm("connection"))?;
        let mut context = Context::new(name).map_err(AttesterError::tpm("connection"))?;
        let template = attestation_key_template().map_err(AttesterError::tpm("key template"))?;
        let key = context
            .execute_with_session(Some(AuthSession::Password), |context| {
                context.create_primary(Hierarchy::Endorsement, template, None, None, None, None)
            })
            .map_err(AttesterError::tpm("CreatePrimary"))?;
        let ak_area = key.out_public.marshall().map_err(AttesterError::tpm("key"))?;
        let parsed = AttestationKey::from_area(&ak_area).map_err(|_| AttesterError::Form("attestation key"))?;
        let ak_name = parsed.name().ok_or(AttesterError::Form("attestation key"))?.to_vec();
        Ok(Self {
            handle: TpmHandle(Arc::new(Mutex::new(context))),
            ak: key.key_handle,
            ak_area,
            ak_name,
            event_log: Arc::new(Mutex::new(event_log)),
        })
    }

    /// The connection, for other commands.
    #[must_use]
    pub fn handle(&self) -> TpmHandle {
        self.handle.clone()
    }
}

/// ECDSA P-256, restricted, fixed to this TPM.
fn attestation_key_template() -> tss_esapi::Result<Public> {
    let attributes = ObjectAttributesBuilder::new()
        .with_fixed_tpm(true)
        .with_fixed_parent(true)
        .with_sensitive_data_origin(true)
        .with_user_with_auth(true)
        .with_restricted(true)
        .with_sign_encrypt(true)
        .build()?;
    let parameters = PublicEccParametersBuilder::new()
        .with_ecc_scheme(EccScheme::EcDsa(HashScheme::new(HashingAlgorithm::Sha256)))
        .with_curve(EccCurve::NistP256)
        .with_is_signing_key(true)
        .with_is_decryption_key(false)
        .with_restricted(true)
        .with_key_derivation_function_scheme(KeyDerivationFunctionScheme::Null)
        .build()?;
    PublicBuilder::new()
        .with_public_algorithm(PublicAlgorithm::Ecc)
        .with_name_hashing_algorithm(HashingAlgorithm::Sha256)
        .with_object_attributes(attributes)
        .with_ecc_parameters(parameters)
        .with_ecc_unique_identifier(EccPoint::default())
        .build()
}

/// The usual ECC storage key: it protects what is sealed, and salts sessions.
fn storage_key_template() -> tss_esapi::Result<Public> {
    let attributes = ObjectAttributesBuilder::new()
        .with_fixed_tpm(true)
        .with_fixed_parent(true)
        .with_sensitive_data_origin(true)
        .with_user_with_auth(true)
        .with_restricted(true)
        .with_decrypt(true)
        .build()?;
    let parameters = PublicEccParametersBuilder::new()
        .with_symmetric(SymmetricDefinitionObject::AES_128_CFB)
        .with_ecc_scheme(EccScheme::Null)
        .with_curve(EccCurve::NistP256)
        .with_is_signing_key(false)
        .with_is_decryption_key(true)
        .with_restricted(true)
        .with_key_derivation_function_scheme(KeyDerivationFunctionScheme::Null)
        .build()?;
    PublicBuilder::new()
        .with_public_algorithm(PublicAlgorithm::Ecc)
        .with_name_hashing_algorithm(HashingAlgorithm::Sha256)
        .with_object_attributes(attributes)
        .with_ecc_parameters(parameters)
        .with_ecc_unique_identifier(EccPoint::default())
        .build()
}

fn pcr_list(selection: &Selection) -> Result<PcrSelectionList, AttesterError> {
    let mut builder = PcrSelectionListBuilder::new();
    for (bank, set) in &selection.0 {
        let algorithm = match bank {
            Bank::Sha1 => HashingAlgorithm::Sha1,
            Bank::Sha256 => HashingAlgorithm::Sha256,
            Bank::Sha384 => HashingAlgorithm::Sha384,
            Bank::Sha512 => HashingAlgorithm::Sha512,
        };
        let slots = set.iter().map(|pcr| PcrSlot::try_from(1_u32 << pcr)).collect::<Result<Vec<_>, _>>();
        builder = builder.with_selection(algorithm, &slots.map_err(AttesterError::tpm("PCR selection"))?);
    }
    builder.build().map_err(AttesterError::tpm("PCR selection"))
}

impl QuoteDevice for Tpm {
    fn ak_name(&self) -> &[u8] {
        &self.ak_name
    }

    fn quote(&mut self, nonce: &[u8; 32], selection: &Selection) -> Result<TpmEvidence, AttesterError> {
        let list = pcr_list(selection)?;
        let data = Data::try_from(nonce.to_vec()).map_err(AttesterError::tpm("Quote"))?;
        let ak = self.ak;
        let (attest, signature) = self
            .handle
            .lock()
            .execute_with_session(Some(AuthSession::Password), |context| {
                context.quote(ak, data, SignatureScheme::Null, list)
            })
            .map_err(AttesterError::tpm("Quote"))?;
        Ok(TpmEvidence {
            attest: attest.marshall().map_err(AttesterError::tpm("Quote"))?,
            signature: signature.marshall().map_err(AttesterError::tpm("Quote"))?,
            ak: self.ak_area.clone(),
            pcrs: self.read_pcrs(selection)?,
            event_log: self.event_log.lock().unwrap_or_else(PoisonError::into_inner).clone(),
        })
    }

    /// A TPM returns eight values a command at most.
    fn read_pcrs(&mut self, selection: &Selection) -> Result<PcrValues, AttesterError> {
        const AT_ONCE: usize = 8;
        let mut values = PcrValues::default();
        let all: Vec<(Bank, u8)> = selection.pcrs().collect();
        for chunk in all.chunk_by(|a, b| a.0 == b.0).flat_map(|of_bank| of_bank.chunks(AT_ONCE)) {
            let Some((bank, _)) = chunk.first() else { continue };
            let part =
                Selection(vec![(*bank, portcullis_attest::tpm::pcr::PcrSet::of(chunk.iter().map(|(_, pcr)| *pcr)))]);
            let list = pcr_list(&part)?;
            let (_, read, digests) = self
                .handle
                .lock()
                .execute_without_session(|context| context.pcr_read(list.clone()))
                .map_err(AttesterError::tpm("PCR_Read"))?;
            if read != list || digests.len() != chunk.len() {
                return Err(AttesterError::Form("PCR values"));
            }
            for ((bank, pcr), digest) in chunk.iter().zip(digests.value()) {
                if !values.insert(*bank, *pcr, digest.value().to_vec()) {
                    return Err(AttesterError::Form("PCR values"));
                }
            }
        }
        Ok(values)
    }
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
        let mut context = self.handle.lock();
        let data = with_storage_key(&mut context, |context, parent| {
            let object = context
                .execute_with_session(Some(AuthSession::Password), |context| context.load(parent, private, public))?;
            let session = encrypted_session(context, parent, SessionType::Policy)?;
            let unsealed = PolicySession::try_from(session)
                .and_then(|policy| context.policy_pcr(policy, Digest::default(), list))
                .and_then(|()| context.execute_with_session(Some(session), |context| context.unseal(object.into())));
            end_session(context, session)?;
            context.flush_context(object.into())?;
            unsealed
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
    let template = storage_key_template();
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

fn end_session(context: &mut Context, session: AuthSession) -> tss_esapi::Result<()> {
    context.flush_context(ObjectHandle::from(tss_esapi::handles::SessionHandle::from(session)))
}

/// The policy that the PCRs have their present values.
fn policy_digest(context: &mut Context, list: PcrSelectionList) -> Result<Digest, AttesterError> {
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
