//! The secure processor, through configfs-tsm or `/dev/sev-guest`.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use portcullis_attest::evidence::{SnpEvidence, SvsmEvidence};
use portcullis_attest::snp::report::LENGTH;
use sev::error::{UserApiError, VmmError};
use sev::firmware::guest::Firmware;
use zeroize::Zeroizing;

use crate::error::AttesterError;
use crate::machine::{ServiceDevice, SnpDevice, probe};
use crate::passing::patiently;

const TSM: &str = "/sys/kernel/config/tsm/report";
const GUEST: &str = "/dev/sev-guest";
/// The vTPM of a service module.
const VTPM_SERVICE: &str = "c476f1eb-0123-45a5-9641-b4e7dde5bfe3";
const WHAT: &str = "SEV-SNP guest device";

/// The key to derive (SEV-SNP ABI, MSG_KEY_REQ): always from the root VCEK, mixed with
/// the fields that the bits select.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DerivedKeyRequest {
    /// Lowest guest SVN that may derive it.
    pub guest_svn: u32,
    /// TCB version that is mixed in, at most the committed one. It is stored with the data
    /// that the key protects, so the key outlives firmware upgrades.
    pub tcb_version: u64,
}

impl DerivedKeyRequest {
    /// Guest field select: policy 0, measurement 3, SVN 4, TCB 5.
    pub const FIELDS: u64 = 1 | 1 << 3 | 1 << 4 | 1 << 5;
}

/// configfs-tsm (Linux 6.7 and later).
#[derive(Debug)]
pub struct ConfigfsTsm {
    folder: PathBuf,
}

impl ConfigfsTsm {
    /// Checks that the kernel supports it.
    ///
    /// # Errors
    /// [`AttesterError::NoDevice`].
    pub fn open() -> Result<Self, AttesterError> {
        probe(WHAT, Path::new(TSM))?;
        Ok(Self { folder: PathBuf::from(TSM) })
    }

    /// configfs has one entry per directory; each request uses a new one.
    fn request<T>(&self, mut read: impl FnMut(&Path) -> Result<T, AttesterError>) -> Result<T, AttesterError> {
        patiently(&self.folder.display().to_string(), || self.request_once(&mut read))
    }

    fn request_once<T>(&self, read: &mut impl FnMut(&Path) -> Result<T, AttesterError>) -> Result<T, AttesterError> {
        static SERIAL: AtomicU32 = AtomicU32::new(0);
        let name = format!("portcullis-{}-{}", std::process::id(), SERIAL.fetch_add(1, Ordering::Relaxed));
        let entry = self.folder.join(name);
        fs::create_dir(&entry).map_err(AttesterError::device("configfs-tsm entry"))?;
        let outcome = read(&entry);
        let removed = fs::remove_dir(&entry).map_err(AttesterError::device("configfs-tsm entry"));
        let evidence = outcome?;
        removed?;
        Ok(evidence)
    }
}

/// Requests a service's report: `service_provider` and `service_guid` first.
fn read_service(entry: &Path, nonce: &[u8; 64]) -> Result<SvsmEvidence, AttesterError> {
    let write =
        |file: &'static str, value: &str| fs::write(entry.join(file), value).map_err(AttesterError::device(file));
    write("service_provider", "svsm")?;
    write("service_guid", VTPM_SERVICE)?;
    write("service_manifest_version", "0")?;
    let snp = read_entry(entry, nonce)?;
    let manifest = fs::read(entry.join("manifestblob")).map_err(AttesterError::device("manifestblob"))?;
    Ok(SvsmEvidence { snp, manifest })
}

