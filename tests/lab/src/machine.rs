//! A lab machine: a folder that describes its chip, its image, and the address of its
//! TPM.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use portcullis_attest::crypto::sha256;
use portcullis_attest::evidence::{SnpEvidence, SvsmEvidence};
use portcullis_attest::snp::generation::Generation;
use portcullis_attest::snp::tcb::Tcb;
use portcullis_attest::svsm;
use portcullis_attester::{
    ActivateDevice, AttesterError, AzureDevice, DerivedKeyRequest, Machine, OpenMachine, QuoteDevice, ServiceDevice,
    SnpDevice,
};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::azure::{LabAzure, provision};
use crate::boot;
use crate::processor::{Fields, Processor};
use crate::root::LabRoot;
use crate::tpm::{LabTpm, Swtpm, extend};

const DESCRIPTION: &str = "machine.toml";

/// Patch levels of a sound lab chip.
pub const TCB: Tcb = Tcb { fmc: None, boot_loader: 4, tee: 0, snp: 24, microcode: 219 };

/// Description of a machine. The lab writes it, and it is read again for every report,
/// so that a running machine can be changed.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Description {
    /// Folder of the lab root that made the chip.
    pub root: PathBuf,
    /// Image that it booted.
    pub image: String,
    /// Image in the launch measurement.
    pub measured: String,
    /// Report version.
    pub version: u32,
    /// Guest policy.
    pub policy: u64,
    /// SNP patch level in all four TCB versions.
    pub snp_svn: u8,
    /// Number that distinguishes this chip from others.
    pub chip: String,
    /// Who runs its TPM.
    #[serde(default)]
    pub vtpm: Vtpm,
    /// Privilege level that its reports state.
    #[serde(default)]
    pub vmpl: u32,
}

/// Who runs the TPM of a machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Vtpm {
    /// The host, or a chip on its board.
    #[default]
    Host,
    /// A service module at VMPL 0.
    Svsm,
    /// Azure's paravisor.
    Azure,
}

impl Description {
    /// A sound machine with an image.
    #[must_use]
    pub fn sound(root: &Path, chip: &str, image: &str) -> Self {
        Self {
            root: root.to_owned(),
            image: image.to_owned(),
            measured: image.to_owned(),
            version: 5,
            policy: 0x3_0000,
            snp_svn: TCB.snp,
            chip: chip.to_owned(),
            vtpm: Vtpm::Host,
            vmpl: 0,
        }
    }

    /// The chip id.
    #[must_use]
    pub fn chip_id(&self) -> [u8; 64] {
        let half = |n: u8| sha256(&[b"lab chip", self.chip.as_bytes(), &[n]]);
        let mut id = [0; 64];
        id.iter_mut().zip(half(0).into_iter().chain(half(1))).for_each(|(to, from)| *to = from);
        id
    }

    fn fields(&self) -> Fields {
        let tcb = Tcb { snp: self.snp_svn, ..TCB };
        let measurement = boot::measurement(&self.measured);
        let mut fields = Fields::sound(Generation::Milan, self.chip_id(), tcb, measurement);
        fields.version = self.version;
        fields.policy = self.policy;
        fields.vmpl = self.vmpl;
        fields
    }

    /// Writes the description of a machine.
    ///
    /// # Errors
    /// I/O errors.
    pub fn write(&self, machine: &Path) -> Result<()> {
        fs::create_dir_all(machine)?;
        let draft = machine.join("machine.draft");
        fs::write(&draft, toml::to_string(self)?)?;
        fs::rename(draft, machine.join(DESCRIPTION))?;
        Ok(())
    }

    /// Reads the description of a machine.
    ///
    /// # Errors
    /// I/O errors, unknown keys.
    pub fn read(machine: &Path) -> Result<Self> {
        let path = machine.join(DESCRIPTION);
        let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        Ok(toml::from_str(&text)?)
    }
}

/// A machine that is switched on: its TPM runs and holds the measurements.
pub struct Booted {
    tpm: Swtpm,
    machine: PathBuf,
    ak_name: Vec<u8>,
    ek_digest: [u8; 32],
}

