//! TCB versions: five security patch levels in eight bytes, in one of two layouts.

use std::fmt;

use super::generation::Generation;

/// The raw eight bytes of a `TCB_VERSION` (SEV-SNP ABI, table "TCB_VERSION").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RawTcb(pub [u8; 8]);

/// A decoded TCB version. Compare with [`Tcb::at_least`]: patch levels are
/// independent, so there is no total order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tcb {
    /// FMC; Turin only.
    pub fmc: Option<u8>,
    /// Boot loader.
    pub boot_loader: u8,
    /// TEE (PSP operating system).
    pub tee: u8,
    /// SNP firmware.
    pub snp: u8,
    /// Microcode.
    pub microcode: u8,
}

impl RawTcb {
    /// The patch levels, in the layout of the generation.
    #[must_use]
    pub const fn decode(self, generation: Generation) -> Tcb {
        let [b0, b1, b2, b3, _, _, b6, b7] = self.0;
        match generation {
            Generation::Milan | Generation::Genoa => {
                Tcb { fmc: None, boot_loader: b0, tee: b1, snp: b6, microcode: b7 }
            }
            Generation::Turin => Tcb { fmc: Some(b0), boot_loader: b1, tee: b2, snp: b3, microcode: b7 },
        }
    }

    /// Whether the reserved bytes of the layout are zero.
    #[must_use]
    pub const fn reserved_is_zero(self, generation: Generation) -> bool {
        let [_, _, b2, b3, b4, b5, b6, _] = self.0;
        match generation {
            Generation::Milan | Generation::Genoa => b2 == 0 && b3 == 0 && b4 == 0 && b5 == 0,
            Generation::Turin => b4 == 0 && b5 == 0 && b6 == 0,
        }
    }
}

impl Tcb {
    /// Whether every patch level is at least that of `floor`. A version without FMC does
    /// not meet a floor with FMC.
    #[must_use]
    pub fn at_least(&self, floor: &Self) -> bool {
        self.fmc.unwrap_or(0) >= floor.fmc.unwrap_or(0)
            && self.boot_loader >= floor.boot_loader
            && self.tee >= floor.tee
            && self.snp >= floor.snp
            && self.microcode >= floor.microcode
    }

    /// The eight bytes in the layout of the generation.
    #[must_use]
    pub const fn encode(&self, generation: Generation) -> RawTcb {
        let Self { fmc, boot_loader, tee, snp, microcode } = *self;
        RawTcb(match generation {
            Generation::Milan | Generation::Genoa => [boot_loader, tee, 0, 0, 0, 0, snp, microcode],
            Generation::Turin => {
                let fmc = match fmc {
                    Some(fmc) => fmc,
                    None => 0,
                };
                [fmc, boot_loader, tee, snp, 0, 0, 0, microcode]
            }
        })
    }
}

impl fmt::Display for Tcb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(fmc) = self.fmc {
            write!(f, "fmc {fmc} ")?;
        }
        write!(f, "boot_loader {} tee {} snp {} microcode {}", self.boot_loader, self.tee, self.snp, self.microcode)
    }
}
