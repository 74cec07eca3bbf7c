//! Text that boot loaders measured: commands and command lines.

use super::{Measured, kind};
use crate::eventlog::variable::utf16;
use crate::tpm::pcr::Bank;

/// GRUB's prefix of the text that it hashed, and the prefix of Red Hat's GRUB in RHEL
/// 8.
pub(super) const GRUB_COMMAND: [&[u8]; 2] = [b"grub_cmd: ", b"grub_cmd "];
pub(super) const GRUB_COMMAND_LINE: [&[u8]; 2] = [b"kernel_cmdline: ", b"grub_kernel_cmdline "];

/// Text that GRUB hashed without its prefix, and usually without the final zero
/// (`EV_IPL` in PCR 8).
pub(super) fn grub(bank: Bank, events: &[Measured<'_>], prefixes: [&[u8]; 2]) -> Vec<String> {
    let text = |m: &Measured<'_>| {
        let whole = prefixes.iter().find_map(|prefix| m.event.data.strip_prefix(*prefix))?;
        let text = whole.strip_suffix(&[0]).unwrap_or(whole);
        let hashed = [text, whole].into_iter().find(|text| bank.hash(&[text]) == m.digest)?;
        Some(String::from_utf8_lossy(hashed).trim_end_matches('\0').to_owned())
    };
    events.iter().filter(|m| m.is(kind::IPL)).filter_map(text).collect()
}

/// systemd's stub and boot loader measure command lines as UTF-16 and log the exact
/// bytes (`EV_IPL` in PCR 12). Windows has other events in this PCR: separators that
/// would read as text, and tagged events.
pub(super) fn stub_command_lines(events: &[Measured<'_>]) -> Vec<String> {
    let line = |m: &Measured<'_>| utf16(m.data()?).filter(|line| !line.is_empty());
    events.iter().filter(|m| m.is(kind::IPL)).filter_map(line).collect()
}
