//! Reference values: the allowed measurements of an image, and its role.

use std::collections::{BTreeMap, BTreeSet};

use portcullis_attest::binding::Role;
use portcullis_attest::ima::{self, AllowList};
use portcullis_attest::tpm::pcr::PCR_COUNT;
use portcullis_attest::uki;
use portcullis_wire::Digest;

use super::events::{self, AllowedEvent};
use super::reading::Reading;
use super::{FieldRule, Span};
use crate::document::{self, Coverage, OneOf, Requirement, RoleName};

/// PCRs that the rules for boot, unified kernel image and files use.
const PCR_STARTED: u8 = 4;
const PCR_SECURE_BOOT: u8 = 7;
const PCR_COMMAND_LINES: u8 = 12;

/// Reference values of one image.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "as in the document")]
pub struct Reference {
    pub name: String,
    pub role: Role,
    pub covers: Coverage,
    pub valid: Span,
    pub vmpl: u32,
    pub guest_svn: u32,
    pub host_data: FieldRule<32>,
    pub id_key_digest: FieldRule<48>,
    pub author_key_digest: FieldRule<48>,
    pub measurements: BTreeMap<String, [u8; 48]>,
    pub pcrs: BTreeMap<u8, Vec<Digest>>,
    pub boot: Option<BootRule>,
    pub uki: Option<UkiRule>,
    pub ima: Option<ImaRule>,
    pub events: BTreeMap<u8, Vec<AllowedEvent>>,
}

/// Requirements for firmware.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BootRule {
    /// Whether Secure Boot must be on.
    pub secure_boot: Requirement,
    /// Authenticode digests of the binaries that may be started; absent: any.
    pub started: Option<BTreeSet<Digest>>,
    /// Paths of phases, one of which must have been reached; absent: any.
    pub phases: Option<BTreeSet<String>>,
}

/// Requirements for the unified kernel image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UkiRule {
    /// Allowed digests for each section; exactly these sections.
    pub sections: BTreeMap<String, Vec<Digest>>,
    /// Allowed command lines besides the image's own.
    pub command_lines: BTreeSet<String>,
}

/// The files that Linux may have measured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImaRule {
    /// File in the bundle.
    pub file: String,
    /// Its digests.
    pub allow: AllowList,
    /// The PCRs that Linux measures files into.
    pub pcrs: BTreeSet<u8>,
}

impl Reference {
    /// The PCRs that must be quoted to judge this image.
    #[must_use]
    pub fn needed_pcrs(&self) -> BTreeSet<u8> {
        let mut needed: BTreeSet<u8> = self.pcrs.keys().copied().collect();
        if let Some(boot) = &self.boot {
            needed.extend((boot.secure_boot == Requirement::Required).then_some(PCR_SECURE_BOOT));
            needed.extend(boot.started.as_ref().map(|_| PCR_STARTED));
            needed.extend(boot.phases.as_ref().map(|_| uki::PCR));
        }
        needed.extend(self.uki.iter().flat_map(|_| [uki::PCR, PCR_COMMAND_LINES]));
        needed.extend(self.ima.iter().flat_map(|rule| &rule.pcrs));
        needed.extend(self.events.keys());
        needed
    }
}

/// The file lists that image rules refer to, by name.
pub(crate) type AllowLists = BTreeMap<String, AllowList>;

