//! C2SP tlog-witness v1.0.0: the request of a log and the decision of a witness.

use std::fmt;

use data_encoding::BASE64;
use portcullis_wire::{Digest, merkle};

use crate::checkpoint::{Checkpoint, VerifyingKey};
use crate::note;

/// Most hashes of a consistency proof.
const MAX_PROOF: usize = 63;
/// Largest request, in bytes.
pub const MAX_REQUEST: usize = note::MAX_NOTE + 4 * 1024;

/// The body of `POST /add-checkpoint`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddCheckpoint {
    /// Size of the tree that the witness cosigned last.
    pub old: u64,
    /// Consistency path from that one.
    pub proof: Vec<Digest>,
    /// The checkpoint, as the log signed it.
    pub note: String,
}

impl AddCheckpoint {
    /// The body.
    #[must_use]
    pub fn encode(&self) -> String {
        let hashes: String = self.proof.iter().map(|hash| format!("{}\n", BASE64.encode(hash))).collect();
        format!("old {}\n{hashes}\n{}", self.old, self.note)
    }

    /// Reads a body; `None` for anything else.
    #[must_use]
    pub fn decode(body: &str) -> Option<Self> {
        let (head, note) = body.split_once("\n\n").filter(|_| body.len() <= MAX_REQUEST)?;
        let mut lines = head.split('\n');
        let number = lines.next()?.strip_prefix("old ")?;
        let old: u64 = number.parse().ok().filter(|old: &u64| old.to_string() == number)?;
        let proof: Vec<Digest> = lines.map(note::hash).collect::<Option<_>>()?;
        (proof.len() <= MAX_PROOF).then(|| Self { old, proof, note: note.to_owned() })
    }

    /// Origin in the note: it names the log.
    #[must_use]
    pub fn origin(&self) -> Option<&str> {
        self.note.split('\n').next()
    }
}

/// Why a witness does not cosign.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WitnessRefusal {
    /// Not a valid request, or impossible sizes.
    Malformed,
    /// This witness does not know the log.
    UnknownLog,
    /// Not signed by the log.
    Signature,
    /// The witness last cosigned another size.
    Conflict {
        /// The size that it cosigned.
        size: u64,
    },
    /// The checkpoint does not extend the one cosigned last.
    Inconsistent,
}

impl WitnessRefusal {
    /// The HTTP status code of the answer.
    #[must_use]
    pub const fn status(&self) -> u16 {
        match self {
            Self::Malformed => 400,
            Self::Signature => 403,
            Self::UnknownLog => 404,
            Self::Conflict { .. } => 409,
            Self::Inconsistent => 422,
        }
    }
}

impl fmt::Display for WitnessRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed => f.write_str("not an add-checkpoint request"),
            Self::UnknownLog => f.write_str("no log that this witness knows"),
            Self::Signature => f.write_str("not signed by the log"),
            Self::Conflict { size } => write!(f, "the last checkpoint cosigned has size {size}"),
            Self::Inconsistent => f.write_str("does not extend the checkpoint cosigned last"),
        }
    }
}

impl std::error::Error for WitnessRefusal {}

