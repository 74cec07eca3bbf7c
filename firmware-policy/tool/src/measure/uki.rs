//! `measure uki`.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use portcullis_attest::tpm::pcr::Bank;
use portcullis_attest::uki::{PHASES, PHASES_DOWN, SECTIONS, pcr11_in_order};
use portcullis_cli::say;
use portcullis_wire::hex::hex;
use serde_json::json;

use super::image::{Measured, from_image};

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Unified kernel image.
    #[arg(required_unless_present = "section", conflicts_with = "section")]
    image: Option<PathBuf>,
    /// Sections instead of an image, each as NAME=FILE, such as linux=vmlinuz.
    #[arg(long, value_name = "NAME=FILE")]
    section: Vec<String>,
    /// Profile of an image with several: its number from 0, or the ID in its .profile
    /// section. Default: the first, which the stub boots by default.
    #[arg(long, value_name = "NUMBER|ID", conflicts_with = "section")]
    profile: Option<String>,
    /// Phases that user space has measured, joined by colons; `none` for the value directly
    /// after the image. Default: up to `ready`.
    #[arg(long, default_value = "enter-initrd:leave-initrd:sysinit:ready")]
    phase: String,
    /// PCR bank.
    #[arg(long, default_value = "sha256")]
    bank: String,
    /// One JSON object on stdout.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let measured = match &arguments.image {
        Some(path) => {
            let bytes = fs::read(path).with_context(|| path.display().to_string())?;
            from_image(&bytes, arguments.profile.as_deref()).with_context(|| path.display().to_string())?
        }
        None => from_files(&arguments.section)?,
    };
    let bank = Bank::from_name(&arguments.bank).context("--bank: sha256, sha384 or sha512")?;
    let phases = phases(&arguments.phase)?;
    let given: Vec<(&str, &[u8])> =
        measured.sections.iter().map(|(name, data)| (name.as_str(), data.as_slice())).collect();
    let value = hex(&pcr11_in_order(bank, &given, &phases));
    if arguments.json {
        let names: Vec<&str> = given.iter().map(|(name, _)| *name).collect();
        let body = json!({
            "schema": "portcullis/measure-uki/1",
            "pcr": 11,
            "bank": bank.name(),
            "value": value,
            "sections": names,
            "phases": phases,
            "notes": measured.notes,
        });
        say!("{body}");
    } else {
        measured.notes.iter().for_each(|note| eprintln!("note: {note}"));
        say!("{value}");
    }
    Ok(())
}

fn phases(text: &str) -> Result<Vec<&str>> {
    if text == "none" {
        return Ok(Vec::new());
    }
    let phases: Vec<&str> = text.split(':').collect();
    let known = |phase: &&str| PHASES.contains(phase) || PHASES_DOWN.contains(phase);
    ensure!(phases.iter().all(known), "--phase: none, or words of {}:{}", PHASES.join(":"), PHASES_DOWN.join(":"));
    Ok(phases)
}

fn from_files(list: &[String]) -> Result<Measured> {
    let read = |item: &String| {
        let (name, path) = item.split_once('=').context("--section: NAME=FILE")?;
        let name = format!(".{}", name.trim_start_matches('.'));
        ensure!(SECTIONS.contains(&name.as_str()), "--section: {name} is not measured");
        Ok((name, fs::read(path).with_context(|| path.to_owned())?))
    };
    let mut sections = list.iter().map(read).collect::<Result<Vec<_>>>()?;
    sections.sort_by_key(|(name, _)| SECTIONS.iter().position(|known| known == name));
    ensure!(sections.is_sorted_by(|(a, _), (b, _)| a != b), "--section: each section once");
    Ok(Measured { sections, notes: Vec::new() })
}
