//! Verifies the bytes of a report; the result is a [`VerifiedSnpReport`].
//!
//! The steps, in the order in which their checks are recorded:
//!
//! 1. form of the report (`snp.length` … `snp.signature.form`)
//! 2. the signing key that the report names (`snp.signing_key`, `snp.chip_key`)
//! 3. the host's certificates with that of the endorsement key, and its chain to a
//!    pinned root (`snp.certificates`, `snp.vek` … `snp.chain.vek`)
//! 4. validity at the given time, and revocation (`snp.validity`, `snp.crl`, `snp.revoked`)
//! 5. chip and patch level in certificate and report (`snp.product` … `snp.tcb.certificate`)
//! 6. the signature over the report (`snp.signature`)
//!
//! Whether the machine should be trusted is not judged here: that is appraisal, in
//! `portcullis-firmware-policy`.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::certificate::{Authority, Certificate, PublicKey};
use super::chip::{check_same_chip, named_tcbs};
use super::collateral::Collateral;
use super::crl::{Crl, window};
use super::fields::SigningKey;
use super::generation::Generation;
pub use super::presented::Presented;
use super::report::Report;
use super::roots::{Roots, fingerprint, generation_of, known_asks};
use super::tcb::Tcb;
use crate::check::Checks;
use crate::crypto::{PreparedP384, sha256};
use portcullis_wire::hex::hex;
use portcullis_wire::rfc3339;

/// AMD's signing keys are RSA-4096.
const ISSUER_BITS: usize = 4096;
/// Largest number of verified chains in the cache; one per chip that is seen often.
const CACHE_LIMIT: usize = 4096;

/// A report whose signature, chain, validity, revocation status and chip
/// identity were verified. Only [`SnpVerifier::verify`] makes one.
#[derive(Clone, Debug)]
pub struct VerifiedSnpReport {
    report: Report,
    generation: Generation,
    signing_key: SigningKey,
    vek_key_digest: [u8; 32],
    csp_id: Option<String>,
}

impl VerifiedSnpReport {
    /// The fields.
    #[must_use]
    pub const fn report(&self) -> &Report {
        &self.report
    }

    /// The generation of the root at which the chain ends.
    #[must_use]
    pub const fn generation(&self) -> Generation {
        self.generation
    }

    /// VCEK or VLEK.
    #[must_use]
    pub const fn signing_key(&self) -> SigningKey {
        self.signing_key
    }

    /// SHA-256 of the endorsement key's public point, by which bundles revoke it.
    #[must_use]
    pub const fn vek_key_digest(&self) -> &[u8; 32] {
        &self.vek_key_digest
    }

    /// The cloud provider of a VLEK.
    #[must_use]
    pub fn csp_id(&self) -> Option<&str> {
        self.csp_id.as_deref()
    }

    /// Current, committed, reported and launch TCB, decoded.
    #[must_use]
    pub fn tcbs(&self) -> [(&'static str, Tcb); 4] {
        named_tcbs(&self.report, self.generation)
    }
}

/// Verifies reports against one set of roots and collateral.
pub struct SnpVerifier {
    roots: Roots,
    issuers: Vec<Certificate>,
    crls: Vec<JudgedCrl>,
    cache: Mutex<HashMap<[u8; 32], Arc<Endorsement>>>,
    /// Seconds by which an issuer's clock may be ahead.
    skew: u64,
}

struct JudgedCrl {
    crl: Crl,
    signed_by_root: bool,
}

/// An endorsement key, with the checks of its chain that do not depend on time.
struct Endorsement {
    vek: Certificate,
    vek_key_digest: [u8; 32],
    key: Option<PreparedP384>,
    issuer: Option<Certificate>,
    root: Option<Certificate>,
    generation: Option<Generation>,
    checks: Checks,
}

impl SnpVerifier {
    /// A verifier with these roots, and with certificates and CRLs that reports need not
    /// carry. AMD's own ASKs are always included.
    #[must_use]
    pub fn new(roots: Roots, collateral: Collateral) -> Self {
        let crls = collateral
            .crls
            .into_iter()
            .map(|crl| JudgedCrl {
                signed_by_root: roots.named(&crl.issuer).is_some_and(|root| crl.is_signed_by(root)),
                crl,
            })
            .collect();
        let mut issuers = collateral.certificates;
        issuers.extend_from_slice(known_asks());
        Self { roots, issuers, crls, cache: Mutex::default(), skew: 0 }
    }

