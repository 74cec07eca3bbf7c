//! The events of a line of permits, as they are shown.

use std::borrow::Cow;

use portcullis_cli::rfc3339;
use portcullis_permit::{Execution, PermitId};
use portcullis_wire::Digest;
use portcullis_wire::hex::hex;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// An event of the log with its depth in the tree.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Event {
    pub(super) index: u64,
    pub(super) time: Option<u64>,
    pub(super) what: Cow<'static, str>,
    pub(super) text: String,
    pub(super) depth: usize,
    /// The permit, if the event is one.
    pub(super) id: Option<String>,
}

impl Event {
    pub(super) const fn new(index: u64, what: &'static str, text: String, time: Option<u64>, depth: usize) -> Self {
        Self { index, time, what: Cow::Borrowed(what), text, depth, id: None }
    }

    pub(super) fn about(self, id: PermitId) -> Self {
        Self { id: Some(id.to_string()), ..self }
    }

    /// A line of the table.
    pub(super) fn row(&self) -> (String, String) {
        let branch = match self.depth {
            0 => String::new(),
            depth => format!("{}└ ", "  ".repeat(depth.saturating_sub(1))),
        };
        let time = self.time.map_or_else(String::new, |time| format!("{}  ", rfc3339(time)));
        (format!("{branch}{}", self.what), format!("entry {:<6} {time}{}", self.index, fitting(&self.text)))
    }

    pub(super) fn json(&self) -> Value {
        json!({
            "entry": self.index,
            "time": self.time.map(rfc3339),
            "what": self.what,
            "text": self.text,
            "depth": self.depth,
            "permit": self.id,
        })
    }
}

pub(super) fn execution_text(execution: &Execution) -> String {
    let code = execution.code.map(|code| format!("code {code}"));
    let check = execution.check.as_ref().map(|check| format!("because of {check}"));
    let kill = execution.kill_milliseconds.map(|ms| format!("everything dead after {ms} ms"));
    [code, check, kill].into_iter().flatten().collect::<Vec<_>>().join(", ")
}

pub(super) fn short(digest: &Digest) -> String {
    hex(digest).chars().take(16).collect()
}

/// A text with long digests shortened; the JSON report has them whole.
fn fitting(text: &str) -> String {
    let word = |word: &str| match word.get(..16) {
        Some(start) if word.len() > 40 => format!("{start}…"),
        _ => word.to_owned(),
    };
    text.split(' ').map(word).collect::<Vec<_>>().join(" ")
}
