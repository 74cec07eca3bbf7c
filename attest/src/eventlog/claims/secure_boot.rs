//! Secure Boot, as firmware measured it into PCR 7.
//!
//! Firmware measures the variables `SecureBoot`, `PK`, `KEK`, `db` and `dbx`, in this
//! order, before it runs any code of others (PC Client Platform Firmware Profile,
//! §3.3.4.8). Other events may occur around them, before the separator: further
//! variables (`dbt`, `dbr`, device policy), actions, and an `EV_EFI_VARIABLE_AUTHORITY`
//! for every signed driver that has run, which names the database (`db`) and has one
//! signature of it. An event that contradicts the first value of a variable, on either
//! side of the separator, invalidates the claim.

use std::fmt;

use super::boot::{Firmware, firmware};
use super::{Measured, kind};
use crate::eventlog::variable::{GLOBAL, IMAGE_SECURITY, SignatureDatabase, Variable};
use crate::tpm::pcr::Bank;

/// The variables, in the order in which firmware measures them.
const VARIABLES: [(&str, [u8; 16]); 5] =
    [("SecureBoot", GLOBAL), ("PK", GLOBAL), ("KEK", GLOBAL), ("db", IMAGE_SECURITY), ("dbx", IMAGE_SECURITY)];
const DB: usize = 3;
/// Actions that firmware measures into PCR 7 (Firmware Profile, §10.4.4; the second
/// is Microsoft's).
const DEBUGGER: &[u8] = b"UEFI Debug Mode";
const NO_DMA_PROTECTION: &[u8] = b"DMA Protection Disabled";

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
    /// Signed drivers that firmware ran before it handed over.
    pub early_authorities: usize,
    /// Whether firmware reports that devices could write to memory during the boot.
    pub dma_protection_disabled: bool,
}

/// Why Secure Boot is not proven.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotProven {
    /// PCR 7 was not quoted, or the log does not lead to its value, or has no event for it.
    Pcr,
    /// PCR 7 has no separator.
    NoSeparator,
    /// The separator reports an error of firmware.
    FirmwareFailed,
    /// The data of an event before the separator do not hash to its digest.
    Data,
    /// Firmware ran with a debugger.
    Debugger,
    /// A variable was not measured before the separator.
    Absent(&'static str),
    /// A variable was measured with two values, or by an event of a wrong type.
    Contradiction(&'static str),
    /// A variable's value cannot be read.
    Form(&'static str),
}

impl fmt::Display for NotProven {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pcr => f.write_str("the log proves nothing of PCR 7"),
            Self::NoSeparator => f.write_str("PCR 7 has no separator"),
            Self::FirmwareFailed => f.write_str("the separator of PCR 7 says that the firmware met an error"),
            Self::Data => f.write_str("an event before the separator of PCR 7 does not have the data that it states"),
            Self::Debugger => f.write_str("the firmware ran in debug mode"),
            Self::Absent(name) => write!(f, "{name} was not measured before the separator of PCR 7"),
            Self::Contradiction(name) => write!(f, "the events of PCR 7 contradict each other about {name}"),
            Self::Form(name) => write!(f, "the measured value of {name} cannot be read"),
        }
    }
}

