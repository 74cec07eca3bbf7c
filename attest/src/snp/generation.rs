//! Chip generations, from the certificate chain and from CPUID.

use std::fmt;

/// A generation of AMD EPYC processors with its own root key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Generation {
    /// Family 19h, models 00h-0Fh.
    Milan,
    /// Family 19h, models 10h-1Fh, and A0h-AFh (Bergamo, Siena).
    Genoa,
    /// Family 1Ah, models 00h-1Fh.
    Turin,
}

impl Generation {
    /// All supported generations.
    pub const ALL: [Self; 3] = [Self::Milan, Self::Genoa, Self::Turin];

    /// The name in AMD's certificates and KDS paths.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Milan => "Milan",
            Self::Genoa => "Genoa",
            Self::Turin => "Turin",
        }
    }

    /// The generation with this name, as in AMD's certificates.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|g| g.name() == name)
    }

    /// The generation of a CPUID family and model (combined values), from the
    /// AMD revision guides 56683, 57095 and 58251.
    #[must_use]
    pub const fn from_cpuid(family: u8, model: u8) -> Option<Self> {
        match (family, model) {
            (0x19, 0x00..=0x0f) => Some(Self::Milan),
            (0x19, 0x10..=0x1f | 0xa0..=0xaf) => Some(Self::Genoa),
            (0x1a, 0x00..=0x1f) => Some(Self::Turin),
            _ => None,
        }
    }
}

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
