//! The last signed status list.

use bytes::Bytes;

/// One signed list for all requests within the same second.
#[derive(Debug, Default)]
pub(crate) struct KeptStatus(Option<Kept>);

#[derive(Debug)]
struct Kept {
    bytes: Bytes,
    /// Number of changes of the list when it was signed.
    changes: u64,
    /// When it was signed, Unix seconds.
    issued: u64,
}

impl KeptStatus {
    /// The stored list, if a list signed now would have the same content.
    pub(crate) fn fresh(&self, changes: u64, now: u64) -> Option<Bytes> {
        let kept = self.0.as_ref().filter(|kept| kept.changes == changes && kept.issued == now);
        kept.map(|kept| kept.bytes.clone())
    }

    /// Stores a list and returns it.
    pub(crate) fn keep(&mut self, bytes: Bytes, changes: u64, issued: u64) -> Bytes {
        self.0 = Some(Kept { bytes: bytes.clone(), changes, issued });
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_used_until_it_changes_or_a_second_passes() {
        let mut kept = KeptStatus::default();
        assert_eq!(kept.fresh(0, 100), None);
        let list = kept.keep(Bytes::from_static(b"list"), 3, 100);
        assert_eq!(kept.fresh(3, 100), Some(list));
        assert_eq!(kept.fresh(4, 100), None, "changed");
        assert_eq!(kept.fresh(3, 101), None, "a second later");
        assert_eq!(kept.fresh(3, 99), None, "the clock went back");
    }
}
