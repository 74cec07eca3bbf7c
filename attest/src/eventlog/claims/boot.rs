//! The end of firmware's part of a PCR, the firmware version, and the images that
//! firmware started.

use super::{Measured, kind};
use crate::eventlog::variable::utf16;
use crate::tpm::pcr::Bank;

/// Values of `EV_SEPARATOR`: firmware hands over, in either of two forms, or firmware
/// reports an error (PC Client Platform Firmware Profile, §10.4.1).
const SEPARATORS: [[u8; 4]; 2] = [[0; 4], [0xff; 4]];
const ERROR: [u8; 4] = [1, 0, 0, 0];
/// Longest text of an action that is accepted, in bytes.
const MAX_ACTION: usize = 256;

/// The parts of a PCR.
#[derive(Clone, Copy, Debug)]
pub(super) enum Firmware<'a, 'e> {
    /// The measurements of firmware, and those after the first separator.
    HandedOver { before: &'a [Measured<'e>], after: &'a [Measured<'e>] },
    /// The first separator reports an error of firmware.
    Failed,
    /// Without a separator, firmware's measurements cannot be told apart from later ones.
    NoSeparator,
}

/// Divides a PCR at the first separator. Later code can only append after it.
pub(super) fn firmware<'a, 'e>(bank: Bank, events: &'a [Measured<'e>]) -> Firmware<'a, 'e> {
    let (separators, error) = (SEPARATORS.map(|value| bank.hash(&[&value])), bank.hash(&[&ERROR]));
    let handed_over = |m: &Measured<'_>| separators.iter().any(|separator| separator == m.digest);
    let Some(at) = events.iter().position(|m| handed_over(m) || m.digest == error) else {
        return Firmware::NoSeparator;
    };
    match events.split_at_checked(at) {
        Some((before, [separator, after @ ..])) if handed_over(separator) => Firmware::HandedOver { before, after },
        _ => Firmware::Failed,
    }
}

/// The first event of PCR 0 (`EV_S_CRTM_VERSION`), if it is text.
pub(super) fn firmware_version(events: &[Measured<'_>]) -> Option<String> {
    let first = events.first().filter(|m| m.is(kind::S_CRTM_VERSION))?;
    utf16(first.data()?).filter(|text| !text.is_empty() && text.chars().all(|c| !c.is_control()))
}

/// Digests of started images, on both sides of the separator: firmware runs `SysPrep`
/// applications before it. Returns them, and the number of other measurements.
///
/// An image's digest is a hash over parts of the file, so data can be constructed that
/// hash to it. Only measurements that cannot be a program are skipped: separators, and
/// lines of text.
pub(super) fn started(bank: Bank, events: &[Measured<'_>]) -> (Vec<Vec<u8>>, usize) {
    let separators = SEPARATORS.map(|value| bank.hash(&[&value]));
    let (mut images, mut unexplained) = (Vec::new(), 0_usize);
    for m in events {
        let separator = separators.iter().any(|separator| separator == m.digest);
        if separator || m.data().is_some_and(is_action) {
            continue;
        }
        match m.event.kind {
            kind::EFI_BOOT_SERVICES_APPLICATION
            | kind::EFI_BOOT_SERVICES_DRIVER
            | kind::EFI_RUNTIME_SERVICES_DRIVER
            | kind::IPL => images.push(m.digest.to_vec()),
            _ => unexplained = unexplained.saturating_add(1),
        }
    }
    (images, unexplained)
}

/// Text such as "Calling EFI Application from Boot Option". No program consists of
/// printable characters alone: the header of an image has zeroes.
fn is_action(data: &[u8]) -> bool {
    let text = data.strip_suffix(&[0]).unwrap_or(data);
    !text.is_empty() && text.len() <= MAX_ACTION && text.iter().all(|byte| matches!(byte, b' '..=b'~'))
}
