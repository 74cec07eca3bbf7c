//! `portcullis collateral`.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Subcommand;
use portcullis_attest::snp::certificate::Certificate;
use portcullis_attest::snp::collateral::Collateral;
use portcullis_attest::snp::generation::Generation;
use portcullis_attest::snp::roots::Roots;
use portcullis_attester::OpenMachine;
use portcullis_cli::{rfc3339, say};
use portcullis_collateral::{Item, Store};
use rustls::pki_types::CertificateDer;
use serde_json::{Value, json};

use super::fetch::{AMD, Fetcher, Patience, address};
use super::proxy::Proxy;
use super::wanted::{ReportSource, Wanted};
use crate::clock;
use crate::runtime::in_runtime;
use crate::waiting;

/// Folder for collateral without `--cache`.
const DEFAULT_CACHE: &str = "/var/lib/portcullis/collateral";
/// KDS issues one VCEK in about ten seconds.
const PAUSE: Duration = Duration::from_secs(10);
/// Collateral that expires within this many days should be fetched again.
const SOON_DAYS: u64 = 30;
const DAY: u64 = 86_400;

/// The operations on collateral.
#[derive(Debug, Subcommand)]
pub(crate) enum Action {
    /// Fetch certificates and revocation lists from AMD's Key Distribution Service.
    ///
    /// Without --report and --product, it fetches the certificate of this machine's chip,
    /// with its chain and revocation list. It uses the proxy that HTTPS_PROXY or ALL_PROXY
    /// names, unless NO_PROXY excludes the service.
    #[command(after_help = FETCH_EXAMPLES)]
    Fetch {
        /// Fetch the certificate for this report; without FILE, for a report of this machine.
        #[arg(long, value_name = "FILE", num_args = 0..=1)]
        report: Option<Option<PathBuf>>,
        /// Milan, Genoa or Turin. Alone: the chains and lists of these products.
        /// With --report: the product of a report that does not name it (version 2).
        #[arg(long, num_args = 1.., value_name = "PRODUCT", value_parser = product)]
        product: Vec<Generation>,
        /// Address of the service.
        #[arg(long, value_name = "URL", default_value = AMD)]
        url: String,
        /// Give up after this many seconds.
        #[arg(long, value_name = "SECONDS", default_value_t = 120, value_parser = clap::value_parser!(u64).range(1..=86_400))]
        timeout: u64,
        /// Additional CA certificates (PEM) for TLS, for a proxy that inspects TLS. The fetched
        /// certificates must still chain to AMD's roots.
        #[arg(long, value_name = "FILE")]
        tls_root: Vec<PathBuf>,
        #[command(flatten)]
        store: Kept,
    },
    /// Import certificates and revocation lists from files.
    Import {
        /// Files: PEM or DER.
        #[arg(required = true)]
        files: Vec<PathBuf>,
        #[command(flatten)]
        store: Kept,
    },
    /// Export all stored collateral into one PEM file.
    Export {
        /// The PEM file.
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
        #[command(flatten)]
        store: Kept,
    },
    /// Show the stored collateral, and when it expires.
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
    /// Folder for certificates and lists.
    #[arg(long, value_name = "FOLDER", default_value = DEFAULT_CACHE)]
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

const FETCH_EXAMPLES: &str = "\
Examples:
  portcullis collateral fetch
  portcullis collateral fetch --report report.bin
  portcullis collateral fetch --report old.bin --product Milan
  portcullis collateral fetch --product Milan Genoa --cache ./collateral
  HTTPS_PROXY=http://proxy.example:3128 portcullis collateral fetch

Exit codes:
  0  everything is kept
  1  the service, or something on the way to it, refuses
  2  usage, an unreadable file, or an answer that is not what was asked for
  4  the service could not be reached in time";

/// The product with this name, in any case of letters.
fn product(name: &str) -> Result<Generation, String> {
    let known = Generation::ALL.into_iter().find(|generation| generation.name().eq_ignore_ascii_case(name));
    known.ok_or_else(|| "Milan, Genoa or Turin (Bergamo and Siena are Genoa)".to_owned())
}

pub(crate) fn run(action: &Action, platform: &dyn OpenMachine) -> Result<()> {
    match action {
        Action::Fetch { report, product, url, timeout, tls_root, store } => {
            let source = report.as_ref().map(|file| file.as_deref().map_or(ReportSource::Machine, ReportSource::File));
            let wanted = Wanted::of(source, product, platform)?;
            let patience = Patience { pause: PAUSE, total: Duration::from_secs(*timeout) };
            let proxy = proxy(url)?;
            let via = proxy.as_ref().map(|proxy| format!(" through the proxy {}", proxy.address)).unwrap_or_default();
            let roots = tls_roots(tls_root)?;
            in_runtime(async {
                waiting::say(format!("asking {url}{via}, for at most {timeout} s"));
                fetch(&wanted, &Fetcher::new(url, proxy, &roots, patience)?, store).await
            })
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

/// The proxy for the service. Servers on this machine are reached without a proxy.
fn proxy(url: &str) -> Result<Option<Proxy>> {
    let target = address(url)?;
    if target.scheme_str() != Some("https") {
        return Ok(None);
    }
    Ok(Proxy::of(&target, |name| std::env::var(name).ok())?)
}

fn tls_roots(files: &[PathBuf]) -> Result<Vec<CertificateDer<'static>>> {
    use rustls::pki_types::pem::PemObject;
    let mut roots = Vec::new();
    for path in files {
        let found = CertificateDer::pem_slice_iter(&read(path)?).collect::<Result<Vec<_>, _>>();
        let found = found.ok().filter(|found| !found.is_empty());
        roots.extend(found.with_context(|| format!("{}: no certificates in PEM", path.display()))?);
    }
    Ok(roots)
}

async fn fetch(wanted: &Wanted, service: &Fetcher, kept: &Kept) -> Result<()> {
    let (store, roots) = (kept.store(), kept.roots()?);
    let keep = |bytes: Vec<u8>| -> Result<()> {
        told(&store.import(&bytes, &roots)?);
        Ok(())
    };
    for generation in wanted.generations() {
        keep(service.vcek_chain(generation).await?)?;
        keep(service.crl(generation).await?)?;
    }
    if let Wanted::Report(report, generation) = wanted {
        // The service is slow on purpose, and a stored certificate is valid for years.
        if store.has_vcek(report, *generation)? {
            say!("kept already: the VCEK of chip {}…", report.chip_id_hex().get(..16).unwrap_or_default());
        } else {
            keep(service.vcek(report, *generation).await?)?;
        }
    }
    // Last, since a report of a VCEK does not need it.
    for generation in wanted.generations() {
        keep(service.vlek_chain(generation).await?)?;
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

/// State of an item at a time.
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
