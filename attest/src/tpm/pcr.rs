//! PCR banks, selections and values.

use std::collections::BTreeMap;
use std::fmt;

use crate::bytes::{Reader, Truncated};
use crate::crypto;

/// PCRs of a PC Client TPM (TCG PC Client Platform TPM Profile, §4.6).
pub const PCR_COUNT: u8 = 24;
/// Largest number of banks in one selection; a TPM has at most four.
const MAX_BANKS: u32 = 8;

/// A hash algorithm of a PCR bank (TCG Algorithm Registry).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Bank {
    /// SHA-1: parsed and shown, never trusted.
    Sha1,
    /// SHA-256.
    Sha256,
    /// SHA-384.
    Sha384,
    /// SHA-512.
    Sha512,
}

impl Bank {
    /// All banks.
    pub const ALL: [Self; 4] = [Self::Sha1, Self::Sha256, Self::Sha384, Self::Sha512];

    /// `TPM_ALG_ID`.
    #[must_use]
    pub const fn id(self) -> u16 {
        match self {
            Self::Sha1 => 0x0004,
            Self::Sha256 => 0x000b,
            Self::Sha384 => 0x000c,
            Self::Sha512 => 0x000d,
        }
    }

    /// The bank with this `TPM_ALG_ID`.
    #[must_use]
    pub fn from_id(id: u16) -> Option<Self> {
        Self::ALL.into_iter().find(|bank| bank.id() == id)
    }

    /// `sha256` and so on.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sha1 => "sha1",
            Self::Sha256 => "sha256",
            Self::Sha384 => "sha384",
            Self::Sha512 => "sha512",
        }
    }

    /// The bank with this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|bank| bank.name() == name)
    }

    /// Digest length in bytes.
    #[must_use]
    pub const fn length(self) -> usize {
        match self {
            Self::Sha1 => 20,
            Self::Sha256 => 32,
            Self::Sha384 => 48,
            Self::Sha512 => 64,
        }
    }

    /// The hash of the concatenated parts.
    #[must_use]
    pub fn hash(self, parts: &[&[u8]]) -> Vec<u8> {
        match self {
            Self::Sha1 => crypto::sha1(parts).to_vec(),
            Self::Sha256 => crypto::sha256(parts).to_vec(),
            Self::Sha384 => crypto::sha384(parts).to_vec(),
            Self::Sha512 => crypto::sha512(parts).to_vec(),
        }
    }

    /// Value of a PCR after reset: zeroes, but ones for the dynamic PCRs 17-22
    /// (PC Client Platform TPM Profile, table "PCR Attributes").
    #[must_use]
    pub fn initial(self, pcr: u8) -> Vec<u8> {
        vec![if (17..=22).contains(&pcr) { 0xff } else { 0 }; self.length()]
    }

    /// Value of a PCR after `TPM2_PCR_Extend`.
    #[must_use]
    pub fn extend(self, value: &[u8], digest: &[u8]) -> Vec<u8> {
        self.hash(&[value, digest])
    }
}

impl fmt::Display for Bank {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The PCRs of one bank, as a bit mask.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct PcrSet(u32);

impl PcrSet {
    /// The set of these PCRs; numbers from 24 on are ignored.
    #[must_use]
    pub fn of(pcrs: impl IntoIterator<Item = u8>) -> Self {
        Self(pcrs.into_iter().filter(|p| *p < PCR_COUNT).fold(0, |mask, p| mask | 1 << p))
    }

    /// The PCRs, ascending.
    pub fn iter(self) -> impl Iterator<Item = u8> {
        (0..PCR_COUNT).filter(move |p| self.0 >> p & 1 == 1)
    }

    /// Whether no PCR is selected.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Three bytes, PCR 0 being the lowest bit of the first.
    #[must_use]
    pub const fn to_bytes(self) -> [u8; 3] {
        let [a, b, c, _] = self.0.to_le_bytes();
        [a, b, c]
    }
}

/// `TPML_PCR_SELECTION`: banks in the order in which they were selected.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Selection(pub Vec<(Bank, PcrSet)>);

impl Selection {
    /// PCRs of the SHA-256 bank.
    #[must_use]
    pub fn sha256(pcrs: impl IntoIterator<Item = u8>) -> Self {
        Self(vec![(Bank::Sha256, PcrSet::of(pcrs))])
    }

    /// Reads a selection.
    ///
    /// # Errors
    /// [`Truncated`], also for an unknown algorithm, because its values cannot be compared.
    pub fn read(r: &mut Reader<'_>) -> Result<Self, Truncated> {
        let count = r.u32_be()?;
        if count > MAX_BANKS {
            return Err(Truncated);
        }
        (0..count)
            .map(|_| {
                let bank = Bank::from_id(r.u16_be()?).ok_or(Truncated)?;
                let size = r.u8()?;
                let mut mask = [0; 4];
                let bytes = r.take(usize::from(size))?;
                if bytes.len() > 3 {
                    return Err(Truncated);
                }
                mask.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
                Ok((bank, PcrSet(u32::from_le_bytes(mask))))
            })
            .collect::<Result<_, _>>()
            .map(Self)
    }

    /// Every selected PCR, in the order in which the TPM hashes them.
    pub fn pcrs(&self) -> impl Iterator<Item = (Bank, u8)> + '_ {
        self.0.iter().flat_map(|(bank, set)| set.iter().map(|pcr| (*bank, pcr)))
    }
}

impl fmt::Display for Selection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.pcrs().next().is_none() {
            return f.write_str("no PCR");
        }
        for (at, (bank, set)) in self.0.iter().enumerate() {
            let list: Vec<String> = set.iter().map(|p| p.to_string()).collect();
            write!(f, "{}{bank}:{}", if at == 0 { "" } else { "+" }, list.join(","))?;
        }
        Ok(())
    }
}

/// PCR values by bank and number.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct PcrValues(BTreeMap<(Bank, u8), Vec<u8>>);

impl PcrValues {
    /// Sets a value; `false` if the number or the length is wrong.
    #[must_use]
    pub fn insert(&mut self, bank: Bank, pcr: u8, value: Vec<u8>) -> bool {
        let fits = pcr < PCR_COUNT && value.len() == bank.length();
        if fits {
            self.0.insert((bank, pcr), value);
        }
        fits
    }

    /// A value.
    #[must_use]
    pub fn value(&self, bank: Bank, pcr: u8) -> Option<&[u8]> {
        self.0.get(&(bank, pcr)).map(Vec::as_slice)
    }

    /// All values.
    pub fn iter(&self) -> impl Iterator<Item = (Bank, u8, &[u8])> {
        self.0.iter().map(|((bank, pcr), value)| (*bank, *pcr, value.as_slice()))
    }

    /// The digest over the selected values under `hash`, as a quote carries it (TPM 2.0
    /// Part 3, TPM2_Quote); `None` if a value is absent.
    #[must_use]
    pub fn digest(&self, selection: &Selection, hash: Bank) -> Option<Vec<u8>> {
        let values: Option<Vec<&[u8]>> = selection.pcrs().map(|(bank, pcr)| self.value(bank, pcr)).collect();
        values.map(|values| hash.hash(&values))
    }
}
