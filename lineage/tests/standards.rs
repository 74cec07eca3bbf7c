//! Receipts (RFC 9942) between two implementations, and the examples of the
//! standards for proofs and tiles.
#![cfg(test)]

use std::sync::Arc;

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use ciborium::Value as Cbor;
use coset::iana::{Algorithm, EnumI64};
use coset::{CoseSign1, CoseSign1Builder, HeaderBuilder, Label, TaggedCborSerializable};
use portcullis_lineage::{
    Keys, Log, MemoryStorage, NewEntry, ReceiptError, ReceiptKey, tile_path, tile_paths, verify_receipts,
};
use portcullis_wire::{Digest, Error, Value, decode, encode, merkle, sha256};

fn digest(text: &str) -> Digest {
    portcullis_wire::hex::unhex_array(text).unwrap()
}

/// The hashes of the two receipts of draft-ietf-cose-merkle-tree-proofs, which became
/// RFC 9942 (`examples/inclusion-receipt` and `consistency-receipt`): the leaf at 3
/// in a tree of 5, and from a tree of 3 to that one. Leaf 2, leaf 3, the node over
/// leaves 0 and 1, leaf 4.
const HASHES: [&str; 4] = [
    "3d06455dd33da4e9bbd8090677a2d0955e6dffe4b92069605a468920d1198095",
    "987ba8093cabe31046a77bbe9aa4b5f62675d943386c7fbbe249cbaca5da242d",
    "33a5211719e06238a191c7244a7633187da2c9aaa5bc6dec54e2cbb498255434",
    "4d75742d9ea02f7767dcd554a7878ff22cdb208be9f3d35f7aa7700b57e741c0",
];

/// The two proofs lead to one root, as they must: nobody published it.
#[test]
fn the_proofs_of_the_receipts_draft_lead_to_one_root() {
    let [leaf2, leaf3, left, leaf4] = HASHES.map(digest);
    let root = merkle::root_from_inclusion(&leaf3, 3, 5, &[leaf2, left, leaf4]).unwrap();
    assert_eq!(root, merkle::node_hash(&merkle::node_hash(&left, &merkle::node_hash(&leaf2, &leaf3)), &leaf4));
    let before = merkle::node_hash(&left, &leaf2);
    let path = [leaf2, leaf3, left, leaf4];
    assert!(merkle::is_consistent(3, &before, 5, &root, &path));
    assert!(!merkle::is_consistent(3, &merkle::node_hash(&leaf2, &left), 5, &root, &path));
    assert_ne!(merkle::root_from_inclusion(&leaf3, 2, 5, &[leaf2, left, leaf4]), Some(root), "another leaf");
    assert_eq!(merkle::root_from_inclusion(&leaf3, 5, 3, &[leaf2, left, leaf4]), None, "size and index swapped");
}

/// Entries of a log of ours.
fn log() -> (Log, Vec<Vec<u8>>) {
    let (mut log, _) =
        Log::open(Arc::new(MemoryStorage::new()), Keys::from_seeds("log.test/1", &[1; 32], &[2; 32]).unwrap()).unwrap();
    let entries: Vec<Vec<u8>> = (0..5).map(|n| vec![n; 7]).collect();
    for entry in &entries {
        log.append(vec![NewEntry { statement: entry.clone(), ..NewEntry::default() }]).unwrap();
    }
    (log, entries)
}

/// A receipt of ours, taken apart by `coset` as RFC 9942 (§5.2) describes it.
#[test]
fn another_implementation_verifies_our_receipts() {
    let (mut log, mut entries) = log();
    entries.push(b"the last".to_vec());
    let place = log.append(vec![NewEntry { statement: entries[5].clone(), ..NewEntry::default() }]).unwrap().remove(0);
    let Value::Array(receipts) = place.receipts().unwrap() else { panic!("an array of receipts") };
    assert_eq!(portcullis_lineage::RECEIPTS_LABEL, 394);
    let receipt = CoseSign1::from_tagged_slice(receipts[0].as_bytes().unwrap()).unwrap();
    let header = &receipt.protected.header;
    assert_eq!(header.alg, Some(coset::RegisteredLabelWithPrivate::Assigned(Algorithm::Ed25519)));
    let labels: Vec<&Label> = header.rest.iter().map(|(label, _)| label).collect();
    assert_eq!(labels, [&Label::Int(395)], "vds");
    assert_eq!(header.rest[0].1, Cbor::from(1), "RFC9162_SHA256");
    let key = log.keys().receipt_key();
    // RFC 9679, §4: the required members of an OKP key are kty, crv and x.
    let okp = Cbor::Map(vec![
        (1.into(), 1.into()),
        ((-1).into(), 6.into()),
        ((-2).into(), Cbor::Bytes(key.public().to_vec())),
    ]);
    let mut members = Vec::new();
    ciborium::into_writer(&okp, &mut members).unwrap();
    assert_eq!(header.key_id, sha256(&[&members]));

    let [(Label::Int(396), proofs)] = receipt.unprotected.rest.as_slice() else { panic!("vdp alone") };
    let [(kind, list)] = proofs.as_map().unwrap().as_slice() else { panic!("one kind of proof") };
    assert_eq!(*kind, Cbor::from(-1), "inclusion");
    let proof: Cbor = ciborium::from_reader(list.as_array().unwrap()[0].as_bytes().unwrap().as_slice()).unwrap();
    let [size, index, path] = proof.as_array().unwrap().as_slice() else { panic!("size, index and path") };
    assert_eq!((size, index), (&Cbor::from(6), &Cbor::from(5)));
    // Of the last leaf in a tree of 6: its neighbour, then the four before them.
    let leaf = |n: usize| merkle::leaf_hash(&entries[n]);
    let four = merkle::node_hash(&merkle::node_hash(&leaf(0), &leaf(1)), &merkle::node_hash(&leaf(2), &leaf(3)));
    let hashes: Vec<&[u8]> = path.as_array().unwrap().iter().map(|hash| hash.as_bytes().unwrap().as_slice()).collect();
    assert_eq!(hashes, [&leaf(4)[..], &four[..]]);
    let root = merkle::node_hash(&four, &merkle::node_hash(&leaf(4), &leaf(5)));
    let public = UnparsedPublicKey::new(&ED25519, key.public());
    assert!(receipt.payload.is_none(), "the root is detached");
    let verifies = |root: &[u8]| receipt.verify_detached_signature(root, &[], |s, tbs| public.verify(tbs, s)).is_ok();
    assert!(verifies(&root) && !verifies(&four));
}

