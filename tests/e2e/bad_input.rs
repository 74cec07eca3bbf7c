//! Anything malformed, oversized, slow, repeated or late is a clear refusal and
//! changes no state; a crash loses no answered permit.

mod common;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::time::{Duration, Instant};

use portcullis_attester::OpenMachine;
use portcullis_lab::crash::POINTS;
use portcullis_lab::daemon::get;
use portcullis_lab::raw::RawSession;
use portcullis_lab::{Deployment, LabPlatform};
use portcullis_permit::{PermitRequest, SigningKey, Suite};
use serde_json::Value;

fn metric(deployment: &Deployment, name: &str) -> f64 {
    let (_, text) = get(deployment.public_address(), "/metrics").unwrap();
    let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_default();
    line.rsplit(' ').next().and_then(|value| value.parse().ok()).unwrap_or(-1.0)
}

fn log_size(deployment: &Deployment) -> u64 {
    let (_, body) = get(deployment.public_address(), "/readyz").unwrap();
    let ready: Value = serde_json::from_str(&body).unwrap();
    ready["log_size"].as_u64().unwrap()
}

async fn good(deployment: &Deployment, session: &RawSession, key: &SigningKey) -> (PermitRequest, Vec<u8>) {
    let mut machine = LabPlatform { machine: deployment.machine("node-1") }.open().unwrap();
    let request = session.request("node-1", key, common::sleep_digest());
    let evidence = session.evidence(&mut machine, &request).unwrap();
    let signed = request.sign(key, evidence.bytes()).unwrap();
    (request, signed)
}

/// Unparseable: 400, counted, not logged. Parsed but refused: one logged denial.
#[test]
fn malformed_requests_change_no_state() {
    let (_folder, deployment, _daemon) = common::serving();
    common::block_on(async {
        let key = SigningKey::generate(Suite::Classic).unwrap();
        let mut session = RawSession::open(deployment.nodes_address()).await.unwrap();
        let before = log_size(&deployment);
        let (_, signed) = good(&deployment, &session, &key).await;
        let mut malformed: Vec<Vec<u8>> =
            vec![vec![], vec![0xff; 100], signed[1..].to_vec(), [signed.clone(), vec![0]].concat()];
        // the proof of possession fails
        let mut forged = signed.clone();
        *forged.last_mut().unwrap() ^= 1;
        malformed.push(forged);
        for (count, body) in malformed.into_iter().enumerate() {
            let answer = session.ask(body).await.unwrap();
            assert_eq!(answer.status, 400, "{count}: {}", String::from_utf8_lossy(&answer.body));
        }
        assert_eq!(session.post("/v1/attest", vec![0xa0]).await.unwrap().status, 400);
        assert_eq!(session.post("/v1/executions", vec![1, 2, 3]).await.unwrap().status, 400);
        for path in ["/v1/policy", "/v1/revocations", "/v1/instance"] {
            assert_eq!(session.post(path, vec![1, 2, 3]).await.unwrap().status, 403, "{path}");
        }
        assert_eq!(log_size(&deployment), before);
        assert!(metric(&deployment, "portcullis_malformed_requests_total") >= 6.0);
        // the connection is still good, and its nonce is a new one
        let (_, signed) = good(&deployment, &session, &key).await;
        assert_eq!(session.ask(signed).await.unwrap().status, 201);
        assert_eq!(log_size(&deployment), before + 1);
    });
}

