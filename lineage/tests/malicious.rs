//! A malicious log: whoever has its keys shows two heads, puts entries in another
//! order, or another entry in the place of one. Gate, witness and auditor find
//! out, each by itself.
#![cfg(test)]

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use portcullis_lineage::{
    AddCheckpoint, Checkpoint, Committed, DirectoryError, Keys, Log, LogReader, MemoryStorage, NewEntry, ReceiptError,
    Replay, Storage, WitnessRefusal, verify_directory, verify_receipts, witness,
};

fn keys() -> Keys {
    Keys::from_seeds("log.test/malicious", &[1; 32], &[2; 32]).unwrap()
}

/// A log with these entries, each in a batch of its own.
fn log(entries: &[&[u8]]) -> (MemoryStorage, Log, Vec<Committed>) {
    let disk = MemoryStorage::new();
    let (mut log, mut publisher) = Log::open(Arc::new(disk.clone()), keys()).unwrap();
    let mut committed = Vec::new();
    for entry in entries {
        let seen = log.head().map(|head| head.size());
        committed.extend(log.append(vec![NewEntry { statement: entry.to_vec(), blobs: Vec::new(), seen }]).unwrap());
    }
    publisher.publish().unwrap();
    (disk, log, committed)
}

fn seen(head: &Checkpoint) -> Option<(u64, [u8; 32])> {
    Some((head.size(), *head.root()))
}

#[test]
fn threat_17_two_heads_are_found_out_by_gate_witness_and_auditor() {
    let (_, one, first) = log(&[b"genesis", b"boot", b"permit for a", b"more"]);
    let (other_disk, other, second) = log(&[b"genesis", b"boot", b"permit for b", b"more"]);
    let (head, forked) = (one.head().unwrap(), other.head().unwrap());
    let key = keys();

    // A gate that has seen one of them takes no receipt of the other.
    let receipts = second[3].receipts().unwrap();
    let refused = verify_receipts(Some(&receipts), b"more", &key.receipt_key(), seen(first[2].checkpoint()));
    assert_eq!(refused, Err(ReceiptError::Inconsistent { seen: 3, size: 4 }));
    // Not even of the same size, where no path is needed.
    let receipts = second[2].receipts().unwrap();
    let refused = verify_receipts(Some(&receipts), b"permit for b", &key.receipt_key(), seen(first[2].checkpoint()));
    assert_eq!(refused, Err(ReceiptError::Inconsistent { seen: 3, size: 3 }));

    // A witness that has cosigned one of them does not cosign the other.
    let ask = |log: &Log, old: u64, head: &Checkpoint| {
        let proof = log.view().with_tree(|tree| tree.consistency(old, head.size())).unwrap();
        AddCheckpoint { old, proof, note: head.note().to_owned() }
    };
    let cosigned = witness(&ask(&one, 0, first[2].checkpoint()), key.checkpoint_key(), None).unwrap();
    let last = seen(&cosigned);
    assert_eq!(witness(&ask(&other, 3, &forked), key.checkpoint_key(), last), Err(WitnessRefusal::Inconsistent));
    assert!(witness(&ask(&one, 3, &head), key.checkpoint_key(), last).is_ok());

    // An auditor who has one head finds that the files are of the other.
    let storage: Arc<dyn Storage> = Arc::new(other_disk);
    let replay = Replay::open(storage, 0, key.checkpoint_key().clone(), (*head).clone());
    let mut replay = replay.unwrap();
    let refused = std::iter::from_fn(|| replay.next_batch().transpose()).find_map(Result::err).unwrap();
    assert_eq!(refused.check(), "log.root");
}

/// The files of a log, changed at will, under a checkpoint that its keys signed.
#[test]
fn threat_17_reordered_and_replaced_entries_do_not_lead_to_the_root() {
    let (disk, ..) = log(&[b"genesis", b"first", b"other", b"last."]);
    let files: BTreeMap<String, Vec<u8>> = ["checkpoint", "tile/entries/000.p/4", "tile/0/000.p/4"]
        .map(|p| (p.into(), disk.get(p).unwrap().unwrap()))
        .into();
    let audit = |files: &BTreeMap<String, Vec<u8>>| {
        let fetch = |path: &str| files.get(path).cloned().ok_or_else(|| io::ErrorKind::NotFound.into());
        verify_directory(keys().checkpoint_key(), fetch, |_, _| ())
    };
    assert!(audit(&files).is_ok());
    let entries = |from: &[u8], to: &[u8]| {
        let mut files = files.clone();
        let bundle = files.get_mut("tile/entries/000.p/4").unwrap();
        let at = bundle.windows(from.len()).position(|window| window == from).unwrap();
        bundle.splice(at..at.saturating_add(from.len()), to.iter().copied());
        files
    };
    let reordered = entries(b"\0\x05first\0\x05other", b"\0\x05other\0\x05first");
    assert!(matches!(audit(&reordered), Err(DirectoryError::Tile { .. })));
    // Whoever makes the tiles fit the entries does not make them fit the root.
    let replaced = entries(b"other", b"fable");
    assert!(matches!(audit(&replaced), Err(DirectoryError::Tile { .. })));
    let (forged, ..) = log(&[b"genesis", b"first", b"fable", b"last."]);
    let mut fitted = replaced;
    fitted.insert("tile/0/000.p/4".into(), forged.get("tile/0/000.p/4").unwrap().unwrap());
    assert!(matches!(audit(&fitted), Err(DirectoryError::Root { .. })));
    // And who takes the head of one and the tiles of the other shows neither.
    disk.put("tile/0/000.p/4", &forged.get("tile/0/000.p/4").unwrap().unwrap()).unwrap();
    let key = keys();
    assert!(LogReader::open(Arc::new(disk), key.checkpoint_key(), &key.receipt_key()).is_err());
}