    /// Accepts certificates and lists this many seconds before they begin, because the
    /// clock of their issuer may be ahead. Ends stay exact.
    #[must_use]
    pub fn tolerating(self, skew: u64) -> Self {
        Self { skew, ..self }
    }

    /// The roots.
    #[must_use]
    pub const fn roots(&self) -> &Roots {
        &self.roots
    }

    /// The newest list of `earlier`, if this verifier has only older ones or none: CRL
    /// numbers never decrease (RFC 5280 §5.2.3).
    #[must_use]
    pub fn older_crl(&self, earlier: &Self) -> Option<String> {
        let rank = |crl: &Crl| (crl.number.len(), crl.number.clone());
        let newest = |crls: &[JudgedCrl], issuer: &[u8]| {
            crls.iter().filter(|c| c.signed_by_root && c.crl.issuer == issuer).map(|c| rank(&c.crl)).max()
        };
        let signed = earlier.crls.iter().filter(|c| c.signed_by_root);
        let lost = signed.map(|c| &c.crl).find(|crl| newest(&self.crls, &crl.issuer) < Some(rank(crl)));
        lost.map(|crl| format!("CRL number 0x{}", hex(&crl.number)))
    }

    /// When the revocation lists of a generation's roots expire, Unix seconds; `None` if
    /// there is no list that such a root signed.
    #[must_use]
    pub fn lists_until(&self, generation: Generation) -> Option<u64> {
        let of_generation = |crl: &Crl| self.roots.named(&crl.issuer).and_then(generation_of) == Some(generation);
        let lists = self.crls.iter().filter(|c| c.signed_by_root && of_generation(&c.crl));
        lists.map(|c| c.crl.next_update).max()
    }

    /// Verifies a report at a time (Unix seconds), recording every check.
    ///
    /// Returns a value only if every check passed: a missing input is a refusal too.
    pub fn verify(
        &self,
        report: &[u8],
        presented: Presented<'_>,
        at: u64,
        checks: &mut Checks,
    ) -> Option<VerifiedSnpReport> {
        let report = Report::parse(report, checks)?;
        check_signing_key(&report, checks);
        let signing_key = report.key_info.signing_key();
        let endorsement = self.endorsement(&report, presented, checks)?;
        checks.extend(&endorsement.checks);
        self.check_time(&endorsement, at, checks);
        if let Some(generation) = endorsement.generation {
            check_same_chip(&report, &endorsement.vek.amd, generation, checks);
        }
        check_signature(&report, &endorsement, checks);

        let generation = endorsement.generation?;
        checks.passed().then(|| VerifiedSnpReport {
            generation,
            signing_key,
            vek_key_digest: endorsement.vek_key_digest,
            csp_id: endorsement.vek.amd.csp_id.clone(),
            report,
        })
    }

    /// Step 3: the certificate of the key that the report names.
    fn endorsement(&self, report: &Report, presented: Presented<'_>, checks: &mut Checks) -> Option<Arc<Endorsement>> {
        let id = presented.id(report);
        if let Some(known) = id.and_then(|id| self.cached(&id)) {
            return Some(known);
        }
        let mut own = Checks::all();
        let table = presented.check_table(&mut own);
        let certificates = [table.certificates(), presented.collected()].concat();
        let kind = report.key_info.signing_key();
        let Some(vek) = self.select(report, kind, &certificates, &mut own) else {
            checks.extend(&own);
            return None;
        };
        let endorsement = Arc::new(self.endorse(vek, kind, &certificates, own));
        if let Some(id) = id.filter(|_| endorsement.checks.passed()) {
            self.keep(id, &endorsement);
        }
        Some(endorsement)
    }

