//! Evidence that the lab can make and that no good machine would make.

mod common;

use portcullis_attest::binding::{Binding, Channel, Role};
use portcullis_attest::check::{Checks, Outcome};
use portcullis_attest::eventlog::Unlogged;
use portcullis_attest::evidence::{Collected, Evidence, EvidenceClass};
use portcullis_attest::snp::certificate::Certificate;
use portcullis_attest::snp::collateral::Collateral;
use portcullis_attest::snp::generation::Generation;
use portcullis_attest::snp::roots::Roots;
use portcullis_attest::snp::tcb::Tcb;
use portcullis_attest::snp::verify::{Presented, SnpVerifier};
use portcullis_attest::tpm::key::Attributes;
use portcullis_attest::tpm::pcr::{Bank, PcrValues, Selection};
use portcullis_attest::tpm::verify::{KeySource, QuoteInput, SelectionRule, verify as verify_quote};
use portcullis_attest::verified::{Carriage, Challenge, verify};
use portcullis_attester::{QuoteDevice, SnpDevice};
use portcullis_lab::LabRoot;
use portcullis_lab::boot::PCRS;
use portcullis_lab::deployment::SLEEP;
use portcullis_lab::machine::TCB;
use portcullis_lab::processor::{Fields, Processor};
use portcullis_lab::raw::RawSession;
use portcullis_lab::tpm::{SoftTpm, public_area, quote_structure};
use portcullis_permit::{SigningKey, Suite};

const NOW: u64 = 1_795_000_000;

fn verifier(root: &LabRoot) -> SnpVerifier {
    let roots = Roots::given(vec![Certificate::parse(root.ark()).unwrap()]);
    SnpVerifier::new(roots, Collateral::parse(&root.crl(1, &[], None).unwrap()).unwrap())
}

fn tcb(generation: Generation) -> Tcb {
    Tcb { fmc: (generation == Generation::Turin).then_some(1), ..TCB }
}

fn chip(generation: Generation) -> [u8; 64] {
    let mut id = [0; 64];
    let length = if generation == Generation::Turin { 8 } else { 64 };
    id[..length].fill(0x5a);
    id
}

fn fields(generation: Generation) -> Fields {
    Fields::sound(generation, chip(generation), tcb(generation), [1; 48])
}

fn refused(root: &LabRoot, report: &[u8], processor: &Processor) -> Vec<String> {
    let mut checks = Checks::refusals();
    verifier(root).verify(report, Presented::table(&processor.certificate_table()), NOW, &mut checks);
    checks.refused().map(|check| check.id.to_string()).collect()
}

/// Every version on every generation verifies; unknown versions do not.
#[test]
fn sound_reports_of_all_versions_and_generations_verify() {
    for generation in Generation::ALL {
        let root = common::root(generation);
        for version in 2..=5 {
            let processor = Processor::vcek(&root, Fields { version, ..fields(generation) }).unwrap();
            assert_eq!(
                refused(&root, &processor.sign().unwrap(), &processor),
                Vec::<String>::new(),
                "{generation} v{version}"
            );
        }
        for version in [0, 1, 6, u32::MAX] {
            let processor = Processor::vcek(&root, Fields { version, ..fields(generation) }).unwrap();
            assert_eq!(
                refused(&root, &processor.sign().unwrap(), &processor),
                ["snp.version"],
                "{generation} v{version}"
            );
        }
    }
}

#[test]
fn threat_08_masked_unsigned_and_reserved_keys_are_refused() {
    let root = common::root(Generation::Milan);
    let with = |key_info| Processor::vcek(&root, Fields { key_info, ..fields(Generation::Milan) }).unwrap();
    for (key_info, required) in
        [(1 << 1, "snp.chip_key"), (7 << 2, "snp.signing_key"), (3 << 2, "snp.signing_key"), (1 << 5, "snp.reserved")]
    {
        let processor = with(key_info);
        assert_eq!(refused(&root, &processor.sign().unwrap(), &processor), [required], "key info {key_info:#x}");
    }
}

