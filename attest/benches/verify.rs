//! What verification costs beside the bare cryptography in it, in the same run:
//! `cargo bench -p portcullis-attest`, or `ci/bench verify`. Real evidence, read
//! in place. Exits with 1 beyond the limits.

use std::hint::black_box;
use std::process::ExitCode;
use std::time::Instant;

use aws_lc_rs::digest;
use portcullis_attest::check::Checks;
use portcullis_attest::crypto::{self, Scheme};
use portcullis_attest::ima;
use portcullis_attest::snp::certificate::{Certificate, PublicKey};
use portcullis_attest::snp::collateral::Collateral;
use portcullis_attest::snp::roots::Roots;
use portcullis_attest::snp::verify::{Presented, SnpVerifier};
use portcullis_attest::tpm::pcr::{Bank, PcrValues};
use portcullis_vectors::vectors;
use sev::certs::snp::{Certificate as SevCertificate, Chain, Verifiable, ca};
use sev::firmware::guest::AttestationReport;
use sev::firmware::host::{CertTableEntry, CertType};
use sev::parser::ByteParser;

/// 2026-03-01: the Milan CRL at hand was current.
const AT: u64 = 1_772_323_200;
/// Rounds, of which the fastest counts: others use the machine, too.
const ROUNDS: usize = 25;
const ENTRIES: usize = 16_000;

/// The fastest round of each task, in microseconds a run. Tasks take turns, so
/// that a slow moment hits all of them.
fn race<const N: usize>(runs: u32, mut tasks: [&mut dyn FnMut(); N]) -> [f64; N] {
    let mut best = [f64::INFINITY; N];
    for _ in 0..ROUNDS {
        for (task, best) in tasks.iter_mut().zip(&mut best) {
            let started = Instant::now();
            (0..runs).for_each(|_| task());
            *best = best.min(started.elapsed().as_secs_f64() * 1e6 / f64::from(runs));
        }
    }
    best
}

fn read(path: &str) -> Option<Vec<u8>> {
    let (folder, file) = path.rsplit_once('/')?;
    std::fs::read(vectors(&format!("snp/{folder}"))?.join(file)).ok()
}

struct Limits(bool);

impl Limits {
    fn line(&mut self, what: &str, found: f64, bare: f64, limit: f64) {
        let ratio = found / bare;
        let mark = if ratio <= limit { "✓" } else { "✗" };
        println!("{mark} {what:<44}{found:>9.1} µs {ratio:>7.2} of bare, at most {limit}");
        self.0 &= ratio <= limit;
    }
}

