//! `witness.toml`, and the key.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use aws_lc_rs::rand;
use portcullis_files::{PRIVATE, create_durably};
use portcullis_lineage::{Cosigner, VerifyingKey};
use portcullis_wire::hex::{hex, unhex_array};
use serde::Deserialize;
use zeroize::Zeroizing;

/// The configuration. Relative paths are relative to its folder.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    /// Name of the witness.
    pub(crate) name: String,
    /// Its key, as `portcullis-witness init` made it.
    pub(crate) key: PathBuf,
    /// Folder for what it remembers.
    pub(crate) state: PathBuf,
    /// Address to listen on.
    pub(crate) listen: SocketAddr,
    /// The logs that it knows.
    #[serde(rename = "log")]
    pub(crate) logs: Vec<Log>,
}

/// A log.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Log {
    /// Its checkpoint key, as `portcullisd init` prints it.
    pub(crate) key: String,
}

impl Config {
    /// Reads the configuration.
    ///
    /// # Errors
    /// I/O errors; unknown or missing keys.
    pub(crate) fn read(path: &Path) -> Result<Self> {
        let describe = || format!("configuration {}", path.display());
        let text = fs::read_to_string(path).with_context(describe)?;
        let mut config: Self = toml::from_str(&text).with_context(describe)?;
        let folder = path.parent().unwrap_or(Path::new("."));
        for path in [&mut config.key, &mut config.state] {
            *path = folder.join(&path);
        }
        Ok(config)
    }

    /// The key.
    ///
    /// # Errors
    /// The file is not one that `init` made.
    pub(crate) fn cosigner(&self) -> Result<Cosigner> {
        let describe = || format!("key {}", self.key.display());
        let text = Zeroizing::new(fs::read_to_string(&self.key).with_context(describe)?);
        let unread = || format!("{}: not a key that portcullis-witness init wrote", describe());
        let seed = Zeroizing::new(unhex_array(text.trim()).with_context(unread)?);
        Cosigner::from_seed(&self.name, &seed).with_context(|| format!("name {:?}", self.name))
    }

    /// The keys of the logs.
    ///
    /// # Errors
    /// One is malformed.
    pub(crate) fn log_keys(&self) -> Result<Vec<VerifyingKey>> {
        let read = |log: &Log| VerifyingKey::parse(&log.key).with_context(|| format!("log {:?}", log.key));
        self.logs.iter().map(read).collect()
    }
}

/// Makes a key and writes it, mode 0600.
///
/// # Errors
/// The file exists, or cannot be written; a name that no key may have.
pub(crate) fn make_key(name: &str, path: &Path) -> Result<Cosigner> {
    let mut seed = Zeroizing::new([0; 32]);
    rand::fill(seed.as_mut_slice()).map_err(|_| anyhow::anyhow!("the system gives no randomness"))?;
    let cosigner = Cosigner::from_seed(name, &seed).with_context(|| format!("name {name:?}"))?;
    let text = Zeroizing::new(format!("{}\n", hex(seed.as_slice())));
    create_durably(path, text.as_bytes(), PRIVATE)?;
    Ok(cosigner)
}