#[test]
fn threat_08_debug_migration_and_vmpl_are_denied() {
    let (_folder, deployment, _daemon) = common::serving();
    for (policy, required) in [(0xb_0000, "snp.policy.debug"), (0x7_0000, "snp.policy.migration")] {
        deployment.describe("node-1", |machine| machine.policy = policy).unwrap();
        let output = deployment.request("node-1", SLEEP).unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(said.starts_with(&format!("portcullis: denied\n  {required}\n")), "{said}");
    }
}

/// Valid evidence may still be distrusted: a chip, and a whole generation, including
/// the authority's own.
#[test]
fn what_the_bundle_distrusts_is_denied_by_name() {
    let (_folder, mut deployment) = common::deployment(portcullis_lab::Options::default());
    let chip = deployment.document().nodes.first().unwrap().chip_id.clone();
    deployment.document().distrust.chips = chip.into_iter().collect();
    deployment.sign_bundle().unwrap();
    let daemon = deployment.serve().unwrap();
    let output = deployment.request("node-1", SLEEP).unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.starts_with("portcullis: denied\n  chip.id\n"), "{said}");
    drop(daemon);

    let (_folder, mut deployment) = common::deployment(portcullis_lab::Options::default());
    deployment.document().distrust.generations = vec!["Milan".into()];
    deployment.sign_bundle().unwrap();
    let output = deployment.portcullisd("authority", &["serve"]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(3), "{said}");
    assert!(said.contains("chip.generation") && said.contains("distrusted"), "{said}");
}

/// THREATS row 9: every bit of every byte, and every field that a host can make the
/// firmware sign: reserved bytes, algorithm, trailing signature bytes.
#[test]
fn threat_09_no_flipped_byte_verifies() {
    for generation in Generation::ALL {
        let root = common::root(generation);
        let processor = Processor::vcek(&root, Fields { version: 5, ..fields(generation) }).unwrap();
        let good = processor.sign().unwrap();
        let verifier = verifier(&root);
        let table = processor.certificate_table();
        let verifies =
            |report: &[u8]| verifier.verify(report, Presented::table(&table), NOW, &mut Checks::refusals()).is_some();
        assert!(verifies(&good));
        for at in 0..good.len() {
            let mut bad = good;
            bad[at] ^= 1 << (at % 8);
            assert!(!verifies(&bad), "{generation} byte {at:#x}");
        }
        for length in [0, 1, 0x2a0, 1183, 1185] {
            assert!(!verifies(&good.iter().copied().cycle().take(length).collect::<Vec<u8>>()));
        }
    }
}

/// Malleable fields under a valid signature are still refused.
#[test]
fn threat_09_signed_but_not_canonical_is_refused() {
    let root = common::root(Generation::Milan);
    let processor = Processor::vcek(&root, fields(Generation::Milan)).unwrap();
    for (offset, required) in [
        (0x4c, "snp.reserved"),
        (0x18b, "snp.reserved"),
        (0x1eb, "snp.reserved"),
        (0x208, "snp.reserved"),
        (0x3a, "snp.tcb.form"),
    ] {
        let mut report = processor.fields.encode(Generation::Milan);
        report[offset] = 1;
        let found = refused(&root, &processor.sign_bytes(report).unwrap(), &processor);
        assert!(found.contains(&required.to_owned()), "offset {offset:#x}: {found:?}");
    }
    let unsigned = Fields { signature_algorithm: 2, ..fields(Generation::Milan) };
    let processor = Processor::vcek(&root, unsigned).unwrap();
    assert_eq!(refused(&root, &processor.sign().unwrap(), &processor), ["snp.signature_algorithm"]);
}

/// A TCB hidden in one field only, a chain of another chip, a TCB out of order.
#[test]
fn certificate_and_report_must_speak_of_the_same_chip() {
    let root = common::root(Generation::Milan);
    let processor = Processor::vcek(&root, fields(Generation::Milan)).unwrap();
    let resigned = |change: fn(&mut Fields)| {
        let mut fields = fields(Generation::Milan);
        change(&mut fields);
        refused(&root, &processor.sign_bytes(fields.encode(Generation::Milan)).unwrap(), &processor)
    };
    assert_eq!(resigned(|f| f.chip_id[0] ^= 1), ["snp.chip_id"]);
    assert_eq!(resigned(|f| f.reported_tcb.snp -= 1), ["snp.tcb.certificate"]);
    assert_eq!(resigned(|f| f.committed_tcb.snp -= 1), ["snp.tcb.order"]);
    assert_eq!(resigned(|f| f.launch_tcb.microcode += 1), ["snp.tcb.order"]);
    assert_eq!(resigned(|f| f.cpuid = [0x1a, 2, 1]), ["snp.product"]);
}

