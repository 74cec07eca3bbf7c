//! A verdict with its checks and facts: for people, for scripts, and as a page.

mod html;
mod text;
mod topics;

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};
use portcullis_attest::check::{Check, Checks, Outcome, Verdict};
use portcullis_cli::{rfc3339, say};
use portcullis_firmware_policy::ear::{Ear, TrustVector};
use serde_json::{Map, Value, json};

use crate::inputs::{Inputs, time};

/// The output options of a report.
#[derive(Debug, clap::Args)]
pub(crate) struct Output {
    /// One JSON object on stdout.
    #[arg(long)]
    pub(crate) json: bool,
    /// Also write the report as one self-contained HTML page.
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Also write the claims of an EAT attestation result (EAR), unsigned.
    #[arg(long, value_name = "FILE")]
    ear: Option<PathBuf>,
}

/// Named values of an input.
#[derive(Debug)]
pub(crate) struct Facts {
    pub(crate) title: &'static str,
    pub(crate) rows: Vec<(String, String)>,
}

impl Facts {
    pub(crate) fn new<'a>(title: &'static str, rows: impl IntoIterator<Item = (&'a str, String)>) -> Self {
        Self { title, rows: rows.into_iter().map(|(name, value)| (name.to_owned(), value)).collect() }
    }
}

/// All findings of a command.
#[derive(Debug)]
pub(crate) struct Report {
    /// Name of the JSON object's schema.
    pub(crate) schema: &'static str,
    /// The examined object.
    pub(crate) title: String,
    /// Time of the verification, Unix seconds, if time matters.
    pub(crate) at: Option<u64>,
    pub(crate) inputs: Inputs,
    pub(crate) checks: Checks,
    pub(crate) facts: Vec<Facts>,
    /// The limits of the verification, in sentences.
    pub(crate) beyond: Vec<&'static str>,
    /// Text after the verdict.
    pub(crate) note: &'static str,
    /// Bundles of the appraisal.
    pub(crate) policies: Vec<String>,
    /// Further members of the JSON object.
    pub(crate) members: Map<String, Value>,
}

impl Report {
    /// Prints the report and returns the exit code of its verdict.
    pub(crate) fn give(&self, output: &Output) -> Result<u8> {
        if let Some(path) = &output.html {
            fs::write(path, html::page(self)).with_context(|| path.display().to_string())?;
        }
        if let Some(path) = &output.ear {
            let at = time(None)?;
            let (subject, vector) = (self.title.clone(), TrustVector::of(&self.checks));
            let ear = Ear { issued: self.at.unwrap_or(at), subject, vector, policies: self.policies.clone() };
            fs::write(path, ear.encode()).with_context(|| path.display().to_string())?;
        }
        if output.json {
            say!("{}", self.json());
        } else {
            text::print(self);
        }
        Ok(match self.checks.verdict() {
            Verdict::Pass => 0,
            Verdict::Fail => 1,
            Verdict::Undetermined => 3,
        })
    }

    fn json(&self) -> Value {
        let missing = self.checks.list().iter().filter(|check| check.outcome == Outcome::Missing);
        let mut body = Map::new();
        body.insert("schema".into(), self.schema.into());
        if let Some(at) = self.at {
            body.insert("at".into(), rfc3339(at).into());
        }
        body.insert("verdict".into(), self.checks.verdict().as_str().into());
        body.insert("inputs".into(), self.inputs.json());
        body.insert("missing".into(), missing.map(|check| check.id.as_ref()).collect());
        body.insert("checks".into(), self.checks.list().iter().map(json_check).collect());
        body.extend(self.members.clone());
        Value::Object(body)
    }
}

fn json_check(check: &Check) -> Value {
    json!({
        "id": check.id,
        "outcome": check.outcome.as_str(),
        "found": check.found,
        "required": check.required,
        "detail": check.detail,
    })
}
