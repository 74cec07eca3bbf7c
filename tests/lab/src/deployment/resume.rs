//! Resumes an existing deployment with the same keys, bundle and addresses. Its
//! machines boot as after a power cut.

use std::collections::BTreeMap;
use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use portcullis_firmware_policy::document::Document;
use serde::Deserialize;

use super::{Deployment, Options};
use crate::machine::{Booted, Description};

/// The fields of `authority.toml` that identify a deployment.
#[derive(Deserialize)]
struct Configuration {
    suite: String,
    listen: Listen,
}

#[derive(Deserialize)]
struct Listen {
    nodes: SocketAddr,
    public: SocketAddr,
}

impl Deployment {
    /// Resumes the deployment in a folder, and boots its machines.
    ///
    /// # Errors
    /// Files of it are missing or damaged, its bundle has ended, or its addresses
    /// are in use.
    pub fn resume(folder: &Path, lab: &Path) -> Result<Self> {
        let folder = fs::canonicalize(folder)?;
        let read = |name: &str| {
            let path = folder.join(name);
            fs::read_to_string(&path).with_context(|| path.display().to_string())
        };
        let document: Document = toml::from_str(&read("bundle/policy.toml")?).context("bundle/policy.toml")?;
        let configuration: Configuration = toml::from_str(&read("authority.toml")?).context("authority.toml")?;
        let expires: jiff::Timestamp = document.expires.parse().context("bundle/policy.toml: expires")?;
        ensure!(
            expires > jiff::Timestamp::now(),
            "the bundle of {} ended at {expires}: remove the folder, and begin another lab",
            folder.display()
        );
        let Listen { nodes, public } = configuration.listen;
        for address in [nodes, public] {
            if let Err(error) = TcpListener::bind(address) {
                bail!("{address}, where this lab's authority listens: {error}; is an authority of it running still?");
            }
        }
        let mut references = BTreeMap::new();
        for entry in fs::read_dir(folder.join("bundle/reference"))? {
            let name = entry?.file_name().to_string_lossy().into_owned();
            let text = read(&format!("bundle/reference/{name}"))?;
            references.insert(name, toml::from_str(&text)?);
        }
        let mut machines = BTreeMap::new();
        for entry in fs::read_dir(folder.join("machines"))? {
            let entry = entry?;
            machines.insert(entry.file_name().to_string_lossy().into_owned(), Booted::boot(&entry.path())?);
        }
        let suite = if configuration.suite == "pq" { "pq" } else { "classic" };
        let limits = &document.limits;
        let options = Options {
            lease_seconds: limits.lease_seconds,
            status_seconds: limits.status_seconds,
            suite,
            ..Options::default()
        };
        Ok(Self {
            root: Description::read(&folder.join("machines/authority"))?.root,
            policies: read("bundle/lab.cedar")?,
            lab: lab.to_owned(),
            folder,
            options,
            document,
            references,
            machines,
            nodes,
            public,
        })
    }

    /// Names of its machines, including the authority's.
    pub fn machines(&self) -> impl Iterator<Item = &str> {
        self.machines.keys().map(String::as_str)
    }

    /// A machine whose TPM has ended. No TPM ends by itself.
    #[must_use]
    pub fn dead_machine(&mut self) -> Option<&str> {
        self.machines.iter_mut().find_map(|(name, machine)| (!machine.is_running()).then_some(name.as_str()))
    }
}
