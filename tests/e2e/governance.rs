//! Governors, bundles and commands: no rollback and no replay.

mod common;

use portcullis_attest::snp::generation::Generation;
use portcullis_lab::deployment::SLEEP;
use portcullis_lab::raw::RawSession;
use portcullis_lab::scene::{NOW, Scene};
use portcullis_lab::{Deployment, Options};
use portcullis_permit::{Quorum, SigningKey, Suite};
use portcullis_wire::hex::hex;
use portcullis_wire::{Value, decode, encode};

fn scene() -> Scene {
    Scene::new(&common::root_folder(), Generation::Milan).unwrap()
}

/// The check that refuses a bundle.
fn refused(scene: &Scene, bytes: &[u8]) -> &'static str {
    scene.verify(bytes).err().map_or("none", |error| error.check())
}

/// Bundles signed by no governor, by too few, by one twice, by others; for another
/// authority, outside their validity, older, and after another bundle. Each is refused
/// by its check.
#[test]
fn threat_20_every_bundle_that_must_not_rule_is_refused_by_name() {
    let mut scene = scene();
    let active = scene.bundle().unwrap();
    let [one, two, three] = scene.governors();
    let signed = |keys: &[&SigningKey]| scene.signed(keys).unwrap();
    assert_eq!(refused(&scene, &signed(&[])), "bundle.unsigned");
    assert_eq!(refused(&scene, &signed(&[one])), "bundle.threshold");
    let stranger = SigningKey::generate(Suite::Pq).unwrap();
    assert_eq!(refused(&scene, &signed(&[one, &stranger])), "bundle.threshold");
    assert_eq!(refused(&scene, &signed(&[three, two])), "none");

    // One governor's signature twice, in a file made by hand.
    let parts = decode(&signed(&[one]), 1 << 20).unwrap().into_array().unwrap();
    let [document, Value::Array(signatures)] = <[Value; 2]>::try_from(parts).unwrap() else { panic!("a bundle") };
    let twice = vec![signatures[0].clone(), signatures[0].clone()];
    let doubled = encode(&Value::Array(vec![document, Value::Array(twice)]));
    assert_eq!(refused(&scene, &doubled), "bundle.signer");
    // The real signatures under another document.
    let mut moved = Quorum::unsigned(b"another".to_vec());
    let real = Quorum::decode(&signed(&[one, two]), 1 << 20).unwrap();
    assert!(moved.attach(&real.detached()).is_err());

    assert_eq!(active.check_authority("lab/other").unwrap_err().check(), "bundle.authority");
    assert!(active.check_time(NOW).is_ok());
    assert_eq!(active.check_time(0).unwrap_err().check(), "bundle.not_before");
    assert_eq!(active.check_time(u64::MAX).unwrap_err().check(), "bundle.expired");

    let mut follows = |change: &dyn Fn(&mut Scene)| {
        change(&mut scene);
        let next = scene.bundle().unwrap();
        next.check_succession(&active).err().map_or("none", |error| error.check())
    };
    assert_eq!(follows(&|_| ()), "bundle.version");
    assert_eq!(follows(&|scene| scene.document.version = 2), "bundle.predecessor");
    let digest = hex(active.digest());
    assert_eq!(follows(&|scene| scene.document.predecessor = Some("00".repeat(32))), "bundle.predecessor");
    assert_eq!(follows(&|scene| scene.document.predecessor = Some(digest.clone())), "none");
    // Governors may hand over to another authority; this one does not activate it.
    assert_eq!(follows(&|scene| scene.document.authority = "lab/other".into()), "none");
    assert_eq!(follows(&|scene| scene.document.version = 0), "bundle.version");
}

/// Post-quantum governors sign like all others.
#[test]
fn governors_with_post_quantum_keys_count() {
    let keys: Vec<SigningKey> = [Suite::Classic, Suite::Pq].map(|s| SigningKey::generate(s).unwrap()).into();
    let public: Vec<_> = keys.iter().map(|key| key.public().clone()).collect();
    let governance = portcullis_permit::Governance::new(2, public).unwrap();
    let bytes = scene().signed(&[&keys[0], &keys[1]]).unwrap();
    assert!(portcullis_firmware_policy::VerifiedBundle::verify(&bytes, &governance).is_ok());
}

/// The deployment's bundle, signed only by a foreign key.
fn signed_by(deployment: &Deployment, key: &SigningKey) -> Vec<u8> {
    let real = Quorum::decode(&std::fs::read(deployment.path("bundle.pcb")).unwrap(), 1 << 20).unwrap();
    let mut foreign = Quorum::unsigned(real.unverified_document().to_vec());
    foreign.sign(portcullis_firmware_policy::CONTENT_TYPE, key).unwrap();
    foreign.encode()
}

