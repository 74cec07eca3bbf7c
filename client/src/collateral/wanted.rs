//! The documents that a command requests.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use portcullis_attest::check::Checks;
use portcullis_attest::snp::generation::Generation;
use portcullis_attest::snp::report::Report;
use portcullis_attester::OpenMachine;

use super::fetch::vcek_path;

/// The source of a report.
#[derive(Clone, Copy, Debug)]
pub(super) enum ReportSource<'a> {
    /// This machine's secure processor.
    Machine,
    /// A file.
    File(&'a Path),
}

/// The documents to fetch.
#[derive(Debug)]
pub(super) enum Wanted {
    /// Chains and lists of generations.
    Products(Vec<Generation>),
    /// Chain and list of one generation, and the certificate of the key that signed a
    /// report.
    Report(Box<Report>, Generation),
}

impl Wanted {
    /// The documents for the given options: products alone, or a report. A report that does
    /// not name its product needs a product option.
    pub(super) fn of(
        source: Option<ReportSource<'_>>,
        products: &[Generation],
        platform: &dyn OpenMachine,
    ) -> Result<Self> {
        let source = match source {
            None if !products.is_empty() => return Ok(Self::Products(products.to_vec())),
            source => source.unwrap_or(ReportSource::Machine),
        };
        let report = read_report(source, platform)?;
        let generation = generation(&report, source, products)?;
        // Check before any request that a certificate for the report can be requested.
        vcek_path(&report, generation)?;
        Ok(Self::Report(Box::new(report), generation))
    }

    /// The generations whose chains and lists are needed.
    pub(super) fn generations(&self) -> Vec<Generation> {
        match self {
            Self::Products(generations) => generations.clone(),
            Self::Report(_, generation) => vec![*generation],
        }
    }
}

fn read_report(source: ReportSource<'_>, platform: &dyn OpenMachine) -> Result<Report> {
    let bytes = match source {
        ReportSource::File(path) => fs::read(path).with_context(|| path.display().to_string())?,
        ReportSource::Machine => {
            let own = platform.open()?.own_report()?;
            own.context("this machine has no secure processor: name a report (--report FILE) or a product (--product)")?
        }
    };
    let mut checks = Checks::refusals();
    let Some(report) = Report::parse(&bytes, &mut checks) else {
        bail!("not a report: {}", checks.refused().next().map_or_else(String::new, ToString::to_string))
    };
    Ok(report)
}

/// The generation of a report, from the report itself or from the product option.
fn generation(report: &Report, source: ReportSource<'_>, products: &[Generation]) -> Result<Generation> {
    ensure!(products.len() <= 1, "a report is of one product: name one with --product");
    match (report.cpuid_generation(), products) {
        (Some(stated), [named, ..]) if stated != *named => {
            bail!("the report says that its processor is {stated}, --product says {named}")
        }
        (Some(stated), _) => Ok(stated),
        (None, [named, ..]) => Ok(*named),
        (None, []) => {
            let options = match source {
                ReportSource::File(path) => format!("--report {}", path.display()),
                ReportSource::Machine => "--report".to_owned(),
            };
            bail!(
                "a report of version {} does not name a processor that is known here: say which it is, \
                 `{options} --product Milan` (or Genoa, Turin)",
                report.version
            )
        }
    }
}
