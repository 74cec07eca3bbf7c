//! swtpm as the TPM of a lab machine, and a TPM in this process for load tests.

use std::fs;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::str::FromStr;
use std::time::Duration;

use crate::daemon::free_port_pair;
use anyhow::{Context as _, Result, bail};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use portcullis_attest::crypto::sha256;
use portcullis_attest::evidence::TpmEvidence;
use portcullis_attest::tpm::credential::{Credential, EndorsementKey};
use portcullis_attest::tpm::key::{AttestationKey, Attributes};
use portcullis_attest::tpm::pcr::{Bank, PcrValues, Selection};
use portcullis_attester::{
    ANCHOR_LENGTH, ActivateDevice, Anchor, AnchorDevice, AttesterError, Logs, QuoteDevice, SealDevice, SealedBlob, Tpm,
    TpmHandle,
};
use portcullis_permit::BootCounters;
use portcullis_wire::hex::{hex, unhex_array};
use tss_esapi::constants::CapabilityType;
use tss_esapi::handles::PcrHandle;
use tss_esapi::interface_types::algorithm::HashingAlgorithm;
use tss_esapi::interface_types::session_handles::AuthSession;
use tss_esapi::structures::{CapabilityData, Digest, DigestValues};
use tss_esapi::tcti_ldr::TctiNameConf;
use tss_esapi::{Context, Error, WrapperErrorKind};
use zeroize::Zeroizing;

/// First handles of transient objects and of loaded sessions (TPM 2.0 Part 2, §7.2).
const TRANSIENT_FIRST: u32 = 0x8000_0000;
const LOADED_SESSION_FIRST: u32 = 0x0200_0000;

/// A file that requests an extension of a PCR: `PCR DIGEST`.
const PENDING: &str = "pending-extend";
pub(crate) const PORT: &str = "tpm.port";

/// A running swtpm. It ends with this value.
pub struct Swtpm {
    child: Child,
    port: u16,
}

impl Swtpm {
    /// Starts swtpm on a fresh pair of loopback ports, cleared as after power-on.
    ///
    /// # Errors
    /// swtpm is missing or does not listen within five seconds.
    pub fn start(machine: &Path) -> Result<Self> {
        let state = fs::canonicalize(machine)?.join("tpm");
        fs::create_dir_all(&state)?;
        for _ in 0..20 {
            let port = free_port_pair()?;
            let child = Command::new("swtpm")
                .args(["socket", "--tpm2", "--flags", "not-need-init,startup-clear"])
                .args(["--tpmstate", &format!("dir={}", state.display())])
                .args(["--server", &format!("type=tcp,port={port},bindaddr=127.0.0.1")])
                .args(["--ctrl", &format!("type=tcp,port={},bindaddr=127.0.0.1", port + 1)])
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .context("swtpm: install the package swtpm")?;
            let mut tpm = Self { child, port };
            if tpm.is_listening()? {
                fs::write(machine.join(PORT), port.to_string())?;
                return Ok(tpm);
            }
        }
        bail!("swtpm found no free ports")
    }

