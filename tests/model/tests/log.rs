//! The real log against the naive one, and against another implementation that
//! reads nothing but the published files.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use fastrand::Rng;
use portcullis_lineage::{Checkpoint, FileStorage, Keys, Log, NewEntry, VerifyingKey, verify_receipts};
use portcullis_model::log::NaiveLog;
use portcullis_wire::{Digest, merkle};
use signed_note::{Note, StandardSigner, StandardVerifier, VerifierList};
use tlog_tiles::tile::{Tile, TileHashReader, TileReader};
use tlog_tiles::tlog::{self, Hash};

const ORIGIN: &str = "log.test/model";

fn keys() -> Keys {
    Keys::from_seeds(ORIGIN, &[1; 32], &[2; 32]).unwrap()
}

/// The published tiles, as a client of C2SP tlog-tiles reads them.
struct Published<'a>(&'a Path);

impl TileReader for Published<'_> {
    fn height(&self) -> u8 {
        8
    }

    fn read_tiles(&self, tiles: &[Tile]) -> Result<Vec<Vec<u8>>, tlog::Error> {
        Ok(tiles.iter().map(|tile| fs::read(self.0.join(c2sp_path(tile))).unwrap()).collect())
    }

    fn save_tiles(&self, _: &[Tile], _: &[Vec<u8>]) {}
}

/// `tile/8/0/x001/067.p/5` of Go's sumdb, without the height.
fn c2sp_path(tile: &Tile) -> String {
    tile.path().replacen("tile/8/", "tile/", 1)
}

fn hashes(proof: &[Hash]) -> Vec<Digest> {
    proof.iter().map(|hash| hash.0).collect()
}

/// The head that another implementation of signed notes and checkpoints reads.
fn read_head(folder: &Path, vkey: &VerifyingKey) -> (u64, Digest) {
    let bytes = fs::read(folder.join("checkpoint")).unwrap();
    let note = Note::from_bytes(&bytes).unwrap();
    let verifier = StandardVerifier::new(&vkey.to_string()).unwrap();
    let (verified, _) = note.verify(&VerifierList::new(vec![Box::new(verifier)])).unwrap();
    assert_eq!(verified.len(), 1);
    let head = tlog_tiles::checkpoint::Checkpoint::from_bytes(note.text()).unwrap();
    assert_eq!(head.origin(), ORIGIN);
    (head.size(), head.hash().0)
}

/// Whatever is changed in a proof, it proves something else than it did, or
/// nothing.
fn proves_nothing_else(rng: &mut Rng, naive: &NaiveLog, index: u64, old: u64, size: u64) {
    let at = |n: u64| usize::try_from(n).unwrap();
    let root = naive.root(at(size));
    let leaf = merkle::leaf_hash(&naive.entries[at(index)]);
    let mut path = naive.inclusion(at(index), at(size));
    assert_eq!(merkle::root_from_inclusion(&leaf, index, size, &path), Some(root));
    let elsewhere = rng.u64(0..size);
    if elsewhere != index {
        assert_ne!(merkle::root_from_inclusion(&leaf, elsewhere, size, &path), Some(root), "{index} as {elsewhere}");
    }
    path.push([0; 32]);
    assert_eq!(merkle::root_from_inclusion(&leaf, index, size, &path), None, "a hash too many");
    path.truncate(path.len() - 1);
    if !path.is_empty() {
        let hit = rng.usize(0..path.len());
        path[hit][rng.usize(0..32)] ^= 1 << rng.u32(0..8);
        assert_ne!(merkle::root_from_inclusion(&leaf, index, size, &path), Some(root));
        path.pop();
        assert_eq!(merkle::root_from_inclusion(&leaf, index, size, &path), None, "a hash too few");
    }

    let mut path = naive.consistency(at(old), at(size));
    let before = naive.root(at(old));
    assert!(merkle::is_consistent(old, &before, size, &root, &path));
    let mut other = before;
    other[rng.usize(0..32)] ^= 1;
    assert!(!merkle::is_consistent(old, &other, size, &root, &path), "another tree of before");
    if !path.is_empty() {
        let hit = rng.usize(0..path.len());
        path[hit][rng.usize(0..32)] ^= 1 << rng.u32(0..8);
        assert!(!merkle::is_consistent(old, &before, size, &root, &path));
    }
}

