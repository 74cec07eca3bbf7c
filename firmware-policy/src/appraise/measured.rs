//! Measurements after the launch, against the rules of an image: PCRs, firmware, the
//! unified kernel image, user space, files.

use std::collections::BTreeSet;

use portcullis_attest::check::Checks;
use portcullis_attest::eventlog::{BootClaims, Replayed, VerifiedLog};
use portcullis_attest::ima;
use portcullis_attest::tpm::pcr::Bank;
use portcullis_attest::tpm::verify::VerifiedQuote;
use portcullis_wire::Digest;
use portcullis_wire::hex::hex;

use super::events::{check_events, check_phases, check_unlogged};
use crate::document::Requirement;
use crate::policy::{BootRule, ImaRule, Reference, UkiRule};

/// Judges a quote by an image's rules. An earlier check of the quote ensured that every
/// PCR of those rules was quoted.
pub(super) fn appraise_measured(tpm: &VerifiedQuote, reference: &Reference, checks: &mut Checks) {
    check_unlogged(tpm, reference, checks);
    check_pcrs(tpm, reference, checks);
    if reference.boot.is_some() || reference.uki.is_some() {
        // Claims come from the log, as far as the quoted PCRs prove them.
        let claims = tpm.event_log().map(|log| log.claims()).unwrap_or_default();
        reference.boot.iter().for_each(|rule| check_boot(&claims, rule, checks));
        reference.uki.iter().for_each(|rule| check_uki(&claims, rule, checks));
    }
    let phases = reference.boot.iter().filter_map(|rule| rule.phases.as_ref());
    phases.for_each(|admitted| check_phases(tpm.event_log(), admitted, checks));
    reference.events.iter().for_each(|(pcr, allowed)| check_events(tpm.event_log(), *pcr, allowed, checks));
    reference.ima.iter().for_each(|rule| check_files(tpm, rule, checks));
}

fn check_pcrs(tpm: &VerifiedQuote, reference: &Reference, checks: &mut Checks) {
    for (pcr, allowed) in &reference.pcrs {
        let found = tpm.pcrs().value(Bank::Sha256, *pcr).unwrap_or_default();
        checks.require(
            format!("tpm.reference.{pcr}"),
            allowed.iter().any(|value| value == found),
            || hex(found),
            || one_of(allowed),
            "PCR, against the reference values",
        );
    }
}

fn check_boot(claims: &BootClaims, rule: &BootRule, checks: &mut Checks) {
    let enabled = claims.secure_boot.as_ref().map(|state| state.enabled);
    if rule.secure_boot == Requirement::Required {
        checks.require(
            "boot.secure_boot",
            enabled == Some(true),
            || match (enabled, claims.not_proven) {
                (Some(on), _) => if on { "on" } else { "off" }.into(),
                (None, Some(why)) => format!("not proven: {why}"),
                (None, None) => "not proven".into(),
            },
            || "on".into(),
            "Secure Boot, as PCR 7 proves it",
        );
    }
    let Some(allowed) = &rule.started else { return };
    let foreign = claims.boot_chain.iter().find(|digest| !allowed.iter().any(|known| known == digest.as_slice()));
    checks.require(
        "boot.started",
        foreign.is_none() && !claims.boot_chain.is_empty() && claims.boot_unexplained == 0,
        || match (foreign, claims.boot_unexplained) {
            (Some(digest), _) => hex(digest),
            (None, 0) => format!("{} images", claims.boot_chain.len()),
            (None, more) => format!("{} images, and {more} measurements of something else", claims.boot_chain.len()),
        },
        || one_of(allowed),
        "images that firmware started, as PCR 4 proves them",
    );
}

fn check_uki(claims: &BootClaims, rule: &UkiRule, checks: &mut Checks) {
    let names = || claims.uki_sections.iter().map(|(name, _)| *name);
    let (found, required): (BTreeSet<&str>, BTreeSet<&str>) =
        (names().collect(), rule.sections.keys().map(String::as_str).collect());
    let list = |names: &BTreeSet<&str>| names.iter().copied().collect::<Vec<_>>().join(" ");
    checks.require(
        "uki.sections",
        // A section that was measured twice means two images, or a forged event.
        found == required && names().count() == found.len(),
        || list(&found),
        || list(&required),
        "sections of the kernel image, as PCR 11 proves them",
    );
    for (name, digest) in &claims.uki_sections {
        let Some(allowed) = rule.sections.get(*name) else { continue };
        checks.require(
            format!("uki.section{name}"),
            allowed.iter().any(|value| value == digest.as_slice()),
            || hex(digest),
            || one_of(allowed),
            "content of a section of the kernel image",
        );
    }
    let foreign = claims.command_lines.iter().find(|line| !rule.command_lines.contains(*line));
    checks.require(
        "uki.command_line",
        foreign.is_none(),
        || foreign.cloned().unwrap_or_else(|| "allowed ones only".into()),
        || if rule.command_lines.is_empty() { "none beside the image's own".into() } else { "an allowed one".into() },
        "command lines given beside the image's own, as PCR 12 proves them",
    );
    checks.require(
        "uki.unexplained",
        claims.unexplained == 0,
        || claims.unexplained.to_string(),
        || "0".into(),
        "measurements into PCR 11 and 12 that nothing explains",
    );
}

fn check_files(tpm: &VerifiedQuote, rule: &ImaRule, checks: &mut Checks) {
    let Some(list) = tpm.measured_files() else {
        checks.missing("ima.form", "the IMA measurement list", "files that were measured");
        return;
    };
    let log = tpm.event_log().and_then(VerifiedLog::replayed).filter(|replayed| replayed.bank() == Bank::Sha256);
    let log = log.unwrap_or_else(|| Replayed::nothing(Bank::Sha256));
    ima::verify_after(list, &log, tpm.pcrs(), Some(&rule.allow), checks);
}

/// The values, or their number.
fn one_of<'a>(values: impl IntoIterator<Item = &'a Digest>) -> String {
    let mut values = values.into_iter();
    match (values.next(), values.count()) {
        (None, _) => "none".into(),
        (Some(only), 0) => hex(only),
        (Some(first), more) => format!("{} or one of {more} more", hex(first)),
    }
}
