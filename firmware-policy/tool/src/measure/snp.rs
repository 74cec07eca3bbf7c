//! `measure snp`.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use portcullis_cli::say;
use portcullis_wire::hex::{hex, unhex_array};
use serde_json::json;

use super::digest::LaunchDigest;
use super::firmware::{Firmware, Section, SectionKind, number};
use super::hashes::DirectBoot;
use super::vmsa::{Cpu, Hypervisor};

/// Maximum number of virtual CPUs.
const MAX_CPUS: u32 = 4096;
/// QEMU's CPU models with family, model and stepping. All versions of a model have the
/// same values.
const MODELS: [(&str, [u32; 3]); 6] = [
    ("EPYC", [23, 1, 2]),
    ("EPYC-IBPB", [23, 1, 2]),
    ("EPYC-Rome", [23, 49, 0]),
    ("EPYC-Milan", [25, 1, 1]),
    ("EPYC-Genoa", [25, 17, 0]),
    ("EPYC-Turin", [26, 0, 0]),
];

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Firmware image (OVMF).
    #[arg(long, value_name = "FILE", required_unless_present = "metadata", conflicts_with = "metadata")]
    ovmf: Option<PathBuf>,
    /// Launch digest of the firmware image, if FILE is only the end of the image.
    #[arg(long, value_name = "HEX", requires = "ovmf")]
    ovmf_hash: Option<String>,
    /// Metadata of firmware without its image, as JSON: MetadataItems, ResetEIP, OVMFHash.
    #[arg(long, value_name = "FILE")]
    metadata: Option<PathBuf>,
    /// Kernel for direct boot. Without it, the measurement covers only the firmware.
    #[arg(long, value_name = "FILE")]
    kernel: Option<PathBuf>,
    /// Initial RAM disk.
    #[arg(long, value_name = "FILE", requires = "kernel")]
    initrd: Option<PathBuf>,
    /// Kernel command line; empty if absent.
    #[arg(long, requires = "kernel", default_value = "", hide_default_value = true)]
    append: String,
    /// Number of virtual CPUs.
    #[arg(long)]
    vcpus: u32,
    /// QEMU's CPU model, such as EPYC-Milan or EPYC-Milan-v2.
    #[arg(long, conflicts_with = "vcpu_signature")]
    vcpu_type: Option<String>,
    /// CPUID Fn0000_0001_EAX instead of a model, in decimal or hex after 0x.
    #[arg(long)]
    vcpu_signature: Option<String>,
    /// Hypervisor.
    #[arg(long, value_enum, default_value_t = Hypervisor::Qemu)]
    hypervisor: Hypervisor,
    /// `SEV_FEATURES` of the guest, in decimal or hex after 0x.
    #[arg(long, default_value = "0x1")]
    guest_features: String,
    /// One JSON object on stdout.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let measurement = hex(&measure(arguments)?);
    if arguments.json {
        let covers = if arguments.kernel.is_some() { "boot-chain" } else { "firmware" };
        let body = json!({ "schema": "portcullis/measure-snp/1", "measurement": measurement, "covers": covers });
        say!("{body}");
    } else {
        say!("{measurement}");
        if arguments.kernel.is_none() {
            eprintln!("note: this covers firmware alone, which no bundle admits for gates; see --kernel");
        }
    }
    Ok(())
}

fn measure(arguments: &Arguments) -> Result<[u8; 48]> {
    ensure!((1..=MAX_CPUS).contains(&arguments.vcpus), "--vcpus: 1 to {MAX_CPUS}");
    let firmware = firmware(arguments)?;
    let boot = direct_boot(arguments)?;
    if boot.is_some() && !firmware.has(SectionKind::KernelHashes) {
        bail!("this firmware has no place for kernel hashes: it would start any kernel");
    }
    let mut digest = match (&firmware.digest, &firmware.image) {
        (Some(known), _) => LaunchDigest::after(*known),
        (None, Some((address, image))) => {
            let mut digest = LaunchDigest::new();
            digest.normal(*address, image);
            digest
        }
        (None, None) => bail!("no firmware"),
    };
    add_sections(&mut digest, &firmware, boot.as_ref(), arguments.hypervisor)?;
    let cpu = Cpu {
        hypervisor: arguments.hypervisor,
        signature: signature(arguments)?,
        features: number(&arguments.guest_features)?,
    };
    digest.vmsa(&cpu.boot());
    for _ in 1..arguments.vcpus {
        digest.vmsa(&cpu.application(firmware.reset_address));
    }
    Ok(digest.value())
}

