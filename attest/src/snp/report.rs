//! The attestation report (SEV-SNP ABI, table "ATTESTATION_REPORT Structure").

use crate::bytes::{Reader, Truncated};
use crate::check::Checks;
use portcullis_wire::hex::hex;

use super::fields::{GuestPolicy, KeyInfo, PlatformInfo};
use super::generation::Generation;
use super::tcb::RawTcb;

/// Length of a report in bytes.
pub const LENGTH: usize = 1184;
/// Length of its signed part, bytes 0..0x2A0.
pub const SIGNED_LENGTH: usize = 0x2a0;
/// Supported report versions. Version 4 exists on Google Cloud with the fields of
/// version 3.
pub const VERSIONS: [u32; 4] = [2, 3, 4, 5];
/// Signature algorithm 1: ECDSA P-384 with SHA-384.
const ECDSA_P384_SHA384: u32 = 1;

/// A firmware version `major.minor.build`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FirmwareVersion {
    /// Build number.
    pub build: u8,
    /// Minor ABI version.
    pub minor: u8,
    /// Major ABI version.
    pub major: u8,
}

/// CPUID family, model (combined values) and stepping; version 3 and later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cpuid {
    /// Combined family.
    pub family: u8,
    /// Combined model.
    pub model: u8,
    /// Stepping.
    pub stepping: u8,
}

/// Mitigation vectors; version 5 and later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MitigationVectors {
    /// Mitigations in force when the guest was launched.
    pub launch: u64,
    /// Mitigations in force now.
    pub current: u64,
}

/// Every field of a report, as parsed. Parsing proves nothing: only
/// [`super::verify::VerifiedSnpReport`] is evidence.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are those of the ABI table")]
pub struct Report {
    pub version: u32,
    pub guest_svn: u32,
    pub policy: GuestPolicy,
    pub family_id: [u8; 16],
    pub image_id: [u8; 16],
    pub vmpl: u32,
    pub signature_algorithm: u32,
    pub current_tcb: RawTcb,
    pub platform_info: PlatformInfo,
    pub key_info: KeyInfo,
    pub report_data: [u8; 64],
    pub measurement: [u8; 48],
    pub host_data: [u8; 32],
    pub id_key_digest: [u8; 48],
    pub author_key_digest: [u8; 48],
    pub report_id: [u8; 32],
    pub report_id_ma: [u8; 32],
    pub reported_tcb: RawTcb,
    pub cpuid: Option<Cpuid>,
    pub chip_id: [u8; 64],
    pub committed_tcb: RawTcb,
    pub current_firmware: FirmwareVersion,
    pub committed_firmware: FirmwareVersion,
    pub launch_tcb: RawTcb,
    pub mitigations: Option<MitigationVectors>,
    reserved_is_zero: bool,
    signed: [u8; SIGNED_LENGTH],
    signature: SignatureBytes,
}

/// `r` and `s` as encoded in the report: 72 bytes little-endian each.
#[derive(Clone, Debug, PartialEq, Eq)]
struct SignatureBytes {
    r: [u8; 72],
    s: [u8; 72],
    trailing_is_zero: bool,
}

impl Report {
    /// Reads the fields of a report of a known version and records the checks
    /// of its form: `snp.length`, `snp.version`, `snp.reserved`,
    /// `snp.signature_algorithm`, `snp.signature.form`.
    ///
    /// Returns the fields if length and version allow them to be read; the later checks of
    /// form may still have failed.
    pub fn parse(bytes: &[u8], checks: &mut Checks) -> Option<Self> {
        let right_length = checks.equal("snp.length", &bytes.len(), &LENGTH, "length of the report in bytes");
        if !right_length {
            return None;
        }
        let version = Reader::new(bytes).u32_le().ok()?;
        let known = checks.require(
            "snp.version",
            VERSIONS.contains(&version),
            || version.to_string(),
            || "2, 3, 4 or 5".into(),
            "report version",
        );
        if !known {
            return None;
        }
        let report = read(bytes).ok()?;
        report.check_form(checks);
        Some(report)
    }

    fn check_form(&self, checks: &mut Checks) {
        let well_formed = self.reserved_is_zero
            && self.policy.is_well_formed()
            && self.platform_info.is_well_formed()
            && self.key_info.is_well_formed();
        checks.require(
            "snp.reserved",
            well_formed,
            || if well_formed { "zero".into() } else { "a reserved field or bit is set".into() },
            || "zero".into(),
            "reserved fields and bits, and policy bit 17",
        );
        checks.equal(
            "snp.signature_algorithm",
            &self.signature_algorithm,
            &ECDSA_P384_SHA384,
            "signature algorithm, 1 being ECDSA P-384 with SHA-384",
        );
        let canonical = self.signature_big_endian().is_some();
        checks.require(
            "snp.signature.form",
            canonical,
            || if canonical { "canonical".into() } else { "bytes set beyond r and s".into() },
            || "r and s of 48 bytes in 72, all else zero".into(),
            "encoding of the signature",
        );
    }

