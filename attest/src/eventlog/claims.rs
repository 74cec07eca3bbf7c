//! What a log says about the boot, as far as the quote proves it.
//!
//! A quote proves the sequence of digests in each PCR, not the types and not the
//! data beside them. So nothing here goes by an event's type: data counts only
//! where its own hash is the digest, and phases of the boot are told by the
//! digest of the separator, which everybody knows. Firmware measures Secure Boot
//! into PCR 7 before the separator; whoever comes later can only add after it.

use super::parse::{Event, EventLog, NO_ACTION};
use super::variable::{GLOBAL, IMAGE_SECURITY, SignatureDatabase, Variable, utf16};
use crate::tpm::pcr::{Bank, PcrSet};
use crate::uki;

/// `EV_SEPARATOR` data between firmware and what it starts.
const SEPARATOR: [u8; 4] = [0; 4];
/// Firmware's PCRs, each with a separator.
const PCR_FIRMWARE: u8 = 0;
const PCR_BOOT_MANAGER: u8 = 4;
const PCR_SECURE_BOOT: u8 = 7;
/// GRUB's commands, and the kernel's command line.
const PCR_GRUB: u8 = 8;
/// systemd: sections of a unified kernel image and phases; its command line.
const PCR_UKI: u8 = uki::PCR;
const PCR_UKI_COMMAND_LINE: u8 = 12;
/// What GRUB puts before the text that it hashed, and what Red Hat's of RHEL 8 puts.
const GRUB_COMMAND: [&[u8]; 2] = [b"grub_cmd: ", b"grub_cmd "];
const GRUB_COMMAND_LINE: [&[u8]; 2] = [b"kernel_cmdline: ", b"grub_kernel_cmdline "];
/// Words that systemd-pcrphase measures: on the way up, and down.
const DOWN: [&str; 2] = ["shutdown", "final"];

/// Secure Boot as firmware measured it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecureBoot {
    /// Whether images must be signed.
    pub enabled: bool,
    /// Platform key.
    pub platform_key: SignatureDatabase,
    /// Key-exchange keys.
    pub exchange_keys: SignatureDatabase,
    /// Allowed signers and images.
    pub allowed: SignatureDatabase,
    /// Forbidden signers and images.
    pub forbidden: SignatureDatabase,
}

/// Claims that a quote proves together with its log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BootClaims {
    /// Secure Boot; absent where a part of it is not proven.
    pub secure_boot: Option<SecureBoot>,
    /// Firmware's version string, where it is text.
    pub firmware_version: Option<String>,
    /// Digests of what was started, in PCR 4 after the separator: Authenticode
    /// hashes of boot loaders and kernels.
    pub boot_chain: Vec<Vec<u8>>,
    /// GRUB's commands. GRUB does not hash what it calls a text, so whoever holds
    /// the log can pass a command off as a command line, or the reverse.
    pub grub_commands: Vec<String>,
    /// Command lines of kernels.
    pub command_lines: Vec<String>,
    /// Sections of the unified kernel image, each with the digest of its content.
    pub uki_sections: Vec<(&'static str, Vec<u8>)>,
    /// Phases of systemd's boot.
    pub phases: Vec<&'static str>,
    /// Digests in PCR 11 and 12 that nothing here explains.
    pub unexplained: usize,
    /// Events of all PCRs whose data hash to their digest.
    pub recomputed: usize,
    /// Events that the quote covers.
    pub covered: usize,
}

/// An event with its digest in the bank.
type Measured<'a> = (&'a Event, &'a [u8]);

impl BootClaims {
    /// The claims of a log that was replayed to the quoted values of `proven`.
    pub(crate) fn of(log: &EventLog, bank: Bank, proven: PcrSet) -> Self {
        let of = |pcr: u8| measured(log, bank, proven, pcr);
        let (uki, explained) = uki_claims(bank, &of(PCR_UKI));
        let lines = uki_command_lines(bank, &of(PCR_UKI_COMMAND_LINE));
        let grub = of(PCR_GRUB);
        let mut command_lines = grub_text(bank, &grub, GRUB_COMMAND_LINE);
        let unexplained = |pcr: u8, explained: usize| of(pcr).len().saturating_sub(explained);
        let unexplained =
            unexplained(PCR_UKI, explained).saturating_add(unexplained(PCR_UKI_COMMAND_LINE, lines.len()));
        command_lines.extend(lines);
        let covered = || proven.iter().flat_map(of);
        Self {
            secure_boot: secure_boot(bank, &of(PCR_SECURE_BOOT)),
            firmware_version: firmware_version(bank, &of(PCR_FIRMWARE)),
            boot_chain: boot_chain(bank, &of(PCR_BOOT_MANAGER)),
            grub_commands: grub_text(bank, &grub, GRUB_COMMAND),
            command_lines,
            uki_sections: uki.0,
            phases: uki.1,
            unexplained,
            recomputed: covered().filter(|(event, digest)| bank.hash(&[&event.data]) == *digest).count(),
            covered: covered().count(),
        }
    }
}

fn measured(log: &EventLog, bank: Bank, proven: PcrSet, pcr: u8) -> Vec<Measured<'_>> {
    if !proven.iter().any(|p| p == pcr) {
        return Vec::new();
    }
    let events = log.events.iter().filter(|event| event.pcr == Some(pcr) && event.kind != NO_ACTION);
    events.filter_map(|event| Some((event, event.digest(bank)?))).collect()
}

