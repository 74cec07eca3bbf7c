#![cfg(test)]
//! `portcullis collateral fetch` on real-world networks: proxies, login pages, slow
//! services, and no network at all.

mod common;

use std::process::{Command, Output};
use std::time::{Duration, Instant};

use der::pem::LineEnding;
use portcullis_attest::snp::generation::Generation;
use portcullis_lab::kds::{Kds, Mood};
use portcullis_lab::machine::TCB;
use portcullis_lab::processor::{Fields, Processor};
use portcullis_lab::tunnel::{TlsFront, TunnelProxy};
use rustls::version::{TLS12, TLS13};

/// A name that is reachable only through a proxy (RFC 6761 §6.4).
const NAME: &str = "kds.invalid";
const PROXIES: [&str; 6] = ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy", "NO_PROXY", "no_proxy"];

struct Site {
    folder: tempfile::TempDir,
    kds: Kds,
}

impl Site {
    /// A service with everything for a report of a version, `report.bin`.
    fn new(version: u32) -> Self {
        Self::with(version, |certificate| certificate)
    }

    fn with(version: u32, change: impl FnOnce(Vec<u8>) -> Vec<u8>) -> Self {
        let root = common::root(Generation::Milan);
        let mut fields = Fields::sound(Generation::Milan, [0x5a; 64], TCB, [1; 48]);
        fields.version = version;
        if version == 2 {
            fields.cpuid = [0; 3];
        }
        let processor = Processor::vcek(&root, fields).unwrap();
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("report.bin"), processor.sign().unwrap()).unwrap();
        std::fs::write(folder.path().join("ark.der"), root.ark()).unwrap();
        let vcek = format!("/vcek/v1/Milan/{}?blSPL=04&teeSPL=00&snpSPL=24&ucodeSPL=219", "5a".repeat(64));
        let kds = Kds::start([
            ("/vcek/v1/Milan/cert_chain".to_owned(), [root.ask(), root.ark()].concat()),
            ("/vlek/v1/Milan/cert_chain".to_owned(), [root.asvk(), root.ark()].concat()),
            ("/vcek/v1/Milan/crl".to_owned(), root.crl(2, &[], None).unwrap()),
            (vcek, change(processor.certificate().to_vec())),
        ])
        .unwrap();
        Self { folder, kds }
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    /// `collateral fetch` with a separate cache, without the caller's proxies.
    fn fetch(&self, arguments: &[&str], environment: &[(&str, &str)]) -> Output {
        let mut command = Command::new(common::lab());
        for name in PROXIES {
            command.env_remove(name);
        }
        command.args(["portcullis", "--machine", "/nonexistent", "--", "collateral", "fetch"]).args(arguments);
        command.args(["--cache", &self.path("cache"), "--root", &self.path("ark.der")]);
        command.envs(environment.iter().copied()).output().unwrap()
    }

    /// The same from the site's own service.
    fn fetch_report(&self, arguments: &[&str]) -> Output {
        let (report, url) = (self.path("report.bin"), self.kds.url());
        self.fetch(&[&["--report", &report, "--url", &url], arguments].concat(), &[])
    }

    fn has_kept(&self, part: &str) -> bool {
        self.folder.path().join("cache").join(part).exists()
    }
}

#[track_caller]
fn assert_ended(output: &Output, code: i32, said: &[&str]) {
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{text}");
    for part in said {
        assert!(text.contains(part), "no {part:?} in: {text}");
    }
}

#[test]
fn the_product_of_a_report_of_version_2_is_named_beside_it() {
    let site = Site::new(2);
    assert_ended(&site.fetch_report(&[]), 2, &["a report of version 2 does not name", "--product Milan"]);
    assert!(site.kds.asked().is_empty());
    assert_ended(&site.fetch_report(&["--product", "Milan", "Genoa"]), 2, &["one product"]);
    assert_ended(&site.fetch_report(&["--product", "Naples"]), 2, &["Milan, Genoa or Turin"]);
    assert_ended(&site.fetch_report(&["--product", "milan"]), 0, &[]);
    assert!(site.has_kept("vcek"));
    // A report that does name it is believed.
    let site = Site::new(3);
    let other = site.fetch_report(&["--product", "Genoa"]);
    assert_ended(&other, 2, &["the report says that its processor is Milan, --product says Genoa"]);
}

