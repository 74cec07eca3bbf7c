//! A TPM 2.0 through `tss-esapi`.
//!
//! The attestation key is a primary key of the endorsement hierarchy: its template and
//! the TPM's seed determine it, so it is the same after every boot and its boot
//! counters are not obfuscated. It is created once and kept loaded; HMAC sessions cost
//! milliseconds per command, so quotes use a password session.

mod activate;
mod anchor;
mod azure;
mod moment;
mod seal;
mod template;
mod user_space;

use std::fs;
use std::io::ErrorKind;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use portcullis_attest::evidence::TpmEvidence;
use portcullis_attest::ima;
use portcullis_attest::tpm::key::AttestationKey;
use portcullis_attest::tpm::pcr::{Bank, PcrSet, PcrValues, Selection};
use tss_esapi::Context;
use tss_esapi::handles::{KeyHandle, ObjectHandle, SessionHandle};
use tss_esapi::interface_types::algorithm::HashingAlgorithm;
use tss_esapi::interface_types::resource_handles::Hierarchy;
use tss_esapi::interface_types::session_handles::AuthSession;
use tss_esapi::structures::{Data, PcrSelectionList, PcrSelectionListBuilder, PcrSlot, Public, SignatureScheme};
use tss_esapi::tcti_ldr::TctiNameConf;
use tss_esapi::traits::Marshall;

pub use azure::AzureTpm;
pub use seal::SealedBlob;

use self::moment::Readings;
use crate::error::AttesterError;
use crate::machine::QuoteDevice;
use crate::passing::patiently;

/// A connection to a TPM with its attestation key. Clones share it.
#[derive(Clone)]
pub struct TpmHandle(Arc<Mutex<Context>>);

impl TpmHandle {
    /// Runs commands with exclusive access.
    pub fn with<T>(&self, run: impl FnOnce(&mut Context) -> T) -> T {
        run(&mut self.lock())
    }

    fn lock(&self) -> MutexGuard<'_, Context> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The logs of measurements.
#[derive(Clone, Debug)]
pub struct Logs {
    /// The firmware's event log.
    pub events: Vec<u8>,
    /// Path of Linux's list of measured files. It grows while the machine runs, so it is
    /// read after every quote over PCR 10.
    pub measured_files: PathBuf,
    /// Path of the log of user space's measurements; it grows while the machine runs.
    pub user_space: PathBuf,
}

/// A TPM ready to quote.
pub struct Tpm {
    /// Path of the device, for errors.
    device: String,
    handle: TpmHandle,
    ak: KeyHandle,
    ak_area: Vec<u8>,
    ak_name: Vec<u8>,
    logs: Logs,
}

impl Tpm {
    /// Connects by a TCTI name such as `device:/dev/tpmrm0`, and creates the attestation
    /// key.
    ///
    /// # Errors
    /// [`AttesterError`].
    pub fn open(tcti: &str, logs: Logs) -> Result<Self, AttesterError> {
        let name = TctiNameConf::from_str(tcti).map_err(AttesterError::tpm("connection"))?;
        let device = device_of(tcti);
        let (context, key) = patiently(&device, || {
            let mut context = Context::new(name.clone()).map_err(AttesterError::tpm("connection"))?;
            let template = template::attestation_key().map_err(AttesterError::tpm("key template"))?;
            let key = context
                .execute_with_session(Some(AuthSession::Password), |context| {
                    context.create_primary(Hierarchy::Endorsement, template, None, None, None, None)
                })
                .map_err(AttesterError::tpm("CreatePrimary"))?;
            Ok((context, key))
        })?;
        Self::with_key(device, context, key.key_handle, &key.out_public, logs)
    }

    fn with_key(
        device: String,
        mut context: Context,
        ak: KeyHandle,
        public: &Public,
        logs: Logs,
    ) -> Result<Self, AttesterError> {
        context.clear_sessions();
        let ak_area = public.marshall().map_err(AttesterError::tpm("key"))?;
        let parsed = AttestationKey::from_area(&ak_area).map_err(|_| AttesterError::Form("attestation key"))?;
        let ak_name = parsed.name().ok_or(AttesterError::Form("attestation key"))?.to_vec();
        Ok(Self { device, handle: TpmHandle(Arc::new(Mutex::new(context))), ak, ak_area, ak_name, logs })
    }

