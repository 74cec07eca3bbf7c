//! Measurements after firmware, event by event: PCRs that the logs do not explain,
//! phases of the boot, and all other measurements by user space.
//!
//! Rules use digests in the order that the quote proves. The text of an event counts
//! only if it hashes to the event's digest. Nothing depends on which log holds an
//! event, because the node can move it.

use std::collections::BTreeSet;

use portcullis_attest::check::Checks;
use portcullis_attest::eventlog::{Measurement, VerifiedLog};
use portcullis_attest::tpm::pcr::Bank;
use portcullis_attest::tpm::verify::VerifiedQuote;
use portcullis_attest::uki;
use portcullis_wire::hex::hex;

use crate::policy::{AllowedEvent, NO_PHASE, Reference};

/// A PCR value that no log explains may be admitted as a reference value. The quote
/// proves it, and it represents everything that was ever measured into the PCR.
pub(super) fn check_unlogged(tpm: &VerifiedQuote, reference: &Reference, checks: &mut Checks) {
    for unlogged in tpm.event_log().into_iter().flat_map(VerifiedLog::unlogged) {
        let found = tpm.pcrs().value(unlogged.bank, unlogged.pcr).unwrap_or_default();
        let admitted = reference.pcrs.get(&unlogged.pcr).filter(|_| unlogged.bank == Bank::Sha256);
        checks.require(
            format!("tpm.pcr.{}", unlogged.pcr),
            admitted.is_some_and(|values| values.iter().any(|value| value == found)),
            || format!("{}:{}", unlogged.bank, hex(found)),
            || {
                let replayed = format!("{}:{}", unlogged.bank, hex(&unlogged.replayed));
                if admitted.is_some() { format!("{replayed}, or a reference value") } else { replayed }
            },
            "quoted value, against the replay of the logs",
        );
    }
}

/// The phases that user space has reached, as PCR 11 proves them.
pub(super) fn check_phases(log: Option<&VerifiedLog>, admitted: &BTreeSet<String>, checks: &mut Checks) {
    let found = log.and_then(|log| log.measurements(uki::PCR)).map(|measured| phase_path(&measured, admitted));
    checks.require(
        "boot.phases",
        found.as_ref().is_some_and(|path| admitted.contains(path)),
        || found.clone().unwrap_or_else(|| "not proven: no log leads to PCR 11".into()),
        || admitted.iter().cloned().collect::<Vec<_>>().join(" or "),
        "phases of the boot, as PCR 11 proves them",
    );
}

/// The measurements from the first phase on, joined by colons. A later measurement that
/// is no phase appears as its digest, so that no rule admits it.
fn phase_path(measured: &[Measurement<'_>], admitted: &BTreeSet<String>) -> String {
    let of_rule = admitted.iter().flat_map(|path| path.split(':')).filter(|word| *word != NO_PHASE);
    let words: BTreeSet<&str> = uki::PHASES.into_iter().chain(uki::PHASES_DOWN).chain(of_rule).collect();
    let words: Vec<(&str, Vec<u8>)> =
        words.into_iter().map(|word| (word, Bank::Sha256.hash(&[word.as_bytes()]))).collect();
    let word = |measurement: &Measurement<'_>| {
        words.iter().find(|(_, digest)| digest == measurement.digest).map(|(word, _)| (*word).to_owned())
    };
    let path: Vec<String> = measured
        .iter()
        .skip_while(|measurement| word(measurement).is_none())
        .map(|measurement| word(measurement).unwrap_or_else(|| format!("sha256-{}", hex(measurement.digest))))
        .collect();
    if path.is_empty() { NO_PHASE.to_owned() } else { path.join(":") }
}

/// Checks each measurement of a PCR against the list of allowed events.
pub(super) fn check_events(log: Option<&VerifiedLog>, pcr: u8, allowed: &[AllowedEvent], checks: &mut Checks) {
    const DETAIL: &str = "every measurement into the PCR, against those that may be";
    let measured = log.and_then(|log| log.measurements(pcr));
    let foreign = measured.as_ref().map(|all| all.iter().find(|one| !allowed.iter().any(|rule| admits(rule, one))));
    checks.require(
        format!("events.{pcr}"),
        matches!(foreign, Some(None)),
        || match foreign {
            None => format!("not proven: no log leads to PCR {pcr}"),
            Some(None) => "allowed ones only".into(),
            Some(Some(Measurement { text: Some(text), .. })) => text.chars().take(200).collect(),
            Some(Some(other)) => format!("sha256:{}, of which no log has the text", hex(other.digest)),
        },
        || allowed.iter().map(ToString::to_string).collect::<Vec<_>>().join(" or "),
        DETAIL,
    );
}

fn admits(rule: &AllowedEvent, measurement: &Measurement<'_>) -> bool {
    match rule {
        AllowedEvent::Text(text) => measurement.text == Some(text),
        AllowedEvent::Prefix(prefix) => measurement.text.is_some_and(|text| text.starts_with(prefix.as_str())),
        AllowedEvent::Digest(digest) => measurement.digest == digest,
    }
}