fn firmware(arguments: &Arguments) -> Result<Firmware> {
    let (ovmf, metadata) = (arguments.ovmf.as_ref(), arguments.metadata.as_ref());
    if let Some(path) = metadata {
        return Firmware::read_metadata(&read(path)?).with_context(|| path.display().to_string());
    }
    let path = ovmf.context("--ovmf or --metadata")?;
    let mut firmware = Firmware::read(read(path)?).with_context(|| path.display().to_string())?;
    if let Some(text) = &arguments.ovmf_hash {
        firmware.digest = Some(unhex_array(text).context("--ovmf-hash: 48 bytes in hex")?);
    }
    Ok(firmware)
}

fn direct_boot(arguments: &Arguments) -> Result<Option<DirectBoot>> {
    let Some(kernel) = &arguments.kernel else { return Ok(None) };
    let initrd = arguments.initrd.as_ref().map(|path| read(path)).transpose()?;
    Ok(Some(DirectBoot {
        kernel: read(kernel)?,
        initrd: initrd.unwrap_or_default(),
        command_line: arguments.append.clone(),
    }))
}

/// Adds the hypervisor's pages after the image, in the hypervisor's order.
fn add_sections(
    digest: &mut LaunchDigest,
    firmware: &Firmware,
    boot: Option<&DirectBoot>,
    hypervisor: Hypervisor,
) -> Result<()> {
    for section in &firmware.sections {
        let Section { address, length, kind } = *section;
        match (kind, hypervisor) {
            (SectionKind::Memory, Hypervisor::Gce) => digest.unmeasured(address, length),
            (SectionKind::Memory | SectionKind::SvsmCallingArea, _) => digest.zero(address, length),
            (SectionKind::Secrets, _) => digest.secrets(address),
            (SectionKind::Cpuid, hypervisor) if hypervisor.adds_cpuid_last() => {}
            (SectionKind::Cpuid, _) => digest.cpuid(address),
            (SectionKind::KernelHashes, _) => match boot {
                None => digest.zero(address, length),
                Some(boot) => {
                    let table = firmware.hash_table.context("firmware names no address for kernel hashes")?;
                    let page = boot.page(table % 4096).context("kernel hashes do not fit in their page")?;
                    digest.normal(address, &page);
                }
            },
        }
    }
    if hypervisor.adds_cpuid_last() {
        let cpuid = firmware.sections.iter().filter(|section| section.kind == SectionKind::Cpuid);
        cpuid.for_each(|section| digest.cpuid(section.address));
    }
    Ok(())
}

fn signature(arguments: &Arguments) -> Result<u32> {
    match (&arguments.vcpu_signature, &arguments.vcpu_type) {
        (Some(text), _) => Ok(u32::try_from(number(text)?)?),
        (None, Some(name)) => {
            let base = name.rsplit_once("-v").map_or(name.as_str(), |(base, _)| base);
            let known = MODELS.iter().find(|(model, _)| *model == base);
            let names = || MODELS.map(|(model, _)| model).join(", ");
            let (_, [family, model, stepping]) = known.with_context(|| format!("--vcpu-type: one of {}", names()))?;
            Ok(cpuid(*family, *model, *stepping))
        }
        // Other hypervisors do not write the CPU model into the registers.
        (None, None) if arguments.hypervisor != Hypervisor::Qemu => Ok(0),
        (None, None) => bail!("--vcpu-type or --vcpu-signature: QEMU leaves it in a register"),
    }
}

/// CPUID Fn0000_0001_EAX (AMD publication 25481) of families from 15 on.
fn cpuid(family: u32, model: u32, stepping: u32) -> u32 {
    let extended = family.saturating_sub(15);
    extended << 20 | (model >> 4) << 16 | 15 << 8 | (model & 15) << 4 | stepping
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| path.display().to_string())
}
