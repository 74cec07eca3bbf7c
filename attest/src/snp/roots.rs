//! The trusted roots of the chain: AMD's pinned ARKs, or roots that a caller names.

use std::sync::{Arc, LazyLock, OnceLock};

use super::certificate::{Certificate, CertificateError};
use super::generation::Generation;
use crate::crypto::sha256;
use portcullis_wire::hex::hex;

const ARKS: [&[u8]; 3] =
    [include_bytes!("amd/ark-milan.der"), include_bytes!("amd/ark-genoa.der"), include_bytes!("amd/ark-turin.der")];

/// AMD's ASKs: included to save a request, trusted only through an ARK.
const ASKS: [&[u8]; 3] =
    [include_bytes!("amd/ask-milan.der"), include_bytes!("amd/ask-genoa.der"), include_bytes!("amd/ask-turin.der")];

/// The origin of the roots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RootSource {
    /// AMD's ARKs, pinned in this crate.
    Amd,
    /// Named by the caller: a policy bundle, or an auditor's command line.
    Given,
}

impl RootSource {
    /// `amd` or `given`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Amd => "amd",
            Self::Given => "given",
        }
    }
}

/// The trusted root certificates.
#[derive(Clone, Debug)]
pub struct Roots {
    source: RootSource,
    arks: Vec<Certificate>,
    /// Whether each is self-signed, computed once for all clones.
    self_signed: Arc<[OnceLock<bool>]>,
}

static AMD: LazyLock<Result<Roots, CertificateError>> = LazyLock::new(|| {
    let arks = ARKS.into_iter().map(Certificate::parse).collect::<Result<_, _>>()?;
    Ok(Roots::of(RootSource::Amd, arks))
});

impl Roots {
    /// AMD's ARKs for Milan, Genoa and Turin.
    ///
    /// # Errors
    /// None in a sound build; the pinned data goes through the same parser.
    pub fn amd() -> Result<Self, CertificateError> {
        AMD.clone()
    }

    fn of(source: RootSource, arks: Vec<Certificate>) -> Self {
        let self_signed = arks.iter().map(|_| OnceLock::new()).collect();
        Self { source, arks, self_signed }
    }

    /// Exactly these roots, without AMD's.
    #[must_use]
    pub fn given(arks: Vec<Certificate>) -> Self {
        Self::of(RootSource::Given, arks)
    }

    /// The origin of the roots.
    #[must_use]
    pub const fn source(&self) -> RootSource {
        self.source
    }

    /// All roots.
    #[must_use]
    pub fn arks(&self) -> &[Certificate] {
        &self.arks
    }

    /// The root with this subject name (DER).
    #[must_use]
    pub fn named(&self, subject: &[u8]) -> Option<&Certificate> {
        self.arks.iter().find(|ark| ark.subject == subject)
    }

    /// Whether a root of this set is self-signed.
    #[must_use]
    pub fn signed_itself(&self, root: &Certificate) -> bool {
        let mut known = self.arks.iter().zip(self.self_signed.iter());
        known.find(|(ark, _)| *ark == root).is_some_and(|(ark, once)| *once.get_or_init(|| ark.is_signed_by(ark)))
    }

    /// SHA-256 fingerprints, for messages.
    #[must_use]
    pub fn describe(&self) -> String {
        let list: Vec<String> =
            self.arks.iter().map(|ark| format!("{} sha256 {}", ark.common_name, fingerprint(ark))).collect();
        list.join(", ")
    }
}

/// AMD's known ASKs.
#[must_use]
pub fn known_asks() -> &'static [Certificate] {
    static KNOWN: LazyLock<Vec<Certificate>> =
        LazyLock::new(|| ASKS.into_iter().filter_map(|der| Certificate::parse(der).ok()).collect());
    &KNOWN
}

/// SHA-256 over the certificate, in hex.
#[must_use]
pub fn fingerprint(certificate: &Certificate) -> String {
    hex(&sha256(&[certificate.der()]))
}

/// The generation in an ARK's name.
#[must_use]
pub fn generation_of(ark: &Certificate) -> Option<Generation> {
    Generation::from_name(ark.common_name.strip_prefix("ARK-")?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pins_one_self_signed_ark_a_generation() {
        let roots = Roots::amd().unwrap();
        let generations: Vec<_> = roots.arks().iter().map(generation_of).collect();
        assert_eq!(generations, Generation::ALL.map(Some));
        for ark in roots.arks() {
            assert!(ark.is_signed_by(ark), "{}", ark.common_name);
        }
        assert_eq!(known_asks().len(), 3);
        for ask in known_asks() {
            assert!(ask.is_signed_by(roots.named(&ask.issuer).unwrap()), "{}", ask.common_name);
        }
    }
}
