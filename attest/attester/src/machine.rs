//! A machine: its devices combined into evidence.

use std::fs;
use std::path::{Path, PathBuf};

use portcullis_attest::azure::HclReport;
use portcullis_attest::binding::quote_nonce;
use portcullis_attest::evidence::{
    AzureEvidence, Collected, Evidence, EvidenceClass, MAX_LENGTH, SnpEvidence, SvsmEvidence, TpmEvidence,
};
use portcullis_attest::tpm::credential::Credential;
use portcullis_attest::tpm::pcr::{PcrValues, Selection};
use zeroize::Zeroizing;

use crate::error::AttesterError;
use crate::passing::patiently;
use crate::snp::{ConfigfsTsm, DerivedKeyRequest, SevGuest};
use crate::tpm::{AzureTpm, Logs, SealedBlob, Tpm};

const TPM: &str = "/dev/tpmrm0";
/// The driver of a vTPM in a service module (Linux 6.16).
const SVSM_DRIVER: &str = "/sys/bus/platform/drivers/tpm-svsm/tpm-svsm";
const EVENT_LOG: &str = "/sys/kernel/security/tpm0/binary_bios_measurements";
const MEASURED_FILES: &str = "/sys/kernel/security/ima/binary_runtime_measurements";
/// Log of systemd-pcrextend(8) and all other parts of systemd that measure.
const USER_SPACE: &str = "/run/log/systemd/tpm2-measure.log";

/// A secure processor.
pub trait SnpDevice: Send {
    /// A report with this `REPORT_DATA`.
    ///
    /// # Errors
    /// [`AttesterError`].
    fn report(&mut self, report_data: &[u8; 64]) -> Result<SnpEvidence, AttesterError>;

    /// A key that only this guest on this chip can derive.
    ///
    /// # Errors
    /// [`AttesterError`].
    fn derived_key(&mut self, request: &DerivedKeyRequest) -> Result<Zeroizing<[u8; 32]>, AttesterError>;
}

/// A device that quotes PCRs.
pub trait QuoteDevice: Send {
    /// Name of the attestation key.
    fn ak_name(&self) -> &[u8];

    /// A quote over the selection.
    ///
    /// # Errors
    /// [`AttesterError`].
    fn quote(&mut self, nonce: &[u8; 32], selection: &Selection) -> Result<TpmEvidence, AttesterError>;

    /// Current values of the selected PCRs.
    ///
    /// # Errors
    /// [`AttesterError`].
    fn read_pcrs(&mut self, selection: &Selection) -> Result<PcrValues, AttesterError>;
}

/// A device that proves that its attestation key and its endorsement key are in one
/// TPM.
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
    /// [`AttesterError`]: for example if it was made for other keys.
    fn activate(&mut self, credential: &Credential) -> Result<Zeroizing<[u8; 32]>, AttesterError>;
}

/// Bytes of an anchor: size, root, counter, a flag, a MAC.
pub const ANCHOR_LENGTH: usize = 81;

/// The state of an authority's log that a TPM stores.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Anchor {
    /// A counter that never decreases.
    pub counter: u64,
    /// The bytes that were written beside it.
    pub data: [u8; ANCHOR_LENGTH],
}

/// A device that stores a counter and a few bytes that only this machine in its
/// measured state can write.
pub trait AnchorDevice: Send {
    /// Defines both again, bound to the current state of the machine.
    ///
    /// # Errors
    /// [`AttesterError`].
    fn define_anchor(&mut self, selection: &Selection) -> Result<(), AttesterError>;

    /// Reads both; `None` if they are not defined.
    ///
    /// # Errors
    /// [`AttesterError`].
    fn read_anchor(&mut self) -> Result<Option<Anchor>, AttesterError>;

    /// Reads the counter.
    ///
    /// # Errors
    /// [`AttesterError`].
    fn read_counter(&mut self) -> Result<u64, AttesterError>;

    /// Increments the counter.
    ///
    /// # Errors
    /// [`AttesterError`]: for example if the machine is in another state.
    fn increment_counter(&mut self, selection: &Selection) -> Result<(), AttesterError>;

    /// Writes the bytes.
    ///
    /// # Errors
    /// [`AttesterError`]: for example if the machine is in another state.
    fn write_anchor(&mut self, data: &[u8; ANCHOR_LENGTH], selection: &Selection) -> Result<(), AttesterError>;
}

/// A device that seals a secret to the values of PCRs.
pub trait SealDevice: ActivateDevice + AnchorDevice {
    /// Seals a secret.
    ///
    /// # Errors
    /// [`AttesterError`].
    fn seal(&mut self, secret: &[u8; 32], selection: &Selection) -> Result<SealedBlob, AttesterError>;

