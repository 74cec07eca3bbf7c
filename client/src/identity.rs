//! The values with which governors enrol this machine, read from its devices.

use std::ffi::OsString;
use std::fs;
use std::path::Path;

use anyhow::Context;
use portcullis_attest::check::Checks;
use portcullis_attest::snp::report::Report;
use portcullis_attest::tpm::credential::EndorsementKey;
use portcullis_attest::tpm::pcr::Selection;
use portcullis_attester::{Machine, OpenMachine};
use portcullis_cli::say;
use portcullis_permit::DynamicLinking;
use portcullis_wire::hex::hex;
use serde_json::json;

use crate::gate::Program;
use crate::refusal::ClientError;

/// PCRs of firmware, boot loader and kernel image; 10 changes while the machine runs.
const PCRS: [u8; 10] = [0, 1, 2, 3, 4, 5, 6, 7, 11, 12];

/// Prints a `[[node]]` table for `policy.toml`, or JSON, and writes evidence.
pub(crate) fn print(
    platform: &dyn OpenMachine,
    name: &str,
    evidence: Option<&Path>,
    as_json: bool,
) -> Result<(), ClientError> {
    let mut machine = platform.open()?;
    if let Some(path) = evidence {
        // Without a challenge: the values are for people to compare.
        let shown = machine.collect(&[0; 64], &Selection::sha256(PCRS))?;
        fs::write(path, shown.bytes()).with_context(|| path.display().to_string())?;
    }
    let (chip, ak_name, ek) = (chip_id(&mut machine)?, machine.ak_name().map(hex), ek_digest(&mut machine)?);
    let class = machine.class();
    if as_json {
        let body = json!({
            "schema": "portcullis/identity/1",
            "class": class.name(),
            "chip_id": chip,
            "ak_name": ak_name,
            "ek": ek,
        });
        say!("{body}");
        return Ok(());
    }
    say!("# As this machine's devices say; nothing here was verified. Governors compare");
    say!("# chip_id with the host's, and ek with the TPM's endorsement certificate.");
    say!("[[node]]\nname = {}", toml::Value::from(name));
    for (key, value) in [("chip_id", &chip), ("ek", &ek)] {
        if let Some(value) = value {
            say!("{key} = \"{value}\"");
        }
    }
    if let Some(ak_name) = ak_name {
        say!("# ak_name = \"{ak_name}\"    # pins the attestation key too");
    }
    say!("minimum_class = \"{class}\"\ntags = []");
    Ok(())
}

/// Prints a `[[workload]]` table for `policy.toml`, or JSON: the workload that a gate
/// would request if it ran this program with these arguments in this environment.
pub(crate) fn print_workload(name: Option<&str>, command: &[OsString], as_json: bool) -> Result<(), ClientError> {
    let environment: Vec<_> = std::env::vars_os().collect();
    let variables = environment.len();
    let program = Program::open(command, environment).map_err(|error| ClientError::Own(error.into()))?;
    let workload = program.workload();
    let name = name.map_or_else(|| file_name(command), str::to_owned);
    let linking = workload.linking.as_str();
    let [digest, arguments, environment] = [workload.digest, workload.arguments, workload.environment].map(|d| hex(&d));
    if as_json {
        let body = json!({
            "schema": "portcullis/workload/1",
            "name": name,
            "digest": digest,
            "arguments": arguments,
            "environment": environment,
            "linking": linking,
        });
        say!("{body}");
        return Ok(());
    }
    let line: Vec<_> = command.iter().map(|word| word.to_string_lossy()).collect();
    say!("# For `portcullis run -- {}`, as the program is on this machine.", line.join(" ").escape_debug());
    say!("[[workload]]\nname = {}\ndigest = \"{digest}\"", toml::Value::from(name));
    say!("arguments = \"any\"      # or exactly this line: \"{arguments}\"");
    say!("environment = \"any\"    # or exactly these {variables} variables: \"{environment}\"");
    say!(
        "linking = \"{linking}\"{}",
        match workload.linking {
            DynamicLinking::Dynamic => "    # no digest covers the libraries that it loads",
            DynamicLinking::Static => "",
        }
    );
    Ok(())
}

/// A name for a program: its file name, in characters that a bundle accepts.
fn file_name(command: &[OsString]) -> String {
    let path = Path::new(command.first().map_or("".as_ref(), OsString::as_os_str));
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    name.chars().map(|c| if c.is_ascii_alphanumeric() || "-_.+".contains(c) { c } else { '-' }).collect()
}

fn chip_id(machine: &mut Machine) -> Result<Option<String>, ClientError> {
    let Some(bytes) = machine.own_report()? else { return Ok(None) };
    let mut checks = Checks::refusals();
    let report = Report::parse(&bytes, &mut checks).ok_or_else(|| ClientError::checks(&checks))?;
    Ok(Some(report.chip_id_hex()))
}

fn ek_digest(machine: &mut Machine) -> Result<Option<String>, ClientError> {
    let Some(tpm) = machine.tpm() else { return Ok(None) };
    let digest = EndorsementKey::from_area(&tpm.endorsement_key()?).ok().and_then(|key| key.digest());
    let required = "an RSA, P-256 or P-384 endorsement key";
    let digest = digest.ok_or_else(|| ClientError::check("tpm.ek", "another key", required))?;
    Ok(Some(hex(&digest)))
}
