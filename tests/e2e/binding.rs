//! Evidence belongs to one session, one key, one request, one moment.

mod common;

use std::sync::Arc;
use std::time::Duration;

use portcullis_attest::binding::{BatchProof, Binding, Channel, Role};
use portcullis_attest::check::Checks;
use portcullis_attester::{Machine, OpenMachine};
use portcullis_channel::Identity;
use portcullis_firmware_policy::{AuthorityAnswer, VerifiedBundle, verify_authority};
use portcullis_lab::deployment::SLEEP;
use portcullis_lab::raw::{RawSession, evidence_for};
use portcullis_lab::{Deployment, LabPlatform, Options};
use portcullis_permit::{AuthorityStatement, Governance, SigningKey, Suite};

fn trust(deployment: &Deployment) -> (Governance, VerifiedBundle) {
    let governance = Governance::decode(&std::fs::read(deployment.path("governance.cbor")).unwrap()).unwrap();
    let bundle = VerifiedBundle::verify(&std::fs::read(deployment.path("bundle.pcb")).unwrap(), &governance).unwrap();
    (governance, bundle)
}

/// A node's verdict on an authority's answer, on a session with this nonce.
fn judge(deployment: &Deployment, answer: &AuthorityAnswer, nonce: &[u8; 32], channel: Channel) -> Vec<String> {
    let (governance, bundle) = trust(deployment);
    let at = u64::try_from(jiff::Timestamp::now().as_second()).unwrap();
    let binding = Binding { role: Role::Authority, nonce, channel, context: &[0; 32] };
    let mut checks = Checks::refusals();
    verify_authority(answer, &binding, &governance, &bundle, None, at, &mut checks);
    checks.refused().map(|check| check.id.to_string()).collect()
}

fn node(deployment: &Deployment) -> Machine {
    LabPlatform { machine: deployment.machine("node-1") }.open().unwrap()
}

/// A relay that owns the leaked TLS keys of both sides still gets a denial, in
/// both directions: the exporter differs from session to session.
#[test]
fn threat_01_a_relay_with_leaked_tls_keys_is_denied_both_ways() {
    let (_folder, deployment, _daemon) = common::serving();
    common::block_on(async {
        let leaked = Arc::new(Identity::generate().unwrap());
        let address = deployment.nodes_address();
        // towards the authority: evidence that a node made on its own session,
        // with the same TLS key
        let honest = RawSession::open_with(address, Arc::clone(&leaked), [1; 32]).await.unwrap();
        let mut relay = RawSession::open_with(address, Arc::clone(&leaked), [1; 32]).await.unwrap();
        assert_eq!(honest.channel.own_key, relay.channel.own_key);
        let key = SigningKey::generate(Suite::Classic).unwrap();
        let request = relay.request("node-1", &key, common::sleep_digest());
        let evidence = honest.evidence(&mut node(&deployment), &request).unwrap();
        let answer = relay.ask(request.sign(&key, evidence.bytes()).unwrap()).await.unwrap();
        assert_eq!(relay.denied(&answer).unwrap(), ["evidence.binding"]);
        // towards the node: the authority's answer on one session, shown on another
        let own = honest.channel.reversed();
        assert_eq!(judge(&deployment, &honest.answer.answer, &[1; 32], own), Vec::<String>::new());
        let other = relay.channel.reversed();
        assert_eq!(judge(&deployment, &honest.answer.answer, &[1; 32], other), ["evidence.binding", "tpm.nonce"]);
    });
}

#[test]
fn threat_02_the_authoritys_own_evidence_is_no_nodes() {
    let (_folder, deployment, _daemon) = common::serving();
    common::block_on(async {
        let mut session = RawSession::open(deployment.nodes_address()).await.unwrap();
        let key = SigningKey::generate(Suite::Classic).unwrap();
        let request = session.request("node-1", &key, common::sleep_digest());
        let echoed = session.answer.answer.evidence.clone();
        let answer = session.ask(request.sign(&key, &echoed).unwrap()).await.unwrap();
        assert_eq!(session.denied(&answer).unwrap(), ["evidence.binding"]);
    });
}

