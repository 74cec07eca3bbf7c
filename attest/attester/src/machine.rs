//! A machine: its devices put together to evidence.

use std::fs;
use std::path::{Path, PathBuf};

use portcullis_attest::binding::quote_nonce;
use portcullis_attest::evidence::{Collected, Evidence, EvidenceClass, SnpEvidence, TpmEvidence};
use portcullis_attest::tpm::credential::Credential;
use portcullis_attest::tpm::pcr::{PcrValues, Selection};
use zeroize::Zeroizing;

use crate::error::AttesterError;
use crate::snp::{ConfigfsTsm, DerivedKeyRequest, SevGuest};
use crate::tpm::{SealedBlob, Tpm};

const EVENT_LOG: &str = "/sys/kernel/security/tpm0/binary_bios_measurements";

/// A secure processor.
pub trait SnpDevice: Send {
    /// A report with this `REPORT_DATA`.
    ///
    /// # Errors
    /// [`AttesterError`].
    fn report(&mut self, report_data: &[u8; 64]) -> Result<SnpEvidence, AttesterError>;

    /// A key that only this guest on this chip gets.
    ///
    /// # Errors
    /// [`AttesterError`].
    fn derived_key(&mut self, request: &DerivedKeyRequest) -> Result<Zeroizing<[u8; 32]>, AttesterError>;
}

/// Something that quotes PCRs.
pub trait QuoteDevice: Send {
    /// Name of the attestation key.
    fn ak_name(&self) -> &[u8];

    /// A quote over the selection.
    ///
    /// # Errors
    /// [`AttesterError`].
    fn quote(&mut self, nonce: &[u8; 32], selection: &Selection) -> Result<TpmEvidence, AttesterError>;

    /// Values of the selected PCRs now.
    ///
    /// # Errors
    /// [`AttesterError`].
    fn read_pcrs(&mut self, selection: &Selection) -> Result<PcrValues, AttesterError>;
}

/// Something that proves that its attestation key lives beside its endorsement key.
pub trait ActivateDevice: QuoteDevice {
    /// `TPMT_PUBLIC` of the endorsement key.
    ///
    /// # Errors
    /// [`AttesterError`].
    fn endorsement_key(&mut self) -> Result<Vec<u8>, AttesterError>;

    /// `TPMT_PUBLIC` of the attestation key.
    fn ak_area(&self) -> &[u8];

    /// Releases the secret of a credential that was made for both keys.
    ///
    /// # Errors
    /// [`AttesterError`]: among others, that it was made for other keys.
    fn activate(&mut self, credential: &Credential) -> Result<Zeroizing<[u8; 32]>, AttesterError>;
}

/// Something that seals a secret to the values of PCRs.
pub trait SealDevice: ActivateDevice {
    /// Seals a secret.
    ///
    /// # Errors
    /// [`AttesterError`].
    fn seal(&mut self, secret: &[u8; 32], selection: &Selection) -> Result<SealedBlob, AttesterError>;

    /// Unseals it, if the PCRs have the values that they had then.
    ///
    /// # Errors
    /// [`AttesterError`].
    fn unseal(&mut self, blob: &SealedBlob, selection: &Selection) -> Result<Zeroizing<[u8; 32]>, AttesterError>;
}

/// The devices that a machine has: at least one of the two.
pub enum Machine {
    /// A secure processor and a TPM.
    SnpTpm(Box<dyn SnpDevice>, Box<dyn SealDevice>),
    /// A secure processor.
    Snp(Box<dyn SnpDevice>),
    /// A TPM.
    Tpm(Box<dyn SealDevice>),
}

impl Machine {
    /// The evidence class.
    #[must_use]
    pub const fn class(&self) -> EvidenceClass {
        match self {
            Self::SnpTpm(..) => EvidenceClass::SnpTpm,
            Self::Snp(_) => EvidenceClass::Snp,
            Self::Tpm(_) => EvidenceClass::Tpm,
        }
    }

    /// Name of the attestation key, which the binder covers.
    #[must_use]
    pub fn ak_name(&self) -> Option<&[u8]> {
        match self {
            Self::SnpTpm(_, tpm) | Self::Tpm(tpm) => Some(tpm.ak_name()),
            Self::Snp(_) => None,
        }
    }

