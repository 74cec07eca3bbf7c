//! Logs, proofs and receipts that others made.
#![cfg(test)]

use std::io;
use std::path::Path;

use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};
use coset::{CoseSign1, Label, TaggedCborSerializable};
use data_encoding::{BASE64, HEXLOWER};
use portcullis_lineage::{
    Checkpoint, CheckpointError, ReceiptError, ReceiptKey, Tree, VerifyingKey, verify_directory, verify_receipts,
};
use portcullis_vectors::vectors;
use portcullis_wire::{Digest, Value, merkle, sha256};
use serde_json::Value as Json;

fn read(path: &Path) -> Json {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn hash(text: &str) -> Vec<u8> {
    BASE64.decode(text.as_bytes()).unwrap()
}

/// Every folder that is there has a test below, and a new one fails here.
#[test]
fn no_folder_is_without_a_test() {
    let covered: [(&str, &[&str]); 2] = [
        // `formats-tlog-proof`: a format that nothing here reads.
        (
            "tlog",
            &["formats-checkpoint", "formats-tlog-proof", "go-note", "merkle-probes", "sunlight-ct", "tessera-log"],
        ),
        (
            "receipts",
            &[
                "draft-inclusion",
                "scitt-cose-fail-tampered-path",
                "scitt-cose-valid-ccf-vds2",
                "scitt-cose-valid-eddsa",
            ],
        ),
    ];
    for (part, expected) in covered {
        let Some(root) = vectors(part) else { return };
        let folders = std::fs::read_dir(root).unwrap().map(Result::unwrap).filter(|e| e.file_type().unwrap().is_dir());
        let mut folders: Vec<String> = folders.map(|e| e.file_name().into_string().unwrap()).collect();
        folders.sort();
        assert_eq!(folders, expected, "{part}");
    }
}

/// A whole log of another implementation at each of its sizes.
#[test]
fn a_log_of_tessera_verifies_at_every_size() {
    let Some(folder) = vectors("tlog").map(|folder| folder.join("tessera-log")) else { return };
    let key = VerifyingKey::parse(&std::fs::read_to_string(folder.join("vkey.txt")).unwrap()).unwrap();
    let mut tree = Tree::default();
    for size in 1..=15_u64 {
        let fetch = |path: &str| match path {
            "checkpoint" => std::fs::read(folder.join(format!("checkpoint.{size}"))),
            path => std::fs::read(folder.join(path)),
        };
        let log = verify_directory(&key, fetch, |index, entry| {
            if index + 1 == size {
                tree.push(merkle::leaf_hash(entry));
            }
        });
        let log = log.unwrap();
        assert_eq!((log.checkpoint().size(), *log.checkpoint().root()), (size, tree.root()));
        for old in 1..=size {
            let path = tree.consistency(old, size).unwrap();
            assert!(merkle::is_consistent(old, &tree.root_at(old).unwrap(), size, &tree.root(), &path));
        }
    }
    let lost = |path: &str| match path {
        "checkpoint" => std::fs::read(folder.join("checkpoint.15")),
        _ => Err(io::ErrorKind::NotFound.into()),
    };
    assert!(verify_directory(&key, lost, |_, _| ()).is_err());
}

/// A note that no Ed25519 key signed: not valid, whatever else it is.
#[test]
fn a_checkpoint_of_a_static_ct_log_is_not_ours_to_verify() {
    let Some(folder) = vectors("tlog").map(|folder| folder.join("sunlight-ct")) else { return };
    let note = std::fs::read_to_string(folder.join("checkpoint")).unwrap();
    let key = VerifyingKey::new("rome2026h1.example.org", [7; 32]).unwrap();
    assert_eq!(Checkpoint::verify(&note, &key), Err(CheckpointError::Signature));
    assert_eq!(Checkpoint::unverified(&note).map(|(size, _)| size), Some(300));
}

#[test]
fn checkpoints_that_must_fail_do() {
    let Some(folder) = vectors("tlog").map(|folder| folder.join("formats-checkpoint")) else { return };
    let mut failed = 0;
    for case in read(&folder.join("cases.json")).as_array().unwrap() {
        let body = case["checkpoint"].as_str().unwrap();
        let origin = body.split('\n').next().unwrap();
        let key = VerifyingKey::new(if origin.is_empty() { "Log" } else { origin }, [7; 32]).unwrap();
        let outcome = Checkpoint::verify(&format!("{body}\n\u{2014} {origin} AAAA\n"), &key);
        if case["wantErr"] == true {
            let refused = matches!(outcome, Err(CheckpointError::Malformed | CheckpointError::Origin { .. }));
            assert!(refused, "{}: {outcome:?}", case["desc"]);
            failed += 1;
        }
    }
    assert!(failed >= 3, "{failed}");
}

#[test]
fn proofs_of_another_implementation_verify_alike() {
    let Some(folder) = vectors("tlog").map(|folder| folder.join("merkle-probes")) else { return };
    let digest = |value: &Json| Digest::try_from(hash(value.as_str().unwrap())).ok();
    let path = |value: &Json| -> Option<Vec<Digest>> {
        value.as_array().map(Vec::as_slice).unwrap_or_default().iter().map(digest).collect()
    };
    let mut counts = [0, 0];
    for case in read(&folder.join("inclusion.json")).as_array().unwrap() {
        let (index, size) = (case["leafIdx"].as_u64().unwrap(), case["treeSize"].as_u64().unwrap());
        let valid = match (digest(&case["leafHash"]), digest(&case["root"]), path(&case["proof"])) {
            (Some(leaf), Some(root), Some(path)) => {
                merkle::root_from_inclusion(&leaf, index, size, &path) == Some(root)
            }
            _ => false,
        };
        assert_eq!(valid, case["wantErr"] == false, "{}", case["_file"]);
        counts[usize::from(valid)] += 1;
    }
    for case in read(&folder.join("consistency.json")).as_array().unwrap() {
        let (old, new) = (case["size1"].as_u64().unwrap(), case["size2"].as_u64().unwrap());
        let valid = match (digest(&case["root1"]), digest(&case["root2"]), path(&case["proof"])) {
            (Some(before), Some(after), Some(path)) => {
                // The other one does not look at the roots of an empty tree.
                old == 0 && path.is_empty() || merkle::is_consistent(old, &before, new, &after, &path)
            }
            _ => false,
        };
        assert_eq!(valid, case["wantErr"] == false, "{}", case["_file"]);
        counts[usize::from(valid)] += 1;
    }
    assert!(counts[0] > 20 && counts[1] > 5, "{counts:?}");
}

/// Receipts of others have the same tree and the same signed root; what this log
/// asks of its own beyond that (deterministic encoding, algorithm, key id) they
/// lack, and are refused.
#[test]
fn receipts_of_others_lead_to_the_roots_that_they_say() {
    let Some(root) = vectors("receipts") else { return };
    for (folder, valid) in [("scitt-cose-valid-eddsa", true), ("scitt-cose-fail-tampered-path", false)] {
        let folder = root.join(folder);
        let expected = read(&folder.join("expected.json"));
        let receipt = std::fs::read(folder.join("receipt.cose")).unwrap();
        let object = CoseSign1::from_tagged_slice(&receipt).unwrap();
        let kind = object.protected.header.rest.iter().find(|(label, _)| *label == Label::Int(395));
        assert_eq!(kind.map(|(_, kind)| kind), Some(&Value::from(1)), "RFC9162_SHA256");
        let statement = std::fs::read(folder.join("statement.cose")).unwrap();
        let leaf = merkle::leaf_hash(&sha256(&[&statement]));
        let (index, size, path) = inclusion(&object);
        assert_eq!((index, size), (expected["leaf_index"].as_u64().unwrap(), expected["tree_size"].as_u64().unwrap()));
        let found = merkle::root_from_inclusion(&leaf, index, size, &path).unwrap();
        let pem = std::fs::read_to_string(folder.join("log-key.pub")).unwrap();
        let der: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
        let der = BASE64.decode(der.as_bytes()).unwrap();
        let key = UnparsedPublicKey::new(&ED25519, &der[der.len() - 32..]);
        let verifies =
            object.verify_detached_signature(&found, &[], |signature, tbs| key.verify(tbs, signature)).is_ok();
        assert_eq!(verifies, valid, "{}", folder.display());
        if valid {
            assert_eq!(HEXLOWER.encode(&found), expected["reconstructed_root"].as_str().unwrap());
        }
        let own = ReceiptKey::new(der[der.len() - 32..].try_into().unwrap());
        let refused = verify_receipts(Some(&Value::Array(vec![Value::Bytes(receipt)])), &statement, &own, None);
        assert!(matches!(refused, Err(ReceiptError::Malformed(_))), "their headers are not in order: {refused:?}");
    }
    // Another kind of tree, and one whose key nobody published: read, not judged.
    for file in ["scitt-cose-valid-ccf-vds2/receipt.cose", "draft-inclusion/inclusion-receipt.cbor"] {
        let receipt = std::fs::read(root.join(file)).unwrap();
        let own = ReceiptKey::new([7; 32]);
        let refused = verify_receipts(Some(&Value::Array(vec![Value::Bytes(receipt)])), b"", &own, None);
        assert!(matches!(refused, Err(ReceiptError::Foreign(_) | ReceiptError::Malformed(_))), "{file}: {refused:?}");
    }
}

fn inclusion(object: &CoseSign1) -> (u64, u64, Vec<Digest>) {
    let (_, proofs) = object.unprotected.rest.iter().find(|(label, _)| *label == Label::Int(396)).unwrap();
    let proofs = proofs.as_map().unwrap();
    let (_, list) = proofs.iter().find(|(key, _)| *key == Value::from(-1)).unwrap();
    let proof = list.as_array().unwrap()[0].as_bytes().unwrap();
    let items = portcullis_wire::decode(proof, 4096).unwrap().into_array().unwrap();
    let number = |value: &Value| u64::try_from(value.as_integer().unwrap()).unwrap();
    let path = items[2].as_array().unwrap().iter().map(|h| h.as_bytes().unwrap().clone().try_into().unwrap());
    (number(&items[1]), number(&items[0]), path.collect())
}
