//! Initial folders: a bundle to complete, and the reference values of a known-good
//! machine. Both fail the check until a governor has reviewed them.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use portcullis_attest::azure::report_in;
use portcullis_attest::check::Checks;
use portcullis_attest::eventlog::{BootClaims, EventLog, Unlogged, verify_parsed};
use portcullis_attest::evidence::{Collected, TpmEvidence};
use portcullis_attest::import::{Envelope, Imported};
use portcullis_attest::snp::report::{LENGTH, Report};
use portcullis_attest::tpm::pcr::{Bank, Selection};
use portcullis_cli::say;
use portcullis_firmware_policy::document::{Boot, Coverage, OneOf, Reference, Requirement, RoleName, Uki};
use portcullis_firmware_policy::{SCHEMA, SCHEMA_FILE};
use portcullis_wire::hex::hex;

use crate::files;
use crate::folder::ATTRIBUTES;

const DOCUMENT: &str = include_str!("draft/policy.toml");
const POLICIES: &str = include_str!("draft/policy.cedar");
const IMAGE: &str = include_str!("draft/image.toml");

/// PCRs with values of the machine's firmware and boot loader. PCR 10 grows while a
/// machine runs, and PCR 11 with the phases of its boot: rules for files and kernel
/// images replace their values.
const STEADY: [u8; 4] = [0, 2, 4, 7];

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Folder. Without --from-evidence it must not exist.
    folder: PathBuf,
    /// Evidence of a known-good machine: the output of `portcullis identity --evidence`, a
    /// raw report, or another system's envelope. Its values go into reference/NAME.toml as
    /// a draft, marked as not reviewed.
    #[arg(long, value_name = "FILE", requires = "name")]
    from_evidence: Option<PathBuf>,
    /// Name of the image.
    #[arg(long)]
    name: Option<String>,
    /// Role of machines with this image.
    #[arg(long, value_enum, default_value_t = For::Node)]
    role: For,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum For {
    Node,
    Authority,
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let Arguments { folder, from_evidence, name, role } = arguments;
    let Some(evidence) = from_evidence else {
        template(folder)?;
        fs::write(folder.join("reference/image.toml"), IMAGE)?;
        say!(
            "{}: fill in policy.toml and reference/image.toml, put current CRLs into collateral/, then",
            folder.display()
        );
        say!("  portcullis-policy check {}", folder.display());
        return Ok(());
    };
    let name = name.as_deref().context("--name: what the image is called")?;
    let seen = Seen::in_file(&files::read(evidence)?).with_context(|| evidence.display().to_string())?;
    let text = render(&seen, name, *role, evidence)?;
    if !folder.exists() {
        template(folder)?;
    }
    let stem: String = name.chars().map(|c| if c.is_ascii_alphanumeric() || c == '.' { c } else { '-' }).collect();
    let path = folder.join("reference").join(format!("{stem}.toml"));
    if path.exists() {
        bail!("{}: exists; drafts take the place of nothing", path.display());
    }
    fs::create_dir_all(folder.join("reference"))?;
    files::write(&path, text.as_bytes())?;
    say!("{}: drafted, not reviewed", path.display());
    say!("compare it with what you built, set reviewed = true, then portcullis-policy check {}", folder.display());
    Ok(())
}

fn template(folder: &Path) -> Result<()> {
    if folder.exists() {
        bail!(
            "{}: exists; name a folder that does not, or draft an image into this one with --from-evidence",
            folder.display()
        );
    }
    fs::create_dir(folder).with_context(|| folder.display().to_string())?;
    for part in ["collateral", "reference"] {
        fs::create_dir(folder.join(part))?;
    }
    fs::write(folder.join("policy.toml"), DOCUMENT)?;
    fs::write(folder.join("policy.cedar"), POLICIES)?;
    fs::write(folder.join(".gitattributes"), ATTRIBUTES)?;
    Ok(fs::write(folder.join(SCHEMA_FILE), SCHEMA)?)
}

/// Facts about an image from evidence.
struct Seen {
    report: Option<Report>,
    tpm: Option<TpmEvidence>,
}

impl Seen {
    fn in_file(bytes: &[u8]) -> Result<Self> {
        if bytes.len() == LENGTH {
            return Ok(Self { report: Some(report(bytes)?), tpm: None });
        }
        match Envelope::open(bytes)?.evidence {
            Imported::Snp { snp, .. } => Ok(Self { report: Some(report(&snp.report)?), tpm: None }),
            Imported::Svsm(svsm) => Ok(Self { report: Some(report(&svsm.snp.report)?), tpm: None }),
            Imported::Azure { hcl, .. } => Ok(Self { report: Some(report(report_in(&hcl))?), tpm: None }),
            Imported::Portcullis(evidence) => {
                let bytes = match evidence.collected() {
                    Collected::AzureVtpm(azure, _) => Some(report_in(&azure.hcl).to_vec()),
                    Collected::SvsmVtpm(svsm, _) => Some(svsm.snp.report.clone()),
                    other => other.snp().map(|snp| snp.report.clone()),
                };
                let report = bytes.as_deref().map(report).transpose()?;
                Ok(Self { report, tpm: evidence.collected().tpm().cloned() })
            }
        }
    }

