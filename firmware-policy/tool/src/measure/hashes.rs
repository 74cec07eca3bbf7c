//! The table of kernel hashes that QEMU writes into a guest's memory
//! (`target/i386/sev.c`, `SevHashTable`), so that firmware starts no other kernel.

use aws_lc_rs::digest::{SHA256, digest};
use uuid::{Uuid, uuid};

use super::digest::PAGE;

const HEADER: Uuid = uuid!("9438d606-4f22-4cc9-b479-a793d411fd21");
const KERNEL: Uuid = uuid!("4de79437-abd2-427f-b835-d5b172d2045b");
const INITRD: Uuid = uuid!("44baf731-3a2f-4bd7-9af1-41e29169781d");
const COMMAND_LINE: Uuid = uuid!("97d02dd8-bd20-4c94-aa78-e7714d36ab2a");
/// Bytes of an entry and of the table: GUID, length, digest.
const ENTRY_LENGTH: u16 = 16 + 2 + 32;
const TABLE_LENGTH: u16 = 16 + 2 + 3 * ENTRY_LENGTH;

/// The files of a direct boot.
#[derive(Clone, Debug)]
pub(super) struct DirectBoot {
    pub(super) kernel: Vec<u8>,
    pub(super) initrd: Vec<u8>,
    pub(super) command_line: String,
}

impl DirectBoot {
    /// The page with the table at an offset; `None` if the table does not fit.
    pub(super) fn page(&self, offset: u64) -> Option<Vec<u8>> {
        let line = [self.command_line.as_bytes(), &[0]].concat();
        let mut table = header(HEADER, TABLE_LENGTH);
        for (guid, content) in [(COMMAND_LINE, &line), (INITRD, &self.initrd), (KERNEL, &self.kernel)] {
            table.extend(header(guid, ENTRY_LENGTH));
            table.extend_from_slice(digest(&SHA256, content).as_ref());
        }
        let offset = usize::try_from(offset).ok()?;
        let mut page = vec![0; offset];
        page.extend(table);
        if page.len() > PAGE {
            return None;
        }
        page.resize(PAGE, 0);
        Some(page)
    }
}

fn header(guid: Uuid, length: u16) -> Vec<u8> {
    [&guid.to_bytes_le()[..], &length.to_le_bytes()].concat()
}
