//! The proposed bundle with the changes from the command line.

use anyhow::{Context, Result, bail};
use portcullis_attest::snp::generation::Generation;
use portcullis_firmware_policy::document::{Document, Floor};
use portcullis_firmware_policy::{Content, documents};

use super::Arguments;
use crate::files::{self, refused};

/// The proposal of a rehearsal.
pub(super) struct Proposal {
    pub(super) content: Content,
    /// Time of all requests, Unix seconds.
    pub(super) at: Option<u64>,
    /// The changes, for the report.
    pub(super) added: Vec<String>,
}

impl Proposal {
    pub(super) fn read(arguments: &Arguments) -> Result<Self> {
        let opened = files::open(&arguments.bundle)?;
        let (mut document, references) = documents(&opened.files).map_err(|error| refused(&error))?;
        let mut added = Vec::new();
        for name in &arguments.distrust {
            let generation = generation(name)?;
            document.distrust.generations.push(generation.name().to_owned());
            added.push(format!("{generation} is distrusted"));
        }
        for text in &arguments.floor {
            added.push(raise(&mut document, text).with_context(|| format!("--floor {text}"))?);
        }
        let content = Content::of(&opened.files, &document, &references).map_err(|error| refused(&error))?;
        Ok(Self { content, at: arguments.at, added })
    }

    /// Time of a request with this recorded time.
    pub(super) fn moment(&self, recorded: u64) -> u64 {
        self.at.unwrap_or_else(|| recorded.max(self.content.policy().valid.from))
    }
}

fn generation(name: &str) -> Result<Generation> {
    let found = Generation::ALL.into_iter().find(|g| g.name().eq_ignore_ascii_case(name));
    found.with_context(|| format!("{name:?} is none of milan, genoa, turin"))
}

/// Raises one patch level: in every floor of the generation that is in force, or for
/// one TCB version by an additional floor.
fn raise(document: &mut Document, text: &str) -> Result<String> {
    let form = "a floor such as genoa.snp=27 or genoa.launch.snp=27";
    let (path, level) = text.split_once('=').context(form)?;
    let level: u8 = level.parse().context(form)?;
    let parts: Vec<&str> = path.split('.').collect();
    let (name, kind, part) = match parts.as_slice() {
        [generation, part] => (*generation, None, *part),
        [generation, kind, part] => (*generation, Some(*kind), *part),
        _ => bail!(form),
    };
    let generation = generation(name)?;
    let of_generation = |floor: &&Floor| floor.generation == generation.name() && floor.deny_from.is_none();
    let Some(base) = document.floors.iter().find(of_generation) else {
        bail!("the bundle has no floor for {generation}");
    };
    let mut raised = Floor { boot_loader: 0, tee: 0, snp: 0, microcode: 0, fmc: base.fmc.map(|_| 0), ..base.clone() };
    raised.on = kind.map(str::to_owned).into_iter().collect();
    match part {
        "boot_loader" => raised.boot_loader = level,
        "tee" => raised.tee = level,
        "snp" => raised.snp = level,
        "microcode" => raised.microcode = level,
        "fmc" if raised.fmc.is_some() => raised.fmc = Some(level),
        other => bail!("{generation} has no patch level {other:?}: boot_loader, tee, snp, microcode; fmc on Turin"),
    }
    document.floors.push(raised);
    Ok(format!("{generation} needs {part} {level} at least{}", kind.map_or_else(String::new, |k| format!(" ({k})"))))
}