    /// The bytes that the firmware signed, exactly as received.
    #[must_use]
    pub const fn signed_bytes(&self) -> &[u8] {
        &self.signed
    }

    /// `r ‖ s`, 48 bytes big-endian each; `None` if the report's encoding is not canonical.
    #[must_use]
    pub fn signature_big_endian(&self) -> Option<[u8; 96]> {
        let [r, s] = [&self.signature.r, &self.signature.s].map(|field| {
            let (number, padding) = field.split_first_chunk::<48>()?;
            padding.iter().all(|b| *b == 0).then_some(*number)
        });
        let (mut r, mut s) = (r?, s?);
        if !self.signature.trailing_is_zero {
            return None;
        }
        r.reverse();
        s.reverse();
        let mut out = [0; 96];
        out.iter_mut().zip(r.iter().chain(&s)).for_each(|(to, from)| *to = *from);
        Some(out)
    }

    /// The generation that CPUID names; `None` before version 3 or if it is unknown.
    #[must_use]
    pub fn cpuid_generation(&self) -> Option<Generation> {
        self.cpuid.and_then(|c| Generation::from_cpuid(c.family, c.model))
    }

    /// The chip id as lower-case hex.
    #[must_use]
    pub fn chip_id_hex(&self) -> String {
        hex(&self.chip_id)
    }
}

/// Reads the fields in their order in the report; offsets in comments.
fn read(bytes: &[u8]) -> Result<Report, Truncated> {
    let (signed, _) = bytes.split_first_chunk::<SIGNED_LENGTH>().ok_or(Truncated)?;
    let mut r = Reader::new(bytes);
    let mut reserved = Zeroes(true);

    let version = r.u32_le()?; // 0x00
    let guest_svn = r.u32_le()?; // 0x04
    let policy = GuestPolicy(r.u64_le()?); // 0x08
    let family_id = r.array()?; // 0x10
    let image_id = r.array()?; // 0x20
    let vmpl = r.u32_le()?; // 0x30
    let signature_algorithm = r.u32_le()?; // 0x34
    let current_tcb = RawTcb(r.array()?); // 0x38
    let platform_info = PlatformInfo(r.u64_le()?); // 0x40
    let key_info = KeyInfo(r.u32_le()?); // 0x48
    reserved.expect(r.take(4)?); // 0x4C
    let report_data = r.array()?; // 0x50
    let measurement = r.array()?; // 0x90
    let host_data = r.array()?; // 0xC0
    let id_key_digest = r.array()?; // 0xE0
    let author_key_digest = r.array()?; // 0x110
    let report_id = r.array()?; // 0x140
    let report_id_ma = r.array()?; // 0x160
    let reported_tcb = RawTcb(r.array()?); // 0x180
    let [family, model, stepping] = r.array()?; // 0x188
    let cpuid = if version >= 3 {
        Some(Cpuid { family, model, stepping })
    } else {
        reserved.expect(&[family, model, stepping]);
        None
    };
    reserved.expect(r.take(21)?); // 0x18B
    let chip_id = r.array()?; // 0x1A0
    let committed_tcb = RawTcb(r.array()?); // 0x1E0
    let current_firmware = firmware_version(&mut r, &mut reserved)?; // 0x1E8
    let committed_firmware = firmware_version(&mut r, &mut reserved)?; // 0x1EC
    let launch_tcb = RawTcb(r.array()?); // 0x1F0
    let (launch, current) = (r.u64_le()?, r.u64_le()?); // 0x1F8, 0x200
    let mitigations = if version >= 5 {
        Some(MitigationVectors { launch, current })
    } else {
        reserved.expect(&launch.to_le_bytes());
        reserved.expect(&current.to_le_bytes());
        None
    };
    reserved.expect(r.take(152)?); // 0x208
    let signature = SignatureBytes {
        r: r.array()?,                                          // 0x2A0
        s: r.array()?,                                          // 0x2E8
        trailing_is_zero: r.take(368)?.iter().all(|b| *b == 0), // 0x330
    };
    r.finish()?;

    Ok(Report {
        version,
        guest_svn,
        policy,
        family_id,
        image_id,
        vmpl,
        signature_algorithm,
        current_tcb,
        platform_info,
        key_info,
        report_data,
        measurement,
        host_data,
        id_key_digest,
        author_key_digest,
        report_id,
        report_id_ma,
        reported_tcb,
        cpuid,
        chip_id,
        committed_tcb,
        current_firmware,
        committed_firmware,
        launch_tcb,
        mitigations,
        reserved_is_zero: reserved.0,
        signed: *signed,
        signature,
    })
}

/// Whether all reserved bytes so far were zero.
struct Zeroes(bool);

impl Zeroes {
    fn expect(&mut self, bytes: &[u8]) {
        self.0 &= bytes.iter().all(|b| *b == 0);
    }
}

fn firmware_version(r: &mut Reader<'_>, reserved: &mut Zeroes) -> Result<FirmwareVersion, Truncated> {
    let [build, minor, major, zero] = r.array()?;
    reserved.expect(&[zero]);
    Ok(FirmwareVersion { build, minor, major })
}
