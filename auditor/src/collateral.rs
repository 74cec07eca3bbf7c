//! Command-line options for the certificates, revocation lists and roots of SNP
//! reports, shared by all commands.

use std::path::PathBuf;

use anyhow::{Context, Result, bail, ensure};
use portcullis_attest::check::Checks;
use portcullis_attest::snp::certificate::Certificate;
use portcullis_attest::snp::collateral::{Collateral, RefusedObject};
use portcullis_attest::snp::report::Report;
use portcullis_attest::snp::roots::Roots;
use portcullis_attest::snp::table::{CertificateTable, Kind};
use portcullis_attest::snp::verify::{Presented, SnpVerifier};
use portcullis_collateral::Store;
use serde_json::{Value, json};

use crate::inputs::{Inputs, time};
use crate::report::Facts;

#[derive(Debug, clap::Args)]
pub(crate) struct CollateralFiles {
    /// Certificates: PEM or DER, one or many, in any order.
    #[arg(long, num_args = 1.., value_name = "FILE")]
    certs: Vec<PathBuf>,
    /// The host's certificate table, if the evidence does not contain it: auxblob of
    /// configfs-tsm, or the data of an extended guest request.
    #[arg(long, value_name = "FILE")]
    table: Option<PathBuf>,
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

/// The collateral that evidence contains for its report.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Brought<'a> {
    /// The host's certificate table; empty if there is none.
    pub(crate) table: &'a [u8],
    /// Separate certificates, PEM or DER.
    pub(crate) certificates: &'a [Vec<u8>],
}

/// A verifier with the named collateral, and the time of the verification.
pub(crate) struct Supplied {
    pub(crate) verifier: SnpVerifier,
    table: Vec<u8>,
    certificates: Vec<Certificate>,
    /// `amd` or `given`.
    pub(crate) roots: &'static str,
    /// Unix seconds.
    pub(crate) at: u64,
    refused: Vec<RefusedObject>,
}

impl CollateralFiles {
    /// Reads all collateral for a report: the named files, and those in the evidence.
    pub(crate) fn read(&self, inputs: &mut Inputs, report: &[u8], brought: &Brought<'_>) -> Result<Supplied> {
        let at = time(self.at.as_deref())?;
        let table = self.table(inputs, brought.table)?;
        let mut supplied = collateral(&self.certs, "certs", inputs)?;
        for bytes in brought.certificates {
            supplied.extend(Collateral::parse(bytes).context("certificates beside the evidence")?);
        }
        if let Some(folder) = &self.cache {
            ensure!(folder.is_dir(), "--cache: {} is no folder", folder.display());
            // A malformed report names no chip; the report's checks state the fault.
            if let Some(report) = Report::parse(report, &mut Checks::refusals()) {
                supplied.extend(Store::open(folder).collateral_for(&report).context("--cache")?);
            }
        }
        let certificates = supplied.certificates.clone();
        supplied.extend(collateral(&self.crl, "crl", inputs)?);
        let roots = self.roots(inputs)?;
        let source = roots.source().as_str();
        // A list that the root signed is valid from any source, including the host.
        let mut crls = supplied.crls;
        crls.extend(CertificateTable::parse(&table).iter().flat_map(|table| table.crls().iter().cloned()));
        let verifier = SnpVerifier::new(roots, Collateral { crls, ..Collateral::default() });
        Ok(Supplied { verifier, table, certificates, roots: source, at, refused: supplied.refused })
    }

    /// The host's table, from the evidence or from the named file.
    fn table(&self, inputs: &mut Inputs, brought: &[u8]) -> Result<Vec<u8>> {
        match &self.table {
            None => Ok(brought.to_vec()),
            Some(_) if !brought.is_empty() => bail!("--table: the evidence brings a certificate table of its own"),
            Some(path) => inputs.read(path, "table"),
        }
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
    /// The certificates for the report.
    pub(crate) fn presented(&self) -> Presented<'_> {
        Presented::table(&self.table).with(&self.certificates)
    }

    /// The entries of the host's table, for people; `None` if there is no table.
    pub(crate) fn table_facts(&self) -> Option<Facts> {
        let table = CertificateTable::parse(&self.table).ok()?;
        let known = |kind: Option<Kind>| kind.map_or_else(|| "unknown, not used".to_owned(), |kind| kind.name().into());
        let rows = table
            .entries()
            .iter()
            .map(|entry| (entry.guid.to_string(), format!("{}, {} bytes", known(entry.kind()), entry.length)));
        let rows: Vec<_> = rows.collect();
        let none = || vec![("entries".to_owned(), "none: the host has no certificates".to_owned())];
        Some(Facts { title: "The host's certificate table", rows: if rows.is_empty() { none() } else { rows } })
    }

    /// The entries of the host's table, as JSON; null if there is no readable table.
    pub(crate) fn table_json(&self) -> Value {
        let entry = |entry: &portcullis_attest::snp::table::Entry| {
            json!({
                "guid": entry.guid.to_string(),
                "kind": entry.kind().map(Kind::name),
                "length": entry.length,
            })
        };
        CertificateTable::parse(&self.table).map_or(Value::Null, |table| table.entries().iter().map(entry).collect())
    }

    /// Checks that every certificate named as one of AMD's matches AMD's profile: otherwise
    /// it is a failure, not a missing input.
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
        let read = Collateral::parse(&bytes).with_context(|| match CertificateTable::parse(&bytes) {
            Ok(table) if table.has_known_entry() => format!("{}: a certificate table, for --table", path.display()),
            _ => path.display().to_string(),
        });
        all.extend(read?);
    }
    Ok(all)
}