#[test]
fn vlek_reports_verify_under_the_asvk_only() {
    let root = common::root(Generation::Genoa);
    let zero = Fields { chip_id: [0; 64], ..fields(Generation::Genoa) };
    let processor = Processor::vlek(&root, zero, "lab.example").unwrap();
    let report = processor.sign().unwrap();
    assert_eq!(refused(&root, &report, &processor), Vec::<String>::new());
    let only_ask = [processor.certificate(), root.ask()].map(|der| Certificate::parse(der).unwrap());
    let mut checks = Checks::refusals();
    verifier(&root).verify(&report, Presented::certificates(&only_ask), NOW, &mut checks);
    let found: Vec<_> = checks.refused().map(|c| (c.id.to_string(), c.outcome)).collect();
    assert_eq!(found, [("snp.issuer".to_owned(), Outcome::Missing)]);
}

#[test]
fn revocation_and_staleness_are_told_apart() {
    let root = common::root(Generation::Milan);
    let processor = Processor::vcek(&root, fields(Generation::Milan)).unwrap();
    let report = processor.sign().unwrap();
    let run = |crls: &[Vec<u8>]| {
        let mut collateral = Collateral::default();
        crls.iter().for_each(|crl| collateral.extend(Collateral::parse(crl).unwrap()));
        let roots = Roots::given(vec![Certificate::parse(root.ark()).unwrap()]);
        let mut checks = Checks::refusals();
        SnpVerifier::new(roots, collateral).verify(
            &report,
            Presented::table(&processor.certificate_table()),
            NOW,
            &mut checks,
        );
        checks.refused().map(|c| (c.id.to_string(), c.outcome)).collect::<Vec<_>>()
    };
    let missing = ("snp.crl".to_owned(), Outcome::Missing);
    let failed = |id: &str| (id.to_owned(), Outcome::Fail);
    let past = Some((1_600_000_000, 1_700_000_000));
    assert_eq!(run(&[]), std::slice::from_ref(&missing));
    assert_eq!(run(&[root.crl(1, &[], past).unwrap()]), std::slice::from_ref(&missing));
    assert_eq!(run(&[root.crl(1, &[&[1, 0, 1]], None).unwrap()]), [failed("snp.revoked")]);
    assert_eq!(
        run(&[root.crl(1, &[&[1, 0, 1]], past).unwrap()]),
        [failed("snp.revoked"), missing],
        "stale, yet it lists the ASK"
    );
    let mut forged = root.crl(1, &[], None).unwrap();
    *forged.last_mut().unwrap() ^= 1;
    assert_eq!(run(&[forged]), [failed("snp.crl")]);
}

struct Quoted {
    attest: Vec<u8>,
    signature: Vec<u8>,
    ak: Vec<u8>,
    pcrs: PcrValues,
    log: Vec<u8>,
}

fn quote_refusals(quoted: &Quoted, selection: &Selection) -> Vec<String> {
    let mut checks = Checks::refusals();
    let input = QuoteInput {
        attest: &quoted.attest,
        signature: &quoted.signature,
        ak: KeySource::Presented(&quoted.ak),
        pcrs: Some(&quoted.pcrs),
        expected: None,
        event_log: Some(&quoted.log),
        user_space_log: None,
        unlogged: Unlogged::Refused,
        measured_files: None,
        nonce: Some(&[5; 32]),
        selection: SelectionRule::Exactly(selection),
    };
    verify_quote(&input, &mut checks);
    checks.refused().map(|check| check.id.to_string()).collect()
}

