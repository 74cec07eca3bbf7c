//! What PCR 11 will be after a unified kernel image has booted (systemd-stub(7),
//! systemd-pcrphase.service(8), `systemd-measure`).
//!
//! The stub measures, for each section that the image has and in a fixed order,
//! its name with a final zero and then its content; user space goes on with the
//! words of the boot's phases.

use crate::tpm::pcr::Bank;

/// PCR of the kernel image.
pub const PCR: u8 = 11;

/// Sections in the order in which systemd-stub measures them (`UnifiedSection`
/// of systemd 257; `.pcrsig` is signed over the others and not measured).
pub const SECTIONS: [&str; 14] = [
    ".linux", ".osrel", ".cmdline", ".initrd", ".ucode", ".splash", ".dtb", ".uname", ".sbat", ".pcrpkey", ".profile",
    ".dtbauto", ".hwids", ".efifw",
];

/// The sections that the stub of a version of systemd measures, in order; none
/// where that is not known. What a stub does not know it does not measure, even
/// where the image has it. Seen with the stubs of 252, 254, 257 and 262.
#[must_use]
pub fn sections_of_stub(version: u32) -> Option<&'static [&'static str]> {
    match version {
        ..=251 | 253 | 255 | 256 => None,
        252 => Some(&[".linux", ".osrel", ".cmdline", ".initrd", ".splash", ".dtb", ".pcrpkey"]),
        254 => Some(&[".linux", ".osrel", ".cmdline", ".initrd", ".splash", ".dtb", ".uname", ".sbat", ".pcrpkey"]),
        257.. => Some(&SECTIONS),
    }
}

/// Words that user space measures on the way up, in order.
pub const PHASES: [&str; 4] = ["enter-initrd", "leave-initrd", "sysinit", "ready"];

/// The value of PCR 11 in a bank after these sections and phases.
///
/// Sections are measured in [`SECTIONS`]' order, whatever the order given; one
/// that is not in it is not measured.
#[must_use]
pub fn pcr11(bank: Bank, sections: &[(&str, &[u8])], phases: &[&str]) -> Vec<u8> {
    let given = |name: &str| sections.iter().find(|(given, _)| *given == name).map(|(_, content)| *content);
    let present = SECTIONS.iter().filter_map(|name| Some((*name, given(name)?)));
    let after_sections = present.fold(bank.initial(PCR), |value, (name, content)| {
        let value = bank.extend(&value, &bank.hash(&[name.as_bytes(), &[0]]));
        bank.extend(&value, &bank.hash(&[content]))
    });
    phases.iter().fold(after_sections, |value, phase| bank.extend(&value, &bank.hash(&[phase.as_bytes()])))
}