    fn cached(&self, id: &[u8; 32]) -> Option<Arc<Endorsement>> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner).get(id).cloned()
    }

    /// Caches a chain that passed. A full cache is emptied, so a flood of chains costs time
    /// and never memory.
    fn keep(&self, id: [u8; 32], endorsement: &Arc<Endorsement>) {
        let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        if cache.len() >= CACHE_LIMIT {
            cache.clear();
        }
        cache.insert(id, Arc::clone(endorsement));
    }

    /// Chooses among several certificates for the key, since KDS re-issues them: the one
    /// that matches chip and TCB, otherwise the first.
    fn select(
        &self,
        report: &Report,
        kind: SigningKey,
        certificates: &[Certificate],
        checks: &mut Checks,
    ) -> Option<Certificate> {
        let name = match kind {
            SigningKey::Vcek => "SEV-VCEK",
            SigningKey::Vlek => "SEV-VLEK",
            SigningKey::None | SigningKey::Reserved(_) => return None,
        };
        let candidates = || certificates.iter().chain(&self.issuers).filter(|c| c.common_name == name);
        let fits = |c: &&Certificate| {
            let same_chip = c.amd.hwid.as_deref().is_none_or(|hwid| report.chip_id.starts_with(hwid));
            let generation =
                Generation::ALL.into_iter().find(|g| c.amd.product.as_deref().is_some_and(|p| p.starts_with(g.name())));
            let same_tcb = generation.is_some_and(|g| c.amd.tcb() == Some(report.reported_tcb.decode(g)));
            same_chip && same_tcb
        };
        let chosen = candidates().find(fits).or_else(|| candidates().next());
        if chosen.is_none() {
            checks.missing("snp.vek", format!("a {name} certificate"), "certificate of the key that signed the report");
        }
        chosen.cloned()
    }

    /// Checks the chain from the key to a root, except for checks that depend on time.
    fn endorse(
        &self,
        vek: Certificate,
        kind: SigningKey,
        presented: &[Certificate],
        mut checks: Checks,
    ) -> Endorsement {
        let issuer = presented.iter().chain(&self.issuers).find(|c| c.subject == vek.issuer).cloned();
        let root = issuer.as_ref().and_then(|issuer| self.roots.named(&issuer.issuer)).cloned();
        let generation = root.as_ref().and_then(generation_of);
        let point = match &vek.key {
            PublicKey::P384(point) => Some(point),
            PublicKey::Rsa { .. } => None,
        };

        checks.require(
            "snp.vek.profile",
            point.is_some() && vek.authority == Authority::EndEntity && vek.signs_reports && vek.amd.tcb().is_some(),
            || describe_profile(&vek),
            || "P-384 end entity that may sign, with AMD's TCB extensions".into(),
            "profile of the endorsement key's certificate",
        );
        match &issuer {
            None => checks.missing("snp.issuer", "the ASK or ASVK that issued it", "issuer of the endorsement key"),
            Some(issuer) => {
                self.check_issuer(issuer, kind, root.as_ref(), presented, &mut checks);
                checks.require(
                    "snp.chain.vek",
                    vek.is_signed_by(issuer),
                    || "signature of the endorsement key's certificate".into(),
                    || format!("signed by {}", issuer.common_name),
                    "signature of the issuer over the endorsement key",
                );
            }
        }
        Endorsement {
            vek_key_digest: sha256(&[point.map_or(&[][..], Vec::as_slice)]),
            key: point.and_then(|point| PreparedP384::new(point)),
            vek,
            issuer,
            root,
            generation,
            checks,
        }
    }

    fn check_issuer(
        &self,
        issuer: &Certificate,
        kind: SigningKey,
        root: Option<&Certificate>,
        presented: &[Certificate],
        checks: &mut Checks,
    ) {
        let prefix = if kind == SigningKey::Vlek { "SEV-VLEK-" } else { "SEV-" };
        let generation = issuer.common_name.strip_prefix(prefix).and_then(Generation::from_name);
        let is_ca = issuer.authority == Authority::Ca;
        let is_rsa_4096 = matches!(issuer.key, PublicKey::Rsa { bits: ISSUER_BITS, .. });
        checks.require(
            "snp.issuer.profile",
            generation.is_some() && generation == root.and_then(generation_of) && is_ca && is_rsa_4096,
            || describe_profile(issuer),
            || format!("{prefix}<product of the root>, a CA with RSA-4096"),
            "name, CA flag and key size of the ASK or ASVK",
        );
        // A presented root that is not the pinned one means a foreign chain, whatever its
        // name.
        let foreign = presented.iter().find(|c| c.subject == issuer.issuer && Some(*c) != root);
        checks.require(
            "snp.root",
            root.is_some() && foreign.is_none(),
            || match (foreign, root) {
                (Some(other), _) => format!("{} sha256 {}", other.common_name, fingerprint(other)),
                (None, Some(root)) => format!("{} sha256 {}", root.common_name, fingerprint(root)),
                (None, None) => "an issuer under no trusted root".into(),
            },
            || self.roots.describe(),
            "the chain ends at a trusted root",
        );
        if let Some(root) = root {
            let sound = root.authority == Authority::Ca && matches!(root.key, PublicKey::Rsa { bits: ISSUER_BITS, .. });
            checks.require(
                "snp.root.profile",
                sound && self.roots.signed_itself(root),
                || describe_profile(root),
                || "a self-signed CA with RSA-4096".into(),
                "CA flag, key size and self-signature of the root",
            );
            checks.require(
                "snp.chain.issuer",
                issuer.is_signed_by(root),
                || format!("signature of {}", issuer.common_name),
                || format!("signed by {}", root.common_name),
                "signature of the root over the ASK or ASVK",
            );
        }
    }

    /// Step 4: validity and revocation at the given time.
    fn check_time(&self, endorsement: &Endorsement, at: u64, checks: &mut Checks) {
        let chain = [Some(&endorsement.vek), endorsement.issuer.as_ref(), endorsement.root.as_ref()];
        let outside = chain.into_iter().flatten().find(|certificate| !certificate.is_valid_at(at, self.skew));
        checks.require(
            "snp.validity",
            outside.is_none(),
            || match outside {
                None => format!("valid at {}", rfc3339(at)),
                Some(c) => format!("{} is valid from {}", c.common_name, window(c.not_before, c.not_after)),
            },
            || format!("every certificate of the chain valid at {}", rfc3339(at)),
            "validity of the chain",
        );
        let (Some(root), Some(issuer)) = (&endorsement.root, &endorsement.issuer) else { return };
        let of_root: Vec<&JudgedCrl> = self.crls.iter().filter(|c| c.crl.issuer == root.subject).collect();
        let signed = || of_root.iter().filter(|c| c.signed_by_root).map(|c| &c.crl);
        let required = || format!("a CRL of {}, signed by it and current at {}", root.common_name, rfc3339(at));
        match (signed().find(|crl| crl.is_current_at(at, self.skew)), signed().next(), of_root.first()) {
            (Some(current), ..) => {
                let found = || format!("CRL number 0x{}, {}", hex(&current.number), current.window());
                checks.require("snp.crl", true, found, required, "a current revocation list");
            }
            (None, Some(stale), _) => checks.missing(
                "snp.crl",
                format!("{}; the one at hand covers {}", required(), stale.window()),
                "a current revocation list",
            ),
            (None, None, Some(_)) => {
                checks.require(
                    "snp.crl",
                    false,
                    || "a CRL with a wrong signature".into(),
                    required,
                    "a current revocation list",
                );
            }
            (None, None, None) => checks.missing("snp.crl", required(), "a current revocation list"),
        }
        // Revocation does not expire: a stale list that names the issuer still counts.
        if of_root.iter().any(|c| c.signed_by_root) {
            let revoked = [issuer, &endorsement.vek].into_iter().find(|c| signed().any(|crl| crl.lists(c)));
            checks.require(
                "snp.revoked",
                revoked.is_none(),
                || revoked.map_or_else(|| "none".into(), |c| format!("{} serial {}", c.common_name, hex(&c.serial))),
                || "no certificate of the chain".into(),
                "certificates listed as revoked",
            );
        }
    }
}

