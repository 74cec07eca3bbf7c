//! A folder of AMD's certificates and revocation lists. The Key Distribution Service
//! provides them slowly; a site without a network imports them from files.
//!
//! ```text
//! ca/NAME-SHA256.der          ASKs, ASVKs and ARKs
//! crl/NAME.der                the newest list of each root
//! vcek/HWID/TCB-SHA256.der    certificates of chips
//! vlek/SHA256.der             certificates of providers
//! ```
//!
//! Stored files have no more trust than files from a network: each verification builds
//! the chain to the roots again. Only revocation lists are verified on import, because
//! a forged list with a high number would displace a genuine one.
//!
//! ```
//! use portcullis_collateral::Store;
//!
//! let folder = std::env::temp_dir().join("portcullis-collateral-example");
//! assert!(Store::open(&folder).items().unwrap().is_empty());
//! ```

use std::ffi::OsStr;
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use der::pem::LineEnding;
use portcullis_attest::crypto::sha256;
use portcullis_attest::snp::certificate::Certificate;
use portcullis_attest::snp::collateral::{Collateral, CollateralError};
use portcullis_attest::snp::crl::Crl;
use portcullis_attest::snp::generation::Generation;
use portcullis_attest::snp::report::Report;
use portcullis_attest::snp::roots::Roots;
use portcullis_files::{make_folder, read_if_present, write_durably};
use portcullis_wire::hex::hex;

/// Maximum number of files in a store.
const MAX_FILES: usize = 100_000;

/// Why an item cannot be stored or read.
#[derive(Debug)]
pub enum StoreError {
    /// A file or folder cannot be read or written; the error names it.
    Io(io::Error),
    /// The content of a stored file does not match its path.
    Damaged(PathBuf, CollateralError),
    /// The input is not collateral.
    Collateral(CollateralError),
    /// A revocation list that no trusted root signed.
    UnsignedList,
    /// A revocation list with a lower number than the stored one.
    OlderList,
    /// A certificate that has no place in AMD's chains.
    Foreign(String),
    /// The store has more files than the maximum.
    TooMany,
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => error.fmt(f),
            Self::Damaged(path, error) => {
                let path = path.display();
                write!(f, "{path} is damaged ({error}): remove it, and fetch or import it again")
            }
            Self::Collateral(error) => error.fmt(f),
            Self::UnsignedList => f.write_str("a revocation list that no trusted root signed"),
            Self::OlderList => f.write_str("a revocation list that is older than the one at hand"),
            Self::Foreign(name) => write!(f, "{name}: no certificate of AMD's chains"),
            Self::TooMany => write!(f, "more than {MAX_FILES} files"),
        }
    }
}

impl std::error::Error for StoreError {}

impl From<io::Error> for StoreError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<CollateralError> for StoreError {
    fn from(error: CollateralError) -> Self {
        Self::Collateral(error)
    }
}

/// A stored item.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Item {
    /// A certificate.
    Certificate(Box<Certificate>),
    /// A revocation list, and the name of its root.
    Crl(String, Box<Crl>),
}

impl Item {
    /// Its name, for display.
    #[must_use]
    pub fn name(&self) -> String {
        match self {
            Self::Crl(name, _) => format!("CRL of {name}"),
            Self::Certificate(certificate) => match &certificate.amd.hwid {
                Some(hwid) => format!("{} of chip {}…", certificate.common_name, short(hwid)),
                None => certificate.common_name.clone(),
            },
        }
    }

    /// Its first and last second of validity, Unix time.
    #[must_use]
    pub fn validity(&self) -> (u64, u64) {
        match self {
            Self::Certificate(certificate) => (certificate.not_before, certificate.not_after),
            Self::Crl(_, crl) => (crl.this_update, crl.next_update),
        }
    }

    /// As received, DER.
    #[must_use]
    pub fn der(&self) -> &[u8] {
        match self {
            Self::Certificate(certificate) => certificate.der(),
            Self::Crl(_, crl) => crl.der(),
        }
    }

    /// As a PEM block.
    #[must_use]
    pub fn pem(&self) -> Option<String> {
        let label = match self {
            Self::Certificate(_) => "CERTIFICATE",
            Self::Crl(..) => "X509 CRL",
        };
        der::pem::encode_string(label, LineEnding::LF, self.der()).ok()
    }
}

fn short(hwid: &[u8]) -> String {
    hex(hwid.get(..8).unwrap_or(hwid))
}

/// A folder of collateral.
#[derive(Clone, Debug)]
pub struct Store {
    folder: PathBuf,
}

impl Store {
    /// Opens the store in a folder. The first import creates the folder.
    #[must_use]
    pub fn open(folder: &Path) -> Self {
        Self { folder: folder.to_owned() }
    }

