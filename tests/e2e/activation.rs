#![cfg(test)]
//! A TPM proves that it is the enrolled one, and that it is still in the same boot.

mod common;

use portcullis_attest::tpm::credential::{Credential, EndorsementKey};
use portcullis_attester::{Machine, OpenMachine};
use portcullis_firmware_policy::ActivateRequest;
use portcullis_lab::raw::RawSession;
use portcullis_lab::tpm::SoftTpm;
use portcullis_lab::{Daemon, Deployment, LabPlatform, Options};
use portcullis_permit::{PermitId, SigningKey, Suite};
use tempfile::TempDir;
use tss_esapi::abstraction::AsymmetricAlgorithmSelection;
use tss_esapi::abstraction::ek::create_ek_object_2;
use tss_esapi::constants::SessionType;
use tss_esapi::handles::AuthHandle;
use tss_esapi::interface_types::algorithm::HashingAlgorithm;
use tss_esapi::interface_types::ecc::EccCurve;
use tss_esapi::interface_types::resource_handles::Hierarchy;
use tss_esapi::interface_types::session_handles::{AuthSession, PolicySession};
use tss_esapi::structures::{Digest, EccScheme, EncryptedSecret, HashScheme, IdObject, Nonce, SymmetricDefinition};
use tss_esapi::traits::Marshall;
use tss_esapi::utils::create_unrestricted_signing_ecc_public;

fn machine(deployment: &Deployment, name: &str) -> Machine {
    LabPlatform { machine: deployment.machine(name) }.open().unwrap()
}

/// A deployment with two nodes that are enrolled by endorsement key.
fn with_two_nodes() -> (TempDir, Deployment, Daemon) {
    let (folder, mut deployment) = common::deployment(Options::default());
    for node in ["node-2", "node-3"] {
        deployment.boot(node, portcullis_lab::deployment::NODE_IMAGE).unwrap();
        deployment.enrol(node, &["lab"]).unwrap();
    }
    deployment.sign_bundle().unwrap();
    let daemon = deployment.serve().unwrap();
    (folder, deployment, daemon)
}

/// The result of a request with a machine's own evidence, on this session.
async fn ask(session: &mut RawSession, machine: &mut Machine, node: &str) -> Vec<String> {
    let key = SigningKey::generate(Suite::Classic).unwrap();
    let request = session.request(node, &key, common::sleep_digest());
    let evidence = session.evidence(machine, &request).unwrap();
    let answer = session.ask(request.sign(&key, evidence.bytes()).unwrap()).await.unwrap();
    if answer.status == 201 { Vec::new() } else { session.denied(&answer).unwrap() }
}

/// THREATS rows 13 and 38: an attestation key counts only on the connection on
/// which the enrolled endorsement key vouched for it.
#[test]
fn threat_38_a_key_is_activated_under_the_enrolled_endorsement_key() {
    let (_folder, deployment, _daemon) = with_two_nodes();
    common::block_on(async {
        let address = deployment.nodes_address();
        let (mut own, mut foreign) = (machine(&deployment, "node-2"), machine(&deployment, "node-3"));
        let mut session = RawSession::open(address).await.unwrap();
        assert_eq!(ask(&mut session, &mut own, "node-2").await, ["node.activation"], "nothing was activated");

        session.activate_machine(&mut own).await.unwrap();
        assert_eq!(ask(&mut session, &mut own, "node-2").await, Vec::<String>::new());
        assert_eq!(ask(&mut session, &mut own, "node-2").await, Vec::<String>::new(), "once a connection is enough");
        let mut other = RawSession::open(address).await.unwrap();
        assert_eq!(ask(&mut other, &mut own, "node-2").await, ["node.activation"], "another connection");

        // The foreign TPM activates its own keys, which are not the enrolled ones.
        session.activate_machine(&mut foreign).await.unwrap();
        assert_eq!(ask(&mut session, &mut own, "node-2").await, ["node.activation"]);

        // A foreign key under the right endorsement key: the TPM refuses it, and
        // without the secret nothing is activated.
        let foreign_ak = foreign.tpm().unwrap().ak_area().to_vec();
        let refused = session.activate(own.tpm().unwrap(), &foreign_ak).await.unwrap_err().to_string();
        assert!(refused.contains("TPM refused ActivateCredential"), "{refused}");
        let guess = session.post("/v1/activate", ActivateRequest::Secret([0; 32]).encode()).await.unwrap();
        assert_eq!(guess.status, 403);
        assert!(String::from_utf8(guess.body).unwrap().contains("activation.secret"));
        assert_eq!(ask(&mut session, &mut own, "node-2").await, ["node.activation"], "the earlier one is void");
    });
}

