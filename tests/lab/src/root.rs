//! The lab's own root of trust: ARK, ASK, ASVK and CRL for one generation.
//!
//! It is trusted only where a bundle names it, and its names mark it as the lab's.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::rsa::KeyPair;
use portcullis_attest::snp::generation::Generation;

use crate::x509::{self, Issuer};

/// Keys and certificates of an emulated manufacturer.
pub struct LabRoot {
    generation: Generation,
    pub(crate) ark: Issuer,
    pub(crate) ask: Issuer,
    pub(crate) asvk: Issuer,
}

impl LabRoot {
    /// Opens the root in a folder, making it if it is not there. Making takes
    /// seconds: three RSA-4096 keys.
    ///
    /// # Errors
    /// I/O and cryptography.
    pub fn open(folder: &Path, generation: Generation) -> Result<Self> {
        let name = generation.name();
        fs::create_dir_all(folder)?;
        let lock = fs::File::create(folder.join("lock"))?;
        lock.lock()?;
        let key = |file: &str| -> Result<KeyPair> {
            let path = folder.join(format!("{file}-{name}.p8"));
            if let Ok(bytes) = fs::read(&path) {
                return KeyPair::from_pkcs8(&bytes).with_context(|| path.display().to_string());
            }
            let key = Issuer::generate()?;
            let pkcs8: aws_lc_rs::encoding::Pkcs8V1Der<'_> = key.as_der()?;
            fs::write(&path, pkcs8.as_ref())?;
            Ok(key)
        };
        // PSS signatures are random. Signed certificates are kept, so that the root stays the
        // one that the bundle names.
        let issuer = |file: &str, subject: String, serial: [u8; 3], parent: Option<&Issuer>| -> Result<Issuer> {
            let path = folder.join(format!("{file}-{name}.der"));
            let key = key(file)?;
            if let Ok(certificate) = fs::read(&path) {
                return Ok(Issuer { key, name: subject, certificate });
            }
            let made = x509::authority(&subject, &serial, key, parent)?;
            fs::write(&path, &made.certificate)?;
            Ok(made)
        };
        let ark = issuer("ark", format!("ARK-{name}"), [1, 0, 0], None)?;
        let ask = issuer("ask", format!("SEV-{name}"), [1, 0, 1], Some(&ark))?;
        let asvk = issuer("asvk", format!("SEV-VLEK-{name}"), [1, 1, 1], Some(&ark))?;
        Ok(Self { generation, ark, ask, asvk })
    }

    /// The generation.
    #[must_use]
    pub const fn generation(&self) -> Generation {
        self.generation
    }

    /// The root certificate, DER.
    #[must_use]
    pub fn ark(&self) -> &[u8] {
        &self.ark.certificate
    }

    /// The ASK, DER.
    #[must_use]
    pub fn ask(&self) -> &[u8] {
        &self.ask.certificate
    }

    /// The ASVK, DER.
    #[must_use]
    pub fn asvk(&self) -> &[u8] {
        &self.asvk.certificate
    }

    /// A CRL with these serial numbers, valid in the window or from 2020 to 2045.
    ///
    /// # Errors
    /// Encoding and cryptography.
    pub fn crl(&self, number: u8, revoked: &[&[u8]], window: Option<(u64, u64)>) -> Result<Vec<u8>> {
        x509::crl(&self.ark, number, revoked, window)
    }
}