/// Reads PCR 7. The data of every event before the separator must be proven: an
/// unproven event could be the variable that an attacker wants to hide.
pub(super) fn secure_boot(bank: Bank, events: &[Measured<'_>]) -> Result<SecureBoot, NotProven> {
    if events.is_empty() {
        return Err(NotProven::Pcr);
    }
    let (before, after) = match firmware(bank, events) {
        Firmware::HandedOver { before, after } => (before, after),
        Firmware::Failed => return Err(NotProven::FirmwareFailed),
        Firmware::NoSeparator => return Err(NotProven::NoSeparator),
    };
    let mut found = Found::default();
    for m in before {
        found.take(m, m.data().ok_or(NotProven::Data)?)?;
    }
    let state = found.state()?;
    if state.enabled {
        found.check_later(after)?;
    }
    Ok(state)
}

/// The values before the separator.
#[derive(Default)]
struct Found<'e> {
    values: [Option<&'e [u8]>; VARIABLES.len()],
    early_authorities: usize,
    dma_protection_disabled: bool,
}

impl<'e> Found<'e> {
    fn take(&mut self, m: &Measured<'e>, data: &[u8]) -> Result<(), NotProven> {
        match data.strip_suffix(&[0]).unwrap_or(data) {
            DEBUGGER => return Err(NotProven::Debugger),
            NO_DMA_PROTECTION => self.dma_protection_disabled = true,
            _ => {}
        }
        let Some((at, name, value)) = variable(m) else { return Ok(()) };
        let authority = m.is(kind::EFI_VARIABLE_AUTHORITY);
        let slot = self.values.get_mut(at).ok_or(NotProven::Form(name))?;
        match *slot {
            // An authority is not a database: an authority event before the database could hide
            // it.
            None if authority => Err(NotProven::Contradiction(name)),
            None => {
                *slot = Some(value);
                Ok(())
            }
            Some(_) if at == DB && authority && is_signature(value) => {
                self.early_authorities = self.early_authorities.saturating_add(1);
                Ok(())
            }
            Some(first) if first == value && !authority => Ok(()),
            Some(_) => Err(NotProven::Contradiction(name)),
        }
    }

    fn state(&self) -> Result<SecureBoot, NotProven> {
        let [state, platform_key, exchange_keys, allowed, forbidden] = [0, 1, 2, DB, 4].map(|at| self.value(at));
        let (name, state) = state?;
        let database = |variable: Result<(&'static str, &[u8]), NotProven>| {
            let (name, value) = variable?;
            SignatureDatabase::parse(value).map_err(|_| NotProven::Form(name))
        };
        Ok(SecureBoot {
            enabled: match state {
                [1] => true,
                [] | [0] => false,
                _ => return Err(NotProven::Form(name)),
            },
            platform_key: database(platform_key)?,
            exchange_keys: database(exchange_keys)?,
            allowed: database(allowed)?,
            forbidden: database(forbidden)?,
            early_authorities: self.early_authorities,
            dma_protection_disabled: self.dma_protection_disabled,
        })
    }

    fn value(&self, at: usize) -> Result<(&'static str, &'e [u8]), NotProven> {
        let (name, _) = *VARIABLES.get(at).ok_or(NotProven::Pcr)?;
        Ok((name, self.values.get(at).copied().flatten().ok_or(NotProven::Absent(name))?))
    }

    /// Firmware measures a variable again if it changes before the operating system runs.
    /// Later code can do the same, so such an event proves nothing, but the earlier value
    /// no longer holds.
    fn check_later(&self, after: &[Measured<'e>]) -> Result<(), NotProven> {
        for m in after {
            let Some((at, name, value)) = variable(m) else { continue };
            // Loaders measure an authority for every image that they verify.
            let authority = at == DB && !m.is(kind::EFI_VARIABLE_DRIVER_CONFIG);
            if !authority && self.values.get(at).copied().flatten() != Some(value) {
                return Err(NotProven::Contradiction(name));
            }
        }
        Ok(())
    }
}

/// The variable in an event: its position, its name, and its value.
fn variable<'e>(m: &Measured<'e>) -> Option<(usize, &'static str, &'e [u8])> {
    if !m.proves_data {
        return None;
    }
    let variable = Variable::parse(&m.event.data).ok()?;
    let at = VARIABLES.iter().position(|known| *known == (variable.name.as_str(), variable.vendor))?;
    VARIABLES.get(at).map(|(name, _)| (at, *name, variable.data))
}

/// Whether this can be the value of an authority event: one signature
/// (`EFI_SIGNATURE_DATA`), and not another database.
fn is_signature(value: &[u8]) -> bool {
    !value.is_empty() && SignatureDatabase::parse(value).is_err()
}