/// Two machines combined into one.
fn mixed(snp: Machine, tpm: Machine) -> Machine {
    let (Machine::SnpTpm(snp, _), Machine::SnpTpm(_, tpm)) = (snp, tpm) else { panic!("lab machines have both") };
    Machine::SnpTpm(snp, tpm)
}

/// THREATS row 13: the TPM is swapped between two machines that are both good.
#[test]
fn threat_13_a_quote_of_another_machines_tpm_is_refused() {
    let (_folder, deployment, _daemon) = with_two_nodes();
    common::block_on(async {
        let address = deployment.nodes_address();
        let mut session = RawSession::open(address).await.unwrap();
        let mut swapped = mixed(machine(&deployment, "node-2"), machine(&deployment, "node-3"));
        // The foreign TPM can activate only its own keys.
        session.activate_machine(&mut swapped).await.unwrap();
        assert_eq!(ask(&mut session, &mut swapped, "node-2").await, ["node.activation"]);
        assert_eq!(ask(&mut session, &mut swapped, "node-3").await[0], "node.chip_id");
        drop(swapped);
        let mut pinned = mixed(machine(&deployment, "node-1"), machine(&deployment, "node-3"));
        assert_eq!(ask(&mut session, &mut pinned, "node-1").await, ["node.ak"]);
    });
}

/// THREATS row 37: a TPM that the host runs, and that quotes any values the host wants.
#[test]
fn threat_37_a_tpm_that_answers_any_pcr_vouches_for_nothing() {
    let (_folder, deployment, _daemon) = with_two_nodes();
    common::block_on(async {
        let mut session = RawSession::open(deployment.nodes_address()).await.unwrap();
        for (node, required) in [("node-1", "node.ak"), ("node-2", "node.activation")] {
            let Machine::SnpTpm(snp, _) = machine(&deployment, node) else { panic!("lab machines have both") };
            // It has the PCRs of the admitted image, and its own key.
            let liar = SoftTpm::new(portcullis_lab::deployment::NODE_IMAGE).unwrap();
            let mut lying = Machine::SnpTpm(snp, Box::new(liar));
            assert_eq!(ask(&mut session, &mut lying, node).await, [required], "{node}");
        }
    });
}

/// A malformed key, and a secret without a challenge, are refused and change nothing.
#[test]
fn malformed_activations_are_refused() {
    let (_folder, deployment, _daemon) = with_two_nodes();
    common::block_on(async {
        let mut own = machine(&deployment, "node-2");
        let mut session = RawSession::open(deployment.nodes_address()).await.unwrap();
        session.activate_machine(&mut own).await.unwrap();
        let ak = own.tpm().unwrap().ak_area().to_vec();
        for (body, status, check) in [
            (Vec::new(), 400, "exchange.form"),
            (ActivateRequest::Keys { ek: ak.clone(), ak: ak.clone() }.encode(), 400, "exchange.form"),
            (ActivateRequest::Keys { ek: vec![0; 9000], ak }.encode(), 400, "exchange.form"),
        ] {
            let answer = session.post("/v1/activate", body).await.unwrap();
            assert_eq!(answer.status, status);
            assert!(String::from_utf8(answer.body).unwrap().contains(check));
        }
        assert_eq!(ask(&mut session, &mut own, "node-2").await, Vec::<String>::new());
    });
}

/// A permit ends with the boot in which it was granted.
#[test]
fn a_renewal_after_a_reboot_is_denied() {
    let (_folder, mut deployment, _daemon) = common::serving();
    let key = SigningKey::generate(Suite::Classic).unwrap();
    let first = common::block_on(async {
        let mut session = RawSession::open(deployment.nodes_address()).await.unwrap();
        let mut node = machine(&deployment, "node-1");
        let request = session.request("node-1", &key, common::sleep_digest());
        let evidence = session.evidence(&mut node, &request).unwrap();
        let answer = session.ask(request.sign(&key, evidence.bytes()).unwrap()).await.unwrap();
        assert_eq!(answer.status, 201);
        PermitId::of_request(&request.encode())
    });
    let renew = |deployment: &Deployment, parent| {
        common::block_on(async {
            let mut session = RawSession::open(deployment.nodes_address()).await.unwrap();
            let mut node = machine(deployment, "node-1");
            let mut request = session.request("node-1", &key, common::sleep_digest());
            request.parent = Some(parent);
            let evidence = session.evidence(&mut node, &request).unwrap();
            let answer = session.ask(request.sign(&key, evidence.bytes()).unwrap()).await.unwrap();
            let outcome = if answer.status == 201 { Vec::new() } else { session.denied(&answer).unwrap() };
            (PermitId::of_request(&request.encode()), outcome)
        })
    };
    let (second, outcome) = renew(&deployment, first);
    assert_eq!(outcome, Vec::<String>::new(), "in the same boot");
    deployment.reboot("node-1").unwrap();
    assert_eq!(renew(&deployment, second).1, ["parent.boot"]);
}