#[test]
fn order_size_and_unknown_paths_are_refused() {
    let (_folder, deployment, _daemon) = common::serving();
    common::block_on(async {
        let mut session = RawSession::open(deployment.nodes_address()).await.unwrap();
        let huge = session.post("/v1/permits", vec![0; 9 << 20]).await;
        // refused while it is still being sent: an answer, or a cut connection
        assert!(huge.map_or(true, |answer| answer.status == 413));
        let mut session = RawSession::open(deployment.nodes_address()).await.unwrap();
        assert_eq!(session.get("/nonexistent").await.unwrap().status, 404);
        assert_eq!(session.get("/v1/permits").await.unwrap().status, 405);
    });
    let public = deployment.public_address();
    assert_eq!(get(public, "/tile/entries/000").unwrap().0, 404, "entries are not public");
    assert_eq!(get(public, "/tile/0/../../keys.sealed").unwrap().0, 404);
    assert_eq!(get(public, "/checkpoint").unwrap().0, 200);
    let caching = |path: &str| {
        let mut stream = TcpStream::connect(public).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nhost: lab\r\nconnection: close\r\n\r\n").unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        let head = String::from_utf8_lossy(&answer).to_lowercase();
        head.lines().find_map(|line| line.strip_prefix("cache-control: ")).unwrap_or_default().to_owned()
    };
    assert_eq!(caching("/checkpoint"), "no-cache");
    assert_eq!(caching("/signed-root"), "no-cache");
    assert_eq!(caching("/tile/0/000.p/1"), "public, max-age=300");
    assert_eq!(caching("/tile/0/777"), "no-cache", "what is not there may come");
    assert_eq!(get(public, "/v1/permits").unwrap().0, 404, "readers can ask for nothing");
}

