//! The launch digest, with the update rule of the secure processor (SEV-SNP ABI,
//! §8.17.2, table "Layout of the PAGE_INFO structure").

use aws_lc_rs::digest::{SHA384, digest};

/// Bytes of a page.
pub(super) const PAGE: usize = 4096;
const LENGTH: usize = 48;
const PAGE_INFO_LENGTH: u16 = 0x70;
/// Address that the measurement states for pages of register state: all ones, within 52
/// bits.
const VMSA_ADDRESS: u64 = 0xffff_ffff_f000;

/// Kinds of pages (`PAGE_TYPE`).
#[derive(Clone, Copy, Debug)]
enum Kind {
    Normal = 1,
    Vmsa = 2,
    Zero = 3,
    Unmeasured = 4,
    Secrets = 5,
    Cpuid = 6,
}

/// The digest so far.
#[derive(Clone, Debug)]
pub(super) struct LaunchDigest([u8; LENGTH]);

impl LaunchDigest {
    /// The digest before the first page.
    pub(super) const fn new() -> Self {
        Self([0; LENGTH])
    }

    /// The digest after pages that were measured elsewhere.
    pub(super) const fn after(value: [u8; LENGTH]) -> Self {
        Self(value)
    }

    pub(super) const fn value(&self) -> [u8; LENGTH] {
        self.0
    }

    /// Adds pages with this content, from an address upward; the last page is padded.
    pub(super) fn normal(&mut self, address: u64, content: &[u8]) {
        for (page, at) in content.chunks(PAGE).zip((address..).step_by(PAGE)) {
            let mut whole = page.to_vec();
            whole.resize(PAGE, 0);
            self.extend(Kind::Normal, at, sha384(&whole));
        }
    }

    /// Adds pages of zeroes.
    pub(super) fn zero(&mut self, address: u64, length: u64) {
        self.empty(Kind::Zero, address, length);
    }

    /// Adds pages whose content is not measured.
    pub(super) fn unmeasured(&mut self, address: u64, length: u64) {
        self.empty(Kind::Unmeasured, address, length);
    }

    pub(super) fn secrets(&mut self, address: u64) {
        self.extend(Kind::Secrets, address, [0; LENGTH]);
    }

    pub(super) fn cpuid(&mut self, address: u64) {
        self.extend(Kind::Cpuid, address, [0; LENGTH]);
    }

    /// Adds the register state of a virtual CPU.
    pub(super) fn vmsa(&mut self, page: &[u8; PAGE]) {
        self.extend(Kind::Vmsa, VMSA_ADDRESS, sha384(page));
    }

    fn empty(&mut self, kind: Kind, address: u64, length: u64) {
        let end = address.saturating_add(length);
        for at in (address..end).step_by(PAGE) {
            self.extend(kind, at, [0; LENGTH]);
        }
    }

    fn extend(&mut self, kind: Kind, address: u64, contents: [u8; LENGTH]) {
        let info = [
            &self.0[..],
            &contents,
            &PAGE_INFO_LENGTH.to_le_bytes(),
            // type, no migration image, no permissions of lower levels, reserved
            &[kind as u8, 0, 0, 0, 0, 0],
            &address.to_le_bytes(),
        ]
        .concat();
        self.0 = sha384(&info);
    }
}

fn sha384(bytes: &[u8]) -> [u8; LENGTH] {
    let mut out = [0; LENGTH];
    out.iter_mut().zip(digest(&SHA384, bytes).as_ref()).for_each(|(to, from)| *to = *from);
    out
}