fn said(output: &std::process::Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// The host gives the node other governors, or goes back to an older bundle.
#[test]
fn threat_41_neither_governors_nor_bundle_of_a_node_can_be_swapped() {
    let (_folder, mut deployment, _daemon) = common::serving();
    assert_eq!(deployment.request("node-1", SLEEP).unwrap().status.code(), Some(0));

    // Other governors, with the bundle of the real ones.
    let real = std::fs::read(deployment.path("governance.cbor")).unwrap();
    let foreign = SigningKey::generate(Suite::Classic).unwrap();
    let governance = portcullis_permit::Governance::new(1, vec![foreign.public().clone()]).unwrap();
    std::fs::write(deployment.path("governance.cbor"), governance.encode()).unwrap();
    let output = deployment.request("node-1", SLEEP).unwrap();
    assert!(said(&output).contains("bundle.threshold"), "{}", said(&output));
    assert_ne!(output.status.code(), Some(0));
    // Other governors with their own bundle: the authority still obeys the real ones.
    let bundle = std::fs::read(deployment.path("bundle.pcb")).unwrap();
    std::fs::write(deployment.path("bundle.pcb"), signed_by(&deployment, &foreign)).unwrap();
    // The node keeps the bundle that it has verified, which the other governors did not
    // sign. Without its state, it meets an authority of other governors.
    let output = deployment.request("node-1", SLEEP).unwrap();
    assert!(said(&output).starts_with("portcullis: denied\n  state.bundle\n"), "{}", said(&output));
    assert!(said(&output).contains("signed by no governor, 1 needed"), "{}", said(&output));
    std::fs::remove_dir_all(deployment.path("state-node-1")).unwrap();
    let output = deployment.request("node-1", SLEEP).unwrap();
    assert!(said(&output).contains("authority.governance_root"), "{}", said(&output));
    std::fs::remove_dir_all(deployment.path("state-node-1")).unwrap();
    std::fs::write(deployment.path("governance.cbor"), &real).unwrap();
    std::fs::write(deployment.path("bundle.pcb"), &bundle).unwrap();

    // The next bundle reaches the node; then its file is rolled back, but the node keeps
    // the new one.
    let predecessor = deployment.bundle_digest("bundle.pcb").unwrap();
    (deployment.document().version, deployment.document().predecessor) = (2, Some(predecessor));
    deployment.document().workloads.clear();
    deployment.sign_bundle_as("next.pcb").unwrap();
    assert_eq!(post(&deployment, "/v1/policy", std::fs::read(deployment.path("next.pcb")).unwrap()).0, 200);
    for _ in 0..2 {
        let output = deployment.request("node-1", SLEEP).unwrap();
        assert!(said(&output).starts_with("portcullis: denied\n  workload.known\n"), "{}", said(&output));
        std::fs::write(deployment.path("bundle.pcb"), &bundle).unwrap();
    }
    // The authority also refuses the old bundle, by its check.
    let (status, body) = post(&deployment, "/v1/policy", bundle);
    assert_eq!(status, 403, "{body}");
    assert!(body.contains("bundle.version"), "{body}");
}

fn post(deployment: &Deployment, path: &str, body: Vec<u8>) -> (u16, String) {
    common::block_on(async {
        let mut session = RawSession::open(deployment.nodes_address()).await.unwrap();
        let answer = session.post(path, body).await.unwrap();
        (answer.status, String::from_utf8_lossy(&answer.body).into_owned())
    })
}

/// An expired command of 2019, validly signed.
fn over_already(keys: &[&String]) -> Vec<u8> {
    let command = portcullis_permit::Revocation {
        authority: "lab/authority".into(),
        sequence: 1,
        predecessor: None,
        expires: 1_577_836_800,
        target: portcullis_permit::RevocationTarget::Node("node-9".into()),
        reason: "lab".into(),
    };
    let mut quorum = portcullis_permit::Quorum::unsigned(command.encode());
    for path in keys {
        let key = SigningKey::from_pem(std::fs::read(path).unwrap()).unwrap();
        quorum.sign(portcullis_permit::Revocation::CONTENT_TYPE, &key).unwrap();
    }
    quorum.encode()
}

/// Commands: replayed, out of order, after another, too late, for another
/// authority, by a stolen key alone, by a swapped set.
#[test]
fn threat_44_governors_commands_count_once_in_order_and_here() {
    let (_folder, deployment) = common::deployment(Options::default());
    let _daemon = deployment.serve().unwrap();
    let refused = |body: Vec<u8>, check: &str| {
        let (status, said) = post(&deployment, "/v1/revocations", body);
        assert_eq!(status, 403, "{said}");
        assert!(said.contains(&format!("\"title\":\"{check}\"")), "{said}");
    };
    let (one, two) = (deployment.text("governor-1.pem"), deployment.text("governor-2.pem"));
    let command = |out: &str, more: &[&str]| {
        let out = deployment.text(out);
        let mut all = vec!["revoke", "--reason", "lab", "--node", "node-9", "--out", &out];
        all.extend(more);
        deployment.policy(&all).unwrap();
        std::fs::read(&out).unwrap()
    };
    let (here, later) = (["--authority", "lab/authority"], ["--expires", "2045-01-01T00:00:00Z"]);
    let both = ["--key", &one, "--key", &two];
    let join = |parts: &[&[&'static str]]| parts.concat();
    let with = |parts: Vec<&'static str>, keys: &[&str]| -> Vec<String> {
        parts.into_iter().map(str::to_owned).chain(keys.iter().map(|k| (*k).to_owned())).collect()
    };
    let make = |out: &str, parts: Vec<String>| command(out, &parts.iter().map(String::as_str).collect::<Vec<_>>());

    let first = with(join(&[&here, &later, &["--first"]]), &both);
    let stolen = make("stolen.pcr", with(join(&[&here, &later, &["--first"]]), &["--key", &one]));
    refused(stolen, "governance.signature");
    let foreign = deployment.text("foreign");
    deployment.policy(&["keygen", "--out", &foreign]).unwrap();
    let foreign = deployment.text("foreign.pem");
    let swapped = make("swapped.pcr", with(join(&[&here, &later, &["--first"]]), &["--key", &foreign, "--key", &one]));
    refused(swapped, "governance.signature");
    let elsewhere = make("elsewhere.pcr", with(join(&[&["--authority", "lab/other"], &later, &["--first"]]), &both));
    refused(elsewhere, "governance.authority");
    // The tool creates no expired command; a modified tool may.
    let over = with(join(&[&here, &["--expires", "2020-01-01T00:00:00Z"], &["--first"]]), &both);
    let over: Vec<&str> = ["revoke", "--reason", "x", "--node", "n", "--out", "/dev/null"]
        .into_iter()
        .chain(over.iter().map(String::as_str))
        .collect();
    assert!(deployment.policy(&over).unwrap_err().to_string().contains("is over already"));
    refused(over_already(&[&one, &two]), "governance.expired");

    let good = make("good.pcr", first.clone());
    assert_eq!(post(&deployment, "/v1/revocations", good.clone()).0, 200);
    refused(good, "governance.sequence");
    // A second line that branches off the first: right number, other predecessor.
    let beside = make(
        "beside.pcr",
        with(vec!["--authority", "lab/authority", "--expires", "2044-01-01T00:00:00Z", "--first"], &both),
    );
    drop(beside);
    let after = ["--after".to_owned(), deployment.text("beside.pcr")];
    let fork = make("fork.pcr", [with(join(&[&here, &later]), &both), after.to_vec()].concat());
    refused(fork, "governance.predecessor");
    let after = ["--after".to_owned(), deployment.text("good.pcr")];
    let next = make("next.pcr", [with(join(&[&here, &later]), &both), after.to_vec()].concat());
    assert_eq!(post(&deployment, "/v1/revocations", next).0, 200);
    // A swapped set signs a bundle.
    let key = SigningKey::generate(Suite::Classic).unwrap();
    let own = portcullis_permit::Governance::new(1, vec![key.public().clone()]).unwrap();
    let foreign = signed_by(&deployment, &key);
    assert!(portcullis_firmware_policy::VerifiedBundle::verify(&foreign, &own).is_ok(), "sound, for whom they govern");
    let (status, body) = post(&deployment, "/v1/policy", foreign);
    assert_eq!(status, 403, "{body}");
    assert!(body.contains("bundle.threshold"), "{body}");
}

/// A node that missed several bundles catches up; each bundle follows on the last.
#[test]
fn a_node_that_missed_bundles_takes_them_one_after_another() {
    let (_folder, mut deployment, _daemon) = common::serving();
    assert_eq!(deployment.request("node-1", SLEEP).unwrap().status.code(), Some(0));
    let mut last = "bundle.pcb".to_owned();
    for version in 2..=4 {
        let predecessor = deployment.bundle_digest(&last).unwrap();
        (deployment.document().version, deployment.document().predecessor) = (version, Some(predecessor));
        last = format!("v{version}.pcb");
        deployment.sign_bundle_as(&last).unwrap();
        assert_eq!(post(&deployment, "/v1/policy", std::fs::read(deployment.path(&last)).unwrap()).0, 200);
    }
    let output = deployment.request("node-1", SLEEP).unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    let kept = std::fs::read(deployment.path("state-node-1/bundle.pcb")).unwrap();
    assert_eq!(kept, std::fs::read(deployment.path(&last)).unwrap());
    // Submitted as a file, the newest does not follow on the first.
    std::fs::copy(deployment.path("bundle.pcb"), deployment.path("state-node-1/bundle.pcb")).unwrap();
    std::fs::copy(deployment.path(&last), deployment.path("bundle.pcb")).unwrap();
    let output = deployment.request("node-1", SLEEP).unwrap();
    assert!(said(&output).contains("bundle.predecessor"), "{}", said(&output));
    common::block_on(async {
        let mut session = RawSession::open(deployment.nodes_address()).await.unwrap();
        for path in [
            "/v1/policy/after/00",
            "/v1/policy/after/..%2f..%2factive",
            &format!("/v1/policy/after/{}", "00".repeat(32)),
        ] {
            assert_eq!(session.get(path).await.unwrap().status, 404, "{path}");
        }
    });
}
