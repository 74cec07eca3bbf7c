//! The certificate of an attestation key, issued by the TPM's vendor or a cloud.

use std::path::PathBuf;

use anyhow::{Context, Result};
use portcullis_attest::check::Checks;
use portcullis_attest::tpm::certificate::{self, Certified, VendorChains};
use portcullis_attest::tpm::key::KeyMaterial;

use crate::inputs::Inputs;

#[derive(Debug, clap::Args)]
pub(crate) struct Vendor {
    /// Certificate of the attestation key: PEM, DER, or the contents of the NV
    /// index.
    #[arg(long, value_name = "FILE")]
    ak_cert: Option<PathBuf>,
    /// Intermediate certificates up to the root.
    #[arg(long, num_args = 1.., value_name = "FILE", requires = "ak_cert")]
    tpm_chain: Vec<PathBuf>,
    /// Roots of the TPM's vendor. There are none by default.
    #[arg(long, num_args = 1.., value_name = "FILE", requires = "ak_cert")]
    tpm_root: Vec<PathBuf>,
}

impl Vendor {
    /// Whether a certificate was named.
    pub(crate) const fn is_named(&self) -> bool {
        self.ak_cert.is_some()
    }

    /// Checks the certificate, if one was named, against the key that it must certify, at a
    /// time (Unix seconds).
    pub(crate) fn check(
        &self,
        key: Option<&KeyMaterial>,
        at: u64,
        inputs: &mut Inputs,
        checks: &mut Checks,
    ) -> Result<()> {
        let Some(path) = &self.ak_cert else { return Ok(()) };
        let bytes = inputs.read(path, "ak-cert")?;
        let mut all = |paths: &[PathBuf], role: &str| -> Result<Vec<Vec<u8>>> {
            paths.iter().map(|path| inputs.read(path, role)).collect()
        };
        let (roots, others) = (all(&self.tpm_root, "tpm-root")?, all(&self.tpm_chain, "tpm-chain")?);
        let (roots, others) = (slices_of(&roots), slices_of(&others));
        let chains = VendorChains::read(&roots, &others).context("--tpm-chain, --tpm-root: certificates")?;
        certificate::verify(&bytes, Certified::Attestation, key, &chains, at, checks);
        // Without a known key, any certificate would be accepted.
        if key.is_none() {
            checks.missing(
                "tpm.certificate.same_key",
                "the attestation key",
                "key of the certificate, against the TPM's",
            );
        }
        Ok(())
    }
}

fn slices_of(files: &[Vec<u8>]) -> Vec<&[u8]> {
    files.iter().map(Vec::as_slice).collect()
}
