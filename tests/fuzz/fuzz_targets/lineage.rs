//! Checkpoints, cosignatures, witness requests, journals and audit bundles: what
//! others hand to a node, a witness or an auditor.
#![no_main]
use std::io::Cursor;
use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use portcullis_lineage::{
    AddCheckpoint, ArchiveReader, BundleReader, Checkpoint, Keys, LogReader, MemoryStorage, Replay, Storage,
    VerifyingKey, WitnessKey, bundle_documents, verify_directory,
};

fuzz_target!(|data: &[u8]| {
    let Ok(keys) = Keys::from_seeds("log.fuzz/1", &[1; 32], &[2; 32]) else { return };
    let (key, receipt_key) = (keys.checkpoint_key(), keys.receipt_key());
    if let Ok(text) = std::str::from_utf8(data) {
        let _checkpoint = (Checkpoint::unverified(text), Checkpoint::verify(text, key));
        let _request = AddCheckpoint::decode(text);
        let _keys = (VerifyingKey::parse(text), WitnessKey::parse(text));
    }
    let _documents = bundle_documents(&mut Cursor::new(data));
    if let Ok(mut bundle) = BundleReader::open(Cursor::new(data), key, &receipt_key) {
        while let Ok(Some(_)) = bundle.next_entry() {}
    }
    let _log = verify_directory(key, |_| Ok(data.to_vec()), |_, _| ());
    let disk = MemoryStorage::new();
    if disk.put_segment(0, data).is_err() || disk.put("signed-root", data).is_err() {
        return;
    }
    let storage: Arc<dyn Storage> = Arc::new(disk);
    let _reader = LogReader::open(Arc::clone(&storage), key, &receipt_key);
    if let Ok(mut reader) = ArchiveReader::open(Arc::clone(&storage), 0) {
        while let Ok(Some(batch)) = reader.next_batch() {
            for blob in batch.entries.iter().flat_map(|entry| &entry.blobs) {
                let _bytes = reader.archive().read(blob);
            }
        }
    }
    let head = Checkpoint::verify(std::str::from_utf8(data).unwrap_or_default(), key);
    if let Ok(head) = head {
        let _replay = Replay::open(storage, 0, key.clone(), head).map(|mut replay| replay.next_batch().is_ok());
    }
});