fn main() -> ExitCode {
    let mut limits = Limits(true);
    if snp(&mut limits).is_none() {
        println!("no test vectors: nothing was measured");
        return ExitCode::FAILURE;
    }
    measured_files(&mut limits);
    if limits.0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn snp(limits: &mut Limits) -> Option<()> {
    let report = read("milan-v3-ms-aci/report.bin")?;
    let vcek = Collateral::parse(&read("milan-v3-ms-aci/vcek.pem")?).ok()?.certificates.pop()?;
    let ask = Collateral::parse(&read("milan-v3-ms-aci/ask.pem")?).ok()?.certificates.pop()?;
    let ark = Collateral::parse(&read("milan-v3-ms-aci/ark.pem")?).ok()?.certificates.pop()?;
    let crl = read("amd-crl/milan_2025-05-06.crl.der")?;
    let entries = [(CertType::VCEK, &vcek), (CertType::ASK, &ask), (CertType::ARK, &ark)];
    let entries = entries.map(|(kind, certificate)| CertTableEntry::new(kind, certificate.der().to_vec()));
    let table = CertTableEntry::cert_table_to_vec_bytes(&entries).ok()?;

    let mut rsa = bare_rsa(&ask, &ark);
    let mut ecdsa = bare_ecdsa(&vcek, &report)?;
    let mut cold = || {
        let lists = Collateral::parse(&crl).unwrap_or_default();
        let verifier = Roots::amd().map(|roots| SnpVerifier::new(roots, lists));
        let verified = verifier.map(|v| v.verify(&report, Presented::table(&table), AT, &mut Checks::refusals()));
        assert!(black_box(verified).is_ok_and(|verified| verified.is_some()));
    };
    let lists = Collateral::parse(&crl).ok()?;
    let verifier = SnpVerifier::new(Roots::amd().ok()?, lists);
    let mut warm = || {
        let verified = verifier.verify(&report, Presented::table(&table), AT, &mut Checks::refusals());
        assert!(black_box(verified).is_some());
    };
    let mut theirs = sev_crate(&vcek, &ask, &ark, &report)?;
    let [rsa, ecdsa, cold, warm, theirs] = race(40, [&mut rsa, &mut ecdsa, &mut cold, &mut warm, &mut theirs]);
    println!("bare: RSA-4096-PSS verify {rsa:.1} µs, P-384 verify {ecdsa:.1} µs");
    limits.line("cold: chain, CRL and report", cold, 3.0 * rsa + ecdsa, 1.3);
    limits.line("warm: the chip is known", warm, ecdsa, 1.15);
    println!("  the sev crate (pure Rust), chain and report   {theirs:>9.1} µs {:>7.2} of ours cold", theirs / cold);
    Some(())
}

/// The root over the intermediate authority, as AMD signs: one call of aws-lc.
fn bare_rsa(ask: &Certificate, ark: &Certificate) -> impl FnMut() + use<> {
    let (ask, ark) = (ask.clone(), ark.clone());
    move || assert!(black_box(ask.is_signed_by(&ark)))
}

fn bare_ecdsa(vcek: &Certificate, report: &[u8]) -> Option<impl FnMut() + use<>> {
    let PublicKey::P384(point) = vcek.key.clone() else { return None };
    let half =
        |at: std::ops::Range<usize>| -> Option<Vec<u8>> { Some(report.get(at)?.iter().rev().copied().collect()) };
    let signature = [half(0x2a0..0x2d0)?, half(0x2e8..0x318)?].concat();
    let message = report.get(..0x2a0)?.to_vec();
    Some(move || assert!(black_box(crypto::verify(Scheme::P384Sha384, &point, &message, &signature))))
}

fn sev_crate(vcek: &Certificate, ask: &Certificate, ark: &Certificate, report: &[u8]) -> Option<impl FnMut() + use<>> {
    let (vcek, ask, ark) = (vcek.der().to_vec(), ask.der().to_vec(), ark.der().to_vec());
    let report = report.to_vec();
    Some(move || {
        let read = |der: &[u8]| SevCertificate::from_der(der);
        let verified = (|| {
            let chain = Chain { ca: ca::Chain { ark: read(&ark)?, ask: read(&ask)? }, vek: read(&vcek)? };
            let report = AttestationReport::from_bytes(&report)?;
            (&chain, &report).verify()
        })();
        assert!(black_box(verified).is_ok());
    })
}

/// A list of entries as Ubuntu writes them, against the bare hashing in it: the
/// stated SHA-1, the SHA-256, and the extension of the register.
fn measured_files(limits: &mut Limits) {
    let entry = |n: usize| {
        let digest = digest::digest(&digest::SHA256, &n.to_le_bytes());
        let name = format!("/usr/lib/x86_64-linux-gnu/some/library-{n}.so.6\0");
        let name = if n == 0 { "boot_aggregate\0".into() } else { name };
        let field = [b"sha256:\0", digest.as_ref()].concat();
        let counted = |bytes: &[u8]| [&u32::try_from(bytes.len()).unwrap_or(0).to_le_bytes(), bytes].concat();
        [counted(&field), counted(name.as_bytes())].concat()
    };
    let entries: Vec<Vec<u8>> = (0..ENTRIES).map(entry).collect();
    let mut list = Vec::new();
    for data in &entries {
        list.extend(10_u32.to_le_bytes());
        list.extend(crypto::sha1(&[data]));
        list.extend(6_u32.to_le_bytes());
        list.extend(b"ima-ng");
        list.extend(u32::try_from(data.len()).unwrap_or(0).to_le_bytes());
        list.extend(data);
    }
    let bare = || {
        entries.iter().fold([0; 32], |value, data| {
            black_box(crypto::sha1(&[data]));
            crypto::sha256(&[&value, &crypto::sha256(&[data])])
        })
    };
    let value = bare();
    let mut values = PcrValues::default();
    assert!(values.insert(Bank::Sha256, ima::PCR, value.to_vec()));
    let mut verify = || {
        let verified = ima::verify(&list[..], Bank::Sha256, &values, None, &mut Checks::refusals());
        assert!(black_box(verified).is_some());
    };
    let [bare, ours] = race(1, [&mut || assert_eq!(black_box(bare()), value), &mut verify]);
    println!("bare: hashing {ENTRIES} entries {bare:.0} µs");
    limits.line("IMA list of 16,000 entries", ours, bare, f64::max(1.5, 20_000.0 / bare));
}
