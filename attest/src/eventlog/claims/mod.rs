//! Claims of a log about the boot, as far as the quote proves them.
//!
//! A quote proves the sequence of digests in each PCR, but neither the types nor the
//! data beside them. So data count only if their own hash is the digest, and phases of
//! the boot are identified by the digest of the separator, which is a known constant. A
//! type proves nothing, but an honest log has the right one: a claim needs the PCR, the
//! type and the form that belong to it, and every other measurement counts as
//! unexplained. A wrong type removes claims and never adds one.

mod boot;
mod secure_boot;
mod text;
mod uki;

use super::parse::{Event, EventLog, NO_ACTION};
use crate::tpm::pcr::{Bank, PcrSet};

pub use secure_boot::{NotProven, SecureBoot};

/// Firmware's PCRs, each with a separator.
const PCR_FIRMWARE: u8 = 0;
const PCR_BOOT_MANAGER: u8 = 4;
const PCR_SECURE_BOOT: u8 = 7;
/// GRUB's commands, and the kernel's command line.
const PCR_GRUB: u8 = 8;
/// systemd: sections of a unified kernel image and phases; its command line.
const PCR_UKI: u8 = crate::uki::PCR;
const PCR_UKI_COMMAND_LINE: u8 = 12;

/// Types of events (PC Client Platform Firmware Profile, §10.4.1).
mod kind {
    pub(super) const S_CRTM_VERSION: u32 = 0x8;
    pub(super) const IPL: u32 = 0xd;
    pub(super) const EFI_VARIABLE_DRIVER_CONFIG: u32 = 0x8000_0001;
    pub(super) const EFI_BOOT_SERVICES_APPLICATION: u32 = 0x8000_0003;
    pub(super) const EFI_BOOT_SERVICES_DRIVER: u32 = 0x8000_0004;
    pub(super) const EFI_RUNTIME_SERVICES_DRIVER: u32 = 0x8000_0005;
    pub(super) const EFI_VARIABLE_AUTHORITY: u32 = 0x8000_00e0;
}

/// Claims that a quote proves together with its log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BootClaims {
    /// Secure Boot; absent if a part of it is not proven.
    pub secure_boot: Option<SecureBoot>,
    /// Why Secure Boot is not proven; absent if it is.
    pub not_proven: Option<NotProven>,
    /// Firmware's version string, if it is text.
    pub firmware_version: Option<String>,
    /// Digests of the images that firmware started, in PCR 4: Authenticode hashes of boot
    /// loaders, kernels, and of applications that ran before them.
    pub boot_chain: Vec<Vec<u8>>,
    /// Measurements into PCR 4 that are neither a started image, nor a separator,
    /// nor the text of an action.
    pub boot_unexplained: usize,
    /// GRUB's commands. GRUB does not hash the prefix of its text, so the holder of the log
    /// can present a command as a command line, or the reverse.
    pub grub_commands: Vec<String>,
    /// Command lines of kernels.
    pub command_lines: Vec<String>,
    /// Sections of the unified kernel image, each with the digest of its content.
    pub uki_sections: Vec<(&'static str, Vec<u8>)>,
    /// Phases of systemd's boot.
    pub phases: Vec<&'static str>,
    /// Number of digests in PCR 11 and 12 without an explanation.
    pub unexplained: usize,
    /// Number of events of all PCRs whose data hash to their digest.
    pub recomputed: usize,
    /// Number of events that the quote covers.
    pub covered: usize,
}

/// An event of a proven PCR.
#[derive(Clone, Copy, Debug)]
struct Measured<'a> {
    event: &'a Event,
    /// Its digest in the bank.
    digest: &'a [u8],
    /// Whether the data hash to the digest.
    proves_data: bool,
}

impl Measured<'_> {
    /// The data, if they are proven.
    fn data(&self) -> Option<&[u8]> {
        self.proves_data.then_some(&self.event.data)
    }

    /// Whether the log gives it this type.
    const fn is(&self, kind: u32) -> bool {
        self.event.kind == kind
    }
}

impl BootClaims {
    /// The claims of a log that was replayed to the quoted values of `proven`.
    pub(crate) fn of(log: &EventLog, bank: Bank, proven: PcrSet) -> Self {
        let measured = measured(log, bank, proven);
        let of = |pcr: u8| measured.iter().filter(|m| m.event.pcr == Some(pcr)).copied().collect::<Vec<_>>();
        let uki = uki::claims(bank, &of(PCR_UKI));
        let lines = text::stub_command_lines(&of(PCR_UKI_COMMAND_LINE));
        let unexplained = [(PCR_UKI, uki.explained), (PCR_UKI_COMMAND_LINE, lines.len())];
        let unexplained = unexplained.map(|(pcr, explained)| of(pcr).len().saturating_sub(explained));
        let (boot_chain, boot_unexplained) = boot::started(bank, &of(PCR_BOOT_MANAGER));
        let (secure_boot, not_proven) = match secure_boot::secure_boot(bank, &of(PCR_SECURE_BOOT)) {
            Ok(secure_boot) => (Some(secure_boot), None),
            Err(why) => (None, Some(why)),
        };
        let grub = of(PCR_GRUB);
        let mut command_lines = text::grub(bank, &grub, text::GRUB_COMMAND_LINE);
        command_lines.extend(lines);
        Self {
            secure_boot,
            not_proven,
            firmware_version: boot::firmware_version(&of(PCR_FIRMWARE)),
            boot_chain,
            boot_unexplained,
            grub_commands: text::grub(bank, &grub, text::GRUB_COMMAND),
            command_lines,
            uki_sections: uki.sections,
            phases: uki.phases,
            unexplained: unexplained.into_iter().fold(0, usize::saturating_add),
            recomputed: measured.iter().filter(|m| m.proves_data).count(),
            covered: measured.len(),
        }
    }
}

/// Every event of the proven PCRs, in the order of the log.
fn measured(log: &EventLog, bank: Bank, proven: PcrSet) -> Vec<Measured<'_>> {
    let proven = |pcr: u8| proven.iter().any(|other| other == pcr);
    let events = log.events.iter().filter(|event| event.kind != NO_ACTION && event.pcr.is_some_and(proven));
    let measured = events.filter_map(|event| {
        let digest = event.digest(bank)?;
        Some(Measured { event, digest, proves_data: bank.hash(&[&event.data]) == digest })
    });
    measured.collect()
}
