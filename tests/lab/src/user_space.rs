//! Measurements of user space after the boot, logged as systemd does.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;

use anyhow::Result;
use portcullis_attest::crypto::sha256;
use portcullis_attest::tpm::pcr::Bank;
use portcullis_attester::TpmHandle;
use portcullis_wire::hex::hex;

use crate::tpm::{SoftTpm, USER_SPACE, extend};

/// Phases of a machine that is up.
pub const UP: [&str; 4] = portcullis_attest::uki::PHASES;

/// A record of `tpm2-measure.log`: the extended digest, and the text for the log.
#[must_use]
pub fn record(pcr: u8, digest: &[u8; 32], text: &str) -> String {
    let content = serde_json::json!({
        "pcr": pcr,
        "digests": [{ "hashAlg": "sha256", "digest": hex(digest) }],
        "content_type": "systemd",
        "content": { "eventType": "phase", "string": text, "bootId": "0".repeat(32), "timestamp": 1 },
    });
    format!("\u{1e}{content}\n")
}

/// Measures a text on a machine that runs: extends the PCR and logs it, under the
/// lock that systemd takes.
///
/// # Errors
/// I/O errors, or the TPM refuses.
pub fn measure(machine: &Path, tpm: &TpmHandle, pcr: u8, text: &str) -> Result<()> {
    let digest = sha256(&[text.as_bytes()]);
    let mut log = OpenOptions::new().create(true).append(true).open(machine.join(USER_SPACE))?;
    log.lock()?;
    extend(tpm, pcr, &digest)?;
    log.write_all(record(pcr, &digest, text).as_bytes())?;
    Ok(())
}

impl SoftTpm {
    /// Measures a text and logs it.
    pub fn measure(&mut self, pcr: u8, text: &str) {
        let digest = sha256(&[text.as_bytes()]);
        self.extend(pcr, &digest);
        self.user_space_log.get_or_insert_default().extend(record(pcr, &digest, text).into_bytes());
    }

    /// Extends a PCR without a log entry.
    pub fn extend(&mut self, pcr: u8, digest: &[u8; 32]) {
        let initial = Bank::Sha256.initial(pcr);
        let value = Bank::Sha256.extend(self.pcrs.value(Bank::Sha256, pcr).unwrap_or(&initial), digest);
        assert!(self.pcrs.insert(Bank::Sha256, pcr, value), "PCR {pcr}");
    }
}
