#![cfg(test)]
//! THREATS row 10: a corpus of chains. Each has one fault and is otherwise validly
//! signed, and each names the check that must refuse it.

mod common;

use anyhow::Result;
use portcullis_attest::check::{Checks, Outcome};
use portcullis_attest::snp::certificate::Certificate;
use portcullis_attest::snp::collateral::Collateral;
use portcullis_attest::snp::generation::Generation;
use portcullis_attest::snp::roots::Roots;
use portcullis_attest::snp::verify::{Presented, SnpVerifier};
use portcullis_lab::LabRoot;
use portcullis_lab::chain::{Chain, Link, Signer, Spec, forge, short_key};
use portcullis_lab::machine::TCB;
use portcullis_lab::processor::{Fields, Processor};

const NOW: u64 = 1_795_000_000;
const CONSTRAINTS: &str = "2.5.29.19";
const USAGE: &str = "2.5.29.15";
const PRODUCT: &str = "1.3.6.1.4.1.3704.1.2";
const SNP_LEVEL: &str = "1.3.6.1.4.1.3704.1.3.3";
const HWID: &str = "1.3.6.1.4.1.3704.1.4";

struct Bench {
    root: LabRoot,
    processor: Processor,
    report: Vec<u8>,
}

impl Bench {
    fn new() -> Self {
        let root = common::root(Generation::Milan);
        let fields = Fields::sound(Generation::Milan, [0x5a; 64], TCB, [1; 48]);
        let processor = Processor::vcek(&root, fields).unwrap();
        let report = processor.sign().unwrap().to_vec();
        Self { root, processor, report }
    }

    fn forge(&self, link: Link, signer: Signer, change: impl FnOnce(&mut Spec) -> Result<()>) -> Chain {
        forge(&self.root, &self.processor, link, signer, change).unwrap()
    }

    /// The checks that refuse a chain, with the sound root pinned.
    fn refused(&self, chain: &Chain, crl: &[u8]) -> Vec<String> {
        let roots = Roots::given(vec![Certificate::parse(self.root.ark()).unwrap()]);
        self.refused_under(roots, chain, crl)
    }

    fn refused_under(&self, roots: Roots, chain: &Chain, crl: &[u8]) -> Vec<String> {
        let mut given = Collateral::default();
        let mut checks = Checks::all();
        for der in [&chain.vcek, &chain.ask, &chain.ark] {
            match Collateral::parse(der) {
                Ok(parsed) => given.extend(parsed),
                Err(_) => return vec!["unreadable".into()],
            }
        }
        // As in a host's table: objects outside AMD's profile are refused at once.
        if let Some(object) = given.refused.first() {
            return vec![format!("snp.certificates: {}", object.error)];
        }
        let verifier = SnpVerifier::new(roots, Collateral::parse(crl).unwrap());
        verifier.verify(&self.report, Presented::certificates(&given.certificates), NOW, &mut checks);
        checks.refused().map(|c| format!("{}{}", c.id, if c.outcome == Outcome::Missing { "?" } else { "" })).collect()
    }
}

/// A certificate and a list that were issued a moment ago, by a clock that is ahead
/// (decision 0017): both begin early by the tolerance, and neither ends late.
#[test]
fn what_was_issued_a_moment_ago_is_valid_within_the_tolerance() {
    let bench = Bench::new();
    let chain = |from, to| {
        bench.forge(Link::Vcek, Signer::Named, |spec| {
            (spec.not_before, spec.not_after) = (from, to);
            Ok(())
        })
    };
    let refused = |vcek: (u64, u64), list: (u64, u64), skew| {
        let Chain { vcek, ask, .. } = chain(vcek.0, vcek.1);
        let mut given = Collateral::parse(&vcek).unwrap();
        given.extend(Collateral::parse(&ask).unwrap());
        let roots = Roots::given(vec![Certificate::parse(bench.root.ark()).unwrap()]);
        let crl = Collateral::parse(&bench.root.crl(1, &[], Some(list)).unwrap()).unwrap();
        let mut checks = Checks::all();
        let verifier = SnpVerifier::new(roots, crl).tolerating(skew);
        verifier.verify(&bench.report, Presented::certificates(&given.certificates), NOW, &mut checks);
        checks.refused().map(|check| check.id.to_string()).collect::<Vec<_>>()
    };
    let (long, new, old) = ((NOW - 100, NOW + 100), (NOW + 10, NOW + 100), (NOW - 100, NOW - 1));
    assert_eq!(refused(new, new, 10), Vec::<String>::new());
    assert_eq!(refused(new, long, 9), ["snp.validity"]);
    assert_eq!(refused(long, new, 9), ["snp.crl"]);
    assert_eq!(refused(old, long, 10), ["snp.validity"], "an end is exact");
    assert_eq!(refused(long, old, 10), ["snp.crl"], "an end is exact");
}