/// A site may keep a mirror of AMD's service below another path.
#[test]
fn the_service_may_have_a_path_of_its_own() {
    let (site, root) = (Site::new(3), common::root(Generation::Milan));
    let mirror = Kds::start([
        ("/amd/kds/vcek/v1/Milan/cert_chain".to_owned(), [root.ask(), root.ark()].concat()),
        ("/amd/kds/vlek/v1/Milan/cert_chain".to_owned(), [root.asvk(), root.ark()].concat()),
        ("/amd/kds/vcek/v1/Milan/crl".to_owned(), root.crl(2, &[], None).unwrap()),
    ])
    .unwrap();
    for end in ["", "/"] {
        let url = format!("{}/amd/kds{end}", mirror.url());
        assert_ended(&site.fetch(&["--product", "Milan", "--url", &url], &[]), 0, &[]);
    }
    assert_eq!(mirror.asked().len(), 6);
}

#[test]
fn a_tunnel_through_a_proxy_leads_to_the_service() {
    let site = Site::new(3);
    let report = site.path("report.bin");
    let url = format!("https://{NAME}");
    let fetch = ["--report", &report, "--url", &url, "--timeout", "20"];
    for version in [&TLS13, &TLS12] {
        let front = TlsFront::start(NAME, site.kds.address(), version).unwrap();
        let ca = site.path("ca.pem");
        std::fs::write(&ca, front.certificate()).unwrap();
        let trusting = [&fetch[..], &["--tls-root", &ca]].concat();

        let open = TunnelProxy::start(front.address(), None, "200 OK").unwrap();
        let proxy = format!("http://{}", open.address());
        let asked = site.kds.asked().len();
        let output = site.fetch(&trusting, &[("HTTPS_PROXY", &proxy)]);
        assert_ended(&output, 0, &["through the proxy http://127.0.0.1"]);
        assert!(site.kds.asked().len() > asked);
        assert!(open.asked().iter().all(|line| line == "CONNECT kds.invalid:443 HTTP/1.1"), "{:?}", open.asked());
        // An untrusted certificate ends the fetch at once.
        let output = site.fetch(&fetch, &[("https_proxy", &proxy)]);
        assert_ended(&output, 1, &["TLS with kds.invalid", "UnknownIssuer", "--tls-root"]);
    }
}

#[test]
fn a_proxy_that_refuses_is_named_with_what_it_wants() {
    let site = Site::new(3);
    let front = TlsFront::start(NAME, site.kds.address(), &TLS13).unwrap();
    let (ca, url) = (site.path("ca.pem"), format!("https://{NAME}"));
    std::fs::write(&ca, front.certificate()).unwrap();
    let fetch = ["--product", "Milan", "--url", &url, "--tls-root", &ca, "--timeout", "20"];
    // RFC 7617 §2: "Aladdin" and "open sesame".
    let closed = TunnelProxy::start(front.address(), Some("Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="), "200 OK").unwrap();
    let with = |credentials: &str| format!("http://{credentials}{}", closed.address());
    let output = site.fetch(&fetch, &[("HTTPS_PROXY", &with(""))]);
    assert_ended(&output, 1, &["proxy http://127.0.0.1", "(HTTPS_PROXY)", "it wants credentials"]);
    let output = site.fetch(&fetch, &[("HTTPS_PROXY", &with("Aladdin:secret@"))]);
    assert_ended(&output, 1, &["it refuses the credentials in HTTPS_PROXY"]);
    assert!(!String::from_utf8_lossy(&output.stderr).contains("secret"));
    assert!(site.kds.asked().is_empty());
    assert_ended(&site.fetch(&fetch, &[("HTTPS_PROXY", &with("Aladdin:open%20sesame@"))]), 0, &[]);

    let forbidding = TunnelProxy::start(front.address(), None, "403 Forbidden").unwrap();
    let output = site.fetch(&fetch, &[("all_proxy", &forbidding.address())]);
    assert_ended(&output, 1, &["(all_proxy): it refuses a tunnel to kds.invalid:443: status 403"]);
    let output = site.fetch(&fetch, &[("HTTPS_PROXY", "socks5://127.0.0.1:1080")]);
    assert_ended(&output, 2, &["HTTPS_PROXY names no proxy that can be used"]);
    // For an excepted name, the proxy is not used.
    let asked = closed.asked().len();
    let excepted = [("HTTPS_PROXY", with("")), ("NO_PROXY", ".invalid".to_owned())];
    let excepted = excepted.each_ref().map(|(name, value)| (*name, value.as_str()));
    assert_ended(&site.fetch(&fetch, &excepted), 4, &["looking up the name kds.invalid"]);
    assert_eq!(closed.asked().len(), asked);
}

