//! The inputs that an authority needs before it serves: configuration, governors,
//! bundle, machine, keys.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use portcullis_firmware_policy::policy::Span;
use portcullis_firmware_policy::{BundleError, Reader, VerifiedBundle, remedy};
use portcullis_permit::{Clock, Governance};

use crate::clock;
use crate::config::Config;

/// Largest file that the configuration may name, in bytes.
const MAX_FILE: u64 = 16 * 1024 * 1024;

/// Reads a file that the configuration names.
pub(crate) fn read(what: &str, path: &Path) -> Result<Vec<u8>> {
    let describe = || format!("{what} {}", path.display());
    let length = fs::metadata(path).with_context(describe)?.len();
    anyhow::ensure!(length <= MAX_FILE, "{}: {length} bytes, at most {MAX_FILE}", describe());
    fs::read(path).with_context(describe)
}

/// Governors and bundle of a configuration.
pub(crate) fn trust(config: &Config) -> Result<(Governance, VerifiedBundle)> {
    let governance = Governance::from_file(&read("governance", &config.governance)?)
        .with_context(|| format!("governance {}", config.governance.display()))?;
    let bundle = VerifiedBundle::verify(&read("bundle", &config.bundle)?, &governance).map_err(Refused::bundle)?;
    Ok((governance, bundle))
}

/// Waits until a bundle begins, if that is within its tolerance and the longest wait:
/// the clock of the governors who wrote it may be ahead. So no decision is older than
/// its bundle. Returns the time, Unix seconds.
pub(crate) async fn bundle_begins(bundle: &VerifiedBundle, longest: Duration) -> Result<u64, BundleError> {
    let from = bundle.policy().valid.from;
    loop {
        let now = clock::now();
        bundle.check_time(now)?;
        if now >= from {
            return Ok(now);
        }
        if Duration::from_secs(from.saturating_sub(now)) > longest {
            let Span { from, until } = bundle.policy().valid;
            return Err(BundleError::Validity { clock: Clock { now, skew: 0 }, not_before: from, expires: until });
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Path of the sealed keys.
pub(crate) fn sealed_keys(config: &Config) -> PathBuf {
    config.state.join("keys.sealed")
}

/// Folder of the log.
pub(crate) fn log_folder(config: &Config) -> PathBuf {
    config.state.join("log")
}

/// The authority refuses to run: exit code 3, with the check that failed.
#[derive(Debug)]
pub(crate) struct Refused {
    /// Stable check id.
    pub(crate) check: String,
    /// What was found and required.
    pub(crate) why: String,
}

impl Refused {
    pub(crate) fn new(check: &str, why: impl std::fmt::Display) -> Self {
        Self { check: check.to_owned(), why: why.to_string() }
    }

    fn bundle(error: BundleError) -> Self {
        Self::new(error.check(), error)
    }
}

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}\n  remedy: {}", self.check, self.why, remedy(&self.check, Reader::Operator))
    }
}

impl std::error::Error for Refused {}