/// TPMs may also be certified with elliptic-curve endorsement keys: real ones open our
/// credentials.
#[test]
fn credentials_for_elliptic_endorsement_keys_are_opened_by_a_tpm() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(folder.path().join("tpm")).unwrap();
    let _swtpm = portcullis_lab::tpm::Swtpm::start(folder.path()).unwrap();
    let port = std::fs::read_to_string(folder.path().join("tpm.port")).unwrap();
    let name = format!("swtpm:host=127.0.0.1,port={port}").parse().unwrap();
    let mut context = tss_esapi::Context::new(name).unwrap();
    let scheme = EccScheme::EcDsa(HashScheme::new(HashingAlgorithm::Sha256));
    let template = create_unrestricted_signing_ecc_public(scheme, EccCurve::NistP256).unwrap();
    let object = context
        .execute_with_session(Some(AuthSession::Password), |context| {
            context.create_primary(Hierarchy::Owner, template, None, None, None, None)
        })
        .unwrap()
        .key_handle;
    let name = context.execute_without_session(|context| context.tr_get_name(object.into())).unwrap();
    for curve in [EccCurve::NistP256, EccCurve::NistP384] {
        let ek = create_ek_object_2(&mut context, AsymmetricAlgorithmSelection::Ecc(curve), None).unwrap();
        let (area, _, _) = context.read_public(ek).unwrap();
        let parsed = EndorsementKey::from_area(&area.marshall().unwrap()).unwrap();
        let made = Credential::make(&parsed, name.value(), &[7; 32]).unwrap();
        // P-256 endorsement keys demand policy A; P-384 ones admit their empty password.
        let session = (curve == EccCurve::NistP256).then(|| endorsement_session(&mut context));
        let id_object = IdObject::try_from(made.id_object).unwrap();
        let seed = EncryptedSecret::try_from(made.encrypted_seed).unwrap();
        let password = AuthSession::Password;
        context.set_sessions((Some(password), Some(session.unwrap_or(password)), None));
        let opened = context.activate_credential(object, ek, id_object, seed).unwrap();
        context.clear_sessions();
        assert_eq!(opened.value(), [7; 32]);
        context.flush_context(ek.into()).unwrap();
    }
}

/// A session that satisfies policy A of the EK Credential Profile.
fn endorsement_session(context: &mut tss_esapi::Context) -> AuthSession {
    let (symmetric, hash) = (SymmetricDefinition::AES_128_CFB, HashingAlgorithm::Sha256);
    let session = context.start_auth_session(None, None, None, SessionType::Policy, symmetric, hash).unwrap().unwrap();
    let policy = PolicySession::try_from(session).unwrap();
    context.execute_with_session(Some(AuthSession::Password), |context| {
        let (secret, none) = (AuthHandle::Endorsement, Nonce::default);
        context.policy_secret(policy, secret, none(), Digest::default(), none(), None).unwrap();
    });
    session
}

/// A bundle accepts the table that the tool prints for governors.
#[test]
fn a_machine_tells_governors_what_to_enrol() {
    let (_folder, mut deployment) = common::deployment(Options::default());
    let told = |arguments: &[&str]| {
        let output = deployment.portcullis("node-1", arguments).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let json: serde_json::Value = serde_json::from_str(&told(&["identity", "--json"])).unwrap();
    let table = told(&["identity", "--name", "node-9"]);
    let mut nodes: toml::Table = toml::from_str(&table).unwrap();
    let text = toml::to_string(&nodes.remove("node").unwrap().as_array().unwrap()[0]).unwrap();
    let node: portcullis_firmware_policy::document::Node = toml::from_str(&text).unwrap();
    assert_eq!((node.name.as_str(), node.minimum_class.as_str()), ("node-9", "snp+tpm"));
    assert_eq!((json["ek"].as_str(), json["chip_id"].as_str()), (node.ek.as_deref(), node.chip_id.as_deref()));
    deployment.enrol("node-1", &[]).unwrap();
    assert_eq!(deployment.document().nodes.last().unwrap().ek, node.ek);
}
