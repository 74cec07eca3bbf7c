//! A bundle to fill in. It passes no check before somebody has chosen.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use portcullis_cli::say;
use portcullis_firmware_policy::SCHEMA;

const DOCUMENT: &str = r#"# A policy bundle. Unknown keys are refused. Fill in every CHANGE-ME.
version = 1
# predecessor = "SHA-256 of the bundle before this one; absent in the first"
not_before = "CHANGE-ME, such as 2026-01-01T00:00:00Z"
expires = "CHANGE-ME"
roots = "amd"            # or "given": the certificates in roots/

[limits]
lease_seconds = 60       # a permit lives this long; gates renew at half of it
status_seconds = 30      # validity of a status list, at most one lease

[platform]               # "required" or "optional"
alias_check = "required"         # BadRAM, AMD-SB-3015
ciphertext_hiding = "optional"   # Turin and later
ecc = "required"
smt_disabled = "optional"
mitigations = 0          # bits that both mitigation vectors must have

# [distrust]
# generations = ["Milan"]
# veks = ["SHA-256 of an endorsement key"]
# chips = ["chip id"]

[[floor]]                # one for each generation that is admitted
generation = "Genoa"
boot_loader = 10
tee = 0
snp = 23
microcode = 84

[[reference]]
name = "authority 1.0"
role = "authority"
covers = "boot-chain"    # firmware-only measurements are refused
measurement = "CHANGE-ME: 48 bytes in hex"
vmpl = 0
host_data = "any"
id_key_digest = "any"
author_key_digest = "any"
guest_svn = 0
[reference.pcrs]
# 4 = "SHA-256 value in hex"

[[reference]]
name = "node 1.0"
role = "node"
covers = "boot-chain"
measurement = "CHANGE-ME: 48 bytes in hex"
vmpl = 0
host_data = "any"
id_key_digest = "any"
author_key_digest = "any"
guest_svn = 0

[[node]]
name = "node-1"
chip_id = "CHANGE-ME: 64 bytes in hex"
# With a TPM, one of these; `portcullis identity` on the node prints them.
# ek = "SHA-256 of the endorsement key: the node activates a credential under it"
# ak_name = "name of the attestation key in hex: nothing is activated"
minimum_class = "snp"    # snp+tpm, snp or tpm
tags = ["production"]

[[workload]]
name = "example"
digest = "CHANGE-ME: SHA-256 of the executable"
arguments = "any"        # or a SHA-256
environment = "any"
linking = "static"       # "dynamic" lets libraries take part that no digest covers
"#;

const POLICIES: &str = r#"@id("production-nodes")
permit(principal, action == Action::"execute", resource)
when { principal.tags.contains("production") };
"#;

/// Writes the template.
pub(crate) fn write(folder: &Path) -> Result<()> {
    fs::create_dir(folder).with_context(|| folder.display().to_string())?;
    fs::create_dir(folder.join("collateral"))?;
    fs::write(folder.join("bundle.toml"), DOCUMENT)?;
    fs::write(folder.join("policy.cedar"), POLICIES)?;
    fs::write(folder.join("schema.cedarschema"), SCHEMA)?;
    say!("{}: fill in bundle.toml, put current CRLs into collateral/, then", folder.display());
    say!("  portcullis-policy check {}", folder.display());
    Ok(())
}