    /// Whether it still runs.
    pub(crate) fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Whether it listens; `false` if another process took a port first.
    fn is_listening(&mut self) -> Result<bool> {
        for _ in 0..500 {
            if self.child.try_wait()?.is_some() {
                return Ok(false);
            }
            if TcpStream::connect(("127.0.0.1", self.port + 1)).is_ok() {
                return Ok(true);
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(false)
    }
}

impl Drop for Swtpm {
    fn drop(&mut self) {
        // Errors mean that it has ended already.
        let _ended = self.child.kill();
        let _reaped = self.child.wait();
    }
}

/// Extends a PCR of a TPM.
///
/// # Errors
/// The TPM refuses.
pub fn extend(handle: &TpmHandle, pcr: u8, digest: &[u8; 32]) -> Result<()> {
    let mut values = DigestValues::new();
    values.set(HashingAlgorithm::Sha256, Digest::try_from(digest.to_vec())?);
    let pcr = PcrHandle::try_from(u32::from(pcr)).map_err(|_| anyhow::anyhow!("no PCR {pcr}"))?;
    handle.with(|context| context.execute_with_session(Some(AuthSession::Password), |c| c.pcr_extend(pcr, values)))?;
    Ok(())
}

/// The TPM of a lab machine, in which PCRs can be extended from outside while
/// it runs: swtpm serves one connection at a time.
pub struct LabTpm {
    tpm: Tpm,
    machine: PathBuf,
}

/// The log in which a lab machine's Linux lists the files that it measured.
pub const MEASURED_FILES: &str = "ima.bin";
/// The log in which a lab machine's user space lists its measurements.
pub const USER_SPACE: &str = "tpm2-measure.log";

/// The logs of a lab machine, with that of its firmware.
pub(crate) fn logs(machine: &Path, events: Vec<u8>) -> Logs {
    Logs { events, measured_files: machine.join(MEASURED_FILES), user_space: machine.join(USER_SPACE) }
}

impl LabTpm {
    /// Connects to the swtpm of a booted machine.
    ///
    /// # Errors
    /// The machine is not booted.
    pub fn open(machine: &Path) -> Result<Self, AttesterError> {
        let failed = |error| AttesterError::Device { what: "lab machine's TPM (is the machine booted?)", error };
        let log = fs::read(machine.join("eventlog.bin")).map_err(failed)?;
        let tcti = tcti(machine)?;
        let tpm = Tpm::open(&tcti, logs(machine, log))?;
        Ok(Self { tpm, machine: machine.to_owned() })
    }

    /// The connection.
    #[must_use]
    pub fn handle(&self) -> TpmHandle {
        self.tpm.handle()
    }

    /// Digest of its endorsement key, as governors enrol it.
    ///
    /// # Errors
    /// The TPM refuses.
    pub fn ek_digest(&mut self) -> Result<[u8; 32], AttesterError> {
        let area = self.endorsement_key()?;
        let key = EndorsementKey::from_area(&area).map_err(|_| AttesterError::Form("endorsement key"))?;
        key.digest().ok_or(AttesterError::Form("endorsement key"))
    }

    fn extend_pending(&self) -> Result<(), AttesterError> {
        let path = self.machine.join(PENDING);
        let Ok(text) = fs::read_to_string(&path) else { return Ok(()) };
        let failed =
            |error: anyhow::Error| AttesterError::Device { what: PENDING, error: std::io::Error::other(error) };
        let apply = || -> Result<()> {
            let (pcr, digest) = text.trim().split_once(' ').context("PCR DIGEST")?;
            fs::remove_file(&path)?;
            extend(&self.tpm.handle(), pcr.parse()?, &unhex_array(digest).context("DIGEST")?)
        };
        apply().map_err(failed)
    }
}

/// The address of a booted machine's TPM, with nothing loaded in it.
pub(crate) fn tcti(machine: &Path) -> Result<String, AttesterError> {
    let failed = |error| AttesterError::Device { what: "lab machine's TPM (is the machine booted?)", error };
    let port = fs::read_to_string(machine.join(PORT)).map_err(failed)?;
    let tcti = format!("swtpm:host=127.0.0.1,port={}", port.trim());
    flush_leftovers(&tcti).map_err(|error| failed(std::io::Error::other(error)))?;
    Ok(tcti)
}

/// Flushes the objects of a killed process. On a real machine the kernel's resource
/// manager does that; the lab reaches swtpm without one.
fn flush_leftovers(tcti: &str) -> Result<()> {
    let mut context = Context::new(TctiNameConf::from_str(tcti)?)?;
    for first in [TRANSIENT_FIRST, LOADED_SESSION_FIRST] {
        let (found, _) = context.get_capability(CapabilityType::Handles, first, 16)?;
        let CapabilityData::Handles(handles) = found else { continue };
        for handle in handles.as_ref() {
            let object = context.execute_without_session(|context| context.tr_from_tpm_public(*handle))?;
            match context.flush_context(object) {
                // The TPM has flushed it; tss-esapi wonders that it did not load it.
                Ok(()) | Err(Error::WrapperError(WrapperErrorKind::InvalidHandleState)) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
    Ok(())
}

/// Requests an extension of a PCR of a running machine.
///
/// # Errors
/// I/O errors.
pub fn request_extend(machine: &Path, pcr: u8, digest: &[u8; 32]) -> Result<()> {
    let draft = machine.join("pending-draft");
    fs::write(&draft, format!("{pcr} {}", hex(digest)))?;
    fs::rename(draft, machine.join(PENDING))?;
    Ok(())
}

impl QuoteDevice for LabTpm {
    fn ak_name(&self) -> &[u8] {
        self.tpm.ak_name()
    }

    fn quote(&mut self, nonce: &[u8; 32], selection: &Selection) -> Result<TpmEvidence, AttesterError> {
        self.extend_pending()?;
        self.tpm.quote(nonce, selection)
    }

    fn read_pcrs(&mut self, selection: &Selection) -> Result<PcrValues, AttesterError> {
        self.extend_pending()?;
        self.tpm.read_pcrs(selection)
    }
}

impl ActivateDevice for LabTpm {
    fn endorsement_key(&mut self) -> Result<Vec<u8>, AttesterError> {
        self.tpm.endorsement_key()
    }

    fn ak_area(&self) -> &[u8] {
        self.tpm.ak_area()
    }

    fn activate(&mut self, credential: &Credential) -> Result<Zeroizing<[u8; 32]>, AttesterError> {
        self.tpm.activate(credential)
    }
}

impl AnchorDevice for LabTpm {
    fn define_anchor(&mut self, selection: &Selection) -> Result<(), AttesterError> {
        self.extend_pending()?;
        self.tpm.define_anchor(selection)
    }

    fn read_anchor(&mut self) -> Result<Option<Anchor>, AttesterError> {
        self.tpm.read_anchor()
    }

    fn read_counter(&mut self) -> Result<u64, AttesterError> {
        self.tpm.read_counter()
    }

    fn increment_counter(&mut self, selection: &Selection) -> Result<(), AttesterError> {
        self.extend_pending()?;
        self.tpm.increment_counter(selection)
    }

    fn write_anchor(&mut self, data: &[u8; ANCHOR_LENGTH], selection: &Selection) -> Result<(), AttesterError> {
        self.extend_pending()?;
        self.tpm.write_anchor(data, selection)
    }
}

impl SealDevice for LabTpm {
    fn seal(&mut self, secret: &[u8; 32], selection: &Selection) -> Result<SealedBlob, AttesterError> {
        self.tpm.seal(secret, selection)
    }

    fn unseal(&mut self, blob: &SealedBlob, selection: &Selection) -> Result<Zeroizing<[u8; 32]>, AttesterError> {
        self.extend_pending()?;
        self.tpm.unseal(blob, selection)
    }
}

/// A TPM in this process. Its P-256 key signs quotes of any values: for attacks, and
/// for load tests with a thousand quotes a second.
pub struct SoftTpm {
    key: EcdsaKeyPair,
    area: Vec<u8>,
    name: Vec<u8>,
    /// Values that it quotes.
    pub pcrs: PcrValues,
    /// Log that it hands out.
    pub event_log: Vec<u8>,
    /// List of measured files that it hands out.
    pub measured_files: Option<Vec<u8>>,
    /// Log of user space that it hands out.
    pub user_space_log: Option<Vec<u8>>,
    /// State of its boot counters.
    pub counters: BootCounters,
}

impl SoftTpm {
    /// A TPM with a new key, and the PCRs of a booted image.
    ///
    /// # Errors
    /// Cryptography.
    pub fn new(image: &str) -> Result<Self> {
        let key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING)?;
        let area = public_area(key.public_key().as_ref(), Attributes::of_an_attestation_key().0 | 1 << 6);
        let name = AttestationKey::from_area(&area)?.name().context("name")?.to_vec();
        let mut pcrs = PcrValues::default();
        for (pcr, value) in crate::boot::reference(image) {
            anyhow::ensure!(pcrs.insert(Bank::Sha256, pcr, value), "PCR {pcr}");
        }
        let event_log = crate::boot::log(&crate::boot::events(image));
        Ok(Self {
            key,
            area,
            name,
            pcrs,
            event_log,
            measured_files: None,
            user_space_log: None,
            counters: BootCounters { reset_count: 0, restart_count: 0, clock: 0 },
        })
    }
}

/// `TPMT_PUBLIC` of an ECDSA P-256 key.
#[must_use]
pub fn public_area(point: &[u8], attributes: u32) -> Vec<u8> {
    let mut area = Vec::new();
    let mut put = |bytes: &[u8]| area.extend_from_slice(bytes);
    put(&0x0023_u16.to_be_bytes()); // TPM_ALG_ECC
    put(&0x000b_u16.to_be_bytes()); // name: SHA-256
    put(&attributes.to_be_bytes());
    put(&[0, 0]); // no policy
    put(&0x0010_u16.to_be_bytes()); // no symmetric algorithm
    put(&0x0018_u16.to_be_bytes()); // ECDSA
    put(&0x000b_u16.to_be_bytes()); // SHA-256
    put(&0x0003_u16.to_be_bytes()); // NIST P-256
    put(&0x0010_u16.to_be_bytes()); // no key derivation
    let (x, y) = point.get(1..).unwrap_or_default().split_at_checked(32).unwrap_or_default();
    for coordinate in [x, y] {
        put(&[0, 32]);
        put(coordinate);
    }
    area
}

/// `TPMS_ATTEST` of a quote.
#[must_use]
pub fn quote_structure(nonce: &[u8], selection: &Selection, digest: &[u8]) -> Vec<u8> {
    let mut attest = Vec::new();
    let mut put = |bytes: &[u8]| attest.extend_from_slice(bytes);
    let sized = |bytes: &[u8]| [&u16::try_from(bytes.len()).unwrap_or(0).to_be_bytes()[..], bytes].concat();
    put(&0xff54_4347_u32.to_be_bytes());
    put(&0x8018_u16.to_be_bytes());
    put(&sized(&[0; 34])); // qualified signer
    put(&sized(nonce));
    put(&[0; 16]); // clock, reset and restart count
    put(&[1]); // safe
    put(&[0; 8]); // firmware version
    put(&u32::try_from(selection.0.len()).unwrap_or(0).to_be_bytes());
    for (bank, set) in &selection.0 {
        put(&bank.id().to_be_bytes());
        put(&[3]);
        put(&set.to_bytes());
    }
    put(&sized(digest));
    attest
}

impl QuoteDevice for SoftTpm {
    fn ak_name(&self) -> &[u8] {
        &self.name
    }

    fn quote(&mut self, nonce: &[u8; 32], selection: &Selection) -> Result<TpmEvidence, AttesterError> {
        let digest = self.pcrs.digest(selection, Bank::Sha256).ok_or(AttesterError::Form("PCR values"))?;
        let mut attest = quote_structure(nonce, selection, &digest);
        let BootCounters { reset_count, restart_count, clock } = self.counters;
        let stand = [&clock.to_be_bytes()[..], &reset_count.to_be_bytes(), &restart_count.to_be_bytes()].concat();
        // After magic, type, signer and nonce.
        let at = 4 + 2 + 2 + 34 + 2 + nonce.len();
        attest.iter_mut().skip(at).zip(stand).for_each(|(to, from)| *to = from);
        let signed = self.key.sign(&SystemRandom::new(), &attest).map_err(|_| AttesterError::Form("signature"))?;
        let (r, s) = signed.as_ref().split_at_checked(32).unwrap_or_default();
        let signature = [&[0x00, 0x18, 0x00, 0x0b, 0, 32][..], r, &[0, 32], s].concat();
        Ok(TpmEvidence {
            attest,
            signature,
            ak: self.area.clone(),
            pcrs: self.pcrs.clone(),
            event_log: self.event_log.clone(),
            measured_files: self.measured_files.clone(),
            user_space_log: self.user_space_log.clone(),
        })
    }

    fn read_pcrs(&mut self, _selection: &Selection) -> Result<PcrValues, AttesterError> {
        Ok(self.pcrs.clone())
    }
}

/// It has no endorsement key, so nothing vouches for it.
impl ActivateDevice for SoftTpm {
    fn endorsement_key(&mut self) -> Result<Vec<u8>, AttesterError> {
        Err(AttesterError::Form("endorsement key"))
    }

    fn ak_area(&self) -> &[u8] {
        &self.area
    }

    fn activate(&mut self, _credential: &Credential) -> Result<Zeroizing<[u8; 32]>, AttesterError> {
        Err(AttesterError::Form("endorsement key"))
    }
}

/// It ends with its process: its stored state cannot outlive what it guards.
impl AnchorDevice for SoftTpm {
    fn define_anchor(&mut self, _selection: &Selection) -> Result<(), AttesterError> {
        Err(AttesterError::Form("NV storage"))
    }

    fn read_anchor(&mut self) -> Result<Option<Anchor>, AttesterError> {
        Err(AttesterError::Form("NV storage"))
    }

    fn read_counter(&mut self) -> Result<u64, AttesterError> {
        Err(AttesterError::Form("NV storage"))
    }

    fn increment_counter(&mut self, _selection: &Selection) -> Result<(), AttesterError> {
        Err(AttesterError::Form("NV storage"))
    }

    fn write_anchor(&mut self, _data: &[u8; ANCHOR_LENGTH], _selection: &Selection) -> Result<(), AttesterError> {
        Err(AttesterError::Form("NV storage"))
    }
}

impl SealDevice for SoftTpm {
    /// Binds to the key and the PCR values by a hash. It keeps no secret from this process,
    /// which is its whole machine.
    fn seal(&mut self, secret: &[u8; 32], selection: &Selection) -> Result<SealedBlob, AttesterError> {
        let digest = self.pcrs.digest(selection, Bank::Sha256).ok_or(AttesterError::Form("PCR values"))?;
        let pad = sha256(&[&self.area, &digest]);
        Ok(SealedBlob { public: digest, private: secret.iter().zip(pad).map(|(a, b)| a ^ b).collect() })
    }

    fn unseal(&mut self, blob: &SealedBlob, selection: &Selection) -> Result<Zeroizing<[u8; 32]>, AttesterError> {
        let digest = self.pcrs.digest(selection, Bank::Sha256).ok_or(AttesterError::Form("PCR values"))?;
        if digest != blob.public {
            return Err(AttesterError::Tpm {
                command: "Unseal",
                error: "a policy check failed".into(),
                passing: false,
            });
        }
        let pad = sha256(&[&self.area, &digest]);
        let secret: Vec<u8> = blob.private.iter().zip(pad).map(|(a, b)| a ^ b).collect();
        secret.try_into().map(Zeroizing::new).map_err(|_| AttesterError::Form("sealed secret"))
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;

    /// A policy session, with SHA-256 and neither salt nor binding: TPM 2.0 Part 3,
    /// §11.1.
    fn start_session(tpm: &mut TcpStream) {
        let mut command = vec![0x80, 0x01, 0, 0, 0, 43, 0, 0, 0x01, 0x76];
        command.extend([0x40, 0, 0, 0x07, 0x40, 0, 0, 0x07, 0, 16]);
        command.extend([1; 16]);
        command.extend([0, 0, 0x01, 0, 0x10, 0, 0x0b]);
        tpm.write_all(&command).unwrap();
        let mut answer = [0; 32];
        assert!(tpm.read(&mut answer).unwrap() > 10);
        assert_eq!(answer[6..10], [0; 4], "{answer:?}");
    }

    /// A killed process leaves as many sessions as a TPM holds.
    #[test]
    fn what_a_killed_process_left_is_flushed() {
        let folder = tempfile::tempdir().unwrap();
        let swtpm = Swtpm::start(folder.path()).unwrap();
        let mut killed = TcpStream::connect(("127.0.0.1", swtpm.port)).unwrap();
        (0..3).for_each(|_| start_session(&mut killed));
        drop(killed);
        let tcti = tcti(folder.path()).unwrap();
        let mut context = Context::new(TctiNameConf::from_str(&tcti).unwrap()).unwrap();
        let (left, _) = context.get_capability(CapabilityType::Handles, LOADED_SESSION_FIRST, 16).unwrap();
        let CapabilityData::Handles(left) = left else { panic!("{left:?}") };
        assert_eq!(left.as_ref(), []);
    }
}