    /// The claims that the logs prove, and the PCRs that the logs do not explain: only
    /// rules by value can admit those PCRs.
    fn claims(&self) -> Result<(BootClaims, Vec<u8>)> {
        let Some(tpm) = &self.tpm else { return Ok(Default::default()) };
        let present = tpm.pcrs.iter().filter(|(bank, _, _)| *bank == Bank::Sha256).map(|(_, pcr, _)| pcr);
        let mut checks = Checks::refusals();
        let parsed = EventLog::parse(&tpm.event_log).and_then(|log| match &tpm.user_space_log {
            Some(later) => log.with_user_space(later),
            None => Ok(log),
        });
        let (selection, files) = (Selection::sha256(present), tpm.measured_files.as_deref());
        let log = verify_parsed(parsed, &tpm.pcrs, &selection, files, Unlogged::Listed, &mut checks);
        match (log, checks.refused().next()) {
            (Some(log), None) => Ok((log.claims(), log.unlogged().iter().map(|unlogged| unlogged.pcr).collect())),
            (_, Some(check)) => bail!("the event log does not lead to the PCRs: {check}"),
            (None, None) => Ok(Default::default()),
        }
    }
}

fn report(bytes: &[u8]) -> Result<Report> {
    let mut checks = Checks::refusals();
    let report = Report::parse(bytes, &mut checks);
    report.with_context(|| checks.refused().next().map_or_else(|| "not a report".to_owned(), ToString::to_string))
}

fn render(seen: &Seen, name: &str, role: For, evidence: &Path) -> Result<String> {
    let (claims, unlogged) = seen.claims()?;
    let reference = reference(seen, &claims, &unlogged, name, role);
    let mut text = format!(
        "# Drafted from {}. Nobody has verified that evidence: portcullis-audit does.\n\
         # Compare every value with the image that you built (portcullis-policy measure),\n\
         # say what the launch measurement covers, remove what does not matter, and set\n\
         # reviewed = true.\n",
        evidence.file_name().unwrap_or_default().to_string_lossy()
    );
    if let Some(report) = &seen.report {
        text.push_str(&format!("# Chip {}.\n", report.chip_id_hex()));
    }
    if !unlogged.is_empty() {
        let list: Vec<String> = unlogged.iter().map(ToString::to_string).collect();
        text.push_str(&format!("# No log explains PCR {}: only the value under [pcrs] admits it.\n", list.join(", ")));
    }
    text.push_str(&toml::to_string(&reference)?);
    Ok(text)
}

fn reference(seen: &Seen, claims: &BootClaims, unlogged: &[u8], name: &str, role: For) -> Reference {
    let any = || "any".to_owned();
    let exact = |value: &[u8]| if value.iter().all(|byte| *byte == 0) { any() } else { hex(value) };
    let report = seen.report.as_ref();
    let uki = (!claims.uki_sections.is_empty() && claims.unexplained == 0).then(|| {
        let sections = claims.uki_sections.iter();
        let sections = sections.map(|(name, digest)| ((*name).to_owned(), OneOf::One(hex(digest)))).collect();
        Uki { sections, command_lines: claims.command_lines.clone() }
    });
    Reference {
        name: name.to_owned(),
        role: match role {
            For::Node => RoleName::Node,
            For::Authority => RoleName::Authority,
        },
        // A report does not show whether the measurement covers the kernel.
        covers: if uki.is_some() { Coverage::FirmwareAndUki } else { Coverage::Firmware },
        reviewed: false,
        not_before: None,
        expires: None,
        vmpl: report.map_or(0, |report| report.vmpl),
        guest_svn: report.map_or(0, |report| report.guest_svn),
        host_data: report.map_or_else(any, |report| exact(&report.host_data)),
        id_key_digest: report.map_or_else(any, |report| exact(&report.id_key_digest)),
        author_key_digest: report.map_or_else(any, |report| exact(&report.author_key_digest)),
        measurements: report.map(|report| ("as seen".to_owned(), hex(&report.measurement))).into_iter().collect(),
        pcrs: pcrs(seen, unlogged),
        boot: boot(claims),
        uki,
        ima: None,
        events: BTreeMap::new(),
    }
}

/// Secure Boot if it is enabled, and the boot phases that the machine has reached.
fn boot(claims: &BootClaims) -> Option<Boot> {
    let enabled = claims.secure_boot.as_ref().is_some_and(|state| state.enabled);
    let phases = (!claims.phases.is_empty()).then(|| vec![claims.phases.join(":")]);
    (enabled || phases.is_some()).then_some(Boot {
        secure_boot: if enabled { Requirement::Required } else { Requirement::Optional },
        started: None,
        phases,
    })
}

fn pcrs(seen: &Seen, unlogged: &[u8]) -> BTreeMap<String, OneOf> {
    let values = seen.tpm.iter().flat_map(|tpm| tpm.pcrs.iter());
    let steady =
        values.filter(|(bank, pcr, _)| *bank == Bank::Sha256 && (STEADY.contains(pcr) || unlogged.contains(pcr)));
    steady.map(|(_, pcr, value)| (pcr.to_string(), OneOf::One(hex(value)))).collect()
}