#[test]
fn threat_03_nothing_is_accepted_twice_or_elsewhere() {
    let (_folder, deployment, mut daemon) = common::serving();
    let (_second_folder, second, _second_daemon) = common::serving();
    common::block_on(async {
        let key = SigningKey::generate(Suite::Classic).unwrap();
        let mut machine = node(&deployment);
        let mut session = RawSession::open(deployment.nodes_address()).await.unwrap();
        let request = session.request("node-1", &key, common::sleep_digest());
        let evidence = session.evidence(&mut machine, &request).unwrap();
        let signed = request.sign(&key, evidence.bytes()).unwrap();
        assert_eq!(session.ask(signed.clone()).await.unwrap().status, 201);

        let again = session.ask(signed.clone()).await.unwrap();
        assert_eq!(session.denied(&again).unwrap(), ["request.nonce"], "same connection");
        let mut other = RawSession::open(deployment.nodes_address()).await.unwrap();
        let replayed = other.ask(signed.clone()).await.unwrap();
        let first = &other.denied(&replayed).unwrap()[0];
        assert!(["request.statement", "request.nonce"].contains(&first.as_str()), "another connection: {first}");
        let mut elsewhere = RawSession::open(second.nodes_address()).await.unwrap();
        let replayed = elsewhere.ask(signed.clone()).await.unwrap();
        assert_eq!(elsewhere.denied(&replayed).unwrap(), ["request.statement"], "another appliance");

        daemon.kill().unwrap();
        let _restarted = deployment.serve().unwrap();
        let mut after = RawSession::open(deployment.nodes_address()).await.unwrap();
        let replayed = after.ask(signed).await.unwrap();
        assert_eq!(after.denied(&replayed).unwrap(), ["request.statement"], "after a crash");
    });
}

/// Image and bundle copied to a foreign chip: `portcullisd init` twice.
#[test]
fn threat_31_an_unendorsed_second_authority_is_refused() {
    let (_folder, mut deployment) = common::deployment(Options::default());
    deployment.boot("authority-2", portcullis_lab::deployment::AUTHORITY_IMAGE).unwrap();
    deployment.write_configuration("authority-2", "lab/authority").unwrap();
    deployment.genesis("authority-2").unwrap();
    // the first authority's endorsement does not cover the second's keys
    std::fs::copy(deployment.path("authority.pce"), deployment.path("authority-2.pce")).unwrap();
    let refused = deployment.portcullisd("authority-2", &["serve"]).output().unwrap();
    let said = String::from_utf8_lossy(&refused.stderr);
    assert_eq!(refused.status.code(), Some(3), "{said}");
    assert!(said.contains("portcullisd: authority.endorsement:"), "{said}");
    // and a node refuses its answer
    let (governance, _) = trust(&deployment);
    let request = std::fs::read(deployment.path("state-authority-2/endorsement.request")).unwrap();
    let statement = AuthorityStatement {
        endorsement: request,
        governance_root: governance.root(),
        bundle: [0; 32],
        bundle_version: 1,
        checkpoint: String::new(),
    };
    let batch = BatchProof { index: 0, size: 1, path: vec![] };
    let answer = AuthorityAnswer { statement: statement.encode(), evidence: vec![], batch, consistency: vec![] };
    let channel = Channel { exporter: [0; 32], own_key: [0; 32], peer_key: [0; 32] };
    assert_eq!(judge(&deployment, &answer, &[1; 32], channel), ["authority.endorsement"]);
}

/// The authority's image on a foreign chip answers in the authority's place, with the
/// real statement.
#[test]
fn threat_04_the_authoritys_image_on_another_chip_is_no_authority() {
    let (_folder, mut deployment, _daemon) = common::serving();
    deployment.boot("authority-2", portcullis_lab::deployment::AUTHORITY_IMAGE).unwrap();
    common::block_on(async {
        let session = RawSession::open(deployment.nodes_address()).await.unwrap();
        let channel = session.channel.reversed();
        let mut machine = LabPlatform { machine: deployment.machine("authority-2") }.open().unwrap();
        assert_eq!(impostor(&deployment, &session, &mut machine, channel), ["authority.chip_id"]);
    });
}

