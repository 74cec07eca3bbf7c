//! The bit fields of a report: guest policy, platform info, key info.

/// Guest policy (SEV-SNP ABI, table "Guest Policy").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GuestPolicy(pub u64);

impl GuestPolicy {
    /// Bits 25:0 are defined; bit 17 must be one; the rest must be zero.
    const DEFINED: u64 = 0x03ff_ffff;

    const fn bit(self, bit: u32) -> bool {
        self.0 >> bit & 1 == 1
    }

    /// Minimum ABI minor version, bits 7:0.
    #[must_use]
    pub const fn abi_minor(self) -> u8 {
        self.0.to_le_bytes()[0]
    }

    /// Minimum ABI major version, bits 15:8.
    #[must_use]
    pub const fn abi_major(self) -> u8 {
        self.0.to_le_bytes()[1]
    }

    /// Bit 16: simultaneous multithreading is allowed.
    #[must_use]
    pub const fn smt_allowed(self) -> bool {
        self.bit(16)
    }

    /// Bit 18: a migration agent may be associated.
    #[must_use]
    pub const fn migration_agent_allowed(self) -> bool {
        self.bit(18)
    }

    /// Bit 19: the host may read the guest's memory.
    #[must_use]
    pub const fn debug_allowed(self) -> bool {
        self.bit(19)
    }

    /// Whether bit 17 is one and every reserved bit zero.
    #[must_use]
    pub const fn is_well_formed(self) -> bool {
        self.bit(17) && self.0 & !Self::DEFINED == 0
    }
}

/// `PLATFORM_INFO` (SEV-SNP ABI, table "PLATFORM_INFO Field").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlatformInfo(pub u64);

impl PlatformInfo {
    /// Bits 0-5 and 7 are named. Real Turin firmware (1.55.65, report version 5) sets bit
    /// 6, so it is accepted without a meaning.
    const DEFINED: u64 = 0xff;

    const fn bit(self, bit: u32) -> bool {
        self.0 >> bit & 1 == 1
    }

    /// Bit 0: simultaneous multithreading is enabled.
    #[must_use]
    pub const fn smt_enabled(self) -> bool {
        self.bit(0)
    }

    /// Bit 1: transparent memory encryption is enabled.
    #[must_use]
    pub const fn tsme_enabled(self) -> bool {
        self.bit(1)
    }

    /// Bit 2: the memory has error correction (ECC).
    #[must_use]
    pub const fn ecc_enabled(self) -> bool {
        self.bit(2)
    }

    /// Bit 3: the power meter is disabled.
    #[must_use]
    pub const fn rapl_disabled(self) -> bool {
        self.bit(3)
    }

    /// Bit 4: ciphertext is hidden from the host.
    #[must_use]
    pub const fn ciphertext_hiding(self) -> bool {
        self.bit(4)
    }

    /// Bit 5: memory aliases were ruled out at boot (AMD-SB-3015, BadRAM).
    #[must_use]
    pub const fn alias_check_complete(self) -> bool {
        self.bit(5)
    }

    /// Bit 7: trusted I/O is enabled.
    #[must_use]
    pub const fn tio_enabled(self) -> bool {
        self.bit(7)
    }

    /// Whether every reserved bit is zero.
    #[must_use]
    pub const fn is_well_formed(self) -> bool {
        self.0 & !Self::DEFINED == 0
    }
}

/// The key that signed a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SigningKey {
    /// Versioned chip endorsement key.
    Vcek,
    /// Versioned loaded endorsement key: a cloud provider's key, on many chips.
    Vlek,
    /// The report is unsigned.
    None,
    /// A value that the ABI reserves.
    Reserved(u8),
}

impl SigningKey {
    /// `VCEK`, `VLEK`, `none`, or the reserved value.
    #[must_use]
    pub fn describe(self) -> String {
        match self {
            Self::Vcek => "VCEK".into(),
            Self::Vlek => "VLEK".into(),
            Self::None => "none: the report is unsigned".into(),
            Self::Reserved(value) => format!("reserved value {value}"),
        }
    }
}

/// The flags at offset 0x48.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyInfo(pub u32);

impl KeyInfo {
    /// Bit 0: `AUTHOR_KEY_DIGEST` holds a digest.
    #[must_use]
    pub const fn author_key_present(self) -> bool {
        self.0 & 1 == 1
    }

    /// Bit 1: the host masked the chip id and the signature.
    #[must_use]
    pub const fn chip_key_masked(self) -> bool {
        self.0 >> 1 & 1 == 1
    }

    /// Bits 4:2.
    #[must_use]
    pub const fn signing_key(self) -> SigningKey {
        match self.0 >> 2 & 7 {
            0 => SigningKey::Vcek,
            1 => SigningKey::Vlek,
            7 => SigningKey::None,
            other => SigningKey::Reserved(other.to_le_bytes()[0]),
        }
    }

    /// Whether every reserved bit is zero.
    #[must_use]
    pub const fn is_well_formed(self) -> bool {
        self.0 >> 5 == 0
    }
}
