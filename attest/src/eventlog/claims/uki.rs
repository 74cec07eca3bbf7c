//! Sections of a unified kernel image, and phases of the boot, in PCR 11.

use super::{Measured, kind};
use crate::tpm::pcr::Bank;
use crate::uki::{PHASES, PHASES_DOWN, SECTIONS};

/// The claims from PCR 11.
#[derive(Debug, Default)]
pub(super) struct Uki {
    pub(super) sections: Vec<(&'static str, Vec<u8>)>,
    pub(super) phases: Vec<&'static str>,
    /// Number of digests that the claims explain.
    pub(super) explained: usize,
}

/// Sections come in pairs, the name and then the content, both `EV_IPL`. Names and
/// phases are known words, so their digests identify them.
pub(super) fn claims(bank: Bank, events: &[Measured<'_>]) -> Uki {
    let mut claims = Uki::default();
    if events.is_empty() {
        return claims;
    }
    let names = SECTIONS.map(|section| (section, bank.hash(&[section.as_bytes(), &[0]])));
    let phases = PHASES.into_iter().chain(PHASES_DOWN).map(|phase| (phase, bank.hash(&[phase.as_bytes()])));
    let phases: Vec<(&str, Vec<u8>)> = phases.collect();
    let mut rest = events.iter();
    while let Some(m) = rest.next() {
        if let Some(section) = known(&names, m.digest).filter(|_| m.is(kind::IPL)) {
            let Some(content) = rest.next() else { break };
            if content.is(kind::IPL) {
                claims.sections.push((section, content.digest.to_vec()));
                claims.explained = claims.explained.saturating_add(2);
            }
        } else if let Some(phase) = known(&phases, m.digest) {
            claims.phases.push(phase);
            claims.explained = claims.explained.saturating_add(1);
        }
    }
    claims
}

/// The word with this digest.
fn known(words: &[(&'static str, Vec<u8>)], digest: &[u8]) -> Option<&'static str> {
    words.iter().find(|(_, known)| known == digest).map(|(word, _)| *word)
}
