//! Certificates, revocation lists and roots for SNP reports, as every command
//! takes them.

use std::path::PathBuf;

use anyhow::{Context, Result, bail, ensure};
use portcullis_attest::check::Checks;
use portcullis_attest::snp::certificate::Certificate;
use portcullis_attest::snp::collateral::{Collateral, RefusedObject};
use portcullis_attest::snp::report::Report;
use portcullis_attest::snp::roots::Roots;
use portcullis_attest::snp::verify::SnpVerifier;

use portcullis_collateral::Store;

use crate::inputs::{Inputs, time};

#[derive(Debug, clap::Args)]
pub(crate) struct CollateralFiles {
    /// Certificates: PEM or DER, one or many, in any order.
    #[arg(long, num_args = 1.., value_name = "FILE")]
    certs: Vec<PathBuf>,
    /// Revocation lists: PEM or DER.
    #[arg(long, num_args = 1.., value_name = "FILE")]
    crl: Vec<PathBuf>,
    /// Roots instead of AMD's pinned ARKs.
    #[arg(long, num_args = 1.., value_name = "FILE")]
    root: Vec<PathBuf>,
    /// A folder of collateral, as `portcullis collateral` keeps it.
    #[arg(long, value_name = "FOLDER")]
    cache: Option<PathBuf>,
    /// Time of the verification, RFC 3339; now if absent.
    #[arg(long, value_name = "RFC3339")]
    at: Option<String>,
}

/// A verifier with what was named, and the time to verify at.
pub(crate) struct Supplied {
    pub(crate) verifier: SnpVerifier,
    /// Certificates that were named for the report.
    pub(crate) certificates: Vec<Certificate>,
    /// `amd` or `given`.
    pub(crate) roots: &'static str,
    /// Unix seconds.
    pub(crate) at: u64,
    refused: Vec<RefusedObject>,
}

impl CollateralFiles {
    /// Reads everything that may serve for a report, and certificates that came
    /// with the evidence.
    pub(crate) fn read(&self, inputs: &mut Inputs, report: &[u8], beside: &[Vec<u8>]) -> Result<Supplied> {
        let at = time(self.at.as_deref())?;
        let mut supplied = collateral(&self.certs, "certs", inputs)?;
        for bytes in beside {
            supplied.extend(Collateral::parse(bytes).context("certificates beside the evidence")?);
        }
        if let Some(folder) = &self.cache {
            ensure!(folder.is_dir(), "--cache: {} is no folder", folder.display());
            // What cannot be parsed has no chip; that is told by the report's checks.
            if let Some(report) = Report::parse(report, &mut Checks::refusals()) {
                supplied.extend(Store::open(folder).collateral_for(&report).context("--cache")?);
            }
        }
        let certificates = supplied.certificates.clone();
        supplied.extend(collateral(&self.crl, "crl", inputs)?);
        let roots = self.roots(inputs)?;
        let source = roots.source().as_str();
        let lists = Collateral { crls: supplied.crls, ..Collateral::default() };
        let verifier = SnpVerifier::new(roots, lists);
        Ok(Supplied { verifier, certificates, roots: source, at, refused: supplied.refused })
    }

    fn roots(&self, inputs: &mut Inputs) -> Result<Roots> {
        if self.root.is_empty() {
            return Ok(Roots::amd()?);
        }
        let given = collateral(&self.root, "root", inputs)?.strict()?;
        if given.certificates.is_empty() {
            bail!("--root: no certificate in the given files");
        }
        Ok(Roots::given(given.certificates))
    }
}

impl Supplied {
    /// A certificate that claims a place in AMD's chains and is not of AMD's
    /// profile is a failure, not a missing input.
    pub(crate) fn check_refused(&self, checks: &mut Checks) {
        if let Some(object) = self.refused.iter().find(|object| object.claims_a_place()) {
            checks.require(
                "snp.certificates",
                false,
                || format!("{}: {}", object.common_name, object.error),
                || "certificates of AMD's profile".into(),
                "form of the certificates",
            );
        }
    }
}

/// Reads files that must hold certificates or CRLs.
fn collateral(paths: &[PathBuf], role: &str, inputs: &mut Inputs) -> Result<Collateral> {
    let mut all = Collateral::default();
    for path in paths {
        let bytes = inputs.read(path, role)?;
        all.extend(Collateral::parse(&bytes).with_context(|| path.display().to_string())?);
    }
    Ok(all)
}
