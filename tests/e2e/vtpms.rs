#![cfg(test)]
//! Virtual TPMs that run inside the guest: a service module, or Azure's paravisor. The
//! report vouches for them, each in a different way.

mod common;

use portcullis_attest::check::Checks;
use portcullis_attest::evidence::{Collected, Evidence, SvsmEvidence};
use portcullis_attest::snp::certificate::Certificate;
use portcullis_attest::snp::collateral::Collateral;
use portcullis_attest::snp::generation::Generation;
use portcullis_attest::snp::roots::Roots;
use portcullis_attest::snp::verify::{Presented, SnpVerifier};
use portcullis_attest::svsm::{self, SvsmInput};
use portcullis_attester::{Machine, OpenMachine};
use portcullis_lab::deployment::{NODE_IMAGE, SLEEP};
use portcullis_lab::raw::RawSession;
use portcullis_lab::{Daemon, Deployment, LabPlatform, Options, Vtpm};
use portcullis_permit::{SigningKey, Suite};
use tempfile::TempDir;

fn with_nodes(vtpm: Vtpm) -> (TempDir, Deployment, Daemon) {
    let (folder, mut deployment) = common::deployment(Options::default());
    for node in ["node-2", "node-3"] {
        deployment.boot_with(node, NODE_IMAGE, vtpm).unwrap();
        deployment.enrol_vtpm(node, &["lab"]).unwrap();
    }
    deployment.sign_bundle().unwrap();
    let daemon = deployment.serve().unwrap();
    (folder, deployment, daemon)
}

fn machine(deployment: &Deployment, name: &str) -> Machine {
    LabPlatform { machine: deployment.machine(name) }.open().unwrap()
}

/// The result of a request with evidence that a test may have changed.
async fn ask(
    session: &mut RawSession,
    machine: &mut Machine,
    node: &str,
    change: impl FnOnce(Collected) -> Collected,
) -> Vec<String> {
    let key = SigningKey::generate(Suite::Classic).unwrap();
    let request = session.request(node, &key, common::sleep_digest());
    let evidence = session.evidence(machine, &request).unwrap();
    let evidence = Evidence::of(change(evidence.collected().clone()));
    let answer = session.ask(request.sign(&key, evidence.bytes()).unwrap()).await.unwrap();
    if answer.status == 201 { Vec::new() } else { session.denied(&answer).unwrap() }
}

/// The whole path: a client in a separate process gets a permit.
#[test]
fn nodes_with_vtpms_get_permits() {
    for vtpm in [Vtpm::Svsm, Vtpm::Azure] {
        let (_folder, deployment, _daemon) = with_nodes(vtpm);
        let output = deployment.request("node-2", SLEEP).unwrap();
        assert!(output.status.success(), "{vtpm:?}: {}", String::from_utf8_lossy(&output.stderr));
        let output = deployment.portcullis("node-2", &["identity", "--json"]).output().unwrap();
        let identity: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let class = if vtpm == Vtpm::Svsm { "snp+svsm-vtpm" } else { "snp+azure-vtpm" };
        assert_eq!(identity["class"], class);
        assert!(identity["chip_id"].is_string() && identity["ek"].is_string());
    }
}

#[test]
fn a_service_module_vouches_for_its_own_vtpm_alone() {
    let (_folder, deployment, _daemon) = with_nodes(Vtpm::Svsm);
    common::block_on(async {
        let (mut own, mut foreign) = (machine(&deployment, "node-2"), machine(&deployment, "node-3"));
        let mut session = RawSession::open(deployment.nodes_address()).await.unwrap();
        let same = |collected| collected;
        // An endorsement key cannot quote: the quote's key must be activated under it.
        assert_eq!(ask(&mut session, &mut own, "node-2", same).await, ["node.activation"]);
        session.activate_machine(&mut own).await.unwrap();
        assert_eq!(ask(&mut session, &mut own, "node-2", same).await, Vec::<String>::new());
        // Another machine's manifest, which this report does not cover.
        let Collected::SvsmVtpm(other, _) = foreign.collect(&[0; 64], &Default::default()).unwrap().collected().clone()
        else {
            panic!("no service module")
        };
        let swapped = |collected| match collected {
            Collected::SvsmVtpm(mut svsm, tpm) => {
                svsm.manifest.clone_from(&other.manifest);
                Collected::SvsmVtpm(svsm, tpm)
            }
            other => other,
        };
        assert_eq!(ask(&mut session, &mut own, "node-2", swapped).await, ["evidence.binding"]);
        // The guest's own report instead of the module's: no manifest, another class.
        let without = |collected| match collected {
            Collected::SvsmVtpm(svsm, tpm) => Collected::SnpTpm(svsm.snp, tpm),
            other => other,
        };
        assert_eq!(ask(&mut session, &mut own, "node-2", without).await, ["evidence.binding"]);
        // The vTPM of another machine: activated there, but not vouched for here.
        session.activate_machine(&mut foreign).await.unwrap();
        assert_eq!(ask(&mut session, &mut own, "node-2", same).await, ["node.activation"]);
        // A report of the guest's level.
        session.activate_machine(&mut own).await.unwrap();
        deployment.describe("node-2", |machine| machine.vmpl = 2).unwrap();
        assert_eq!(ask(&mut session, &mut own, "node-2", same).await, ["svsm.vmpl"]);
    });
}

