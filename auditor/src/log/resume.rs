//! The file in which an audit of a log stores its progress.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use portcullis_files::write_durably;
use portcullis_lineage::WalkPosition;
use portcullis_permit::VerifyingKey;
use portcullis_wire::hex::{hex, unhex};
use serde_json::{Value, json};

/// Number of entries after which the progress of an audit is stored.
pub(crate) const KEEP_EVERY: u64 = 65_536;

/// An optional file with the state of one log.
pub(crate) struct Memory<'a> {
    pub(crate) path: Option<&'a Path>,
    pub(crate) key: &'a VerifyingKey,
}

impl Memory<'_> {
    /// The stored state, parsed by `read`; `None` if nothing was stored.
    ///
    /// # Errors
    /// The file cannot be read, belongs to another log, or `read` refuses it.
    pub(crate) fn known<T>(&self, read: impl FnOnce(&Value) -> Option<T>) -> Result<Option<T>> {
        let Some(path) = self.path.filter(|path| path.exists()) else { return Ok(None) };
        let describe = || path.display().to_string();
        let kept: Value = serde_json::from_slice(&fs::read(path).with_context(describe)?).with_context(describe)?;
        let of_this = kept.get("key").and_then(Value::as_str) == Some(&self.key.to_string());
        let state = kept.get("state").filter(|_| of_this).and_then(read);
        state.map(Some).with_context(|| format!("{}: not of this log", path.display()))
    }

    /// Stores a state and replaces the last one as a whole. A failure makes the next run
    /// longer and is no finding about the log.
    pub(crate) fn keep(&self, state: impl FnOnce() -> Value) {
        let Some(path) = self.path else { return };
        let kept = json!({ "key": self.key.to_string(), "state": state() });
        if let Err(error) = write_durably(path, kept.to_string().as_bytes()) {
            eprintln!("portcullis-audit: {error}");
        }
    }
}

/// A position in the published files.
pub(crate) fn position_json(at: &WalkPosition) -> Value {
    json!({ "size": at.size, "edge": at.edge.iter().map(|row| hex(row)).collect::<Vec<_>>() })
}

/// Reads [`position_json`].
pub(crate) fn position(value: &Value) -> Option<WalkPosition> {
    let edge = value.get("edge")?.as_array()?.iter();
    let edge = edge.map(|row| unhex(row.as_str()?)).collect::<Option<_>>()?;
    Some(WalkPosition { size: value.get("size")?.as_u64()?, edge })
}