/// Reads one file.
pub(super) fn read(
    reference: &document::Reference,
    bundle: Span,
    lists: &AllowLists,
    reading: &mut Reading<'_>,
) -> Option<Reference> {
    let before = reading.findings.len();
    let name = reading.name("name", &reference.name, true);
    if reference.covers == Coverage::Firmware {
        let hint = "a measurement of firmware alone admits any kernel behind it: boot directly with kernel hashes \
                    (boot-chain), or give [uki] rules (firmware-and-uki)";
        reading.refuse("covers", "cannot be \"firmware\"", hint);
    }
    if reference.covers == Coverage::FirmwareAndUki && reference.uki.is_none() {
        reading.refuse("covers", "is \"firmware-and-uki\" without [uki]", "add the sections of the image");
    }
    if !reference.reviewed {
        reading.refuse("reviewed", "is false", "compare the values with the image you built, then set it to true");
    }
    let start = reading.maybe_time("not_before", reference.not_before.as_ref());
    let end = reading.maybe_time("expires", reference.expires.as_ref());
    let host_data = reading.rule("host_data", &reference.host_data);
    let id_key_digest = reading.rule("id_key_digest", &reference.id_key_digest);
    let author_key_digest = reading.rule("author_key_digest", &reference.author_key_digest);
    let measurements = measurements(&reference.measurements, reading);
    let pcrs = pcrs(&reference.pcrs, reading);
    let boot = reference.boot.as_ref().map(|boot| boot_rule(boot, reading));
    let uki = reference.uki.as_ref().map(|uki| uki_rule(uki, reading));
    let events = events::events(&reference.events, reading);
    let ima = reference.ima.as_ref().and_then(|ima| ima_rule(ima, lists, reading));
    if reference.measurements.is_empty() && reference.pcrs.is_empty() {
        reading.refuse("measurements", "is empty, and so is pcrs", "an image needs a launch measurement, or PCRs");
    }
    let valid = Span { from: start?.unwrap_or(bundle.from), until: end?.unwrap_or(bundle.until) };
    if valid.from >= valid.until {
        reading.refuse("expires", "is not after not_before", "give the image a time in which it is valid");
    }
    let read = Reference {
        name: name?,
        role: match reference.role {
            RoleName::Authority => Role::Authority,
            RoleName::Node => Role::Node,
        },
        covers: reference.covers,
        valid,
        vmpl: reference.vmpl,
        guest_svn: reference.guest_svn,
        host_data: host_data?,
        id_key_digest: id_key_digest?,
        author_key_digest: author_key_digest?,
        measurements,
        pcrs,
        boot,
        uki,
        ima,
        events,
    };
    (reading.findings.len() == before).then_some(read)
}

fn measurements(texts: &BTreeMap<String, String>, reading: &mut Reading<'_>) -> BTreeMap<String, [u8; 48]> {
    let read = texts.iter().filter_map(|(name, text)| {
        let key = format!("measurements.{name}");
        Some((name.clone(), reading.hex(&key, text)?))
    });
    read.collect()
}

fn digests(key: &str, values: &[String], reading: &mut Reading<'_>) -> Vec<Digest> {
    if values.is_empty() {
        reading.refuse(key, "is empty", "an empty list admits nothing: give a value, or remove the key");
    }
    values.iter().filter_map(|text| reading.hex(key, text)).collect()
}

fn pcrs(texts: &BTreeMap<String, OneOf>, reading: &mut Reading<'_>) -> BTreeMap<u8, Vec<Digest>> {
    let mut all = BTreeMap::new();
    for (name, values) in texts {
        let key = format!("pcrs.{name}");
        let number: Option<u8> = name.parse().ok().filter(|n: &u8| *n < 24 && n.to_string() == *name);
        match number {
            Some(number) => drop(all.insert(number, digests(&key, values.values(), reading))),
            None => reading.refuse(key, "is no PCR", "0 to 23"),
        }
    }
    all
}

fn boot_rule(boot: &document::Boot, reading: &mut Reading<'_>) -> BootRule {
    let started = boot.started.as_ref();
    BootRule {
        secure_boot: boot.secure_boot,
        started: started.map(|values| digests("boot.started", values, reading).into_iter().collect()),
        phases: boot.phases.as_ref().map(|paths| events::phases(paths, reading)),
    }
}

fn uki_rule(rule: &document::Uki, reading: &mut Reading<'_>) -> UkiRule {
    let mut sections = BTreeMap::new();
    for (name, values) in &rule.sections {
        let key = format!("uki.sections.{name}");
        if !uki::SECTIONS.contains(&name.as_str()) {
            let hint = format!("systemd-stub measures {}", uki::SECTIONS.join(", "));
            reading.refuse(&key, "is no section that is measured", &hint);
        }
        sections.insert(name.clone(), digests(&key, values.values(), reading));
    }
    if !sections.contains_key(".linux") {
        reading.refuse("uki.sections", "has no \".linux\"", "without the kernel's section any kernel would do");
    }
    UkiRule { sections, command_lines: rule.command_lines.iter().cloned().collect() }
}

fn ima_rule(rule: &document::Ima, lists: &AllowLists, reading: &mut Reading<'_>) -> Option<ImaRule> {
    let file = format!("ima/{}", rule.allow);
    for pcr in rule.pcrs.iter().filter(|pcr| **pcr >= PCR_COUNT) {
        reading.refuse("ima.pcrs", format!("has {pcr}, which is no PCR"), "0 to 23, as pcr= of the IMA policy says");
    }
    let pcrs = rule.pcrs.iter().copied().chain([ima::PCR]).collect();
    match lists.get(&file) {
        Some(allow) => Some(ImaRule { file, allow: allow.clone(), pcrs }),
        None => reading.wrong("ima.allow", &rule.allow, "the name of a file in the folder ima/"),
    }
}
