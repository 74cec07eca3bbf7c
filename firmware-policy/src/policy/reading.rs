//! Converts texts to values. It notes every mistake and continues reading.

use std::collections::BTreeMap;

use portcullis_wire::hex::{unhex, unhex_array};

use super::FieldRule;
use crate::finding::Finding;

/// Longest part of a value that a message quotes.
const SHOWN: usize = 80;

/// Reads one file.
pub(super) struct Reading<'a> {
    pub(super) file: &'a str,
    pub(super) findings: &'a mut Vec<Finding>,
}

impl Reading<'_> {
    /// Notes a mistake at a key.
    pub(super) fn refuse(&mut self, key: impl Into<String>, what: impl Into<String>, hint: &str) {
        self.findings.push(Finding {
            file: self.file.to_owned(),
            line: None,
            key: key.into(),
            what: what.into(),
            hint: hint.to_owned(),
        });
    }

    /// Notes an impossible value, and returns `None`.
    pub(super) fn wrong<T>(&mut self, key: impl Into<String>, found: &str, hint: &str) -> Option<T> {
        let shown: String = found.chars().take(SHOWN).collect();
        self.refuse(key, format!("cannot be {shown:?}"), hint);
        None
    }

    /// Bytes of a fixed length, in hex.
    pub(super) fn hex<const N: usize>(&mut self, key: &str, text: &str) -> Option<[u8; N]> {
        unhex_array(text).or_else(|| self.wrong(key, text, &format!("{N} bytes in lower-case hex")))
    }

    /// Bytes of any length except zero, in hex.
    pub(super) fn bytes(&mut self, key: &str, text: &str) -> Option<Vec<u8>> {
        let bytes = unhex(text).filter(|bytes| !bytes.is_empty());
        bytes.or_else(|| self.wrong(key, text, "bytes in lower-case hex"))
    }

    /// `any`, or bytes of a fixed length.
    pub(super) fn rule<const N: usize>(&mut self, key: &str, text: &str) -> Option<FieldRule<N>> {
        if text == "any" {
            return Some(FieldRule::Any);
        }
        let value = unhex_array(text).map(FieldRule::Exactly);
        value.or_else(|| self.wrong(key, text, &format!("\"any\", or {N} bytes in lower-case hex")))
    }

    /// A time, as Unix seconds.
    pub(super) fn time(&mut self, key: &str, text: &str) -> Option<u64> {
        let parsed: Option<jiff::Timestamp> = text.parse().ok();
        let seconds = parsed.and_then(|time| u64::try_from(time.as_second()).ok());
        seconds.or_else(|| self.wrong(key, text, "a time such as 2026-12-01T00:00:00Z (RFC 3339)"))
    }

    /// A time that may be absent.
    pub(super) fn maybe_time(&mut self, key: &str, text: Option<&String>) -> Option<Option<u64>> {
        text.map_or(Some(None), |text| self.time(key, text).map(Some))
    }

    /// A word of a list.
    pub(super) fn word<T: Copy>(&mut self, key: &str, text: &str, words: &[(&str, T)]) -> Option<T> {
        let found = words.iter().find(|(word, _)| *word == text).map(|(_, value)| *value);
        found.or_else(|| {
            let known: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
            self.wrong(key, text, &format!("one of {}", known.join(", ")))
        })
    }

    /// A number within bounds.
    pub(super) fn number(&mut self, key: &str, found: u64, least: u64, most: u64) -> Option<u64> {
        if (least..=most).contains(&found) {
            return Some(found);
        }
        self.wrong(key, &found.to_string(), &format!("{least} to {most}"))
    }

    /// A name: printable, without blanks, at most 128 characters. Names of
    /// images and workloads may have blanks.
    pub(super) fn name(&mut self, key: &str, text: &str, blanks: bool) -> Option<String> {
        let fits = |c: char| c.is_ascii_graphic() || (blanks && c == ' ');
        if !text.trim().is_empty() && text.len() <= 128 && text.chars().all(fits) {
            return Some(text.to_owned());
        }
        let hint = if blanks {
            "1 to 128 printable ASCII characters"
        } else {
            "1 to 128 printable ASCII characters, no blanks"
        };
        self.wrong(key, text, hint)
    }

    /// Inserts an item; a duplicate is a mistake.
    pub(super) fn unique<K: Ord, V>(&mut self, key: &str, map: &mut BTreeMap<K, V>, at: K, value: V, shown: &str) {
        if map.insert(at, value).is_some() {
            self.refuse(key, format!("{shown:?} is there twice"), "remove one of the two");
        }
    }
}
