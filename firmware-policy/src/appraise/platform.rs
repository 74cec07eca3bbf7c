//! The chip and its firmware, independent of the image.

use portcullis_attest::check::Checks;
use portcullis_attest::snp::verify::VerifiedSnpReport;
use portcullis_wire::hex::hex;

use super::warning::Warning;
use crate::policy::{Policy, TcbKind, satisfied};

/// Judges the platform at a time; returns warnings of later denials.
pub(super) fn appraise_platform(
    snp: &VerifiedSnpReport,
    policy: &Policy,
    at: u64,
    checks: &mut Checks,
) -> Vec<Warning> {
    check_distrust(snp, policy, checks);
    let warnings = check_floors(snp, policy, at, checks);
    check_properties(snp, policy, checks);
    check_guest_policy(snp, checks);
    warnings
}

fn check_distrust(snp: &VerifiedSnpReport, policy: &Policy, checks: &mut Checks) {
    let report = snp.report();
    let generation = snp.generation();
    let trusted = |what: bool| if what { "trusted" } else { "distrusted" };
    let required = || "trusted".to_owned();
    let ok = !policy.distrusted_generations.contains(&generation);
    checks.require("chip.generation", ok, || format!("{generation} {}", trusted(ok)), required, "chip generation");
    let ok = !policy.distrusted_veks.contains(snp.vek_key_digest());
    let vek = || format!("{} {}", hex(snp.vek_key_digest()), trusted(ok));
    checks.require("chip.vek", ok, vek, required, "endorsement key");
    let ok = !policy.distrusted_chips.contains(&report.chip_id);
    checks.require("chip.id", ok, || format!("{} {}", report.chip_id_hex(), trusted(ok)), required, "chip");
}

/// Checks every floor of every TCB version: floors whose date has come deny, later ones
/// warn.
fn check_floors(snp: &VerifiedSnpReport, policy: &Policy, at: u64, checks: &mut Checks) -> Vec<Warning> {
    let generation = snp.generation();
    let mut warnings = Vec::new();
    let floors = policy.floors.get(&generation);
    checks.require(
        "snp.tcb.floor",
        floors.is_some(),
        || floors.map_or("no floor", |_| "a floor").to_owned(),
        || format!("a floor for {generation}"),
        "TCB floors of the generation",
    );
    let Some(floors) = floors else { return warnings };
    for (name, tcb) in snp.tcbs() {
        let id = || format!("snp.tcb.floor.{name}");
        for floor in TcbKind::from_name(name).map_or(&[][..], |kind| floors.of(kind)) {
            let holds = tcb.at_least(&floor.tcb);
            let required = || format!("at least {}", floor.tcb);
            if floor.denies_at(at) {
                let detail = "TCB version, against the floor of the generation";
                checks.require(id(), holds, || tcb.to_string(), required, detail);
            } else if !holds {
                let deny_from = floor.deny_from.unwrap_or_default();
                warnings.push(Warning { check: id(), found: tcb.to_string(), required: required(), deny_from });
            }
        }
    }
    warnings
}

fn check_properties(snp: &VerifiedSnpReport, policy: &Policy, checks: &mut Checks) {
    let report = snp.report();
    let (info, wanted) = (report.platform_info, policy.platform);
    for (id, requirement, holds) in [
        ("snp.platform.alias_check", wanted.alias_check, info.alias_check_complete()),
        ("snp.platform.ciphertext_hiding", wanted.ciphertext_hiding, info.ciphertext_hiding()),
        ("snp.platform.ecc", wanted.ecc, info.ecc_enabled()),
        ("snp.platform.smt_disabled", wanted.smt_disabled, !info.smt_enabled()),
    ] {
        let detail = "platform property that the bundle requires";
        checks.require(id, satisfied(requirement, holds), || holds.to_string(), || "true".into(), detail);
    }
    let (launch, current) = report.mitigations.map_or((0, 0), |vectors| (vectors.launch, vectors.current));
    checks.require(
        "snp.mitigations",
        launch & current & wanted.mitigations == wanted.mitigations,
        || format!("launch {launch:#x}, current {current:#x}"),
        || format!("{:#x} in both", wanted.mitigations),
        "mitigation vectors, against the bits that the bundle requires",
    );
}

fn check_guest_policy(snp: &VerifiedSnpReport, checks: &mut Checks) {
    let policy = &snp.report().policy;
    for (id, set, what) in [
        ("snp.policy.debug", policy.debug_allowed(), "debugging by the host is off"),
        ("snp.policy.migration", policy.migration_agent_allowed(), "no migration agent"),
    ] {
        let found = || if set { "allowed".into() } else { "not allowed".into() };
        checks.require(id, !set, found, || "not allowed".into(), what);
    }
}