    /// Runs a command, and retries while the TPM is busy.
    fn command<T>(
        &self,
        name: &'static str,
        mut run: impl FnMut(&mut Context) -> tss_esapi::Result<T>,
    ) -> Result<T, AttesterError> {
        patiently(&self.device, || run(&mut self.handle.lock()).map_err(AttesterError::tpm(name)))
    }

    /// The list of measured files, if PCR 10 was quoted and Linux has one.
    fn measured_files(&self, selection: &Selection) -> Result<Option<Vec<u8>>, AttesterError> {
        if !selection.pcrs().any(|(_, pcr)| pcr == ima::PCR) {
            return Ok(None);
        }
        match fs::read(&self.logs.measured_files) {
            Ok(list) => Ok(Some(list)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(AttesterError::device("list of measured files")(error)),
        }
    }

    /// The connection, for other commands.
    #[must_use]
    pub fn handle(&self) -> TpmHandle {
        self.handle.clone()
    }
}

/// The path of the TPM in a TCTI name.
fn device_of(tcti: &str) -> String {
    tcti.strip_prefix("device:").unwrap_or(tcti).to_owned()
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

    /// The list of measured files is read last: the kernel extends PCR 10 after it has
    /// added to the list, and a verifier trusts only the part of the list that the quote
    /// covers.
    fn quote(&mut self, nonce: &[u8; 32], selection: &Selection) -> Result<TpmEvidence, AttesterError> {
        let moment = moment::read(&mut Quoting { tpm: self, nonce, selection }, selection)?;
        Ok(TpmEvidence {
            attest: moment.attest,
            signature: moment.signature,
            ak: self.ak_area.clone(),
            pcrs: moment.pcrs,
            event_log: self.logs.events.clone(),
            measured_files: self.measured_files(selection)?,
            user_space_log: moment.user_space_log,
        })
    }

    /// A TPM returns at most eight values per command.
    fn read_pcrs(&mut self, selection: &Selection) -> Result<PcrValues, AttesterError> {
        const AT_ONCE: usize = 8;
        let mut values = PcrValues::default();
        let all: Vec<(Bank, u8)> = selection.pcrs().collect();
        for chunk in all.chunk_by(|a, b| a.0 == b.0).flat_map(|of_bank| of_bank.chunks(AT_ONCE)) {
            let Some((bank, _)) = chunk.first() else { continue };
            let part = Selection(vec![(*bank, PcrSet::of(chunk.iter().map(|(_, pcr)| *pcr)))]);
            let list = pcr_list(&part)?;
            let (_, read, digests) = self.command("PCR_Read", |context| {
                context.execute_without_session(|context| context.pcr_read(list.clone()))
            })?;
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

/// The readings for one challenge.
struct Quoting<'a> {
    tpm: &'a mut Tpm,
    nonce: &'a [u8; 32],
    selection: &'a Selection,
}

impl Readings for Quoting<'_> {
    fn quote(&mut self) -> Result<(Vec<u8>, Vec<u8>), AttesterError> {
        let list = pcr_list(self.selection)?;
        let data = Data::try_from(self.nonce.to_vec()).map_err(AttesterError::tpm("Quote"))?;
        let ak = self.tpm.ak;
        let (attest, signature) = self.tpm.command("Quote", |context| {
            context.execute_with_session(Some(AuthSession::Password), |context| {
                context.quote(ak, data.clone(), SignatureScheme::Null, list.clone())
            })
        })?;
        let attest = attest.marshall().map_err(AttesterError::tpm("Quote"))?;
        Ok((attest, signature.marshall().map_err(AttesterError::tpm("Quote"))?))
    }

    fn pcrs(&mut self) -> Result<PcrValues, AttesterError> {
        self.tpm.read_pcrs(self.selection)
    }

    fn user_space_log(&mut self) -> Result<Option<Vec<u8>>, AttesterError> {
        user_space::read(&self.tpm.logs.user_space)
    }
}

/// Ends a session that was to continue.
fn end_session(context: &mut Context, session: AuthSession) -> tss_esapi::Result<()> {
    context.flush_context(ObjectHandle::from(SessionHandle::from(session)))
}
