//! The sections of a unified kernel image that its stub measures: the known sections
//! that belong to the booted profile (`find_sections` of systemd's src/boot/stub.c;
//! systemd-stub(7)).

use anyhow::{Context, Result, bail, ensure};
use object::read::pe::PeFile64;
use object::{Object, ObjectSection};
use portcullis_attest::uki::{NEWEST_STUB, SIGNATURE, sections_of_stub};

use super::stub;

/// The section that begins a profile.
const PROFILE: &str = ".profile";
/// Sections that an image may have several times; the stub uses those that match the
/// hardware.
const BY_HARDWARE: [&str; 2] = [".dtbauto", ".efifw"];
/// First stub version that supports profiles, and uses the first of two sections with
/// the same name.
const WITH_PROFILES: u32 = 257;
/// Maximum length of a section in memory; bytes that are not in the file are zero.
const MAX_SECTION: usize = 1 << 30;

/// Sections in the order of measurement, and notes for users of the value.
pub(super) struct Measured {
    pub(super) sections: Vec<(String, Vec<u8>)>,
    pub(super) notes: Vec<String>,
}

/// The sections of a PE image that its stub measures.
pub(super) fn from_image(bytes: &[u8], profile: Option<&str>) -> Result<Measured> {
    let image = PeFile64::parse(bytes).context("not a PE image")?;
    let version = stub::version(&image).context("no systemd-stub in it: name what is measured with --section")?;
    let known = known_sections(&image, version)?;
    let layout = Layout::of(&image)?;
    let with_profiles = known.iter().any(|name| name == PROFILE) || version >= WITH_PROFILES;
    ensure!(
        with_profiles || layout.profiles.is_empty(),
        "it has profiles, and systemd-stub {version} does not know them: use a stub of {WITH_PROFILES} or later"
    );
    let mut notes = Vec::new();
    let chosen = layout.choose(profile, &mut notes)?;
    let mut sections = Vec::new();
    for name in known.iter().filter(|name| *name != SIGNATURE) {
        let of_profile = chosen.and_then(|chosen| chosen.iter().find(|(other, _)| other == name));
        let Some((_, data)) = of_profile.or_else(|| layout.base.iter().find(|(other, _)| other == name)) else {
            continue;
        };
        if BY_HARDWARE.contains(&name.as_str()) {
            notes.push(format!(
                "{name} is left out: the stub measures it on hardware that matches only, which a virtual machine does not"
            ));
            continue;
        }
        let twice = |part: &Part| part.iter().filter(|(other, _)| other == name).count() > 1;
        ensure!(
            with_profiles || !twice(&layout.base),
            "two sections {name}: which of them systemd-stub {version} takes is not defined"
        );
        sections.push((name.clone(), data.clone()));
    }
    ensure!(sections.iter().any(|(name, _)| name == ".linux"), "no .linux section: not a unified kernel image");
    Ok(Measured { sections, notes })
}

/// The sections that the stub measures: from the list in the stub, otherwise from the
/// known list of its version.
fn known_sections(image: &PeFile64<'_>, version: u32) -> Result<Vec<String>> {
    if let Some(list) = stub::section_list(image) {
        return Ok(list);
    }
    if let Some(known) = sections_of_stub(version) {
        return Ok(known.iter().map(|name| (*name).to_owned()).collect());
    }
    if version < 252 {
        bail!("systemd-stub {version} measures no sections into PCR 11: use a stub of 252 or later");
    }
    bail!(
        "systemd-stub {version} has no list of sections that can be read, and is newer than {NEWEST_STUB}, the newest \
         version known here: update Portcullis, or name what is measured with --section"
    )
}

type Part = Vec<(String, Vec<u8>)>;

/// Sections before the first profile, and those of each profile.
struct Layout {
    base: Part,
    profiles: Vec<Part>,
}

impl Layout {
    fn of(image: &PeFile64<'_>) -> Result<Self> {
        let mut layout = Self { base: Part::new(), profiles: Vec::new() };
        for section in image.sections() {
            let name = section.name().context("a section without a name")?.to_owned();
            let size = usize::try_from(section.size())?;
            ensure!(size <= MAX_SECTION, "section {name} has {size} bytes");
            let mut data = section.data().with_context(|| name.clone())?.to_vec();
            // The length in memory applies, which may be less than the length in the file.
            data.resize(size, 0);
            if name == PROFILE {
                layout.profiles.push(Part::new());
            }
            layout.profiles.last_mut().unwrap_or(&mut layout.base).push((name, data));
        }
        Ok(layout)
    }

    /// The sections of the booted profile; `None` if the image has no profiles.
    fn choose(&self, profile: Option<&str>, notes: &mut Vec<String>) -> Result<Option<&Part>> {
        if self.profiles.is_empty() {
            ensure!(profile.is_none_or(|profile| profile == "0"), "--profile: the image has no profiles");
            return Ok(None);
        }
        let ids: Vec<Option<String>> = self.profiles.iter().map(id).collect();
        let names: Vec<String> = ids
            .iter()
            .enumerate()
            .map(|(at, id)| id.as_ref().map_or_else(|| at.to_string(), |id| format!("{at} ({id})")))
            .collect();
        let list = names.join(", ");
        let at = match profile {
            None => 0,
            Some(given) => {
                let by_number = given.parse().ok().filter(|at| *at < self.profiles.len());
                let by_id = ids.iter().position(|id| id.as_deref() == Some(given));
                by_number.or(by_id).with_context(|| format!("--profile {given}: the image has the profiles {list}"))?
            }
        };
        if profile.is_none() && self.profiles.len() > 1 {
            notes.push(format!("profile 0 of the profiles {list}; --profile measures another"));
        }
        if at > 0 {
            notes.push(format!("a boot of profile {at} is measured into PCR 12, too: the number as text in UTF-16"));
        }
        Ok(self.profiles.get(at))
    }
}

/// `ID=` of a profile, in the format of os-release.
fn id(part: &Part) -> Option<String> {
    let (_, text) = part.iter().find(|(name, _)| name == PROFILE)?;
    let text = String::from_utf8_lossy(text).into_owned();
    let value = text.lines().find_map(|line| line.trim().strip_prefix("ID="))?;
    Some(value.trim_matches(['"', '\'', '\0', ' ']).to_owned())
}
