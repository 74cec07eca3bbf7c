//! THREATS row 48: every signed object offered in every other's place.
#![cfg(test)]

use portcullis_lineage::{ReceiptKey, verify_receipts};
use portcullis_permit::{
    Checkpoint, Clock, Constraints, Denial, DynamicLinking, Endorsement, Event, EventKind, Execution, ExecutionStage,
    Governance, Permit, PermitId, PermitRequest, PublicKey, Quorum, ReceivedRequest, Refusal, Revocation,
    RevocationTarget, SigningKey, StatusList, StatusReference, Suite, TransparentPermit, VerifyingKey, Workload,
    statement,
};
use portcullis_wire::{Value, bstr};

struct Objects {
    key: SigningKey,
    governance: Governance,
    checkpoint_key: VerifyingKey,
    made: Vec<(&'static str, Vec<u8>)>,
}

/// One of each, all by the same key, so that only the type tells them apart.
fn objects() -> Objects {
    let key = SigningKey::generate(Suite::Classic).unwrap();
    let governance = Governance::new(1, vec![key.public().clone()]).unwrap();
    let checkpoint_key = VerifyingKey::new("log.test/48", [3; 32]).unwrap();
    let id = PermitId::from_bytes([1; 16]);
    let permit = Permit {
        issuer: "log.test/48".into(),
        subject: "node".into(),
        audience: "gate/node".into(),
        not_before: 1,
        expires: 2,
        id,
        confirmation: *key.public().thumbprint(),
        workload: [2; 32],
        constraints: Constraints { arguments: None, environment: None, linking: DynamicLinking::Static },
        status: StatusReference { uri: "/v1/status/0".into(), index: 0 },
        evidence: [3; 32],
        bundle: [4; 32],
        result: [5; 32],
        boot: None,
        channel: [6; 32],
        parent: None,
        warnings: Vec::new(),
    };
    let denial = Denial {
        issuer: "log.test/48".into(),
        subject: "node".into(),
        id,
        time: 1,
        refusals: vec![Refusal::id_only("node.enrolled")],
        evidence: [3; 32],
        bundle: [4; 32],
        facts: [0; 32],
    };
    let workload =
        Workload { digest: [2; 32], arguments: [0; 32], environment: [0; 32], linking: DynamicLinking::Static };
    let request = PermitRequest {
        audience: "log.test/48".into(),
        node: "node".into(),
        confirmation: key.public().clone(),
        nonce: [7; 32],
        statement: [8; 32],
        workload,
        seen: None,
        parent: None,
    };
    let execution = Execution {
        permit: id,
        stage: ExecutionStage::Started,
        code: None,
        check: None,
        kill_milliseconds: None,
        time: 1,
    };
    let endorsement = Endorsement {
        checkpoint_key: checkpoint_key.clone(),
        permit_key: key.public().clone(),
        receipt_key: ReceiptKey::new([9; 32]),
        chip_id: vec![1; 64],
        measurement: vec![2; 48],
        bundle_version: 1,
        expires: 9,
        predecessor: None,
    };
    let revocation = Revocation {
        authority: "log.test/48".into(),
        sequence: 1,
        predecessor: None,
        expires: 9,
        target: RevocationTarget::Node("node".into()),
        reason: "test".into(),
    };
    let governed = |document: Vec<u8>, content_type| {
        let mut quorum = Quorum::unsigned(document);
        quorum.sign(content_type, &key).unwrap();
        quorum.encode()
    };
    let event = Event { sequence: 1, time: 1, kind: EventKind::Heartbeat };
    let made = vec![
        ("permit", permit.sign(&key).unwrap()),
        ("denial", denial.sign(&key).unwrap()),
        ("status list", StatusList::new("/v1/status/0", 8, 1, 100).sign(&key, "log.test/48").unwrap()),
        ("event", event.sign(&key, "log.test/48").unwrap()),
        ("request", request.sign(&key, b"evidence").unwrap()),
        ("execution", execution.sign(&key, "node").unwrap()),
        ("endorsement", governed(endorsement.encode(), Endorsement::CONTENT_TYPE)),
        ("revocation", governed(revocation.encode(), Revocation::CONTENT_TYPE)),
    ];
    Objects { key, governance, checkpoint_key, made }
}

/// Whether some bytes are accepted as an object of this name.
fn accepted(name: &str, bytes: &[u8], key: &PublicKey, governance: &Governance) -> bool {
    match name {
        "permit" => statement::verify(bytes, statement::Kind::Permit, key).is_ok(),
        "denial" => Denial::verify(bytes, key).is_ok(),
        "status list" => StatusList::verify(bytes, key, "/v1/status/0", Clock { now: 2, skew: 1 }).is_ok(),
        "event" => Event::verify(bytes, key).is_ok(),
        "request" => ReceivedRequest::verify(bytes).is_ok(),
        "execution" => Execution::verify(bytes).is_ok(),
        "endorsement" => Endorsement::verify(bytes, governance).is_ok(),
        "revocation" => Revocation::verify(bytes, governance).is_ok(),
        other => panic!("{other}"),
    }
}

#[test]
fn threat_48_no_signed_object_passes_for_another() {
    let objects = objects();
    for (made, bytes) in &objects.made {
        for (wanted, _) in &objects.made {
            let found = accepted(wanted, bytes, objects.key.public(), &objects.governance);
            assert_eq!(found, made == wanted, "{made} offered as {wanted}");
        }
        // nor as a receipt, a checkpoint, or a permit with a receipt
        let receipts = Value::Array(vec![bstr(bytes)]);
        assert!(
            verify_receipts(Some(&receipts), b"entry", &ReceiptKey::new([9; 32]), None).is_err(),
            "{made} as receipt"
        );
        let text = String::from_utf8_lossy(bytes);
        assert!(Checkpoint::verify(&text, &objects.checkpoint_key).is_err(), "{made} as checkpoint");
        let transparent = TransparentPermit::verify(bytes, objects.key.public(), &ReceiptKey::new([9; 32]), None);
        let required = if *made == "permit" { "permit.receipt" } else { transparent.as_ref().unwrap_err().check() };
        assert_eq!(transparent.unwrap_err().check(), required, "{made} as transparent permit");
    }
}