/// Writes `inblob` and reads the other attributes, with `generation` before and after:
/// it counts writes to the entry, and ours must be the only ones.
fn read_entry(entry: &Path, report_data: &[u8; 64]) -> Result<SnpEvidence, AttesterError> {
    let read = |file: &'static str| fs::read(entry.join(file)).map_err(AttesterError::device(file));
    let text = |file: &'static str| read(file).map(|bytes| String::from_utf8_lossy(&bytes).trim().to_owned());
    let provider = text("provider")?;
    if provider != "sev_guest" {
        let error = io::Error::other(format!("provider {provider:?}, required \"sev_guest\""));
        return Err(AttesterError::Device { what: "configfs-tsm", error });
    }
    fs::write(entry.join("inblob"), report_data).map_err(AttesterError::device("inblob"))?;
    let before = text("generation")?;
    let (report, certificates) = (read("outblob")?, read("auxblob")?);
    let after = text("generation")?;
    if before != after {
        return Err(AttesterError::Generation { before, after });
    }
    if report.len() != LENGTH {
        return Err(AttesterError::Form("outblob"));
    }
    Ok(SnpEvidence { report, certificates })
}

impl SnpDevice for ConfigfsTsm {
    fn report(&mut self, report_data: &[u8; 64]) -> Result<SnpEvidence, AttesterError> {
        self.request(|entry| read_entry(entry, report_data))
    }

    /// configfs-tsm has no derived keys, so the ioctl is used.
    fn derived_key(&mut self, request: &DerivedKeyRequest) -> Result<Zeroizing<[u8; 32]>, AttesterError> {
        SevGuest::open()?.derived_key(request)
    }
}

impl ServiceDevice for ConfigfsTsm {
    fn service_report(&mut self, nonce: &[u8; 64]) -> Result<SvsmEvidence, AttesterError> {
        self.request(|entry| read_service(entry, nonce))
    }
}

/// `/dev/sev-guest`, through the `sev` crate.
#[derive(Debug)]
pub struct SevGuest {
    firmware: Firmware,
}

impl SevGuest {
    /// Opens the device.
    ///
    /// # Errors
    /// [`AttesterError`].
    pub fn open() -> Result<Self, AttesterError> {
        probe(WHAT, Path::new(GUEST))?;
        let firmware = Firmware::open().map_err(AttesterError::device(GUEST))?;
        Ok(Self { firmware })
    }
}

impl SnpDevice for SevGuest {
    fn report(&mut self, report_data: &[u8; 64]) -> Result<SnpEvidence, AttesterError> {
        let (report, table) =
            patiently(GUEST, || self.firmware.get_ext_report(None, Some(*report_data), None).map_err(guest_error))?;
        let certificates = match table {
            None => Vec::new(),
            Some(entries) => sev::firmware::host::CertTableEntry::cert_table_to_vec_bytes(&entries)
                .map_err(|_| AttesterError::Form("certificate table"))?,
        };
        Ok(SnpEvidence { report, certificates })
    }

    fn derived_key(&mut self, request: &DerivedKeyRequest) -> Result<Zeroizing<[u8; 32]>, AttesterError> {
        let fields = DerivedKeyRequest::FIELDS;
        patiently(GUEST, || {
            let device = fs::OpenOptions::new().read(true).write(true).open(GUEST);
            let device = device.map_err(AttesterError::device("open"))?;
            portcullis_sys::sev_guest::derived_key(&device, fields, request.guest_svn, request.tcb_version)
                .map_err(AttesterError::device("derived key"))
        })
    }
}

/// A host that throttles requests reports it (GHCB specification, "SNP Guest Request":
/// 0x2 in the upper half of `SW_EXITINFO2`).
fn guest_error(error: UserApiError) -> AttesterError {
    let error = match error {
        UserApiError::IOError(error) => error,
        UserApiError::VmmError(VmmError::RateLimitRetryRequest) => {
            io::Error::new(ErrorKind::ResourceBusy, "the host throttles requests")
        }
        other => io::Error::other(other.to_string()),
    };
    AttesterError::Device { what: "extended report", error }
}

#[cfg(test)]
mod tests {
    use portcullis_attest::evidence::{Collected, Evidence};
    use portcullis_attest::snp::table::CertificateTable;

    use super::*;