/// Every byte of the manifest, of the service report and of the nonce counts.
#[test]
fn no_changed_byte_of_a_modules_evidence_passes() {
    let (_folder, deployment, _daemon) = with_nodes(Vtpm::Svsm);
    let collected = machine(&deployment, "node-2").collect(&[7; 64], &Default::default()).unwrap();
    let Collected::SvsmVtpm(svsm, _) = collected.collected() else { panic!("no service module") };
    let root = common::root(Generation::Milan);
    let verifier = SnpVerifier::new(
        Roots::given(vec![Certificate::parse(root.ark()).unwrap()]),
        Collateral::parse(&root.crl(1, &[], None).unwrap()).unwrap(),
    );
    let refused = |svsm: &SvsmEvidence, nonce: &[u8; 64]| {
        let mut checks = Checks::refusals();
        let input = SvsmInput {
            report: &svsm.snp.report,
            manifest: &svsm.manifest,
            certificates: Presented::table(&svsm.snp.certificates),
            nonce: Some(nonce),
        };
        let verified = svsm::verify(&input, &verifier, 1_795_000_000, &mut checks);
        assert_eq!(verified.is_some(), checks.passed());
        checks.refused().map(|check| check.id.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(refused(svsm, &[7; 64]), Vec::<String>::new());
    for at in 0..svsm.manifest.len() {
        let mut changed = svsm.clone();
        changed.manifest[at] ^= 1;
        assert_eq!(refused(&changed, &[7; 64]), ["evidence.binding"], "manifest byte {at}");
    }
    for at in 0..svsm.snp.report.len() {
        let mut changed = svsm.clone();
        changed.snp.report[at] ^= 1;
        assert_ne!(refused(&changed, &[7; 64]), Vec::<String>::new(), "report byte {at}");
    }
    for at in 0..64 {
        let mut nonce = [7; 64];
        nonce[at] ^= 1;
        assert_eq!(refused(svsm, &nonce), ["evidence.binding"], "nonce byte {at}");
    }
}

/// THREATS row 14, live: either half may be old, but neither passes.
#[test]
fn threat_14_neither_half_of_azures_evidence_may_be_old() {
    let (_folder, deployment, _daemon) = with_nodes(Vtpm::Azure);
    common::block_on(async {
        let mut own = machine(&deployment, "node-2");
        let mut session = RawSession::open(deployment.nodes_address()).await.unwrap();
        let same = |collected| collected;
        assert_eq!(ask(&mut session, &mut own, "node-2", same).await, Vec::<String>::new());

        let old = own.collect(&[7; 64], &portcullis_attest::tpm::pcr::Selection::sha256(portcullis_lab::boot::PCRS));
        let Collected::AzureVtpm(old_report, old_quote) = old.unwrap().collected().clone() else {
            panic!("no machine of Azure")
        };
        let stale_report = |collected| match collected {
            Collected::AzureVtpm(_, quote) => Collected::AzureVtpm(old_report.clone(), quote),
            other => other,
        };
        assert_eq!(ask(&mut session, &mut own, "node-2", stale_report).await, ["azure.user_data"]);
        let stale_quote = |collected| match collected {
            Collected::AzureVtpm(report, _) => Collected::AzureVtpm(report, old_quote.clone()),
            other => other,
        };
        assert_eq!(ask(&mut session, &mut own, "node-2", stale_quote).await, ["tpm.nonce"]);

        // Another machine's quote: the paravisor vouches for one key.
        let mut foreign = machine(&deployment, "node-3");
        let other = foreign.tpm().unwrap().quote(&[0; 32], &Default::default()).unwrap();
        let foreign_quote = |collected| match collected {
            Collected::AzureVtpm(report, mut quote) => {
                quote.ak.clone_from(&other.ak);
                Collected::AzureVtpm(report, quote)
            }
            other => other,
        };
        let refused = ask(&mut session, &mut own, "node-2", foreign_quote).await;
        // Evidence that names another key has another binder in every part.
        assert_eq!(refused, ["azure.ak"]);
        assert_eq!(ask(&mut session, &mut foreign, "node-2", same).await, ["node.ak"]);
    });
}