#[test]
fn a_peer_that_stalls_is_dropped_and_harms_nobody() {
    let (_folder, deployment, _daemon) = common::serving();
    let mut stalled = TcpStream::connect(deployment.nodes_address()).unwrap();
    stalled.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stalled.write_all(&[0x16, 0x03, 0x01]).unwrap();
    common::block_on(async {
        let key = SigningKey::generate(Suite::Classic).unwrap();
        let mut session = RawSession::open(deployment.nodes_address()).await.unwrap();
        let (_, signed) = good(&deployment, &session, &key).await;
        assert_eq!(session.ask(signed).await.unwrap().status, 201);
    });
    let started = Instant::now();
    assert_eq!(stalled.read(&mut [0; 16]).unwrap(), 0, "the authority closes it");
    assert!(started.elapsed() < Duration::from_secs(15));
    while metric(&deployment, "portcullis_handshakes_failed_total") < 1.0 {
        assert!(started.elapsed() < Duration::from_secs(20), "it is not counted");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// THREATS 24: strangers are denied faster than a disk should fill. The log has one
/// entry each for a limited number of these denials, and a count of the rest; every
/// answered denial is in the log. Nodes get their permits meanwhile.
#[test]
fn threat_24_a_flood_of_strangers_is_counted_and_nobody_is_lost() {
    let (_folder, deployment, mut daemon) = common::serving();
    let (denied, counted) = common::block_on(async {
        let key = SigningKey::generate(Suite::Classic).unwrap();
        let mut session = RawSession::open(deployment.nodes_address()).await.unwrap();
        let ask = async |session: &mut RawSession| {
            let request = session.request("nobody", &key, common::sleep_digest());
            session.ask(request.sign(&key, b"no evidence").unwrap()).await.unwrap().status
        };
        let mut denied = 0_u64;
        while ask(&mut session).await == 403 {
            denied += 1;
            assert!(denied < 400, "no budget ends");
        }
        let mut counted = 1_u64;
        for _ in 0..3 {
            assert_eq!(ask(&mut session).await, 429);
            counted += 1;
        }
        let mut node = RawSession::open(deployment.nodes_address()).await.unwrap();
        let (_, signed) = good(&deployment, &node, &key).await;
        assert_eq!(node.ask(signed).await.unwrap().status, 201);
        (denied, counted)
    });
    assert!((256..300).contains(&denied), "{denied}");
    assert!(daemon.stop().unwrap().success());

    let (mut singly, mut together) = (0, 0);
    let mut reader = portcullis_lineage::ArchiveReader::open(common::log_reader(&deployment), 0).unwrap();
    while let Some(batch) = reader.next_batch().unwrap() {
        for entry in batch.entries {
            let object = portcullis_wire::Sign1::parse(&entry.statement, 1 << 16).unwrap();
            match portcullis_permit::Kind::of(&object) {
                Some(portcullis_permit::Kind::Denial) => singly += 1,
                Some(portcullis_permit::Kind::DenialCount) => {
                    let record = portcullis_permit::DenialCountRecord::decode(object.payload().unwrap()).unwrap();
                    assert!(record.counts.keys().all(|check| check == "evidence.form"), "{record:?}");
                    together += record.total();
                }
                _ => {}
            }
        }
    }
    assert_eq!((singly, together), (denied, counted));
}

/// kill -9 at each named point of the log: every answered permit is there, the log
/// verifies, and the authority continues by the normal path.
#[test]
fn no_crash_point_loses_an_answered_permit() {
    let (_folder, deployment) = common::deployment(portcullis_lab::Options::default());
    let mut answered = 0;
    for point in POINTS {
        // The boot entry is the first batch, and archives the endorsement; the
        // first permit archives certificates; then two more are answered.
        let after = match point {
            "before-archive" | "before-tiles" | "before-checkpoint" => "0",
            "after-archive" => "1",
            _ => "3",
        };
        let crash = ["--crash", point, "--crash-after", after];
        let daemon = deployment.serve_on("authority", &crash);
        if let Ok(mut daemon) = daemon {
            answered += common::block_on(async {
                let key = SigningKey::generate(Suite::Classic).unwrap();
                let mut done = 0;
                if let Ok(mut session) = RawSession::open(deployment.nodes_address()).await {
                    for _ in 0..8 {
                        let (_, signed) = good(&deployment, &session, &key).await;
                        match session.ask(signed).await {
                            Ok(answer) if answer.status == 201 => done += 1,
                            _ => break,
                        }
                    }
                }
                done
            });
            assert!(
                daemon.wait(Duration::from_secs(5)).is_ok_and(|status| !status.success()),
                "{point}: it did not crash"
            );
        }
        let mut daemon = deployment.serve().unwrap();
        assert!(daemon.stop().unwrap().success(), "{point}: {}", daemon.log());
        let output = Command::new(common::lab())
            .args(["portcullis-audit", "log", "verify", &deployment.text("state-authority/log"), "--json"])
            .args(["--endorsement", &deployment.text("authority.pce")])
            .args(["--governance-root", &deployment.text("governance.cbor")])
            .output()
            .unwrap();
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(report["verdict"], "pass", "{point}: {report}");
        let permits = report["log"]["kinds"]["application/vnd.portcullis.permit+cwt"].as_u64().unwrap_or(0);
        assert!(permits >= answered, "{point}: {permits} permits in the log, {answered} were answered");
    }
    assert!(answered >= 8, "only {answered} permits were answered in all");
}

/// Evidence is archived with its decision.
#[test]
fn what_a_decision_refers_to_is_archived() {
    let (_folder, deployment, mut daemon) = common::serving();
    let (evidence, permit) = common::block_on(async {
        let key = SigningKey::generate(Suite::Classic).unwrap();
        let mut session = RawSession::open(deployment.nodes_address()).await.unwrap();
        let mut machine = LabPlatform { machine: deployment.machine("node-1") }.open().unwrap();
        let request = session.request("node-1", &key, common::sleep_digest());
        let evidence = session.evidence(&mut machine, &request).unwrap();
        let answer = session.ask(request.sign(&key, evidence.bytes()).unwrap()).await.unwrap();
        (portcullis_wire::sha256(&[evidence.bytes()]), answer.body)
    });
    assert!(daemon.stop().unwrap().success());
    let object = portcullis_wire::Sign1::parse(&permit, 1 << 16).unwrap();
    let permit = portcullis_permit::Permit::decode(object.payload().unwrap()).unwrap();
    assert_eq!(permit.evidence, evidence);
    let archived: Vec<[u8; 32]> =
        common::archived(&deployment).iter().map(|blob| portcullis_wire::sha256(&[blob])).collect();
    for digest in [permit.evidence, permit.result, permit.channel] {
        assert!(archived.contains(&digest));
    }
}

/// The pq suite signs permits with ML-DSA-65, from genesis to the gate.
#[test]
fn the_post_quantum_suite_works_from_end_to_end() {
    let options = portcullis_lab::Options { suite: "pq", ..portcullis_lab::Options::default() };
    let (_folder, deployment) = common::deployment(options);
    let _daemon = deployment.serve().unwrap();
    let output = deployment.request("node-1", portcullis_lab::deployment::SLEEP).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let permit = std::fs::read(deployment.path("node-1.permit")).unwrap();
    assert_eq!(portcullis_wire::Sign1::parse(&permit, 1 << 16).unwrap().algorithm(), -49);
}

/// THREATS 16: a disk restored from a backup, although the last stop was clean. The TPM
/// detects it, and the authority reports it before anything is signed.
#[test]
fn threat_16_the_tpm_refuses_a_restored_disk() {
    let (_folder, deployment) = common::deployment(portcullis_lab::Options::default());
    assert!(deployment.serve().unwrap().stop().unwrap().success());
    let (log, backup) = (deployment.path("state-authority/log"), deployment.path("backup"));
    common::copy_folder(&log, &backup);
    let mut daemon = deployment.serve().unwrap();
    assert!(deployment.request("node-1", portcullis_lab::deployment::SLEEP).unwrap().status.success());
    assert!(daemon.stop().unwrap().success());
    std::fs::rename(&log, deployment.path("newest")).unwrap();
    common::copy_folder(&backup, &log);
    let refused = deployment.portcullisd("authority", &["serve"]).output().unwrap();
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(3), "{said}");
    assert!(said.contains("anchor.rollback: found a log of"), "{said}");
    std::fs::remove_dir_all(&log).unwrap();
    std::fs::rename(deployment.path("newest"), &log).unwrap();
    assert!(deployment.serve().unwrap().stop().unwrap().success(), "the newest state serves");
}

/// THREATS 39: a whole disk restored from between two anchors. The node notices, and
/// its signed checkpoint is the proof on which the authority trips.
#[test]
fn a_rolled_back_log_is_noticed_and_trips_on_proof() {
    let (_folder, deployment) = common::deployment(portcullis_lab::Options::default());
    assert!(deployment.serve().unwrap().stop().unwrap().success());
    let (log, backup) = (deployment.path("state-authority/log"), deployment.path("backup"));
    common::copy_folder(&log, &backup);
    let mut daemon = deployment.serve().unwrap();
    let sleep = portcullis_lab::deployment::SLEEP;
    for _ in 0..4 {
        assert!(deployment.request("node-1", sleep).unwrap().status.success());
    }
    daemon.kill().unwrap();
    std::fs::remove_dir_all(&log).unwrap();
    common::copy_folder(&backup, &log);
    let daemon = deployment.serve().unwrap();
    let refused = deployment.request("node-1", sleep).unwrap();
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(said.contains("\n  authority.checkpoint.consistency\n"), "{said}");

    let state = std::fs::read_dir(deployment.path("state-node-1")).unwrap().map(Result::unwrap);
    let mut notes = state.filter(|e| e.file_name().to_string_lossy().starts_with("checkpoint-"));
    let note = std::fs::read_to_string(notes.next().unwrap().path()).unwrap();
    let ask = |note: String| {
        common::block_on(async {
            let key = SigningKey::generate(Suite::Classic).unwrap();
            let mut session = RawSession::open(deployment.nodes_address()).await.unwrap();
            let mut machine = LabPlatform { machine: deployment.machine("node-1") }.open().unwrap();
            let request = PermitRequest { seen: Some(note), ..session.request("node-1", &key, common::sleep_digest()) };
            let evidence = session.evidence(&mut machine, &request).unwrap();
            let answer = session.ask(request.sign(&key, evidence.bytes()).unwrap()).await.unwrap();
            session.denied(&answer).unwrap()
        })
    };
    // a claim without the log's signature is denied and trips nothing
    let forged = note.replacen('\n', "\n9", 1);
    assert_eq!(ask(forged), ["request.seen"]);
    assert_eq!(daemon.get("/readyz").unwrap().0, 200);
    assert_eq!(ask(note), ["request.seen"]);
    let (status, body) = daemon.get("/readyz").unwrap();
    assert!(status == 503 && body.contains("log.fork"), "{status} {body}");
}
