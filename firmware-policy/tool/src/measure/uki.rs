//! `measure uki`.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, bail, ensure};
use object::read::pe::PeFile64;
use object::{Object, ObjectSection};
use portcullis_attest::tpm::pcr::Bank;
use portcullis_attest::uki::{PHASES, SECTIONS, pcr11, sections_of_stub};
use portcullis_cli::say;
use portcullis_wire::hex::hex;
use serde_json::json;

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Unified kernel image.
    #[arg(required_unless_present = "section", conflicts_with = "section")]
    image: Option<PathBuf>,
    /// Sections instead of an image, as NAME=FILE such as linux=vmlinuz.
    #[arg(long, value_name = "NAME=FILE")]
    section: Vec<String>,
    /// Phases that user space has measured, joined by colons; `none` is right
    /// after the image. Default: up to `ready`.
    #[arg(long, default_value = "enter-initrd:leave-initrd:sysinit:ready")]
    phase: String,
    /// Bank.
    #[arg(long, default_value = "sha256")]
    bank: String,
    /// One JSON object on stdout.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let sections = match &arguments.image {
        Some(path) => from_image(&fs::read(path).with_context(|| path.display().to_string())?)?,
        None => from_files(&arguments.section)?,
    };
    let bank = Bank::from_name(&arguments.bank).context("--bank: sha256, sha384 or sha512")?;
    let phases = phases(&arguments.phase)?;
    let given: Vec<(&str, &[u8])> = sections.iter().map(|(name, data)| (name.as_str(), data.as_slice())).collect();
    let value = hex(&pcr11(bank, &given, &phases));
    if arguments.json {
        let names: Vec<&str> = SECTIONS.into_iter().filter(|name| given.iter().any(|(n, _)| n == name)).collect();
        let body = json!({
            "schema": "portcullis/measure-uki/1",
            "pcr": 11,
            "bank": bank.name(),
            "value": value,
            "sections": names,
            "phases": phases,
        });
        say!("{body}");
    } else {
        say!("{value}");
    }
    Ok(())
}

fn phases(text: &str) -> Result<Vec<&str>> {
    if text == "none" {
        return Ok(Vec::new());
    }
    let phases: Vec<&str> = text.split(':').collect();
    ensure!(phases.iter().all(|phase| PHASES.contains(phase)), "--phase: words of {}", PHASES.join(":"));
    Ok(phases)
}

type Sections = Vec<(String, Vec<u8>)>;

/// The sections of a PE image that its stub measures: as many bytes as it has in
/// memory, which may be fewer than in the file.
fn from_image(bytes: &[u8]) -> Result<Sections> {
    let image = PeFile64::parse(bytes).context("not a PE image")?;
    let version = stub_version(&image).context("no systemd-stub in it: name what is measured with --section")?;
    let measured = sections_of_stub(version).with_context(|| {
        format!("it is not known which sections systemd-stub {version} measures: name them with --section")
    })?;
    let mut sections = Sections::new();
    for section in image.sections() {
        let name = section.name().context("a section without a name")?.to_owned();
        if !measured.contains(&name.as_str()) {
            continue;
        }
        if sections.iter().any(|(known, _)| *known == name) {
            bail!("two sections {name}: profiles are measured one at a time, name one with --section");
        }
        let size = usize::try_from(section.size())?;
        let data = section.data().with_context(|| name.clone())?;
        sections.push((name, data.get(..size).unwrap_or(data).to_vec()));
    }
    ensure!(sections.iter().any(|(name, _)| name == ".linux"), "no .linux section: not a unified kernel image");
    Ok(sections)
}

/// The stub names itself in a section of its own:
/// `#### LoaderInfo: systemd-stub 252.39-1 ####`.
fn stub_version(image: &PeFile64<'_>) -> Option<u32> {
    let data = image.section_by_name(".sdmagic")?.data().ok()?;
    let text = std::str::from_utf8(data.split(|byte| *byte == 0).next()?).ok()?;
    let version = text.strip_prefix("#### LoaderInfo: systemd-stub ")?;
    version.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

fn from_files(list: &[String]) -> Result<Sections> {
    let read = |item: &String| {
        let (name, path) = item.split_once('=').context("--section: NAME=FILE")?;
        let name = format!(".{}", name.trim_start_matches('.'));
        ensure!(SECTIONS.contains(&name.as_str()), "--section: {name} is not measured");
        Ok((name, fs::read(path).with_context(|| path.to_owned())?))
    };
    list.iter().map(read).collect()
}
