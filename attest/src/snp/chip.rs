//! Compares the chip in certificate and report: product, chip id, TCB.

use portcullis_wire::hex::hex;

use super::certificate::AmdExtensions;
use super::fields::SigningKey;
use super::generation::Generation;
use super::report::Report;
use super::tcb::Tcb;
use crate::check::Checks;

/// Checks that certificate and report name the same chip at the same patch level.
pub(super) fn check_same_chip(report: &Report, amd: &AmdExtensions, generation: Generation, checks: &mut Checks) {
    let product = amd.product.as_deref().unwrap_or("no product");
    let cpuid_fits = report.cpuid.is_none() || report.cpuid_generation() == Some(generation);
    checks.require(
        "snp.product",
        product.split('-').next() == Some(generation.name()) && cpuid_fits,
        || match report.cpuid {
            Some(c) => format!("{product}, CPUID family {:#x} model {:#x}", c.family, c.model),
            None => product.to_owned(),
        },
        || generation.to_string(),
        "product of certificate and CPUID, against the chain's root",
    );

    match report.key_info.signing_key() {
        SigningKey::Vlek => {
            checks.require(
                "snp.csp_id",
                amd.csp_id.is_some() && amd.hwid.is_none(),
                || amd.csp_id.clone().unwrap_or_else(|| "none".into()),
                || "the id of a cloud provider, and no hardware id".into(),
                "provider of a VLEK",
            );
        }
        _ => {
            let hwid = amd.hwid.as_deref().unwrap_or_default();
            checks.require(
                "snp.chip_id",
                same_chip_id(&report.chip_id, hwid, generation),
                || report.chip_id_hex(),
                || hex(hwid),
                "chip id of the report, against hwID of the certificate",
            );
        }
    }

    let raw = [report.current_tcb, report.committed_tcb, report.reported_tcb, report.launch_tcb];
    let reserved = raw.iter().all(|tcb| tcb.reserved_is_zero(generation));
    checks.require(
        "snp.tcb.form",
        reserved,
        || if reserved { "zero".into() } else { "a reserved byte is set".into() },
        || "zero".into(),
        "reserved bytes of the four TCB versions",
    );
    let [(_, current), (_, committed), (_, reported), (_, launch)] = named_tcbs(report, generation);
    let ordered = committed.at_least(&reported) && current.at_least(&committed) && current.at_least(&launch);
    checks.require(
        "snp.tcb.order",
        ordered,
        || format!("reported {reported}; committed {committed}; current {current}; launch {launch}"),
        || "reported <= committed <= current, launch <= current".into(),
        "order of the TCB versions, component by component",
    );
    checks.require(
        "snp.tcb.certificate",
        amd.tcb() == Some(reported),
        || reported.to_string(),
        || amd.tcb().map_or_else(|| "a TCB in the certificate".into(), |tcb| tcb.to_string()),
        "reported TCB, against the TCB of the certificate",
    );
}

/// Turin certificates carry 8 bytes of hardware id; the report pads with zeroes.
fn same_chip_id(chip_id: &[u8; 64], hwid: &[u8], generation: Generation) -> bool {
    match generation {
        Generation::Milan | Generation::Genoa => hwid == chip_id,
        Generation::Turin => {
            chip_id.split_first_chunk::<8>().is_some_and(|(head, tail)| hwid == head && tail.iter().all(|b| *b == 0))
        }
    }
}

pub(super) fn named_tcbs(report: &Report, generation: Generation) -> [(&'static str, Tcb); 4] {
    [
        ("current", report.current_tcb.decode(generation)),
        ("committed", report.committed_tcb.decode(generation)),
        ("reported", report.reported_tcb.decode(generation)),
        ("launch", report.launch_tcb.decode(generation)),
    ]
}
