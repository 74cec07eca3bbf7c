//! A naive log: all entries in a list, and the definitions of RFC 9162 §2.1, each
//! computed from the start.

use portcullis_wire::{Digest, sha256};

/// Every entry, in order.
#[derive(Clone, Debug, Default)]
pub struct NaiveLog {
    /// The entries.
    pub entries: Vec<Vec<u8>>,
}

/// The largest power of two below `n`, which is at least 2.
fn split(n: usize) -> usize {
    let mut k = 1;
    while k * 2 < n {
        k *= 2;
    }
    k
}

/// MTH (RFC 9162 §2.1.1).
fn tree_hash(entries: &[Vec<u8>]) -> Digest {
    match entries {
        [] => sha256(&[]),
        [entry] => sha256(&[&[0], entry]),
        _ => {
            let (left, right) = entries.split_at(split(entries.len()));
            sha256(&[&[1], &tree_hash(left), &tree_hash(right)])
        }
    }
}

/// PATH (RFC 9162 §2.1.3.1).
fn path(m: usize, entries: &[Vec<u8>]) -> Vec<Digest> {
    if entries.len() <= 1 {
        return Vec::new();
    }
    let k = split(entries.len());
    let (left, right) = entries.split_at(k);
    let (mut below, beside) =
        if m < k { (path(m, left), tree_hash(right)) } else { (path(m - k, right), tree_hash(left)) };
    below.push(beside);
    below
}

/// SUBPROOF (RFC 9162 §2.1.4.1).
fn subproof(m: usize, entries: &[Vec<u8>], complete: bool) -> Vec<Digest> {
    if m == entries.len() {
        return if complete { Vec::new() } else { vec![tree_hash(entries)] };
    }
    let k = split(entries.len());
    let (left, right) = entries.split_at(k);
    let (mut below, beside) = if m <= k {
        (subproof(m, left, complete), tree_hash(right))
    } else {
        (subproof(m - k, right, false), tree_hash(left))
    };
    below.push(beside);
    below
}

impl NaiveLog {
    /// Root of the first `size` entries.
    #[must_use]
    pub fn root(&self, size: usize) -> Digest {
        tree_hash(&self.entries[..size])
    }

    /// Inclusion path of an entry in the tree of the first `size`.
    #[must_use]
    pub fn inclusion(&self, index: usize, size: usize) -> Vec<Digest> {
        path(index, &self.entries[..size])
    }

    /// Consistency path from one size to another; from nothing there is none.
    #[must_use]
    pub fn consistency(&self, old: usize, new: usize) -> Vec<Digest> {
        if old == 0 { Vec::new() } else { subproof(old, &self.entries[..new], true) }
    }
}
