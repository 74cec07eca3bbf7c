//! `portcullisd.toml`. Unknown keys are refused, and so are missing ones where a choice
//! matters.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::Deserialize;

/// Path of the configuration without `--config`.
pub(crate) const DEFAULT_PATH: &str = "/etc/portcullis/portcullisd.toml";

/// The configuration.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    /// Origin of the log: the name of this authority.
    pub(crate) origin: String,
    /// Algorithms of the permit key: `classic` or `pq`.
    pub(crate) suite: SuiteName,
    /// Folder for the log and the sealed keys.
    #[serde(default = "default_state")]
    pub(crate) state: PathBuf,
    /// Signed policy bundle (`.pcb`).
    pub(crate) bundle: PathBuf,
    /// The governors' keys and threshold, as made by `portcullis-policy governance`.
    pub(crate) governance: PathBuf,
    /// Endorsement of this instance by the governors. Absent before genesis.
    pub(crate) endorsement: PathBuf,
    /// Addresses.
    pub(crate) listen: Listen,
    /// Log format: `json` or `text`.
    #[serde(default)]
    pub(crate) log: LogFormat,
}

/// Addresses to listen on.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Listen {
    /// Nodes and governors, mutual TLS.
    pub(crate) nodes: SocketAddr,
    /// Checkpoint, tiles, keys, status, metrics, health: plain and read-only.
    #[serde(default = "default_public")]
    pub(crate) public: SocketAddr,
}

/// A suite, by name.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum SuiteName {
    /// ESP256.
    Classic,
    /// ML-DSA-65.
    Pq,
}

/// How the daemon logs.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum LogFormat {
    /// One JSON object per line.
    #[default]
    Json,
    /// Text for people.
    Text,
}

impl Config {
    /// Reads the configuration. Relative paths are relative to its folder.
    ///
    /// # Errors
    /// I/O errors; unknown or missing keys.
    pub(crate) fn read(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path).with_context(|| format!("configuration {}", path.display()))?;
        let mut config: Self = toml::from_str(&text).with_context(|| format!("configuration {}", path.display()))?;
        let folder = path.parent().unwrap_or(Path::new("."));
        for path in [&mut config.state, &mut config.bundle, &mut config.governance, &mut config.endorsement] {
            *path = folder.join(&path);
        }
        Ok(config)
    }

    /// The suite.
    #[must_use]
    pub(crate) const fn suite(&self) -> portcullis_permit::Suite {
        match self.suite {
            SuiteName::Classic => portcullis_permit::Suite::Classic,
            SuiteName::Pq => portcullis_permit::Suite::Pq,
        }
    }
}

fn default_state() -> PathBuf {
    PathBuf::from("/var/lib/portcullis")
}

fn default_public() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 8080))
}