/// Checks a request of the log with this key against `last`, the checkpoint cosigned
/// last. Returns the checkpoint; the witness stores it durably before it cosigns.
///
/// # Errors
/// [`WitnessRefusal`].
pub fn witness(
    request: &AddCheckpoint,
    key: &VerifyingKey,
    last: Option<(u64, Digest)>,
) -> Result<Checkpoint, WitnessRefusal> {
    let checkpoint = Checkpoint::verify(&request.note, key).map_err(|_| WitnessRefusal::Signature)?;
    let (size, root) = last.unwrap_or((0, merkle::empty_root()));
    if request.old > checkpoint.size() {
        return Err(WitnessRefusal::Malformed);
    }
    if request.old != size {
        return Err(WitnessRefusal::Conflict { size });
    }
    // v1.0.0 answers 409 here; drafts of what follows it say 422.
    if request.old == checkpoint.size() && *checkpoint.root() != root {
        return Err(WitnessRefusal::Conflict { size });
    }
    if merkle::is_consistent(size, &root, checkpoint.size(), checkpoint.root(), &request.proof) {
        Ok(checkpoint)
    } else {
        Err(WitnessRefusal::Inconsistent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cosignature::{Cosigner, WitnessKey};
    use crate::keys::Keys;
    use crate::log::{Log, NewEntry};
    use crate::storage::MemoryStorage;

    fn log(entries: &[&str]) -> (Log, Vec<std::sync::Arc<Checkpoint>>) {
        let keys = Keys::from_seeds("log.test/witnessed", &[1; 32], &[2; 32]).unwrap();
        let (mut log, _) = Log::open(std::sync::Arc::new(MemoryStorage::new()), keys).unwrap();
        let heads = entries
            .iter()
            .map(|entry| {
                let entry = NewEntry { statement: entry.as_bytes().to_vec(), ..NewEntry::default() };
                log.append(vec![entry]).unwrap().remove(0).checkpoint().clone()
            })
            .collect();
        (log, heads)
    }

    #[test]
    fn a_witness_follows_one_log_and_no_fork() {
        let (log, heads) = log(&["a", "b", "c", "d"]);
        let (fork, forked) = self::log(&["a", "b", "x", "y"]);
        let key = log.keys().checkpoint_key();
        let ask = |log: &Log, old: u64, head: &Checkpoint| {
            let proof = log.view().with_tree(|tree| tree.consistency(old, head.size())).unwrap_or_default();
            let request = AddCheckpoint { old, proof, note: head.note().to_owned() };
            assert_eq!(AddCheckpoint::decode(&request.encode()), Some(request.clone()));
            request
        };
        let last = |checkpoint: &Checkpoint| Some((checkpoint.size(), *checkpoint.root()));
        let first = witness(&ask(&log, 0, &heads[1]), key, None).unwrap();
        let second = witness(&ask(&log, 2, &heads[3]), key, last(&first)).unwrap();
        assert_eq!(second.size(), 4);
        // The same checkpoint again, for a newer time.
        assert!(witness(&ask(&log, 4, &heads[3]), key, last(&second)).is_ok());

        let refused = |request: &AddCheckpoint, last| witness(request, key, last).unwrap_err();
        assert_eq!(refused(&ask(&log, 0, &heads[3]), last(&first)), WitnessRefusal::Conflict { size: 2 });
        assert_eq!(refused(&ask(&log, 2, &heads[1]), last(&second)), WitnessRefusal::Conflict { size: 4 });
        assert_eq!(refused(&ask(&fork, 4, &forked[3]), last(&second)), WitnessRefusal::Conflict { size: 4 });
        let inconsistent = refused(&ask(&fork, 3, &forked[3]), last(&heads[2]));
        assert_eq!(inconsistent, WitnessRefusal::Inconsistent);
        let beyond = AddCheckpoint { old: 9, ..ask(&log, 4, &heads[3]) };
        assert_eq!(refused(&beyond, last(&second)), WitnessRefusal::Malformed);
        let other = Keys::from_seeds("log.test/witnessed", &[3; 32], &[2; 32]).unwrap();
        let foreign = witness(&ask(&log, 0, &heads[1]), other.checkpoint_key(), None);
        assert_eq!(foreign, Err(WitnessRefusal::Signature));
        for bad in ["", "old 1", "old 01\n\nx", "old x\n\nx", "old 1\nnot base64\n\nx", "new 1\n\nx"] {
            assert_eq!(AddCheckpoint::decode(bad), None, "{bad:?}");
        }
    }

    /// The request of the specification (C2SP tlog-witness v1.0.0, "add-checkpoint").
    #[test]
    fn the_request_of_the_specification_is_read_and_written() {
        let dash = '\u{2014}';
        let body = format!(
            "old 20852014\n\
             PlRNCrwHpqhGrupue0L7gxbjbMiKA9temvuZZDDpkaw=\n\
             jrJZDmY8Y7SyJE0MWLpLozkIVMSMZcD5kvuKxPC3swk=\n\
             5+pKlUdi2LeF/BcMHBn+Ku6yhPGNCswZZD1X/6QgPd8=\n\
             /6WVhPs2CwSsb5rYBH5cjHV/wSmA79abXAwhXw3Kj/0=\n\
             \n\
             example.com/behind-the-sofa\n\
             20852163\n\
             CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n\
             \n\
             {dash} example.com/behind-the-sofa Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q1gGzGku9nTo+zyWE+xeMcTOAYQ8=\n\
             {dash} example.com/behind-the-sofa opLqBQsREYCgu6xQkYQwJr9fo45a62DN9EdmHXnZdXNqlcVGlCum2Wks+49/V6267UEjw6QUXTS5Rovnzv++qbSzm9Q=\n"
        );
        let request = AddCheckpoint::decode(&body).unwrap();
        assert_eq!((request.old, request.proof.len()), (20_852_014, 4));
        assert_eq!(request.origin(), Some("example.com/behind-the-sofa"));
        assert_eq!(Checkpoint::unverified(&request.note).map(|(size, _)| size), Some(20_852_163));
        assert_eq!(request.encode(), body);
        // Nobody published the log's key: another one signed none of the lines.
        let key = VerifyingKey::new("example.com/behind-the-sofa", [7; 32]).unwrap();
        let refused = witness(&request, &key, Some((request.old, [0; 32])));
        assert_eq!(refused, Err(WitnessRefusal::Signature));
        let long = body.replacen("PlRN", &format!("{}\nPlRN", vec![BASE64.encode(&[0; 32]); 60].join("\n")), 1);
        assert_eq!(AddCheckpoint::decode(&long), None, "64 hashes");
    }

    #[test]
    fn cosignatures_are_by_the_witness_over_that_checkpoint() {
        let (_, heads) = log(&["a", "b"]);
        let cosigner = Cosigner::from_seed("witness.test/1", &[7; 32]).unwrap();
        let key = WitnessKey::parse(&cosigner.public().to_string()).unwrap();
        assert_eq!(&key, cosigner.public());
        let line = cosigner.cosign(&heads[1], 1_700_000_000);
        let cosigned = key.attach(&heads[1], &format!("\u{2014} someone else\n{line}")).unwrap();
        assert_eq!(key.cosigned(&cosigned), Some(1_700_000_000));
        assert_eq!(key.cosigned(&heads[1]), None);
        assert_eq!(key.attach(&heads[0], &line), None, "another checkpoint's");
        let other = Cosigner::from_seed("witness.test/1", &[8; 32]).unwrap();
        assert_eq!(other.public().cosigned(&cosigned), None);
        let later = key.attach(&cosigned, &cosigner.cosign(&heads[1], 1_700_000_009)).unwrap();
        assert_eq!(key.cosigned(&later), Some(1_700_000_009));
        // Zero makes no statement of time, and above 2^63 - 1 there is none.
        for time in [0, 1 << 63] {
            assert_eq!(key.attach(&heads[1], &cosigner.cosign(&heads[1], time)), None, "{time}");
        }
        assert!(
            WitnessKey::parse(&Keys::from_seeds("a", &[1; 32], &[2; 32]).unwrap().checkpoint_key().to_string())
                .is_err()
        );
    }
}