/// What firmware measured into a PCR: everything before the first separator.
/// Without one, nothing tells firmware from what came later.
fn before_separator<'a, 'e>(
    bank: Bank,
    events: &'a [Measured<'e>],
) -> Option<(&'a [Measured<'e>], &'a [Measured<'e>])> {
    let separator = bank.hash(&[&SEPARATOR]);
    let at = events.iter().position(|(_, digest)| *digest == separator)?;
    let (before, after) = events.split_at_checked(at)?;
    Some((before, after.get(1..).unwrap_or_default()))
}

/// Secure Boot needs every event before the separator to be what it says: one
/// that is not could have been the variable that somebody wants to hide.
fn secure_boot(bank: Bank, events: &[Measured<'_>]) -> Option<SecureBoot> {
    let (before, _) = before_separator(bank, events)?;
    let mut found: [Option<Variable<'_>>; 5] = Default::default();
    let names =
        [("SecureBoot", GLOBAL), ("PK", GLOBAL), ("KEK", GLOBAL), ("db", IMAGE_SECURITY), ("dbx", IMAGE_SECURITY)];
    for (event, digest) in before {
        if bank.hash(&[&event.data]) != *digest {
            return None;
        }
        let Ok(variable) = Variable::parse(&event.data) else { continue };
        for (slot, (name, vendor)) in found.iter_mut().zip(names) {
            if variable.name == name && variable.vendor == vendor {
                // Measured twice, it is not clear which one counts.
                if slot.replace(variable.clone()).is_some() {
                    return None;
                }
            }
        }
    }
    let [Some(state), Some(pk), Some(kek), Some(db), Some(dbx)] = found else { return None };
    let enabled = match state.data {
        [1] => true,
        [] | [0] => false,
        _ => return None,
    };
    let database = |variable: Variable<'_>| SignatureDatabase::parse(variable.data).ok();
    Some(SecureBoot {
        enabled,
        platform_key: database(pk)?,
        exchange_keys: database(kek)?,
        allowed: database(db)?,
        forbidden: database(dbx)?,
    })
}

/// The first event of PCR 0 (`EV_S_CRTM_VERSION`), where it is text.
fn firmware_version(bank: Bank, events: &[Measured<'_>]) -> Option<String> {
    let (event, digest) = events.first()?;
    let text = utf16(&event.data).filter(|text| !text.is_empty() && text.chars().all(|c| !c.is_control()))?;
    (bank.hash(&[&event.data]) == *digest).then_some(text)
}

/// Digests after the separator. Text such as "Calling EFI Application" is none.
fn boot_chain(bank: Bank, events: &[Measured<'_>]) -> Vec<Vec<u8>> {
    let Some((_, after)) = before_separator(bank, events) else { return Vec::new() };
    let images = after.iter().filter(|(event, digest)| bank.hash(&[&event.data]) != *digest);
    images.map(|(_, digest)| digest.to_vec()).collect()
}

/// Text that GRUB hashed without prefix, and mostly without the final zero.
fn grub_text(bank: Bank, events: &[Measured<'_>], prefixes: [&[u8]; 2]) -> Vec<String> {
    let text = |(event, digest): &Measured<'_>| {
        let whole = prefixes.iter().find_map(|prefix| event.data.strip_prefix(*prefix))?;
        let text = whole.strip_suffix(&[0]).unwrap_or(whole);
        let hashed = [text, whole].into_iter().find(|text| bank.hash(&[text]) == *digest)?;
        Some(String::from_utf8_lossy(hashed).trim_end_matches('\0').to_owned())
    };
    events.iter().filter_map(text).collect()
}

type Uki = (Vec<(&'static str, Vec<u8>)>, Vec<&'static str>);

/// Sections come in pairs, the name and then the content; names and phases are
/// words that everybody knows, so their digests tell them. Returns the claims,
/// and how many digests they explain.
fn uki_claims(bank: Bank, events: &[Measured<'_>]) -> (Uki, usize) {
    if events.is_empty() {
        return (Uki::default(), 0);
    }
    let name = |section: &'static str| (section, bank.hash(&[section.as_bytes(), &[0]]));
    let names: Vec<(&str, Vec<u8>)> = uki::SECTIONS.into_iter().map(name).collect();
    let phases = uki::PHASES.into_iter().chain(DOWN).map(|phase| (phase, bank.hash(&[phase.as_bytes()])));
    let phases: Vec<(&str, Vec<u8>)> = phases.collect();
    let known = |words: &[(&'static str, Vec<u8>)], digest: &[u8]| {
        words.iter().find(|(_, known)| known == digest).map(|(word, _)| *word)
    };
    let (mut claims, mut explained) = (Uki::default(), 0_usize);
    let mut rest = events.iter().map(|(_, digest)| *digest);
    while let Some(digest) = rest.next() {
        if let Some(section) = known(&names, digest) {
            let Some(content) = rest.next() else { break };
            claims.0.push((section, content.to_vec()));
            explained = explained.saturating_add(2);
        } else if let Some(phase) = known(&phases, digest) {
            claims.1.push(phase);
            explained = explained.saturating_add(1);
        }
    }
    (claims, explained)
}

/// systemd-stub measures command lines as UTF-16 and logs the very bytes.
fn uki_command_lines(bank: Bank, events: &[Measured<'_>]) -> Vec<String> {
    let line =
        |(event, digest): &Measured<'_>| (bank.hash(&[&event.data]) == *digest).then(|| utf16(&event.data)).flatten();
    events.iter().filter_map(line).collect()
}
