//! `portcullis collateral`.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Subcommand;
use portcullis_attest::check::Checks;
use portcullis_attest::snp::certificate::Certificate;
use portcullis_attest::snp::collateral::Collateral;
use portcullis_attest::snp::generation::Generation;
use portcullis_attest::snp::report::Report;
use portcullis_attest::snp::roots::Roots;
use portcullis_attester::OpenMachine;
use portcullis_cli::{rfc3339, say};
use portcullis_collateral::{Item, Store};
use serde_json::{Value, json};

use super::fetch::{AMD, Fetcher};
use crate::clock;

/// Where collateral is kept unless `--cache` says otherwise.
const DEFAULT_CACHE: &str = "/var/lib/portcullis/collateral";
/// KDS hands out one VCEK in about ten seconds.
const PAUSE: Duration = Duration::from_secs(10);
/// Days before its end from which on something is to be fetched anew.
const SOON_DAYS: u64 = 30;
const DAY: u64 = 86_400;

/// What to do with collateral.
#[derive(Debug, Subcommand)]
pub(crate) enum Action {
    /// Fetch certificates and revocation lists from AMD's Key Distribution Service.
    Fetch {
        /// A report whose certificate is wanted; this machine's if absent.
        #[arg(long, value_name = "FILE")]
        report: Option<PathBuf>,
        /// Chains and lists of these generations, and no VCEK.
        #[arg(long, num_args = 1.., value_name = "PRODUCT", conflicts_with = "report")]
        product: Vec<String>,
        /// Service.
        #[arg(long, default_value = AMD)]
        url: String,
        #[command(flatten)]
        store: Kept,
    },
    /// Keep certificates and revocation lists from files.
    Import {
        /// Files: PEM or DER.
        #[arg(required = true)]
        files: Vec<PathBuf>,
        #[command(flatten)]
        store: Kept,
    },
    /// Write everything that is kept as one PEM file.
    Export {
        /// Where it goes.
        #[arg(long)]
        out: PathBuf,
        #[command(flatten)]
        store: Kept,
    },
    /// Show what is kept, and when it expires.
    Status {
        #[command(flatten)]
        store: Kept,
        /// One JSON object on stdout.
        #[arg(long)]
        json: bool,
    },
}

/// A cache, and the roots that must have signed its lists.
#[derive(Debug, clap::Args)]
pub(crate) struct Kept {
    /// Folder.
    #[arg(long, default_value = DEFAULT_CACHE)]
    cache: PathBuf,
    /// Roots instead of AMD's pinned ARKs.
    #[arg(long, num_args = 1.., value_name = "FILE")]
    root: Vec<PathBuf>,
}

impl Kept {
    fn store(&self) -> Store {
        Store::open(&self.cache)
    }

    fn roots(&self) -> Result<Roots> {
        if self.root.is_empty() {
            return Ok(Roots::amd()?);
        }
        let mut arks: Vec<Certificate> = Vec::new();
        for path in &self.root {
            let file = Collateral::parse(&read(path)?).and_then(Collateral::strict);
            arks.extend(file.with_context(|| path.display().to_string())?.certificates);
        }
        Ok(Roots::given(arks))
    }
}

pub(crate) fn run(action: &Action, platform: &dyn OpenMachine) -> Result<()> {
    match action {
        Action::Fetch { report, product, url, store } => {
            let wanted = wanted(report.as_deref(), product, platform)?;
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(fetch(&wanted, &Fetcher::new(url, PAUSE)?, store))
        }
        Action::Import { files, store } => {
            let roots = store.roots()?;
            for path in files {
                let items = store.store().import(&read(path)?, &roots).with_context(|| path.display().to_string())?;
                told(&items);
            }
            Ok(())
        }
        Action::Export { out, store } => export(&store.store(), out),
        Action::Status { store, json } => status(&store.store(), *json),
    }
}

/// What is to be fetched.
enum Wanted {
    Products(Vec<Generation>),
    Report(Box<Report>, Generation),
}

fn wanted(report: Option<&Path>, products: &[String], platform: &dyn OpenMachine) -> Result<Wanted> {
    if !products.is_empty() {
        let generation = |name: &String| Generation::from_name(name).with_context(|| format!("{name}: no generation"));
        return Ok(Wanted::Products(products.iter().map(generation).collect::<Result<_>>()?));
    }
    let bytes = match report {
        Some(path) => read(path)?,
        None => {
            let own = platform.open()?.own_report()?;
            own.context("this machine has no secure processor: name a report or a product")?
        }
    };
    let mut checks = Checks::refusals();
    let Some(report) = Report::parse(&bytes, &mut checks) else {
        bail!("not a report: {}", checks.refused().next().map_or_else(String::new, ToString::to_string))
    };
    let generation = report.cpuid_generation().context("a report of version 2 names no generation: use --product")?;
    Ok(Wanted::Report(Box::new(report), generation))
}

async fn fetch(wanted: &Wanted, service: &Fetcher, kept: &Kept) -> Result<()> {
    let (store, roots) = (kept.store(), kept.roots()?);
    let keep = |bytes: Vec<u8>| -> Result<()> {
        told(&store.import(&bytes, &roots)?);
        Ok(())
    };
    let generations = match wanted {
        Wanted::Products(generations) => generations.clone(),
        Wanted::Report(_, generation) => vec![*generation],
    };
    for generation in generations {
        keep(service.vcek_chain(generation).await?)?;
        keep(service.vlek_chain(generation).await?)?;
        keep(service.crl(generation).await?)?;
    }
    if let Wanted::Report(report, generation) = wanted {
        // The service is slow on purpose; what is here is good for years.
        if store.has_vcek(report, *generation)? {
            say!("kept already: the VCEK of chip {}…", report.chip_id_hex().get(..16).unwrap_or_default());
        } else {
            keep(service.vcek(report, *generation).await?)?;
        }
    }
    Ok(())
}

fn told(items: &[Item]) {
    for item in items {
        say!("kept: {}, until {}", item.name(), rfc3339(item.validity().1));
    }
}

fn export(store: &Store, out: &Path) -> Result<()> {
    let items = store.items()?;
    let blocks: Option<Vec<String>> = items.iter().map(Item::pem).collect();
    let text = blocks.context("PEM")?.concat();
    fs::write(out, text).with_context(|| out.display().to_string())?;
    say!("{}: {} certificates and lists", out.display(), items.len());
    Ok(())
}

/// How an item stands at a time.
const fn state((from, to): (u64, u64), now: u64) -> &'static str {
    if now > to {
        "EXPIRED"
    } else if now < from {
        "not yet"
    } else if to.saturating_sub(now) < SOON_DAYS * DAY {
        "soon"
    } else {
        "good"
    }
}

fn status(store: &Store, as_json: bool) -> Result<()> {
    let (mut items, now) = (store.items()?, clock::now());
    items.sort_by_key(|item| item.validity().1);
    if as_json {
        let row = |item: &Item| {
            let (from, to) = item.validity();
            json!({ "name": item.name(), "from": rfc3339(from), "until": rfc3339(to), "state": state((from, to), now) })
        };
        let body = json!({ "schema": "portcullis/collateral/1", "items": items.iter().map(row).collect::<Value>() });
        say!("{body}");
        return Ok(());
    }
    if items.is_empty() {
        say!("nothing is kept; see portcullis collateral fetch");
    }
    for item in &items {
        let validity = item.validity();
        let days = validity.1.saturating_sub(now) / DAY;
        say!("{:<9}{:<21}{days:>6} days  {}", state(validity, now), rfc3339(validity.1), item.name());
    }
    Ok(())
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| path.display().to_string())
}
