//! An SNP report in the JSON form of the `sev` crate: field by field. It is converted
//! back into the bytes of the ABI; the signature shows whether they are the signed
//! bytes.

use serde_json::{Map, Value};

use super::trustee::bytes_of;
use crate::snp::report::LENGTH;

type Fields = Map<String, Value>;

/// Fields of bytes with their offsets and lengths (SEV-SNP ABI, table
/// "ATTESTATION_REPORT").
const BYTES: [(&str, usize, usize); 10] = [
    ("family_id", 0x10, 16),
    ("image_id", 0x20, 16),
    ("report_data", 0x50, 64),
    ("measurement", 0x90, 48),
    ("host_data", 0xc0, 32),
    ("id_key_digest", 0xe0, 48),
    ("author_key_digest", 0x110, 48),
    ("report_id", 0x140, 32),
    ("report_id_ma", 0x160, 32),
    ("chip_id", 0x1a0, 64),
];
/// Numbers with their alternative names, offsets and lengths.
const NUMBERS: [(&[&str], usize, usize); 15] = [
    (&["version"], 0x00, 4),
    (&["guest_svn"], 0x04, 4),
    (&["policy"], 0x08, 8),
    (&["vmpl"], 0x30, 4),
    (&["sig_algo"], 0x34, 4),
    (&["plat_info"], 0x40, 8),
    (&["key_info", "_author_key_en", "author_key_en"], 0x48, 4),
    (&["current_build"], 0x1e8, 1),
    (&["current_minor"], 0x1e9, 1),
    (&["current_major"], 0x1ea, 1),
    (&["committed_build"], 0x1ec, 1),
    (&["committed_minor"], 0x1ed, 1),
    (&["committed_major"], 0x1ee, 1),
    (&["launch_mit_vector"], 0x1f8, 8),
    (&["current_mit_vector"], 0x200, 8),
];
/// CPUID family, model and stepping; absent before version 3.
const CPUID: [(&str, usize); 3] = [("cpuid_fam_id", 0x188), ("cpuid_mod_id", 0x189), ("cpuid_step", 0x18a)];
const TCBS: [(&str, usize); 4] =
    [("current_tcb", 0x38), ("reported_tcb", 0x180), ("committed_tcb", 0x1e0), ("launch_tcb", 0x1f0)];
/// Required fields; the others differ between versions.
const REQUIRED: [&str; 2] = ["version", "policy"];

/// The report's bytes; `None` if a field is unknown or has no value.
pub(super) fn encode_report(fields: &Fields) -> Option<Vec<u8>> {
    let mut report = vec![0; LENGTH];
    let mut put = |at: usize, bytes: &[u8]| {
        report.iter_mut().skip(at).zip(bytes).for_each(|(to, from)| *to = *from);
    };
    for (name, at, length) in BYTES {
        put(at, &bytes_of(fields.get(name)?).filter(|bytes| bytes.len() == length)?);
    }
    for (names, at, length) in NUMBERS {
        let value = names.iter().find_map(|name| fields.get(*name)).filter(|value| !value.is_null());
        match value {
            Some(value) => put(at, number(value)?.to_le_bytes().get(..length)?),
            None if names.iter().any(|name| REQUIRED.contains(name)) => return None,
            None => {}
        }
    }
    for (name, at) in CPUID {
        if let Some(value) = fields.get(name).and_then(Value::as_u64) {
            put(at, &[u8::try_from(value).ok()?]);
        }
    }
    for (prefix, at) in [("current", 0x1e8), ("committed", 0x1ec)] {
        if let Some(version) = fields.get(prefix).and_then(Value::as_object) {
            let part = |name: &str| version.get(name).and_then(Value::as_u64).and_then(|n| u8::try_from(n).ok());
            put(at, &[part("build")?, part("minor")?, part("major")?]);
        }
    }
    for (name, at) in TCBS {
        put(at, &tcb(fields.get(name)?.as_object()?)?);
    }
    let signature = fields.get("signature")?.as_object()?;
    for (name, at) in [("r", 0x2a0), ("s", 0x2e8)] {
        put(at, &bytes_of(signature.get(name)?).filter(|bytes| bytes.len() == 72)?);
    }
    Some(report)
}

/// A number, or an object whose only member is a number.
fn number(value: &Value) -> Option<u64> {
    match value {
        Value::Object(fields) if fields.len() == 1 => fields.values().next().and_then(Value::as_u64),
        Value::Array(words) => words.first().and_then(Value::as_u64).filter(|_| words.len() == 1),
        other => other.as_u64(),
    }
}

/// With an FMC, in the layout of Turin; without, in that of Milan and Genoa.
fn tcb(fields: &Fields) -> Option<[u8; 8]> {
    let level = |name: &str| fields.get(name).and_then(Value::as_u64).and_then(|n| u8::try_from(n).ok());
    let (boot, tee, snp, microcode) = (level("bootloader")?, level("tee")?, level("snp")?, level("microcode")?);
    Some(match level("fmc") {
        Some(fmc) => [fmc, boot, tee, snp, 0, 0, 0, microcode],
        None => [boot, tee, 0, 0, 0, 0, snp, microcode],
    })
}