    /// Unseals it, if the PCRs have the same values as at sealing.
    ///
    /// # Errors
    /// [`AttesterError`].
    fn unseal(&mut self, blob: &SealedBlob, selection: &Selection) -> Result<Zeroizing<[u8; 32]>, AttesterError>;
}

/// A service module at VMPL 0 with a vTPM.
pub trait ServiceDevice: Send {
    /// A report over this nonce and the manifest of the vTPM.
    ///
    /// # Errors
    /// [`AttesterError`].
    fn service_report(&mut self, nonce: &[u8; 64]) -> Result<SvsmEvidence, AttesterError>;
}

/// Azure's paravisor, which communicates through the vTPM that it runs.
pub trait AzureDevice: Send {
    /// A new HCL report with this user data.
    ///
    /// # Errors
    /// [`AttesterError`].
    fn hcl_report(&mut self, user_data: &[u8; 64]) -> Result<AzureEvidence, AttesterError>;

    /// The vTPM, for reading its properties.
    fn tpm(&self) -> &dyn SealDevice;

    /// The vTPM, for commands.
    fn tpm_mut(&mut self) -> &mut dyn SealDevice;
}

/// The devices that a machine has.
pub enum Machine {
    /// A service module, and its vTPM.
    SvsmVtpm(Box<dyn ServiceDevice>, Box<dyn SealDevice>),
    /// Azure's vTPM.
    AzureVtpm(Box<dyn AzureDevice>),
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
            Self::SvsmVtpm(..) => EvidenceClass::SnpSvsmVtpm,
            Self::AzureVtpm(_) => EvidenceClass::SnpAzureVtpm,
            Self::SnpTpm(..) => EvidenceClass::SnpTpm,
            Self::Snp(_) => EvidenceClass::Snp,
            Self::Tpm(_) => EvidenceClass::Tpm,
        }
    }

    /// Name of the attestation key, which the binder covers.
    #[must_use]
    pub fn ak_name(&self) -> Option<&[u8]> {
        match self {
            Self::SnpTpm(_, tpm) | Self::Tpm(tpm) | Self::SvsmVtpm(_, tpm) => Some(tpm.ak_name()),
            Self::AzureVtpm(azure) => Some(azure.tpm().ak_name()),
            Self::Snp(_) => None,
        }
    }

    /// The TPM.
    pub fn tpm(&mut self) -> Option<&mut dyn SealDevice> {
        match self {
            Self::SnpTpm(_, tpm) | Self::Tpm(tpm) | Self::SvsmVtpm(_, tpm) => Some(tpm.as_mut()),
            Self::AzureVtpm(azure) => Some(azure.tpm_mut()),
            Self::Snp(_) => None,
        }
    }

    /// A report of this machine without a challenge, for inspection.
    ///
    /// # Errors
    /// [`AttesterError`].
    pub fn own_report(&mut self) -> Result<Option<Vec<u8>>, AttesterError> {
        match self {
            Self::SnpTpm(snp, _) | Self::Snp(snp) => snp.report(&[0; 64]).map(|snp| Some(snp.report)),
            Self::SvsmVtpm(service, _) => service.service_report(&[0; 64]).map(|svsm| Some(svsm.snp.report)),
            Self::AzureVtpm(azure) => {
                let hcl = azure.hcl_report(&[0; 64])?.hcl;
                let report = HclReport::parse(&hcl).map_err(|_| AttesterError::Form("HCL report"))?;
                Ok(Some(report.snp.to_vec()))
            }
            Self::Tpm(_) => Ok(None),
        }
    }

    /// The secure processor, if the guest itself has access to it.
    pub fn snp(&mut self) -> Option<&mut dyn SnpDevice> {
        match self {
            Self::SnpTpm(snp, _) | Self::Snp(snp) => Some(snp.as_mut()),
            Self::Tpm(_) | Self::SvsmVtpm(..) | Self::AzureVtpm(_) => None,
        }
    }

    /// Collects evidence that answers `report_data`: a report that carries it in the form
    /// of its class, and a quote with it as nonce.
    ///
    /// # Errors
    /// [`AttesterError`].
    pub fn collect(&mut self, report_data: &[u8; 64], selection: &Selection) -> Result<Evidence, AttesterError> {
        let nonce = quote_nonce(report_data);
        let collected = match self {
            Self::SnpTpm(snp, tpm) => Collected::SnpTpm(snp.report(report_data)?, tpm.quote(&nonce, selection)?),
            Self::Snp(snp) => Collected::Snp(snp.report(report_data)?),
            Self::Tpm(tpm) => Collected::Tpm(tpm.quote(&nonce, selection)?),
            Self::SvsmVtpm(service, tpm) => {
                Collected::SvsmVtpm(service.service_report(report_data)?, tpm.quote(&nonce, selection)?)
            }
            Self::AzureVtpm(azure) => {
                Collected::AzureVtpm(azure.hcl_report(report_data)?, azure.tpm_mut().quote(&nonce, selection)?)
            }
        };
        within_limits(Evidence::of(collected))
    }
}

