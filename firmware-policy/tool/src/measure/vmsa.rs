//! The initial register state of a virtual CPU (VMSA; AMD APM volume 2, table B-4), as
//! each hypervisor sets it.

use std::fmt;

use clap::ValueEnum;

use super::digest::PAGE;

/// Start address of the first processor.
const RESET_VECTOR: u32 = 0xffff_fff0;

/// A hypervisor; each sets other initial register values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Hypervisor {
    /// QEMU with KVM.
    Qemu,
    /// Amazon EC2.
    Ec2,
    /// Amazon EC2 in its first version, with zero in RDX.
    Ec2ZeroRdx,
    /// Google Compute Engine.
    Gce,
}

impl Hypervisor {
    /// Whether the hypervisor adds the CPUID page after all other pages.
    pub(super) const fn adds_cpuid_last(self) -> bool {
        matches!(self, Self::Ec2 | Self::Ec2ZeroRdx)
    }
}

impl fmt::Display for Hypervisor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Qemu => "qemu",
            Self::Ec2 => "ec2",
            Self::Ec2ZeroRdx => "ec2-zero-rdx",
            Self::Gce => "gce",
        })
    }
}

/// The inputs of the register state.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cpu {
    pub(super) hypervisor: Hypervisor,
    /// CPUID Fn0000_0001_EAX, which QEMU leaves in RDX.
    pub(super) signature: u32,
    /// `SEV_FEATURES`.
    pub(super) features: u64,
}

impl Cpu {
    /// The state of the first processor.
    pub(super) fn boot(&self) -> [u8; PAGE] {
        self.state(RESET_VECTOR)
    }

    /// The state of the other processors.
    pub(super) fn application(&self, address: u32) -> [u8; PAGE] {
        self.state(address)
    }

    fn state(&self, address: u32) -> [u8; PAGE] {
        let first = address == RESET_VECTOR;
        let (code, stack, task) = match self.hypervisor {
            Hypervisor::Qemu | Hypervisor::Gce => (0x9b, 0x93, 0x8b),
            Hypervisor::Ec2 | Hypervisor::Ec2ZeroRdx => (if first { 0x9a } else { 0x9b }, 0x92, 0x83),
        };
        let pat: u64 = if self.hypervisor == Hypervisor::Gce { 0x0007_0106 } else { 0x0007_0406_0007_0406 };
        let (rdx, mxcsr, fcw): (u64, u32, u16) = match self.hypervisor {
            Hypervisor::Qemu => (self.signature.into(), 0x1f80, 0x037f),
            Hypervisor::Ec2 | Hypervisor::Gce => (0x600, 0, 0),
            Hypervisor::Ec2ZeroRdx => (0, 0, 0),
        };
        let mut page = Page([0; PAGE]);
        for at in [0x00, 0x30, 0x40, 0x50] {
            page.segment(at, 0, 0x93, 0); // ES, DS, FS, GS
        }
        page.segment(0x10, 0xf000, code, address & 0xffff_0000);
        page.segment(0x20, 0, stack, 0);
        page.segment(0x60, 0, 0, 0); // GDTR
        page.segment(0x70, 0, 0x82, 0); // LDTR
        page.segment(0x80, 0, 0, 0); // IDTR
        page.segment(0x90, 0, task, 0);
        page.put(0x0d0, &0x1000_u64.to_le_bytes()); // EFER: KVM sets SVME
        page.put(0x148, &0x40_u64.to_le_bytes()); // CR4: KVM sets MCE
        page.put(0x158, &0x10_u64.to_le_bytes()); // CR0
        page.put(0x160, &0x400_u64.to_le_bytes()); // DR7
        page.put(0x168, &0xffff_0ff0_u64.to_le_bytes()); // DR6
        page.put(0x170, &0x2_u64.to_le_bytes()); // RFLAGS
        page.put(0x178, &u64::from(address & 0xffff).to_le_bytes()); // RIP
        page.put(0x268, &pat.to_le_bytes()); // G_PAT
        page.put(0x310, &rdx.to_le_bytes());
        page.put(0x3b0, &self.features.to_le_bytes());
        page.put(0x3e8, &1_u64.to_le_bytes()); // XCR0
        page.put(0x408, &mxcsr.to_le_bytes());
        page.put(0x410, &fcw.to_le_bytes());
        page.0
    }
}

struct Page([u8; PAGE]);

impl Page {
    fn put(&mut self, at: usize, bytes: &[u8]) {
        self.0.iter_mut().skip(at).zip(bytes).for_each(|(to, from)| *to = *from);
    }

    /// Selector, attributes, a limit of 64 KiB, base.
    fn segment(&mut self, at: usize, selector: u16, attributes: u16, base: u32) {
        let words = [&selector.to_le_bytes()[..], &attributes.to_le_bytes(), &0xffff_u32.to_le_bytes()].concat();
        self.put(at, &[&words[..], &u64::from(base).to_le_bytes()].concat());
    }
}
