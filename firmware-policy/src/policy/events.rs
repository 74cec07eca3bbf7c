//! Rules for measurements by user space: phases of the boot, and lists of events.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use portcullis_attest::{ima, uki};
use portcullis_wire::Digest;
use portcullis_wire::hex::{hex, unhex_array};

use super::reading::Reading;

/// The path of a machine that has measured no phase yet.
pub(crate) const NO_PHASE: &str = "none";
/// Prefix of a digest in a list of events.
const DIGEST: &str = "sha256:";

/// An event that may be measured into a PCR.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AllowedEvent {
    /// This text.
    Text(String),
    /// Any text that starts with this.
    Prefix(String),
    /// Anything with this digest.
    Digest(Digest),
}

impl fmt::Display for AllowedEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => f.write_str(text),
            Self::Prefix(prefix) => write!(f, "{prefix}*"),
            Self::Digest(digest) => write!(f, "{DIGEST}{}", hex(digest)),
        }
    }
}

/// Paths of phases, each as words joined by colons.
pub(super) fn phases(paths: &[String], reading: &mut Reading<'_>) -> BTreeSet<String> {
    const KEY: &str = "boot.phases";
    let example = format!("{:?}, or {NO_PHASE:?} for none", uki::PHASES.join(":"));
    if paths.is_empty() {
        reading.refuse(KEY, "is empty", &format!("an empty list admits nothing: give a path such as {example}"));
    }
    for path in paths {
        let is_word =
            |word: &str| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-');
        if !path.split(':').all(is_word) {
            reading.refuse(KEY, format!("cannot be {path:?}"), &format!("words that colons join, such as {example}"));
        }
    }
    paths.iter().cloned().collect()
}

/// Lists of events by PCR.
pub(super) fn events(
    texts: &BTreeMap<String, Vec<String>>,
    reading: &mut Reading<'_>,
) -> BTreeMap<u8, Vec<AllowedEvent>> {
    let mut all = BTreeMap::new();
    for (name, values) in texts {
        let key = format!("events.{name}");
        let number: Option<u8> = name.parse().ok().filter(|n: &u8| *n < 24 && n.to_string() == *name);
        let Some(number) = number else {
            reading.refuse(key, "is no PCR", "0 to 23");
            continue;
        };
        if number == ima::PCR {
            reading.refuse(key.as_str(), "is the PCR of measured files", "name their list with [ima]");
        }
        if number == uki::PCR {
            let hint = "name its sections with [uki], and the phases of the boot with boot.phases";
            reading.refuse(key.as_str(), "is the PCR of kernel image and phases", hint);
        }
        if values.is_empty() {
            let hint = "an empty list admits no measurement at all: give the PCR's value under [pcrs] instead";
            reading.refuse(key.as_str(), "is empty", hint);
        }
        all.insert(number, values.iter().filter_map(|text| event(&key, text, reading)).collect());
    }
    all
}

fn event(key: &str, text: &str, reading: &mut Reading<'_>) -> Option<AllowedEvent> {
    if let Some(digest) = text.strip_prefix(DIGEST) {
        return match unhex_array(digest) {
            Some(digest) => Some(AllowedEvent::Digest(digest)),
            None => reading.wrong(key, text, "sha256: and 32 bytes in lower-case hex"),
        };
    }
    match text.strip_suffix('*') {
        Some("") => reading.wrong(key, text, "every text: to admit any, remove the PCR"),
        Some(prefix) => Some(AllowedEvent::Prefix(prefix.to_owned())),
        None if text.is_empty() => reading.wrong(key, text, "a text, the beginning of one with *, or sha256:HEX"),
        None => Some(AllowedEvent::Text(text.to_owned())),
    }
}
