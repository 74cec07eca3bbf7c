//! The authority that an auditor names: endorsed by governors.

use std::path::PathBuf;

use anyhow::{Context, Result};
use portcullis_attest::check::Checks;
use portcullis_permit::{Endorsement, Governance};

use crate::inputs::Inputs;

#[derive(Debug, clap::Args)]
pub(crate) struct Named {
    /// Endorsement of the authority (`.pce`).
    #[arg(long, value_name = "FILE")]
    endorsement: PathBuf,
    /// The governors' keys and threshold.
    #[arg(long, value_name = "FILE")]
    governance_root: PathBuf,
}

/// What was read, not verified yet.
pub(crate) struct Authority {
    governance: Governance,
    endorsement: Vec<u8>,
}

impl Named {
    /// Reads both files.
    pub(crate) fn read(&self, inputs: &mut Inputs) -> Result<Authority> {
        let governance = Governance::decode(&inputs.read(&self.governance_root, "governance-root")?)
            .with_context(|| self.governance_root.display().to_string())?;
        Ok(Authority { governance, endorsement: inputs.read(&self.endorsement, "endorsement")? })
    }
}

impl Authority {
    /// The endorsement, if enough governors signed it.
    pub(crate) fn verify(&self, checks: &mut Checks) -> Option<Endorsement> {
        let required = format!("an endorsement by {} governors", self.governance.threshold());
        let endorsed = Endorsement::verify(&self.endorsement, &self.governance);
        checks.step("authority.endorsement", endorsed, &required, "endorsement of the authority")
    }
}