    /// The TPM.
    pub fn tpm(&mut self) -> Option<&mut dyn SealDevice> {
        match self {
            Self::SnpTpm(_, tpm) | Self::Tpm(tpm) => Some(tpm.as_mut()),
            Self::Snp(_) => None,
        }
    }

    /// The secure processor.
    pub fn snp(&mut self) -> Option<&mut dyn SnpDevice> {
        match self {
            Self::SnpTpm(snp, _) | Self::Snp(snp) => Some(snp.as_mut()),
            Self::Tpm(_) => None,
        }
    }

    /// Collects evidence: a report with this `REPORT_DATA`, and a quote that
    /// names it.
    ///
    /// # Errors
    /// [`AttesterError`].
    pub fn collect(&mut self, report_data: &[u8; 64], selection: &Selection) -> Result<Evidence, AttesterError> {
        let nonce = quote_nonce(report_data);
        let collected = match self {
            Self::SnpTpm(snp, tpm) => Collected::SnpTpm(snp.report(report_data)?, tpm.quote(&nonce, selection)?),
            Self::Snp(snp) => Collected::Snp(snp.report(report_data)?),
            Self::Tpm(tpm) => Collected::Tpm(tpm.quote(&nonce, selection)?),
        };
        Ok(Evidence::of(collected))
    }
}

/// How a program gets at its machine. Shipped binaries know one way.
pub trait OpenMachine: Send + Sync {
    /// Opens the devices.
    ///
    /// # Errors
    /// [`AttesterError`].
    fn open(&self) -> Result<Machine, AttesterError>;
}

/// The machine that this program runs on.
#[derive(Clone, Copy, Debug)]
pub struct RealPlatform;

impl OpenMachine for RealPlatform {
    fn open(&self) -> Result<Machine, AttesterError> {
        let (snp, tpm) = (open_snp(), open_tpm());
        match (snp, tpm) {
            (Ok(snp), Ok(tpm)) => Ok(Machine::SnpTpm(snp, tpm)),
            (Ok(snp), Err(AttesterError::NoDevice { .. })) => Ok(Machine::Snp(snp)),
            (Err(AttesterError::NoDevice { .. }), Ok(tpm)) => Ok(Machine::Tpm(tpm)),
            (Err(AttesterError::NoDevice { mut tried, .. }), Err(AttesterError::NoDevice { tried: also, .. })) => {
                tried.extend(also);
                Err(AttesterError::NoDevice { what: "source of evidence", tried })
            }
            // A device that is there and fails is not the same as none.
            (Err(error @ AttesterError::NoDevice { .. }), Err(failed)) | (Err(failed), Err(error)) => {
                drop(error);
                Err(failed)
            }
            (Err(failed), Ok(_)) | (Ok(_), Err(failed)) => Err(failed),
        }
    }
}

fn open_snp() -> Result<Box<dyn SnpDevice>, AttesterError> {
    let tsm = ConfigfsTsm::open();
    let guest = SevGuest::open();
    match (tsm, guest) {
        (Ok(tsm), _) => Ok(Box::new(tsm)),
        (Err(_), Ok(guest)) => Ok(Box::new(guest)),
        (Err(AttesterError::NoDevice { mut tried, what }), Err(AttesterError::NoDevice { tried: also, .. })) => {
            tried.extend(also);
            Err(AttesterError::NoDevice { what, tried })
        }
        (Err(error), Err(_)) => Err(error),
    }
}

fn open_tpm() -> Result<Box<dyn SealDevice>, AttesterError> {
    const DEVICE: &str = "/dev/tpmrm0";
    probe("TPM 2.0", Path::new(DEVICE))?;
    let event_log = fs::read(EVENT_LOG).map_err(AttesterError::device("event log of the firmware"))?;
    Ok(Box::new(Tpm::open(&format!("device:{DEVICE}"), event_log)?))
}

/// Whether a path is there, as an error that names it.
pub(crate) fn probe(what: &'static str, path: &Path) -> Result<(), AttesterError> {
    match fs::metadata(path) {
        Ok(_) => Ok(()),
        Err(error) => Err(AttesterError::NoDevice { what, tried: vec![(PathBuf::from(path), error.to_string())] }),
    }
}
