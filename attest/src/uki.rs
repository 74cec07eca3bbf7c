//! Computes the value of PCR 11 after a unified kernel image has booted
//! (systemd-stub(7), systemd-pcrphase.service(8), `systemd-measure`).
//!
//! For each section of the image, in a fixed order, the stub measures its name with a
//! final zero and then its content. User space then measures the words of the boot's
//! phases.

use crate::tpm::pcr::Bank;

/// PCR of the kernel image.
pub const PCR: u8 = 11;

/// Sections in the order in which systemd-stub measures them (`UnifiedSection` of
/// systemd 258 to 262; `.pcrsig` is signed over the others and not measured).
pub const SECTIONS: [&str; 14] = [
    ".linux", ".osrel", ".cmdline", ".initrd", ".ucode", ".splash", ".dtb", ".uname", ".sbat", ".pcrpkey", ".profile",
    ".dtbauto", ".hwids", ".efifw",
];

/// The signature of PCR values: in the stub's list, but never measured.
pub const SIGNATURE: &str = ".pcrsig";

/// The newest systemd version whose stub was examined.
pub const NEWEST_STUB: u32 = 262;

/// The sections that the stub of a systemd version measures, in order; `None` if
/// unknown. A stub does not measure sections that it does not know, even if the image
/// has them.
///
/// Taken from the list in the stubs of Debian (252, 254, 257, 262), and for the
/// versions in between from systemd-stub(7), which states the version in which each
/// section was added. Stubs before 252 measure no sections into PCR 11.
#[must_use]
pub fn sections_of_stub(version: u32) -> Option<&'static [&'static str]> {
    match version {
        252 | 253 => Some(&[".linux", ".osrel", ".cmdline", ".initrd", ".splash", ".dtb", ".pcrpkey"]),
        254 | 255 => {
            Some(&[".linux", ".osrel", ".cmdline", ".initrd", ".splash", ".dtb", ".uname", ".sbat", ".pcrpkey"])
        }
        256 => SECTIONS.get(..10),
        257 => SECTIONS.get(..13),
        258..=NEWEST_STUB => Some(&SECTIONS),
        _ => None,
    }
}

/// Words that user space measures during boot, in order.
pub const PHASES: [&str; 4] = ["enter-initrd", "leave-initrd", "sysinit", "ready"];

/// Words that user space measures during shutdown.
pub const PHASES_DOWN: [&str; 2] = ["shutdown", "final"];

/// The value of PCR 11 in a bank after these sections and phases.
///
/// Sections are measured in the order of [`SECTIONS`], whatever the given order; a
/// section that is not in it is not measured.
#[must_use]
pub fn pcr11(bank: Bank, sections: &[(&str, &[u8])], phases: &[&str]) -> Vec<u8> {
    let given = |name: &str| sections.iter().find(|(given, _)| *given == name).map(|(_, content)| *content);
    let present: Vec<(&str, &[u8])> = SECTIONS.iter().filter_map(|name| Some((*name, given(name)?))).collect();
    pcr11_in_order(bank, &present, phases)
}

/// As [`pcr11`], for sections in the stub's order.
#[must_use]
pub fn pcr11_in_order(bank: Bank, sections: &[(&str, &[u8])], phases: &[&str]) -> Vec<u8> {
    let after_sections = sections.iter().fold(bank.initial(PCR), |value, (name, content)| {
        let value = bank.extend(&value, &bank.hash(&[name.as_bytes(), &[0]]));
        bank.extend(&value, &bank.hash(&[content]))
    });
    phases.iter().fold(after_sections, |value, phase| bank.extend(&value, &bank.hash(&[phase.as_bytes()])))
}