impl Booted {
    /// Boots a machine: starts its TPM and measures its image into the PCRs.
    ///
    /// # Errors
    /// swtpm is missing, or I/O.
    pub fn boot(machine: &Path) -> Result<Self> {
        let description = Description::read(machine)?;
        let events = boot::events(&description.image);
        fs::write(machine.join("eventlog.bin"), boot::log(&events))?;
        let tpm = Swtpm::start(machine)?;
        let mut device = LabTpm::open(machine)?;
        for event in &events {
            extend(&device.handle(), event.pcr, &sha256(&[&event.data]))?;
        }
        let ek_digest = device.ek_digest()?;
        let ak_name = match description.vtpm {
            Vtpm::Host | Vtpm::Svsm => device.ak_name().to_vec(),
            Vtpm::Azure => {
                provision(&device.handle())?;
                drop(device);
                LabAzure::open(machine)?.tpm().ak_name().to_vec()
            }
        };
        Ok(Self { tpm, machine: machine.to_owned(), ak_name, ek_digest })
    }

    /// Folder of the machine.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.machine
    }

    /// Whether its TPM runs.
    pub(crate) fn is_running(&mut self) -> bool {
        self.tpm.is_running()
    }

    /// Name of its attestation key.
    #[must_use]
    pub fn ak_name(&self) -> &[u8] {
        &self.ak_name
    }

    /// Digest of its endorsement key.
    #[must_use]
    pub const fn ek_digest(&self) -> &[u8; 32] {
        &self.ek_digest
    }
}

/// The chip of a machine. Its description is read again before every report.
pub(crate) struct LabProcessor {
    pub(crate) machine: PathBuf,
}

impl LabProcessor {
    pub(crate) fn chip(&self) -> Result<Processor> {
        let description = Description::read(&self.machine)?;
        let root = LabRoot::open(&description.root, Generation::Milan)?;
        Processor::kept(&root, description.fields(), &self.machine)
    }
}

pub(crate) fn failed(error: anyhow::Error) -> AttesterError {
    AttesterError::Device { what: "emulated secure processor", error: std::io::Error::other(error) }
}

impl SnpDevice for LabProcessor {
    fn report(&mut self, report_data: &[u8; 64]) -> Result<SnpEvidence, AttesterError> {
        self.chip().map_err(failed)?.report(report_data)
    }

    fn derived_key(&mut self, request: &DerivedKeyRequest) -> Result<Zeroizing<[u8; 32]>, AttesterError> {
        self.chip().map_err(failed)?.derived_key(request)
    }
}

/// A service module, whose reports also cover the manifest of its vTPM.
struct LabService {
    processor: LabProcessor,
    manifest: Vec<u8>,
}

impl ServiceDevice for LabService {
    fn service_report(&mut self, nonce: &[u8; 64]) -> Result<SvsmEvidence, AttesterError> {
        let report_data = svsm::report_data(nonce, &self.manifest);
        Ok(SvsmEvidence { snp: self.processor.report(&report_data)?, manifest: self.manifest.clone() })
    }
}

/// A lab machine as the platform of a program.
#[derive(Clone, Debug)]
pub struct LabPlatform {
    /// Folder of the machine.
    pub machine: PathBuf,
}

impl OpenMachine for LabPlatform {
    fn open(&self) -> Result<Machine, AttesterError> {
        let processor = LabProcessor { machine: self.machine.clone() };
        let description = Description::read(&self.machine).map_err(failed)?;
        Ok(match description.vtpm {
            Vtpm::Host => Machine::SnpTpm(Box::new(processor), Box::new(LabTpm::open(&self.machine)?)),
            Vtpm::Svsm => {
                let mut tpm = LabTpm::open(&self.machine)?;
                let manifest = tpm.endorsement_key()?;
                Machine::SvsmVtpm(Box::new(LabService { processor, manifest }), Box::new(tpm))
            }
            Vtpm::Azure => Machine::AzureVtpm(Box::new(LabAzure::open(&self.machine)?)),
        })
    }
}