/// Step 2: the signing key, and whether chip id and key were masked.
fn check_signing_key(report: &Report, checks: &mut Checks) {
    let key = report.key_info.signing_key();
    checks.require(
        "snp.signing_key",
        matches!(key, SigningKey::Vcek | SigningKey::Vlek),
        || key.describe(),
        || "VCEK or VLEK".into(),
        "key that signed the report",
    );
    let masked = report.key_info.chip_key_masked();
    checks.require(
        "snp.chip_key",
        !masked,
        || if masked { "masked".into() } else { "not masked".into() },
        || "not masked".into(),
        "MASK_CHIP_KEY",
    );
}

/// Step 6.
fn check_signature(report: &Report, endorsement: &Endorsement, checks: &mut Checks) {
    let Some(signature) = report.signature_big_endian() else { return };
    let holds = endorsement.key.as_ref().is_some_and(|key| key.verifies(report.signed_bytes(), &signature));
    checks.require(
        "snp.signature",
        holds,
        || if holds { "valid".into() } else { "invalid".into() },
        || "valid under the endorsement key".into(),
        "ECDSA P-384 over bytes 0 to 0x29F",
    );
}

fn describe_profile(certificate: &Certificate) -> String {
    let key = match &certificate.key {
        PublicKey::Rsa { bits, .. } => format!("RSA-{bits}"),
        PublicKey::P384(_) => "P-384".into(),
    };
    let role = match certificate.authority {
        Authority::Ca => "CA",
        Authority::Contradictory => "CA that may not sign certificates",
        Authority::EndEntity if certificate.signs_reports => "end entity",
        Authority::EndEntity => "end entity that may not sign",
    };
    let tcb = if certificate.amd.tcb().is_some() { " with TCB extensions" } else { "" };
    format!("{}, {key} {role}{tcb}", certificate.common_name)
}
