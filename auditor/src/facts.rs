//! The contents of reports and logs, as rows for people and as JSON.

use portcullis_attest::eventlog::{BootClaims, SecureBoot, SignatureDatabase};
use portcullis_attest::snp::generation::Generation;
use portcullis_attest::snp::report::{FirmwareVersion, Report};
use portcullis_attest::snp::tcb::RawTcb;
use portcullis_wire::hex::{hex, hex_u64};
use serde_json::{Value, json};

use crate::report::Facts;

/// Rows for people: the most important fields.
pub(crate) fn report_facts(r: &Report) -> Facts {
    let tcb = |raw: RawTcb| match r.cpuid_generation() {
        Some(generation) => raw.decode(generation).to_string(),
        None => hex(&raw.0),
    };
    let debug = if r.policy.debug_allowed() { " DEBUG ALLOWED" } else { "" };
    Facts::new(
        "What the report states",
        [
            ("version", r.version.to_string()),
            ("signed by", r.key_info.signing_key().describe()),
            ("generation", r.cpuid_generation().map_or_else(|| "not stated".into(), |g| g.name().to_owned())),
            ("chip id", r.chip_id_hex()),
            ("measurement", hex(&r.measurement)),
            ("report data", hex(&r.report_data)),
            ("host data", hex(&r.host_data)),
            ("guest policy", format!("{}{debug}", hex_u64(r.policy.0))),
            ("VMPL", r.vmpl.to_string()),
            ("guest SVN", r.guest_svn.to_string()),
            ("reported TCB", tcb(r.reported_tcb)),
            ("committed TCB", tcb(r.committed_tcb)),
            ("current TCB", tcb(r.current_tcb)),
            ("launch TCB", tcb(r.launch_tcb)),
            ("ID key digest", hex(&r.id_key_digest)),
            ("author key digest", hex(&r.author_key_digest)),
        ],
    )
}

/// Every field of a report: bytes as hex, 64-bit numbers as hex strings.
pub(crate) fn report_json(r: &Report) -> Value {
    let firmware = |v: FirmwareVersion| format!("{}.{}.{}", v.major, v.minor, v.build);
    let generation = r.cpuid_generation();
    json!({
        "version": r.version,
        "guest_svn": r.guest_svn,
        "policy": {
            "raw": hex_u64(r.policy.0),
            "abi_major": r.policy.abi_major(),
            "abi_minor": r.policy.abi_minor(),
            "smt_allowed": r.policy.smt_allowed(),
            "migration_agent_allowed": r.policy.migration_agent_allowed(),
            "debug_allowed": r.policy.debug_allowed(),
        },
        "family_id": hex(&r.family_id),
        "image_id": hex(&r.image_id),
        "vmpl": r.vmpl,
        "signature_algorithm": r.signature_algorithm,
        "current_tcb": tcb_json(r.current_tcb, generation),
        "platform_info": {
            "raw": hex_u64(r.platform_info.0),
            "smt_enabled": r.platform_info.smt_enabled(),
            "tsme_enabled": r.platform_info.tsme_enabled(),
            "ecc_enabled": r.platform_info.ecc_enabled(),
            "rapl_disabled": r.platform_info.rapl_disabled(),
            "ciphertext_hiding": r.platform_info.ciphertext_hiding(),
            "alias_check_complete": r.platform_info.alias_check_complete(),
            "tio_enabled": r.platform_info.tio_enabled(),
        },
        "key_info": {
            "raw": r.key_info.0,
            "author_key_present": r.key_info.author_key_present(),
            "chip_key_masked": r.key_info.chip_key_masked(),
            "signing_key": r.key_info.signing_key().describe(),
        },
        "report_data": hex(&r.report_data),
        "measurement": hex(&r.measurement),
        "host_data": hex(&r.host_data),
        "id_key_digest": hex(&r.id_key_digest),
        "author_key_digest": hex(&r.author_key_digest),
        "report_id": hex(&r.report_id),
        "report_id_ma": hex(&r.report_id_ma),
        "reported_tcb": tcb_json(r.reported_tcb, generation),
        "cpuid": r.cpuid.map(|c| json!({ "family": c.family, "model": c.model, "stepping": c.stepping })),
        "generation": generation.map(Generation::name),
        "chip_id": r.chip_id_hex(),
        "committed_tcb": tcb_json(r.committed_tcb, generation),
        "current_firmware": firmware(r.current_firmware),
        "committed_firmware": firmware(r.committed_firmware),
        "launch_tcb": tcb_json(r.launch_tcb, generation),
        "launch_mitigations": r.mitigations.map(|m| hex_u64(m.launch)),
        "current_mitigations": r.mitigations.map(|m| hex_u64(m.current)),
    })
}