/// THREATS row 11. The quotes have valid signatures; their contents are wrong.
#[test]
fn threat_11_quotes_over_anything_else_are_refused() {
    let required = Selection::sha256(PCRS);
    let mut tpm = SoftTpm::new("node-1.0").unwrap();
    let mut quote = |selection: &Selection| {
        let evidence = tpm.quote(&[5; 32], selection).unwrap();
        Quoted {
            attest: evidence.attest,
            signature: evidence.signature,
            ak: evidence.ak,
            pcrs: evidence.pcrs,
            log: evidence.event_log,
        }
    };
    assert_eq!(quote_refusals(&quote(&required), &required), Vec::<String>::new());
    assert_eq!(quote_refusals(&quote(&Selection::sha256([0, 4, 7])), &required), ["tpm.selection"]);
    assert_eq!(quote_refusals(&quote(&Selection(vec![])), &required), ["tpm.selection"]);

    let mut other_values = quote(&required);
    assert!(other_values.pcrs.insert(Bank::Sha256, 4, vec![9; 32]));
    assert_eq!(quote_refusals(&other_values, &required), ["tpm.pcr_digest", "tpm.pcr.4"]);

    let mut truncated_log = quote(&required);
    truncated_log.log.truncate(truncated_log.log.len() - 1);
    assert_eq!(quote_refusals(&truncated_log, &required), ["tpm.eventlog"]);

    let mut unrestricted = quote(&required);
    let point: Vec<u8> = [
        &[4][..],
        &unrestricted.ak[unrestricted.ak.len() - 66..][..32],
        &unrestricted.ak[unrestricted.ak.len() - 32..],
    ]
    .concat();
    unrestricted.ak = public_area(&point, Attributes::of_an_attestation_key().0 & !(1 << 16));
    assert_eq!(quote_refusals(&unrestricted, &required), ["tpm.ak.attributes"]);

    // the same key signs a structure that names the SHA-1 bank
    let sha1 = Selection(vec![(Bank::Sha1, portcullis_attest::tpm::pcr::PcrSet::of([0]))]);
    let mut weak = quote(&required);
    weak.attest = quote_structure(&[5; 32], &sha1, &[0; 32]);
    assert!(quote_refusals(&weak, &required).contains(&"tpm.bank".to_owned()));
}

/// THREATS row 36: a strong node shows less than it was enrolled with.
#[test]
fn threat_36_weaker_evidence_than_enrolled_is_denied() {
    let (_folder, deployment, _daemon) = common::serving();
    common::block_on(async {
        let mut session = RawSession::open(deployment.nodes_address()).await.unwrap();
        let key = SigningKey::generate(Suite::Classic).unwrap();
        let request = session.request("node-1", &key, common::sleep_digest());
        let context = portcullis_wire::sha256(&[&request.encode()]);
        let binding = Binding { role: Role::Node, nonce: &request.nonce, channel: session.channel, context: &context };
        let mut machine = portcullis_attester::OpenMachine::open(&portcullis_lab::LabPlatform {
            machine: deployment.machine("node-1"),
        })
        .unwrap();
        let report = machine.snp().unwrap().report(&binding.binder(None)).unwrap();
        let weaker = Evidence::of(Collected::Snp(report));
        assert_eq!(weaker.class(), EvidenceClass::Snp);
        let answer = session.ask(request.sign(&key, weaker.bytes()).unwrap()).await.unwrap();
        assert_eq!(session.denied(&answer).unwrap(), ["evidence.class"]);
    });
}