/// A node's verdict on a machine that shows the authority's statement as its own.
fn impostor(deployment: &Deployment, session: &RawSession, machine: &mut Machine, channel: Channel) -> Vec<String> {
    let context = AuthorityStatement::digest(&session.answer.answer.statement);
    let binding = Binding { role: Role::Authority, nonce: &[7; 32], channel, context: &context };
    let batch = portcullis_attest::binding::Batch::new(&[binding.binder(machine.ak_name())]).unwrap();
    let selection = portcullis_attest::tpm::pcr::Selection::sha256(portcullis_lab::boot::PCRS);
    let evidence = machine.collect(&batch.report_data(), &selection).unwrap();
    let answer = AuthorityAnswer {
        evidence: evidence.bytes().to_vec(),
        batch: batch.proof(0).unwrap(),
        ..session.answer.answer.clone()
    };
    judge(deployment, &answer, &[7; 32], channel)
}

/// A node's machine answers in the authority's place, with the real statement.
#[test]
fn threat_33_a_node_image_is_no_authority() {
    let (_folder, deployment, _daemon) = common::serving();
    common::block_on(async {
        let session = RawSession::open(deployment.nodes_address()).await.unwrap();
        let channel = session.channel.reversed();
        let mut machine = node(&deployment);
        let found = impostor(&deployment, &session, &mut machine, channel);
        assert_eq!(found, ["authority.chip_id", "authority.measurement", "snp.measurement"]);
    });
}

#[test]
fn threat_35_evidence_held_past_its_window_is_denied() {
    let (_folder, deployment, _daemon) = common::serving();
    common::block_on(async {
        let mut session = RawSession::open(deployment.nodes_address()).await.unwrap();
        let key = SigningKey::generate(Suite::Classic).unwrap();
        let request = session.request("node-1", &key, common::sleep_digest());
        let evidence = session.evidence(&mut node(&deployment), &request).unwrap();
        let signed = request.sign(&key, evidence.bytes()).unwrap();
        tokio::time::sleep(Duration::from_secs(12)).await;
        let answer = session.ask(signed).await.unwrap();
        assert_eq!(session.denied(&answer).unwrap(), ["request.nonce.age"]);
    });
}

/// Strangers see one check id, without floors or measurements.
#[test]
fn a_stranger_learns_one_check_id() {
    let (_folder, deployment, _daemon) = common::serving();
    deployment.describe("node-1", |machine| machine.measured = "node-0.9".into()).unwrap();
    let enrolled = deployment.request("node-1", SLEEP).unwrap();
    let said = String::from_utf8_lossy(&enrolled.stderr).into_owned();
    assert!(said.contains("snp.measurement") && said.contains("required"), "{said}");
    deployment.configure_node("node-1", "nobody", deployment.nodes_address()).unwrap();
    let stranger = deployment.request("node-1", SLEEP).unwrap();
    let said = String::from_utf8_lossy(&stranger.stderr).into_owned();
    assert!(said.contains("node.enrolled") && !said.contains("required"), "{said}");
}

/// The context of evidence is the whole request: another request under the same
/// evidence is denied.
#[test]
fn evidence_for_one_request_does_not_carry_another() {
    let (_folder, deployment, _daemon) = common::serving();
    common::block_on(async {
        let mut session = RawSession::open(deployment.nodes_address()).await.unwrap();
        let key = SigningKey::generate(Suite::Classic).unwrap();
        let asked = session.request("node-1", &key, common::sleep_digest());
        let mut machine = node(&deployment);
        let context = portcullis_wire::sha256(&[b"another request"]);
        let evidence = evidence_for(&mut machine, Role::Node, &asked.nonce, session.channel, &context).unwrap();
        let answer = session.ask(asked.sign(&key, evidence.bytes()).unwrap()).await.unwrap();
        assert_eq!(session.denied(&answer).unwrap(), ["evidence.binding"]);
    });
}
