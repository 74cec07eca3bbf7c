#![cfg(test)]
//! Certificates from a service, kept, carried, and used without a network.

mod common;

use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use portcullis_attest::check::Checks;
use portcullis_attest::snp::generation::Generation;
use portcullis_attest::snp::report::Report;
use portcullis_client::collateral::{FetchError, Fetcher, Patience};
use portcullis_lab::kds::{Kds, Mood};
use portcullis_lab::machine::TCB;
use portcullis_lab::processor::{Fields, Processor};
use serde_json::Value;

struct Site {
    folder: tempfile::TempDir,
    kds: Kds,
    vcek: String,
    report: Report,
}

impl Site {
    fn new() -> Self {
        let root = common::root(Generation::Milan);
        let fields = Fields::sound(Generation::Milan, [0x5a; 64], TCB, [1; 48]);
        let processor = Processor::vcek(&root, fields).unwrap();
        let bytes = processor.sign().unwrap();
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("report.bin"), bytes).unwrap();
        std::fs::write(folder.path().join("ark.der"), root.ark()).unwrap();
        let hwid = "5a".repeat(64);
        let vcek = format!("/vcek/v1/Milan/{hwid}?blSPL=04&teeSPL=00&snpSPL=24&ucodeSPL=219");
        let kds = Kds::start([
            ("/vcek/v1/Milan/cert_chain".to_owned(), [root.ask(), root.ark()].concat()),
            ("/vlek/v1/Milan/cert_chain".to_owned(), [root.asvk(), root.ark()].concat()),
            ("/vcek/v1/Milan/crl".to_owned(), root.crl(2, &[], None).unwrap()),
            (vcek.clone(), processor.certificate().to_vec()),
        ])
        .unwrap();
        let report = Report::parse(&bytes, &mut Checks::refusals()).unwrap();
        Self { folder, kds, vcek, report }
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    /// `portcullis collateral` with a cache of this site and the lab's root.
    fn collateral(&self, cache: &str, arguments: &[&str]) -> Output {
        let mut command = Command::new(common::lab());
        command.args(["portcullis", "--machine", "/nonexistent", "--", "collateral"]).args(arguments);
        command.args(["--cache", &self.path(cache), "--root", &self.path("ark.der")]).output().unwrap()
    }

    fn audit(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(common::lab());
        command.args(["portcullis-audit", "snp-report", &self.path("report.bin"), "--root", &self.path("ark.der")]);
        command.args(["--at", "2030-01-01T00:00:00Z"]).args(arguments).output().unwrap()
    }
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&[output.stdout.as_slice(), &output.stderr].concat()).into_owned()
}

#[test]
fn what_was_fetched_once_verifies_reports_offline() {
    let site = Site::new();
    assert_eq!(site.audit(&[]).status.code(), Some(3), "nothing is at hand");
    let (report, url) = (site.path("report.bin"), site.kds.url());
    let fetch = ["fetch", "--report", &report, "--url", &url];
    let output = site.collateral("cache", &fetch);
    assert!(output.status.success(), "{}", said(&output));
    assert_eq!(site.kds.asked().len(), 4);
    let cached = site.path("cache");
    let output = site.audit(&["--cache", &cached]);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    // A second fetch does not request the VCEK again.
    assert!(site.collateral("cache", &fetch).status.success());
    assert_eq!(site.kds.asked().iter().filter(|path| **path == site.vcek).count(), 1);

    // The file is carried to a site without a network.
    let carried = site.path("carried.pem");
    assert!(site.collateral("cache", &["export", "--out", &carried]).status.success());
    let output = site.collateral("elsewhere", &["import", &carried]);
    assert!(output.status.success(), "{}", said(&output));
    let elsewhere = site.path("elsewhere");
    assert_eq!(site.audit(&["--cache", &elsewhere]).status.code(), Some(0));

    let output = site.collateral("elsewhere", &["status", "--json"]);
    let body: Value = serde_json::from_slice(&output.stdout).unwrap();
    let items = body["items"].as_array().unwrap();
    assert_eq!(items.len(), 5);
    assert!(items.iter().all(|item| item["state"] == "good" && item["until"].is_string()), "{body}");
    assert!(items.iter().any(|item| item["name"] == "CRL of ARK-Milan"));

    // An older list does not replace the newer one.
    let older = site.path("older.der");
    std::fs::write(&older, common::root(Generation::Milan).crl(1, &[], None).unwrap()).unwrap();
    let output = site.collateral("elsewhere", &["import", &older]);
    assert_eq!(output.status.code(), Some(2), "{}", said(&output));
    assert!(said(&output).contains("older than the one at hand"));
}

fn fetcher(url: &str) -> Result<Fetcher, FetchError> {
    let patience = Patience { pause: Duration::from_millis(5), total: Duration::from_secs(60) };
    Fetcher::new(url, None, &[], patience)
}

#[test]
fn a_service_that_throttles_or_breaks_is_asked_again_and_not_for_ever() {
    let site = Site::new();
    common::block_on(async {
        let fetcher = fetcher(&site.kds.url()).unwrap();
        site.kds.moods(&[Mood::Throttled(0), Mood::Broken, Mood::Gone]);
        assert!(fetcher.vcek(&site.report, Generation::Milan).await.is_ok());
        assert_eq!(site.kds.asked().len(), 4, "three failures, then the answer");
        site.kds.moods(&[Mood::Broken; 6]);
        let Err(FetchError::Unreachable { why, .. }) = fetcher.crl(Generation::Milan).await else {
            panic!("it answered")
        };
        assert_eq!(why, "status 503 Service Unavailable");
        assert_eq!(site.kds.asked().len(), 10);
        // A document that the service does not have is not requested again.
        let refused = fetcher.crl(Generation::Turin).await;
        assert!(matches!(refused, Err(FetchError::Refused { status, .. }) if status == 404), "{refused:?}");
        assert_eq!(site.kds.asked().len(), 11);
    });
}

#[test]
fn plain_http_is_for_this_machine_alone() {
    for address in ["http://kdsintf.amd.com", "ftp://x", "nonsense", ""] {
        assert!(matches!(fetcher(address), Err(FetchError::Address(..))), "{address}");
    }
    for address in ["https://kdsintf.amd.com", "http://127.0.0.1:1", "http://localhost:1/"] {
        assert!(fetcher(address).is_ok(), "{address}");
    }
}

/// Fetched objects are verified before they are kept.
#[test]
fn a_service_that_lies_gets_nothing_into_the_cache() {
    let site = Site::new();
    let foreign = common::root(Generation::Genoa);
    let kds = Kds::start([
        ("/vcek/v1/Milan/cert_chain".to_owned(), foreign.ask().to_vec()),
        ("/vlek/v1/Milan/cert_chain".to_owned(), foreign.asvk().to_vec()),
        ("/vcek/v1/Milan/crl".to_owned(), foreign.crl(9, &[], None).unwrap()),
    ])
    .unwrap();
    let output = site.collateral("cache", &["fetch", "--product", "Milan", "--url", &kds.url()]);
    assert_eq!(output.status.code(), Some(2));
    assert!(said(&output).contains("a revocation list that no trusted root signed"), "{}", said(&output));
    assert!(!Path::new(&site.path("cache/crl")).exists());
}