/// The whole of verification takes received bytes: no input panics, and no
/// mutation of good evidence verifies.
#[test]
fn mutated_evidence_never_verifies() {
    let root = common::root(Generation::Milan);
    let verifier = verifier(&root);
    let mut processor = Processor::vcek(&root, fields(Generation::Milan)).unwrap();
    let mut tpm = SoftTpm::new("node-1.0").unwrap();
    let channel = Channel { exporter: [1; 32], own_key: [2; 32], peer_key: [3; 32] };
    let binding = Binding { role: Role::Node, nonce: &[4; 32], channel, context: &[6; 32] };
    let selection = Selection::sha256(PCRS);
    let binder = binding.binder(Some(tpm.ak_name()));
    let report = processor.report(&binder).unwrap();
    let quote = tpm.quote(&portcullis_attest::binding::quote_nonce(&binder), &selection).unwrap();
    let good = Evidence::of(Collected::SnpTpm(report, quote)).bytes().to_vec();
    let challenge = Challenge { binding, carriage: Carriage::Direct, selection: &selection };
    let verifies = |bytes: &[u8]| {
        let evidence = Evidence::parse(bytes).ok();
        evidence.and_then(|e| verify(&e, &challenge, &verifier, NOW, &mut Checks::refusals())).map(|v| v.class())
    };
    assert_eq!(verifies(&good), Some(EvidenceClass::SnpTpm));
    for at in (0..good.len()).step_by(3) {
        let mut bad = good.clone();
        bad[at] ^= 0x10;
        // Certificates may differ only in bytes without effect (an ARK in the evidence is
        // compared, not trusted).
        if verifies(&bad).is_some() {
            let evidence = Evidence::parse(&bad).unwrap();
            let honest = Evidence::parse(&good).unwrap();
            assert_eq!(
                evidence.collected().snp().unwrap().report,
                honest.collected().snp().unwrap().report,
                "byte {at}"
            );
            // Event data is a claim that this test does not use; digests are replayed.
            let (ours, theirs) = (evidence.collected().tpm().unwrap(), honest.collected().tpm().unwrap());
            assert_eq!(
                (&ours.attest, &ours.signature, &ours.ak),
                (&theirs.attest, &theirs.signature, &theirs.ak),
                "byte {at}"
            );
            assert_eq!(ours.pcrs, theirs.pcrs, "byte {at}");
        }
    }
}

/// Differential: for evidence that we verify, the `sev` crate verifies chain and
/// signature; like us, it refuses a report with one changed byte.
#[test]
fn the_sev_crate_verifies_what_we_verify() {
    use sev::certs::snp::{Certificate as Theirs, Chain, Verifiable, ca};
    use sev::firmware::guest::AttestationReport;
    use sev::parser::ByteParser;
    for generation in Generation::ALL {
        let root = common::root(generation);
        let processor = Processor::vcek(&root, fields(generation)).unwrap();
        let certificate = |der: &[u8]| Theirs::from_der(der).unwrap();
        let chain = Chain {
            ca: ca::Chain { ark: certificate(root.ark()), ask: certificate(root.ask()) },
            vek: certificate(processor.certificate()),
        };
        let good = processor.sign().unwrap();
        for at in [None, Some(0x90), Some(0x1a0), Some(0x2a0)] {
            let mut bytes = good;
            at.iter().for_each(|at: &usize| bytes[*at] ^= 1);
            let theirs = AttestationReport::from_bytes(&bytes).is_ok_and(|report| (&chain, &report).verify().is_ok());
            let ours = refused(&root, &bytes, &processor).is_empty();
            assert_eq!((theirs, ours), (at.is_none(), at.is_none()), "{generation} {at:x?}");
        }
    }
}

/// Differential: we read every report that the `sev` crate reads, and verify every
/// sound report that it verifies.
#[test]
fn the_sev_crate_agrees_on_sound_reports() {
    use sev::firmware::guest::AttestationReport;
    use sev::parser::ByteParser;
    for generation in Generation::ALL {
        let root = common::root(generation);
        for version in [2, 3, 5] {
            let processor =
                Processor::vcek(&root, Fields { version, report_data: [9; 64], ..fields(generation) }).unwrap();
            let bytes = processor.sign().unwrap();
            let Ok(theirs) = AttestationReport::from_bytes(&bytes) else {
                panic!("sev does not read {generation} v{version}");
            };
            let ours = portcullis_attest::snp::report::Report::parse(&bytes, &mut Checks::refusals()).unwrap();
            assert_eq!(theirs.version, ours.version);
            assert_eq!(theirs.guest_svn, ours.guest_svn);
            assert_eq!(theirs.policy.0, ours.policy.0);
            assert_eq!(theirs.vmpl, ours.vmpl);
            assert_eq!(theirs.report_data, ours.report_data);
            assert_eq!(theirs.measurement, ours.measurement);
            assert_eq!(theirs.host_data, ours.host_data);
            assert_eq!(theirs.chip_id, ours.chip_id);
            let decoded = ours.reported_tcb.decode(generation);
            assert_eq!(theirs.reported_tcb.snp, decoded.snp, "{generation} v{version}");
            assert_eq!(theirs.reported_tcb.microcode, decoded.microcode, "{generation} v{version}");
        }
    }
}