/// The raw bytes always; the patch levels if CPUID identifies their layout.
fn tcb_json(raw: RawTcb, generation: Option<Generation>) -> Value {
    let levels = generation.map(|generation| {
        let tcb = raw.decode(generation);
        json!({
            "fmc": tcb.fmc, "boot_loader": tcb.boot_loader, "tee": tcb.tee, "snp": tcb.snp, "microcode": tcb.microcode,
        })
    });
    json!({ "raw": hex(&raw.0), "levels": levels })
}

/// Claims that a log proves, for people.
pub(crate) fn boot_facts(claims: &BootClaims) -> Facts {
    let secure_boot = match &claims.secure_boot {
        None => claims.not_proven.map_or_else(|| "not proven".into(), |why| format!("not proven: {why}")),
        Some(SecureBoot { enabled: true, .. }) => "on".into(),
        Some(SecureBoot { enabled: false, .. }) => "OFF".into(),
    };
    let mut rows = vec![("Secure Boot", secure_boot)];
    if let Some(state) = &claims.secure_boot {
        for (name, database) in [
            ("platform key", &state.platform_key),
            ("exchange keys", &state.exchange_keys),
            ("allowed", &state.allowed),
            ("forbidden", &state.forbidden),
        ] {
            rows.push((name, describe(database)));
        }
        if state.early_authorities > 0 {
            rows.push(("drivers", format!("{} signatures checked before the boot loader", state.early_authorities)));
        }
        if state.dma_protection_disabled {
            rows.push(("DMA protection", "DISABLED".into()));
        }
    }
    if let Some(version) = &claims.firmware_version {
        rows.push(("firmware", version.clone()));
    }
    rows.extend(claims.boot_chain.iter().map(|digest| ("started", hex(digest))));
    if claims.boot_unexplained > 0 {
        rows.push(("unexplained in PCR 4", claims.boot_unexplained.to_string()));
    }
    rows.extend(claims.command_lines.iter().map(|line| ("command line", line.clone())));
    rows.extend(claims.uki_sections.iter().map(|(name, digest)| ("UKI section", format!("{name} {}", hex(digest)))));
    if !claims.phases.is_empty() {
        rows.push(("phases", claims.phases.join(" ")));
    }
    if !claims.grub_commands.is_empty() {
        rows.push(("GRUB commands", claims.grub_commands.len().to_string()));
    }
    if claims.unexplained > 0 {
        rows.push(("unexplained in PCR 11 and 12", claims.unexplained.to_string()));
    }
    rows.push(("events", format!("{}, of which {} prove their data", claims.covered, claims.recomputed)));
    Facts::new("What the registers prove of the boot", rows)
}

fn describe(database: &SignatureDatabase) -> String {
    let SignatureDatabase { certificates, images, others } = database;
    format!("{} certificates, {} images, {others} others", certificates.len(), images.len())
}

/// The claims as JSON.
pub(crate) fn boot_json(claims: &BootClaims) -> Value {
    let database = |database: &SignatureDatabase| {
        json!({
            "certificates": database.certificates.iter().map(|digest| hex(digest)).collect::<Vec<_>>(),
            "images": database.images.len(),
            "others": database.others,
        })
    };
    let secure_boot = claims.secure_boot.as_ref().map(|state| {
        json!({
            "enabled": state.enabled,
            "platform_key": database(&state.platform_key),
            "exchange_keys": database(&state.exchange_keys),
            "allowed": database(&state.allowed),
            "forbidden": database(&state.forbidden),
            "early_authorities": state.early_authorities,
            "dma_protection_disabled": state.dma_protection_disabled,
        })
    });
    let sections = claims.uki_sections.iter().map(|(name, digest)| json!({ "name": name, "digest": hex(digest) }));
    json!({
        "secure_boot": secure_boot,
        "secure_boot_not_proven": claims.not_proven.map(|why| why.to_string()),
        "firmware_version": claims.firmware_version,
        "boot_chain": claims.boot_chain.iter().map(|digest| hex(digest)).collect::<Vec<_>>(),
        "boot_unexplained": claims.boot_unexplained,
        "command_lines": claims.command_lines,
        "grub_commands": claims.grub_commands,
        "uki_sections": sections.collect::<Vec<_>>(),
        "phases": claims.phases,
        "unexplained": claims.unexplained,
        "events": claims.covered,
        "recomputed": claims.recomputed,
    })
}
