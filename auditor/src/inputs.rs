//! Files that an auditor names, each with its digest and role in the report.

use std::fs::File;
use std::io::{BufReader, Read, Seek};
use std::path::Path;

use anyhow::{Context, Result, ensure};
use portcullis_wire::hex::hex;
use portcullis_wire::{sha256, sha256_of};
use serde_json::{Value, json};

/// Largest file read, in bytes.
const MAX_FILE: u64 = 64 * 1024 * 1024;

/// A file that was read.
#[derive(Debug)]
pub(crate) struct Input {
    pub(crate) path: String,
    sha256: String,
    role: String,
    /// Role and digest, for people.
    pub(crate) description: String,
}

/// The files that were read, in order.
#[derive(Debug, Default)]
pub(crate) struct Inputs(Vec<Input>);

impl Inputs {
    /// Reads a file and records it.
    pub(crate) fn read(&mut self, path: &Path, role: &str) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        open(path)?.read_to_end(&mut bytes).with_context(|| path.display().to_string())?;
        self.record(path, role, &sha256(&[&bytes]));
        Ok(bytes)
    }

    fn record(&mut self, path: &Path, role: &str, digest: &[u8; 32]) {
        let digest = hex(digest);
        self.0.push(Input {
            path: path.display().to_string(),
            description: format!("{role}, sha256 {digest}"),
            sha256: digest,
            role: role.to_owned(),
        });
    }

    /// Records a file that is too large for memory, and opens it for reading.
    pub(crate) fn open(&mut self, path: &Path, role: &str) -> Result<BufReader<File>> {
        let describe = || path.display().to_string();
        let mut file = open(path)?;
        let digest = sha256_of(&mut file).with_context(describe)?;
        self.record(path, role, &digest);
        file.rewind().with_context(describe)?;
        Ok(BufReader::new(file))
    }

    /// The files that were read.
    pub(crate) fn list(&self) -> &[Input] {
        &self.0
    }

    /// The files that were read, as JSON.
    pub(crate) fn json(&self) -> Value {
        self.0.iter().map(|input| json!({ "path": input.path, "sha256": input.sha256, "role": input.role })).collect()
    }
}

/// Opens a file, if it is not too large.
fn open(path: &Path) -> Result<File> {
    let describe = || path.display().to_string();
    let file = File::open(path).with_context(describe)?;
    let length = file.metadata().with_context(describe)?.len();
    ensure!(length <= MAX_FILE, "{}: {length} bytes, at most {MAX_FILE}", describe());
    Ok(file)
}

/// A time on the command line, or now. Unix seconds.
pub(crate) fn time(at: Option<&str>) -> Result<u64> {
    portcullis_cli::time_or_now(at).map_err(|why| anyhow::anyhow!("--at {why}"))
}