    /// Stores the items of a file, and returns them.
    ///
    /// # Errors
    /// [`StoreError`]; then no item of the file was stored.
    pub fn import(&self, file: &[u8], roots: &Roots) -> Result<Vec<Item>, StoreError> {
        let collateral = Collateral::parse(file)?.strict()?;
        let mut items: Vec<(PathBuf, Item)> = Vec::new();
        for certificate in collateral.certificates {
            items.push((self.place(&certificate)?, Item::Certificate(Box::new(certificate))));
        }
        for crl in collateral.crls {
            let root = roots.named(&crl.issuer).filter(|root| crl.is_signed_by(root));
            let root = root.ok_or(StoreError::UnsignedList)?.common_name.clone();
            let path = self.folder.join("crl").join(format!("{}.der", file_name(&root)));
            // A damaged list is replaced: each verification checks dates and numbers again.
            if let Some(kept) = read_if_present(&path)?.and_then(|der| Crl::parse(&der).ok()) {
                let rank = |crl: &Crl| (crl.number.len(), crl.number.clone());
                if rank(&crl) < rank(&kept) {
                    return Err(StoreError::OlderList);
                }
            }
            items.push((path, Item::Crl(root, Box::new(crl))));
        }
        for (path, item) in &items {
            write(path, item.der())?;
        }
        Ok(items.into_iter().map(|(_, item)| item).collect())
    }

    /// The path of a certificate in the store.
    fn place(&self, certificate: &Certificate) -> Result<PathBuf, StoreError> {
        let digest = hex(&sha256(&[certificate.der()]));
        let name = certificate.common_name.as_str();
        let (part, file) = match (name, &certificate.amd.hwid, certificate.amd.tcb()) {
            ("SEV-VCEK", Some(hwid), Some(tcb)) => {
                let levels = [tcb.fmc.unwrap_or(0), tcb.boot_loader, tcb.tee, tcb.snp, tcb.microcode];
                (Path::new("vcek").join(hex(hwid)), format!("{}-{digest}.der", hex(&levels)))
            }
            ("SEV-VLEK", ..) => (PathBuf::from("vlek"), format!("{digest}.der")),
            _ if name.starts_with("SEV-") || name.starts_with("ARK-") => {
                (PathBuf::from("ca"), format!("{}-{digest}.der", file_name(name)))
            }
            _ => return Err(StoreError::Foreign(name.to_owned())),
        };
        Ok(self.folder.join(part).join(file))
    }

    /// All stored items, in the order of the file names.
    ///
    /// # Errors
    /// [`StoreError`], also if the content of a file does not match its path.
    pub fn items(&self) -> Result<Vec<Item>, StoreError> {
        let mut items = Vec::new();
        for part in ["ca", "crl", "vlek"] {
            read_folder(&self.folder.join(part), &mut items)?;
        }
        for chip in entries(&self.folder.join("vcek"))? {
            read_folder(&chip, &mut items)?;
        }
        Ok(items)
    }

    /// Collateral for the verification of a report: all issuers and lists, the certificates
    /// of its chip, and all VLEKs, because a VLEK does not name a chip.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn collateral_for(&self, report: &Report) -> Result<Collateral, StoreError> {
        let mut items = Vec::new();
        for part in ["ca", "crl", "vlek"] {
            read_folder(&self.folder.join(part), &mut items)?;
        }
        // Turin's certificates contain eight bytes of the chip id.
        for length in [64, 8] {
            let hwid = report.chip_id.get(..length).unwrap_or_default();
            read_folder(&self.folder.join("vcek").join(hex(hwid)), &mut items)?;
        }
        let mut collateral = Collateral::default();
        for item in items {
            match item {
                Item::Certificate(certificate) => collateral.certificates.push(*certificate),
                Item::Crl(_, crl) => collateral.crls.push(*crl),
            }
        }
        Ok(collateral)
    }

    /// Whether the store has the certificate of a report's key, for its TCB.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn has_vcek(&self, report: &Report, generation: Generation) -> Result<bool, StoreError> {
        let tcb = report.reported_tcb.decode(generation);
        let kept = self.collateral_for(report)?.certificates;
        Ok(kept.iter().any(|c| c.common_name == "SEV-VCEK" && c.amd.tcb() == Some(tcb)))
    }
}

/// Uses the name of a certificate as a file name only if it is harmless.
fn file_name(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' }).take(64).collect()
}

/// Writes a file, unless it exists.
fn write(path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
    if read_if_present(path)?.is_some_and(|kept| kept == bytes) {
        return Ok(());
    }
    if let Some(folder) = path.parent() {
        make_folder(folder)?;
    }
    Ok(write_durably(path, bytes)?)
}

/// The entries of a folder, sorted; empty if the folder does not exist.
fn entries(folder: &Path) -> Result<Vec<PathBuf>, StoreError> {
    let failed = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", folder.display()));
    let list = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.map_err(failed)?,
    };
    let mut paths = list.map(|entry| entry.map(|e| e.path())).collect::<Result<Vec<_>, _>>().map_err(failed)?;
    if paths.len() > MAX_FILES {
        return Err(StoreError::TooMany);
    }
    paths.sort();
    Ok(paths)
}

fn read_folder(folder: &Path, items: &mut Vec<Item>) -> Result<(), StoreError> {
    for path in entries(folder)?.into_iter().filter(|path| path.extension() == Some(OsStr::new("der"))) {
        // Skips a file that was removed after the folder was listed.
        let Some(bytes) = read_if_present(&path)? else { continue };
        let parsed = Collateral::parse(&bytes).and_then(Collateral::strict);
        let collateral = parsed.map_err(|error| StoreError::Damaged(path.clone(), error))?;
        let root = path.file_stem().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        items.extend(collateral.certificates.into_iter().map(|c| Item::Certificate(Box::new(c))));
        items.extend(collateral.crls.into_iter().map(|crl| Item::Crl(root.clone(), Box::new(crl))));
    }
    Ok(())
}