/// A verifier reads at most [`MAX_LENGTH`] bytes. The machine detects larger evidence
/// itself, and names the part that is too large.
fn within_limits(evidence: Evidence) -> Result<Evidence, AttesterError> {
    if evidence.bytes().len() <= MAX_LENGTH {
        return Ok(evidence);
    }
    let parts = evidence.collected().tpm().map(|tpm| {
        let length = |part: &Option<Vec<u8>>| part.as_ref().map_or(0, Vec::len);
        [
            ("the event log of the firmware", tpm.event_log.len()),
            ("the IMA list of measured files", length(&tpm.measured_files)),
            ("the log of what user space measured", length(&tpm.user_space_log)),
        ]
    });
    let largest = parts.into_iter().flatten().max_by_key(|(_, length)| *length);
    let (what, length) = largest.unwrap_or(("the evidence", evidence.bytes().len()));
    Err(AttesterError::TooLarge { what, length, limit: MAX_LENGTH })
}

/// Opens the machine of a program. Shipped binaries have one implementation.
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
        if let Some(machine) = open_paravisor()? {
            return Ok(machine);
        }
        let (snp, tpm) = (open_snp(), open_tpm());
        match (snp, tpm) {
            (Ok(snp), Ok(tpm)) => Ok(Machine::SnpTpm(snp, tpm)),
            (Ok(snp), Err(AttesterError::NoDevice { .. })) => Ok(Machine::Snp(snp)),
            (Err(AttesterError::NoDevice { .. }), Ok(tpm)) => Ok(Machine::Tpm(tpm)),
            (Err(AttesterError::NoDevice { mut tried, .. }), Err(AttesterError::NoDevice { tried: also, .. })) => {
                tried.extend(also);
                Err(AttesterError::NoDevice { what: "source of evidence", tried })
            }
            // A device that exists and fails is different from an absent one.
            (Err(error @ AttesterError::NoDevice { .. }), Err(failed)) | (Err(failed), Err(error)) => {
                drop(error);
                Err(failed)
            }
            (Err(failed), Ok(_)) | (Ok(_), Err(failed)) => Err(failed),
        }
    }
}

/// A machine whose report the guest cannot request itself: Azure's paravisor, detected
/// by its NV index, or a service module, detected by its vTPM's driver.
fn open_paravisor() -> Result<Option<Machine>, AttesterError> {
    if Path::new(SVSM_DRIVER).exists() {
        return Ok(Some(Machine::SvsmVtpm(Box::new(ConfigfsTsm::open()?), open_tpm()?)));
    }
    if !Path::new(TPM).exists() {
        return Ok(None);
    }
    let azure = AzureTpm::open(&format!("device:{TPM}"), read_logs)?;
    Ok(azure.map(|tpm| Machine::AzureVtpm(Box::new(tpm))))
}

fn read_logs() -> Result<Logs, AttesterError> {
    let events = fs::read(EVENT_LOG).map_err(AttesterError::device("event log of the firmware"))?;
    Ok(Logs { events, measured_files: MEASURED_FILES.into(), user_space: USER_SPACE.into() })
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
    probe("TPM 2.0", Path::new(TPM))?;
    // The library behind `Tpm` hides why a device cannot be opened.
    patiently(TPM, || {
        let opened = fs::OpenOptions::new().read(true).write(true).open(TPM);
        opened.map(drop).map_err(AttesterError::device("open"))
    })?;
    Ok(Box::new(Tpm::open(&format!("device:{TPM}"), read_logs()?)?))
}

/// Checks that a path exists; the error names it.
pub(crate) fn probe(what: &'static str, path: &Path) -> Result<(), AttesterError> {
    match fs::metadata(path) {
        Ok(_) => Ok(()),
        Err(error) => Err(AttesterError::NoDevice { what, tried: vec![(PathBuf::from(path), error.to_string())] }),
    }
}