#[test]
fn without_a_network_there_is_an_end_and_a_way_out() {
    let site = Site::new(3);
    let started = Instant::now();
    let output = site.fetch(&["--product", "Milan", "--url", "https://kds.invalid", "--timeout", "5"], &[]);
    assert!(started.elapsed() < Duration::from_secs(15), "{:?}", started.elapsed());
    let said = ["asking https://kds.invalid, for at most 5 s", "; again in 1 s", "looking up the name kds.invalid"];
    assert_ended(&output, 4, &said);
    assert_ended(&output, 4, &["given up after", "(time limit 5 s)", "HTTPS_PROXY", "collateral import"]);
}

#[test]
fn a_service_that_says_nothing_is_waited_for_aloud_and_not_for_long() {
    let site = Site::new(3);
    site.kds.moods(&[Mood::Silent]);
    let started = Instant::now();
    let output = site.fetch_report(&["--timeout", "5"]);
    assert!(started.elapsed() < Duration::from_secs(15), "{:?}", started.elapsed());
    assert_ended(&output, 4, &["still waiting for the answer of 127.0.0.1, 3 s", "(time limit 5 s)"]);
}

#[test]
fn a_service_that_asks_for_patience_gets_it_within_the_limit() {
    let site = Site::new(3);
    site.kds.moods(&[Mood::Throttled(1), Mood::ThrottledUntil(2)]);
    let started = Instant::now();
    let output = site.fetch_report(&[]);
    assert!(started.elapsed() >= Duration::from_secs(2), "{:?}", started.elapsed());
    assert_ended(&output, 0, &["status 429 Too Many Requests, Retry-After 1 s; again in 1 s"]);

    // The program does not start a pause that exceeds the limit.
    for mood in [Mood::Throttled(3600), Mood::ThrottledUntil(3600), Mood::Throttled(u32::MAX)] {
        site.kds.moods(&[mood]);
        let started = Instant::now();
        let output = site.fetch_report(&[]);
        assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
        assert_ended(&output, 4, &["status 429 Too Many Requests, Retry-After ", "the next attempt is due at 2"]);
    }
    // Without `Retry-After`, the program chooses its pauses, which are also bounded.
    site.kds.moods(&[Mood::Busy; 9]);
    let output = site.fetch_report(&["--timeout", "15"]);
    assert_ended(
        &output,
        4,
        &["; again in 10 s", "still waiting 10 s before asking again, 3 s", "given up after 2 attempts"],
    );
}

#[test]
fn what_answers_in_place_of_the_service_is_told_and_not_kept() {
    let site = Site::new(3);
    for (mood, code, said) in [
        (Mood::LoginPage, 1, "a web page (\"Sign in to the network\") came instead"),
        (Mood::Moved, 1, "redirected to https://kdsintf.amd.com/, which is not followed"),
        (Mood::Empty, 2, "an empty answer came, not certificates"),
        (Mood::Cut, 2, "100 bytes that cannot be read"),
    ] {
        let asked = site.kds.asked().len();
        site.kds.moods(&[mood]);
        assert_ended(&site.fetch_report(&[]), code, &[said]);
        assert_eq!(site.kds.asked().len(), asked + 1, "{mood:?} is not asked again");
        assert!(!site.has_kept(""), "{mood:?}");
    }
    // A truncated answer is requested again.
    site.kds.moods(&[Mood::Truncated]);
    assert_ended(&site.fetch_report(&[]), 0, &["the answer ended early"]);
}

#[test]
fn a_certificate_in_pem_is_one_too_and_that_of_another_chip_is_none() {
    let pem = |der: Vec<u8>| der::pem::encode_string("CERTIFICATE", LineEnding::LF, &der).unwrap().into_bytes();
    let site = Site::with(3, pem);
    assert_ended(&site.fetch_report(&[]), 0, &[]);
    assert!(site.has_kept("vcek"));

    let other = Fields::sound(Generation::Milan, [0x77; 64], TCB, [1; 48]);
    let other = Processor::vcek(&common::root(Generation::Milan), other).unwrap().certificate().to_vec();
    let site = Site::with(3, |_| other);
    assert_ended(&site.fetch_report(&[]), 2, &["another object came, not the certificate of this chip"]);
    assert!(!site.has_kept("vcek"));
}

#[test]
fn a_chip_that_the_host_hides_is_nobody_to_ask_for() {
    let site = Site::new(3);
    let report = site.path("report.bin");
    let mut bytes = std::fs::read(&report).unwrap();
    // CHIP_ID, 56860 table 23.
    bytes[0x1a0..0x1e0].fill(0);
    std::fs::write(&report, bytes).unwrap();
    assert_ended(&site.fetch_report(&[]), 2, &["MASK_CHIP_ID"]);
    assert!(site.kds.asked().is_empty());
}