    /// Temporary errors of configfs-tsm (`Documentation/ABI/testing/configfs-tsm-report`: a
    /// read ends with EWOULDBLOCK if the entry changed), and the throttled host.
    #[test]
    fn a_request_that_somebody_disturbs_is_made_again_in_a_new_entry() {
        let folder = tempfile::tempdir().unwrap();
        let tsm = ConfigfsTsm { folder: folder.path().to_owned() };
        let mut entries = Vec::new();
        let outcome = tsm.request(|entry| {
            assert!(entry.is_dir());
            entries.push(entry.to_owned());
            match entries.len() {
                1 => Err(AttesterError::device("outblob")(ErrorKind::WouldBlock.into())),
                2 => Err(AttesterError::device("outblob")(ErrorKind::ResourceBusy.into())),
                3 => Err(AttesterError::Generation { before: "1".into(), after: "2".into() }),
                _ => Ok(entries.len()),
            }
        });
        assert_eq!(outcome.unwrap(), 4);
        entries.sort();
        entries.dedup();
        assert_eq!(entries.len(), 4, "an entry was used twice");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "entries were left behind");
        let refused = tsm.request(|_| Err::<(), _>(AttesterError::Form("outblob"))).unwrap_err();
        assert_eq!(refused.to_string(), format!("{}: outblob has an unknown form", folder.path().display()));
    }

    #[test]
    fn a_host_that_throttles_is_asked_again() {
        assert!(guest_error(UserApiError::VmmError(VmmError::RateLimitRetryRequest)).is_passing());
        assert!(guest_error(UserApiError::IOError(ErrorKind::Interrupted.into())).is_passing());
        assert!(!guest_error(UserApiError::VmmError(VmmError::InvalidCertificatePageLength)).is_passing());
        assert!(!guest_error(UserApiError::Unknown).is_passing());
    }

    /// An entry as configfs-tsm of Linux presents it: text attributes end with a newline,
    /// blobs are bytes.
    fn entry(provider: &str, table: &[u8]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let files: [(&str, &[u8]); 6] = [
            ("provider", provider.as_bytes()),
            ("generation", b"1\n"),
            ("inblob", b""),
            ("outblob", &[7; LENGTH]),
            ("auxblob", table),
            ("manifestblob", b"manifest"),
        ];
        files.iter().for_each(|(name, bytes)| fs::write(folder.path().join(name), bytes).unwrap());
        folder
    }

    #[test]
    fn an_entry_of_configfs_is_read_with_its_certificate_table() {
        let table = include_bytes!("../../tests/certificate-tables/rfc4122-order.bin");
        let folder = entry("sev_guest\n", table);
        let snp = read_entry(folder.path(), &[3; 64]).unwrap();
        assert_eq!(fs::read(folder.path().join("inblob")).unwrap(), [3; 64]);
        assert_eq!(snp.report, [7; LENGTH]);
        let read = CertificateTable::parse(&snp.certificates).unwrap();
        assert_eq!(read.to_string(), "ARK, ASK, VCEK");
        // The evidence carries the same report.
        let evidence = Evidence::of(Collected::Snp(snp.clone()));
        assert_eq!(Evidence::parse(evidence.bytes()).unwrap().collected().snp(), Some(&snp));
        // A host without certificates leaves the attribute empty.
        let folder = entry("sev_guest\n", &[]);
        assert_eq!(read_entry(folder.path(), &[3; 64]).unwrap().certificates, [0; 0]);
    }

    #[test]
    fn another_provider_is_refused_by_name() {
        let folder = entry("tdx_guest\n", &[]);
        let error = read_entry(folder.path(), &[3; 64]).unwrap_err().to_string();
        assert_eq!(error, "configfs-tsm: provider \"tdx_guest\", required \"sev_guest\"");
        assert_eq!(fs::read(folder.path().join("inblob")).unwrap(), [0; 0], "nothing was asked of it");
    }

    #[test]
    fn a_service_is_asked_for_its_manifest() {
        let folder = entry("sev_guest\n", &[]);
        let svsm = read_service(folder.path(), &[3; 64]).unwrap();
        assert_eq!(svsm.manifest, b"manifest");
        let written = |file: &str| fs::read_to_string(folder.path().join(file)).unwrap();
        assert_eq!((written("service_provider").as_str(), written("service_guid").as_str()), ("svsm", VTPM_SERVICE));
    }
}