#[test]
fn threat_10_every_trick_with_a_chain_is_refused_by_its_own_check() {
    let bench = Bench::new();
    let crl = bench.root.crl(1, &[], None).unwrap();
    let named = Signer::Named;
    let refused = |link, signer, change: &dyn Fn(&mut Spec) -> Result<()>| {
        bench.refused(&bench.forge(link, signer, change), &crl)
    };
    let untouched = |_: &mut Spec| Ok(());
    assert_eq!(refused(Link::Vcek, named, &untouched), Vec::<String>::new());
    assert_eq!(refused(Link::Ask, named, &untouched), Vec::<String>::new());

    let past = |spec: &mut Spec| {
        spec.not_after = NOW - 1; // the last second is part of it
        Ok(())
    };
    let future = |spec: &mut Spec| {
        spec.not_before = NOW + 1;
        Ok(())
    };
    let no_constraints = |spec: &mut Spec| {
        spec.without(CONSTRAINTS);
        Ok(())
    };
    let not_a_ca = |spec: &mut Spec| {
        spec.without(CONSTRAINTS);
        spec.with(CONSTRAINTS, true, &[0x30, 0x00])
    };
    let signs_nothing = |spec: &mut Spec| {
        spec.without(USAGE);
        spec.with(USAGE, true, &[0x03, 0x02, 0x07, 0x80]) // digitalSignature
    };
    let a_ca = |spec: &mut Spec| spec.with(CONSTRAINTS, true, &[0x30, 0x03, 0x01, 0x01, 0xff]);
    let other_product = |spec: &mut Spec| {
        spec.without(PRODUCT);
        spec.with(PRODUCT, false, b"\x16\x05Genoa")
    };
    let other_name = |spec: &mut Spec| {
        spec.subject = "SEV-Genoa".into();
        Ok(())
    };
    let foreign_issuer = |spec: &mut Spec| {
        spec.issuer = "ARK-Genoa".into();
        Ok(())
    };
    let by_the_root = |spec: &mut Spec| {
        spec.issuer = "ARK-Milan".into();
        Ok(())
    };
    let no_level = |spec: &mut Spec| {
        spec.without(SNP_LEVEL);
        Ok(())
    };
    let other_level = |spec: &mut Spec| {
        spec.without(SNP_LEVEL);
        spec.with(SNP_LEVEL, false, &[0x02, 0x01, TCB.snp + 1])
    };
    let other_chip = |spec: &mut Spec| {
        spec.without(HWID);
        spec.with(HWID, false, &[0x5b; 64])
    };
    let twice = |spec: &mut Spec| spec.with(SNP_LEVEL, false, &[0x02, 0x01, TCB.snp]);
    let critical = |spec: &mut Spec| spec.with("1.2.3.4", true, &[0x05, 0x00]);
    let (short, short_public) = short_key().unwrap();
    let too_short = |spec: &mut Spec| {
        spec.key = short_public.clone();
        Ok(())
    };
    let sha256 = |spec: &mut Spec| {
        // The last byte of both OIDs of SHA-384, inside and outside.
        for algorithm in [&mut spec.inner_algorithm, &mut spec.outer_algorithm] {
            let sha384 = [0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x02];
            let places: Vec<usize> = (0..algorithm.len() - 8).filter(|at| algorithm[*at..*at + 9] == sha384).collect();
            places.iter().for_each(|at| algorithm[at + 8] = 1);
        }
        Ok(())
    };
    let salt = |spec: &mut Spec| {
        for algorithm in [&mut spec.inner_algorithm, &mut spec.outer_algorithm] {
            *algorithm.last_mut().unwrap() = 0x20;
        }
        Ok(())
    };
    let two_algorithms = |spec: &mut Spec| {
        *spec.outer_algorithm.last_mut().unwrap() = 0x20;
        Ok(())
    };

    type Change<'a> = &'a dyn Fn(&mut Spec) -> Result<()>;
    let corpus: [(&str, Link, Signer, Change<'_>, &[&str]); 27] = [
        ("expired VCEK", Link::Vcek, named, &past, &["snp.validity"]),
        ("VCEK of tomorrow", Link::Vcek, named, &future, &["snp.validity"]),
        ("expired ASK", Link::Ask, named, &past, &["snp.validity"]),
        ("ASK of tomorrow", Link::Ask, named, &future, &["snp.validity"]),
        ("VCEK signed by the root", Link::Vcek, Signer::Link(Link::Ark), &untouched, &["snp.chain.vek"]),
        ("VCEK signed by the ASVK", Link::Vcek, Signer::Link(Link::Vcek), &untouched, &["snp.chain.vek"]),
        ("ASK signed by itself", Link::Ask, Signer::Link(Link::Ask), &untouched, &["snp.chain.issuer"]),
        ("VCEK issued by the root", Link::Vcek, Signer::Link(Link::Ark), &by_the_root, &["snp.issuer.profile"]),
        ("ASK without constraints", Link::Ask, named, &no_constraints, &["snp.issuer.profile"]),
        ("ASK that is no CA", Link::Ask, named, &not_a_ca, &["snp.issuer.profile"]),
        ("ASK that may sign no certificates", Link::Ask, named, &signs_nothing, &["snp.issuer.profile"]),
        ("VCEK that is a CA", Link::Vcek, named, &a_ca, &["snp.vek.profile"]),
        ("VCEK of another product", Link::Vcek, named, &other_product, &["snp.product"]),
        ("ASK of another product", Link::Ask, named, &other_name, &["snp.issuer?"]),
        ("ASK under another root", Link::Ask, named, &foreign_issuer, &["snp.issuer.profile", "snp.root"]),
        ("VCEK without a patch level", Link::Vcek, named, &no_level, &["snp.vek.profile"]),
        ("VCEK of another patch level", Link::Vcek, named, &other_level, &["snp.tcb.certificate"]),
        ("VCEK of another chip", Link::Vcek, named, &other_chip, &["snp.chip_id"]),
        ("an extension twice", Link::Vcek, named, &twice, &["snp.certificates: "]),
        ("an unknown critical extension", Link::Vcek, named, &critical, &["snp.certificates: "]),
        ("an unknown critical extension in the ASK", Link::Ask, named, &critical, &["snp.certificates: "]),
        ("ASK with 2048 bits", Link::Ask, named, &too_short, &["snp.issuer.profile", "snp.chain.vek"]),
        ("RSA key in the VCEK", Link::Vcek, named, &too_short, &["snp.vek.profile", "snp.signature"]),
        ("SHA-256 in the VCEK", Link::Vcek, named, &sha256, &["snp.certificates: "]),
        ("a shorter salt in the ASK", Link::Ask, named, &salt, &["snp.certificates: "]),
        ("two algorithms in one certificate", Link::Vcek, named, &two_algorithms, &["snp.certificates: "]),
        ("a foreign root of the same name", Link::Ark, named, &too_short, &["snp.root"]),
    ];
    for (what, link, signer, change, required) in corpus {
        let found = refused(link, signer, change);
        let fits = required.iter().all(|id| found.iter().any(|f| f.starts_with(id)));
        assert!(fits, "{what}: found {found:?}, required {required:?}");
    }

    // Revoked, stale, missing, and foreign lists.
    let sound = bench.forge(Link::Vcek, named, untouched);
    let lists = [
        (bench.root.crl(1, &[&[1, 0, 1]], None).unwrap(), vec!["snp.revoked"]),
        // The serial number of the VCEK, which another issuer gave out.
        (bench.root.crl(1, &[&[1]], None).unwrap(), vec![]),
        (bench.root.crl(1, &[], Some((1_600_000_000, NOW - 1))).unwrap(), vec!["snp.crl?"]),
        (bench.root.crl(1, &[], Some((NOW + 1, NOW + 2))).unwrap(), vec!["snp.crl?"]),
        (common::root(Generation::Genoa).crl(1, &[], None).unwrap(), vec!["snp.crl?"]),
    ];
    for (list, required) in lists {
        assert_eq!(bench.refused(&sound, &list), required);
    }

    // A pinned root that is itself too weak is no trust anchor.
    let weak = forge(&bench.root, &bench.processor, Link::Ark, named, |spec| {
        spec.key = short_public.clone();
        Ok(())
    })
    .unwrap();
    let pinned = Roots::given(vec![Certificate::parse(&weak.ark).unwrap()]);
    let found = bench.refused_under(pinned, &weak, &crl);
    assert!(found.contains(&"snp.root.profile".to_owned()), "{found:?}");
    drop(short);
}

/// Every byte of every certificate of a sound chain counts: signed part,
/// algorithm, signature.
#[test]
fn threat_10_no_changed_byte_of_a_chain_passes() {
    let bench = Bench::new();
    let crl = bench.root.crl(1, &[], None).unwrap();
    let sound = bench.forge(Link::Vcek, Signer::Named, |_| Ok(()));
    assert_eq!(bench.refused(&sound, &crl), Vec::<String>::new());
    for at in 0..sound.vcek.len() {
        let mut changed = sound.clone();
        changed.vcek[at] ^= 1;
        assert_ne!(bench.refused(&changed, &crl), Vec::<String>::new(), "VCEK byte {at}");
    }
    for at in 0..sound.ask.len() {
        let mut changed = sound.clone();
        changed.ask[at] ^= 1;
        assert_ne!(bench.refused(&changed, &crl), Vec::<String>::new(), "ASK byte {at}");
    }
    // The presented root does not count, only the pinned one: so the changed one is
    // pinned.
    for at in 0..sound.ark.len() {
        let mut changed = sound.clone();
        changed.ark[at] ^= 1;
        let Ok(pinned) = Certificate::parse(&changed.ark) else { continue };
        let found = bench.refused_under(Roots::given(vec![pinned]), &changed, &crl);
        assert_ne!(found, Vec::<String>::new(), "ARK byte {at}");
    }
}
