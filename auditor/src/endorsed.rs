//! The authority that an auditor names: endorsed by governors.

use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use portcullis_attest::check::Checks;
use portcullis_lineage::bundle_documents;
use portcullis_permit::{Endorsement, Governance, Governor, Quorum};

use crate::inputs::Inputs;

#[derive(Debug, clap::Args)]
pub(crate) struct Named {
    /// Endorsement of the authority (`.pce`); an audit bundle contains one.
    #[arg(long, value_name = "FILE")]
    pub(crate) endorsement: Option<PathBuf>,
    /// The governors' keys and threshold.
    #[arg(long, value_name = "FILE")]
    pub(crate) governance_root: PathBuf,
}

/// The files as read, not verified yet.
pub(crate) struct Authority {
    governance: Governance,
    endorsement: Vec<u8>,
}

impl Named {
    /// Reads both files. If an audit bundle is audited, the endorsement comes from it.
    pub(crate) fn read(&self, audited: &Path, inputs: &mut Inputs) -> Result<Authority> {
        let governance = Governance::from_file(&inputs.read(&self.governance_root, "governance-root")?)
            .with_context(|| self.governance_root.display().to_string())?;
        let endorsement = match &self.endorsement {
            Some(path) => inputs.read(path, "endorsement")?,
            None if audited.is_dir() => bail!("--endorsement: required for the folder of a log"),
            None => {
                let file = File::open(audited).with_context(|| audited.display().to_string())?;
                let documents = bundle_documents(&mut BufReader::new(file)).ok();
                let endorsement = documents.and_then(|documents| documents.get("endorsement").cloned());
                endorsement.context("--endorsement: required for anything but an audit bundle")?
            }
        };
        Ok(Authority { governance, endorsement })
    }
}

/// The governors whose valid signatures are on a document.
pub(crate) fn signers(quorum: &Quorum, governance: &Governance) -> String {
    let names: Vec<String> = quorum.signatures_by(governance).governors.into_iter().map(Governor::to_string).collect();
    if names.is_empty() { "nobody".into() } else { names.join(", ") }
}

impl Authority {
    /// The named governors.
    pub(crate) const fn governance(&self) -> &Governance {
        &self.governance
    }

    /// The governors who signed the endorsement.
    pub(crate) fn signers(&self) -> String {
        let quorum = Quorum::decode(&self.endorsement, self.endorsement.len());
        quorum.map_or_else(|_| "nobody".to_owned(), |quorum| signers(&quorum, &self.governance))
    }

    /// The endorsement, if enough governors signed it.
    pub(crate) fn verify(&self, checks: &mut Checks) -> Option<Endorsement> {
        let required = format!("an endorsement by {} governors", self.governance.threshold());
        let endorsed = Endorsement::verify(&self.endorsement, &self.governance);
        checks.step("authority.endorsement", endorsed, &required, "endorsement of the authority")
    }
}