/// A log lives: batches of any size, stops and starts, over the widths at which
/// tiles fill. At each head all three agree on everything that can be asked.
#[test]
fn three_logs_agree_on_roots_proofs_tiles_and_notes() {
    for seed in 0..3 {
        let mut rng = Rng::with_seed(seed);
        let folder = tempfile::tempdir().unwrap();
        let mut naive = NaiveLog::default();
        let vkey = keys().checkpoint_key().clone();
        let open = || {
            let storage = Arc::new(FileStorage::open(folder.path()).unwrap());
            Log::open_with(storage, keys(), 40_000).unwrap()
        };
        let (mut log, mut publisher) = open();
        let target = [300, 700, 1400][usize::try_from(seed).unwrap()];
        while naive.entries.len() < target {
            let entries: Vec<Vec<u8>> = (0..rng.usize(1..40)).map(|_| vec![rng.u8(..); rng.usize(1..200)]).collect();
            let batch = entries.iter().map(|entry| NewEntry { statement: entry.clone(), ..NewEntry::default() });
            let committed = log.append(batch.collect()).unwrap();
            for (place, entry) in committed.iter().zip(&entries) {
                assert_eq!(place.index(), naive.entries.len() as u64);
                naive.entries.push(entry.clone());
                let receipts = place.receipts().unwrap();
                let shown = verify_receipts(Some(&receipts), entry, &keys().receipt_key(), None).unwrap();
                assert_eq!(shown.index(), place.index());
            }
            // What was committed reads the same storage, which one process has.
            drop(committed);
            let size = naive.entries.len();
            let head = log.head().unwrap();
            assert_eq!((head.size(), *head.root()), (size as u64, naive.root(size)));
            if rng.u8(0..6) == 0 {
                publisher.sync().unwrap();
                drop((log, publisher));
                (log, publisher) = open();
                assert_eq!(log.head().unwrap().note(), head.note(), "a start signs nothing else");
            }

            let view = log.view();
            let (index, old) = (rng.usize(0..size), rng.usize(0..=size));
            let ours = |n: usize| n as u64;
            view.with_tree(|tree| {
                assert_eq!(tree.root_at(ours(old)).unwrap(), naive.root(old));
                assert_eq!(tree.inclusion(ours(index), ours(size)).unwrap(), naive.inclusion(index, size));
                assert_eq!(tree.consistency(ours(old), ours(size)).unwrap(), naive.consistency(old, size));
            });
            proves_nothing_else(&mut rng, &naive, ours(index), ours(old), ours(size));

            // From the files alone, by others.
            publisher.sync().unwrap();
            let (size, root) = read_head(folder.path(), &vkey);
            assert_eq!((size, root), (head.size(), *head.root()));
            let tiles = Published(folder.path());
            let theirs = TileHashReader::new(size, Hash(root), &tiles);
            assert_eq!(tlog::tree_hash(size, &theirs).unwrap().0, root);
            let proof = tlog::prove_record(size, ours(index), &theirs).unwrap();
            assert_eq!(hashes(&proof), naive.inclusion(index, naive.entries.len()));
            if old > 0 {
                let proof = tlog::prove_tree(size, ours(old), &theirs).unwrap();
                assert_eq!(hashes(&proof), naive.consistency(old, naive.entries.len()));
            }
        }
    }
}

/// Checkpoints that another implementation signs verify here, and what it
/// refuses is refused here too.
#[test]
fn notes_of_another_implementation_verify_and_fail_alike() {
    let mut rng = Rng::with_seed(7);
    // `PRIVATE+KEY+name+id+base64(1 ‖ seed)`, as Go's note package has it.
    let vkey = keys().checkpoint_key().to_string();
    let id = vkey.rsplit('+').nth(1).unwrap();
    let seed = data_encoding::BASE64.encode(&[&[1_u8][..], &[1; 32]].concat());
    let signer = StandardSigner::new(&format!("PRIVATE+KEY+{ORIGIN}+{id}+{seed}")).unwrap();
    let head = tlog_tiles::checkpoint::Checkpoint::new(ORIGIN, 9, Hash([3; 32]), "").unwrap();
    let mut note = Note::new(&head.to_bytes(), &[]).unwrap();
    note.add_sigs(&[&signer]).unwrap();
    let bytes = note.to_bytes();

    let key = VerifyingKey::parse(&vkey).unwrap();
    let theirs = |bytes: &[u8]| {
        let verifier = StandardVerifier::new(&vkey).unwrap();
        let note = Note::from_bytes(bytes).ok()?;
        note.verify(&VerifierList::new(vec![Box::new(verifier)])).ok()?;
        let head = tlog_tiles::checkpoint::Checkpoint::from_bytes(note.text()).ok()?;
        Some((head.size(), head.hash().0))
    };
    let ours = |bytes: &[u8]| {
        let head = Checkpoint::verify(std::str::from_utf8(bytes).ok()?, &key).ok()?;
        Some((head.size(), *head.root()))
    };
    assert_eq!(ours(&bytes), Some((9, [3; 32])));
    assert_eq!(theirs(&bytes), ours(&bytes));
    for _ in 0..3_000 {
        let mut bad = bytes.clone();
        let at = rng.usize(0..bad.len());
        match rng.u8(0..3) {
            0 => bad[at] ^= 1 << rng.u32(0..7),
            1 => drop(bad.remove(at)),
            _ => bad.insert(at, rng.u8(..128)),
        }
        // Where we accept, so do they, and it is the same; we may be stricter.
        if let Some(read) = ours(&bad) {
            assert_eq!(theirs(&bad), Some(read), "{}", String::from_utf8_lossy(&bad));
        }
    }
}
