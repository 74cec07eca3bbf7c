//! `portcullis.toml`. Unknown keys are refused.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};
use portcullis_firmware_policy::{BundleError, VerifiedBundle};
use portcullis_permit::Governance;
use serde::Deserialize;

use crate::refusal::ClientError;
use crate::state::State;

/// Path of the configuration without `--config`.
pub(crate) const DEFAULT_PATH: &str = "/etc/portcullis/portcullis.toml";

/// The configuration of a node.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Name under which this node is enrolled.
    pub node: String,
    /// Address of the authority, `host:port`.
    pub authority: String,
    /// Signed policy bundle (`.pcb`) to start from.
    pub bundle: PathBuf,
    /// The governors' keys and threshold, in the measured image.
    pub governance: PathBuf,
    /// Folder for the node's stored state.
    #[serde(default = "default_state")]
    pub state: PathBuf,
    /// How the gate runs programs.
    #[serde(default)]
    pub gate: GateConfig,
}

/// How the gate runs programs.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GateConfig {
    /// User that programs run as; not 0.
    pub uid: u32,
    /// Group that programs run as; not 0.
    pub gid: u32,
}

impl Default for GateConfig {
    /// `nobody`.
    fn default() -> Self {
        Self { uid: 65534, gid: 65534 }
    }
}

fn default_state() -> PathBuf {
    PathBuf::from("/var/lib/portcullis")
}

impl Config {
    /// Reads the configuration. Relative paths are relative to its folder.
    ///
    /// # Errors
    /// I/O errors; unknown or missing keys; a program user of 0.
    pub fn read(path: &Path) -> Result<Self> {
        let describe = || format!("configuration {}", path.display());
        let text = fs::read_to_string(path).with_context(describe)?;
        let mut config: Self = toml::from_str(&text).with_context(describe)?;
        anyhow::ensure!(
            config.gate.uid != 0 && config.gate.gid != 0,
            "{}: gate.uid and gate.gid cannot be 0",
            describe()
        );
        let folder = path.parent().unwrap_or(Path::new("."));
        for path in [&mut config.state, &mut config.bundle, &mut config.governance] {
            *path = folder.join(&path);
        }
        Ok(config)
    }

    /// The governors, and the newest bundle that this node has verified.
    ///
    /// # Errors
    /// Unreadable files; a bundle that does not verify, or does not succeed the newest one.
    pub fn trust(&self) -> Result<Trust, ClientError> {
        let read = |path: &Path| fs::read(path).with_context(|| path.display().to_string());
        let governance =
            Governance::from_file(&read(&self.governance)?).with_context(|| self.governance.display().to_string())?;
        let verify = |bytes: &[u8]| VerifiedBundle::verify(bytes, &governance);
        let refused = |error: BundleError| ClientError::check(error.check(), &error, "a bundle that may rule here");
        let bytes = read(&self.bundle)?;
        let configured = verify(&bytes).map_err(refused)?;
        // A damaged stored bundle is an error: it is neither used nor ignored.
        let kept = State::at(&self.state).bundle(&bytes, &governance)?;
        let bundle = Arc::new(VerifiedBundle::newest(configured, kept).map_err(refused)?);
        Ok(Trust { governance, bundle })
    }
}

/// The trust anchors of a node.
#[derive(Clone)]
pub struct Trust {
    /// Governors.
    pub governance: Governance,
    /// Policy bundle.
    pub bundle: Arc<VerifiedBundle>,
}
