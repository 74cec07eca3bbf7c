//! Measurements after firmware, from a log of user space.

use portcullis_attest::eventlog::EventLog;
use portcullis_attest::tpm::pcr::Bank;
use portcullis_wire::hex::hex;
use serde_json::{Value, json};

use crate::report::Facts;

/// Longest text shown to people, in characters.
const SHOWN: usize = 120;

/// One measurement.
struct Later<'a> {
    pcr: Option<u8>,
    nv_index: Option<u32>,
    digests: &'a [(Bank, Vec<u8>)],
    data: &'a [u8],
}

impl Later<'_> {
    fn text(&self) -> String {
        String::from_utf8_lossy(self.data).into_owned()
    }

    /// Whether the text hashes to every digest. If the register proves the digest, it then
    /// is the measured text.
    fn hashes(&self) -> bool {
        self.digests.iter().all(|(bank, digest)| bank.hash(&[self.data]) == *digest)
    }
}

fn later(log: &EventLog) -> impl Iterator<Item = Later<'_>> {
    let events = log.events.iter().skip(log.user_space);
    let events = events.map(|e| Later { pcr: e.pcr, nv_index: None, digests: &e.digests, data: &e.data });
    let records = log.nv_records.iter();
    let records = records.map(|r| Later { pcr: None, nv_index: Some(r.index), digests: &r.digests, data: &r.data });
    events.chain(records)
}

/// Rows for people; `None` if user space logged nothing.
pub(crate) fn later_facts(log: &EventLog) -> Option<Facts> {
    let row = |one: Later<'_>| {
        let target = match (one.pcr, one.nv_index) {
            (Some(pcr), _) => format!("PCR {pcr}"),
            (None, Some(index)) => format!("NV {index:#010x}, in no quote"),
            (None, None) => "no register".into(),
        };
        let text: String = one.text().chars().filter(|c| !c.is_control()).take(SHOWN).collect();
        (target, if one.hashes() { text } else { format!("{text} (the text is not what was hashed)") })
    };
    let rows: Vec<(String, String)> = later(log).map(row).collect();
    (!rows.is_empty()).then_some(Facts { title: "What user space says that it measured", rows })
}

/// As JSON: an array, empty if user space logged nothing.
pub(crate) fn later_json(log: &EventLog) -> Value {
    let one = |one: Later<'_>| {
        let digests = one.digests.iter();
        let digests: Vec<Value> = digests.map(|(bank, d)| json!({ "bank": bank.name(), "digest": hex(d) })).collect();
        json!({
            "pcr": one.pcr,
            "nv_index": one.nv_index,
            "text": one.text(),
            "text_hashes": one.hashes(),
            "digests": digests,
        })
    };
    later(log).map(one).collect()
}