/// What `coset` writes with the labels of the RFC is a receipt; with others it is none.
#[test]
fn receipts_of_another_implementation_are_read() {
    let pair = Ed25519KeyPair::from_seed_unchecked(&[9; 32]).unwrap();
    let key = ReceiptKey::new(pair.public_key().as_ref().try_into().unwrap());
    let leaves: Vec<Digest> = (0..6_u8).map(|n| merkle::leaf_hash(&[n])).collect();
    let (root, path) = (merkle::root(&leaves), merkle::inclusion_path(&leaves, 4).unwrap());
    assert_eq!(Algorithm::Ed25519.to_i64(), -19);
    let build = |vds: (i64, i64), vdp: i64, kind: i64, numbers: [u64; 2], payload: &[u8]| {
        let header = HeaderBuilder::new()
            .algorithm(Algorithm::Ed25519)
            .key_id(key.thumbprint().to_vec())
            .value(vds.0, Cbor::from(vds.1));
        let hashes = path.iter().map(|hash| Cbor::Bytes(hash.to_vec())).collect();
        let proof = encode(&Cbor::Array(vec![numbers[0].into(), numbers[1].into(), Cbor::Array(hashes)]));
        let proofs = Cbor::Map(vec![(kind.into(), Cbor::Array(vec![Cbor::Bytes(proof)]))]);
        let object = CoseSign1Builder::new()
            .protected(header.build())
            .unprotected(HeaderBuilder::new().value(vdp, proofs).build())
            .create_detached_signature(payload, &[], |message| pair.sign(message).as_ref().to_vec())
            .build();
        let receipt = encode(&decode(&object.to_tagged_vec().unwrap(), 4096).unwrap());
        verify_receipts(Some(&Value::Array(vec![Value::Bytes(receipt)])), &[4], &key, None)
    };
    let good = build((395, 1), 396, -1, [6, 4], &root).unwrap();
    assert_eq!((good.index(), good.size(), good.root()), (4, 6, &root));
    for (what, outcome, expected) in [
        ("index and size swapped", build((395, 1), 396, -1, [4, 6], &root), ReceiptError::Path),
        ("another leaf", build((395, 1), 396, -1, [6, 5], &root), ReceiptError::Signature),
        ("another root", build((395, 1), 396, -1, [6, 4], &[0; 32]), ReceiptError::Signature),
        ("CCF's kind of tree", build((395, 2), 396, -1, [6, 4], &root), ReceiptError::Foreign("kind of tree")),
        ("a consistency proof", build((395, 1), 396, -2, [6, 4], &root), ReceiptError::Malformed(Error::Missing(-1))),
        (
            "labels of the draft before",
            build((-111, 1), -222, -1, [6, 4], &root),
            ReceiptError::Malformed(Error::UnknownKey("header -111".into())),
        ),
    ] {
        assert_eq!(outcome, Err(expected), "{what}");
    }
}

/// C2SP tlog-tiles v0.1.0, "Merkle Tree" and "Partial Tiles".
#[test]
fn tiles_are_those_of_the_specification() {
    assert_eq!(tile_path("0", 1_234_067, 256), "tile/0/x001/x234/067");
    let paths: Vec<String> =
        tile_paths(70_000).map(|tile| tile.path).filter(|path| !path.contains("entries")).collect();
    let of = |level: &str, partial: bool| {
        paths
            .iter()
            .filter(|path| path.starts_with(&format!("tile/{level}/")) && path.contains(".p/") == partial)
            .count()
    };
    assert_eq!([of("0", false), of("1", false), of("2", false), of("3", false)], [273, 1, 0, 0]);
    let partial: Vec<&str> = paths.iter().map(String::as_str).filter(|path| path.contains(".p/")).collect();
    assert_eq!(partial, ["tile/0/273.p/112", "tile/1/001.p/17", "tile/2/000.p/1"]);
}
