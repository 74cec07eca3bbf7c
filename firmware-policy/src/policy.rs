//! The meaning of a bundle: domain types, each checked once when it is read.

use std::collections::BTreeMap;

use portcullis_attest::binding::Role;
use portcullis_attest::evidence::EvidenceClass;
use portcullis_attest::snp::generation::Generation;
use portcullis_attest::snp::tcb::Tcb;
use portcullis_attest::tpm::pcr::Selection;
use portcullis_permit::DynamicLinking;
use portcullis_wire::Digest;
use portcullis_wire::hex::{unhex, unhex_array};

use crate::bundle::BundleError;
use crate::document::{self, Coverage, Document, Linking, Requirement, RoleName};

/// A rule for a field of fixed size. Leaving a field open is a named choice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FieldRule<const N: usize> {
    /// Any value.
    Any,
    /// Exactly this value.
    Exactly([u8; N]),
}

impl<const N: usize> FieldRule<N> {
    fn parse(field: &'static str, text: &str) -> Result<Self, BundleError> {
        if text == "any" {
            return Ok(Self::Any);
        }
        unhex_array(text).map(Self::Exactly).ok_or_else(|| BundleError::value(field, text))
    }

    /// Whether a value fits.
    #[must_use]
    pub fn admits(&self, value: &[u8; N]) -> bool {
        match self {
            Self::Any => true,
            Self::Exactly(required) => required == value,
        }
    }

    /// The required value, if there is one.
    #[must_use]
    pub const fn required(&self) -> Option<[u8; N]> {
        match self {
            Self::Any => None,
            Self::Exactly(value) => Some(*value),
        }
    }
}

/// Reference values of one image.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "as in the document")]
pub struct Reference {
    pub name: String,
    pub role: Role,
    pub measurement: [u8; 48],
    pub vmpl: u32,
    pub host_data: FieldRule<32>,
    pub id_key_digest: FieldRule<48>,
    pub author_key_digest: FieldRule<48>,
    pub guest_svn: u32,
    pub pcrs: BTreeMap<u8, Digest>,
}

/// An enrolled node.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "as in the document")]
pub struct Node {
    pub name: String,
    pub chip_id: Option<[u8; 64]>,
    pub ak_name: Option<Vec<u8>>,
    pub ek: Option<Digest>,
    pub minimum_class: EvidenceClass,
    pub tags: Vec<String>,
}

/// A workload that may be asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "as in the document")]
pub struct KnownWorkload {
    pub name: String,
    pub digest: Digest,
    pub arguments: FieldRule<32>,
    pub environment: FieldRule<32>,
    pub linking: DynamicLinking,
}

/// Everything that a bundle says, but its Cedar policies and collateral.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "as in the document")]
pub struct Policy {
    pub version: u64,
    pub predecessor: Option<Digest>,
    pub not_before: u64,
    pub expires: u64,
    pub lease_seconds: u64,
    pub status_seconds: u64,
    pub distrusted_generations: Vec<Generation>,
    pub distrusted_veks: Vec<Digest>,
    pub distrusted_chips: Vec<[u8; 64]>,
    pub platform: document::Platform,
    pub floors: BTreeMap<Generation, Tcb>,
    pub references: Vec<Reference>,
    pub nodes: BTreeMap<String, Node>,
    pub workloads: BTreeMap<Digest, KnownWorkload>,
    selections: [Selection; 2],
}

impl Policy {
    /// Reads the meaning of a document.
    ///
    /// # Errors
    /// [`BundleError`] naming the key.
    pub fn read(document: &Document) -> Result<Self, BundleError> {
        let limits = document.limits;
        if !(2..=3600).contains(&limits.lease_seconds) {
            return Err(BundleError::value("limits.lease_seconds", &limits.lease_seconds.to_string()));
        }
        if !(1..=limits.lease_seconds).contains(&limits.status_seconds) {
            return Err(BundleError::value("limits.status_seconds", &limits.status_seconds.to_string()));
        }
        let references: Vec<Reference> = document.references.iter().map(reference).collect::<Result<_, _>>()?;
        let (not_before, expires) = (time("not_before", &document.not_before)?, time("expires", &document.expires)?);
        if not_before >= expires {
            return Err(BundleError::value("expires", &document.expires));
        }
        Ok(Self {
            version: document.version,
            predecessor: document.predecessor.as_ref().map(|text| fixed("predecessor", text)).transpose()?,
            not_before,
            expires,
            lease_seconds: limits.lease_seconds,
            status_seconds: limits.status_seconds,
            distrusted_generations: list("distrust.generations", &document.distrust.generations, |text| {
                Generation::from_name(text)
            })?,
            distrusted_veks: list("distrust.veks", &document.distrust.veks, unhex_array)?,
            distrusted_chips: list("distrust.chips", &document.distrust.chips, unhex_array)?,
            platform: document.platform,
            floors: unique("floor", document.floors.iter().map(floor))?,
            selections: [selection(&references, Role::Authority)?, selection(&references, Role::Node)?],
            references,
            nodes: unique("node", document.nodes.iter().map(node))?,
            workloads: unique("workload", document.workloads.iter().map(workload))?,
        })
    }

    /// The PCRs that a machine in this role must quote: those of its reference
    /// values, SHA-256 bank, ascending.
    #[must_use]
    pub const fn selection(&self, role: Role) -> &Selection {
        let [authority, node] = &self.selections;
        match role {
            Role::Authority => authority,
            Role::Node => node,
        }
    }
}

/// Whether a required property holds.
#[must_use]
pub(crate) const fn satisfied(requirement: Requirement, holds: bool) -> bool {
    match requirement {
        Requirement::Required => holds,
        Requirement::Optional => true,
    }
}

fn time(field: &'static str, text: &str) -> Result<u64, BundleError> {
    let parsed: Option<jiff::Timestamp> = text.parse().ok();
    parsed.and_then(|t| u64::try_from(t.as_second()).ok()).ok_or_else(|| BundleError::value(field, text))
}

fn fixed<const N: usize>(field: &'static str, text: &str) -> Result<[u8; N], BundleError> {
    unhex_array(text).ok_or_else(|| BundleError::value(field, text))
}

fn list<T>(field: &'static str, texts: &[String], read: impl Fn(&str) -> Option<T>) -> Result<Vec<T>, BundleError> {
    texts.iter().map(|text| read(text).ok_or_else(|| BundleError::value(field, text))).collect()
}

fn unique<K: Ord, V>(
    field: &'static str,
    items: impl Iterator<Item = Result<(K, V), BundleError>>,
) -> Result<BTreeMap<K, V>, BundleError> {
    let mut map = BTreeMap::new();
    for item in items {
        let (key, value) = item?;
        if map.insert(key, value).is_some() {
            return Err(BundleError::value(field, "listed twice"));
        }
    }
    Ok(map)
}

fn floor(floor: &document::Floor) -> Result<(Generation, Tcb), BundleError> {
    let generation = Generation::from_name(&floor.generation)
        .ok_or_else(|| BundleError::value("floor.generation", &floor.generation))?;
    if floor.fmc.is_some() != (generation == Generation::Turin) {
        return Err(BundleError::value("floor.fmc", &floor.generation));
    }
    let document::Floor { fmc, boot_loader, tee, snp, microcode, .. } = *floor;
    Ok((generation, Tcb { fmc, boot_loader, tee, snp, microcode }))
}

fn reference(reference: &document::Reference) -> Result<Reference, BundleError> {
    // A measurement of firmware alone admits any kernel behind it.
    if reference.covers == Coverage::Firmware {
        return Err(BundleError::value("reference.covers", "firmware"));
    }
    let pcrs = reference.pcrs.iter().map(|(pcr, value)| {
        let number: Option<u8> = pcr.parse().ok().filter(|n: &u8| *n < 24 && n.to_string() == *pcr);
        let number = number.ok_or_else(|| BundleError::value("reference.pcrs", pcr))?;
        Ok((number, fixed("reference.pcrs", value)?))
    });
    Ok(Reference {
        name: reference.name.clone(),
        role: match reference.role {
            RoleName::Authority => Role::Authority,
            RoleName::Node => Role::Node,
        },
        measurement: fixed("reference.measurement", &reference.measurement)?,
        vmpl: reference.vmpl,
        host_data: FieldRule::parse("reference.host_data", &reference.host_data)?,
        id_key_digest: FieldRule::parse("reference.id_key_digest", &reference.id_key_digest)?,
        author_key_digest: FieldRule::parse("reference.author_key_digest", &reference.author_key_digest)?,
        guest_svn: reference.guest_svn,
        pcrs: unique("reference.pcrs", pcrs)?,
    })
}

/// All references of a role must name the same PCRs: a challenge goes out
/// before anybody knows which image will answer.
fn selection(references: &[Reference], role: Role) -> Result<Selection, BundleError> {
    let mut of_role = references.iter().filter(|r| r.role == role).map(|r| r.pcrs.keys().copied().collect::<Vec<u8>>());
    let first = of_role.next().unwrap_or_default();
    if of_role.any(|other| other != first) {
        return Err(BundleError::value("reference.pcrs", "other PCRs than the role's first reference"));
    }
    Ok(Selection::sha256(first))
}

fn node(node: &document::Node) -> Result<(String, Node), BundleError> {
    let printable = !node.name.is_empty() && node.name.len() <= 128 && node.name.chars().all(|c| c.is_ascii_graphic());
    if !printable {
        return Err(BundleError::value("node.name", &node.name));
    }
    let minimum_class = EvidenceClass::from_name(&node.minimum_class)
        .ok_or_else(|| BundleError::value("node.minimum_class", &node.minimum_class))?;
    let chip_id = node.chip_id.as_ref().map(|text| fixed("node.chip_id", text)).transpose()?;
    let ak_name = node.ak_name.as_ref().map(|text| unhex(text).ok_or_else(|| BundleError::value("node.ak_name", text)));
    let ak_name = ak_name.transpose()?;
    let ek = node.ek.as_ref().map(|text| fixed("node.ek", text)).transpose()?;
    if chip_id == Some([0; 64]) {
        return Err(BundleError::value("node.chip_id", "zero: a VLEK report names no chip"));
    }
    // Something must say which machine it is: a chip, or a key that lives in one
    // TPM. A TPM that the host runs says so only with its endorsement key.
    let (by_chip, by_tpm) = (chip_id.is_some(), ak_name.is_some() || ek.is_some());
    let missing = match minimum_class {
        EvidenceClass::SnpTpm if !by_tpm => Some(("node.ak_name", "absent, and no ek")),
        EvidenceClass::SnpTpm if !by_chip && ek.is_none() => Some(("node.chip_id", "absent, and no ek")),
        EvidenceClass::Snp if !by_chip => Some(("node.chip_id", "absent")),
        EvidenceClass::Tpm if !by_tpm => Some(("node.ak_name", "absent, and no ek")),
        EvidenceClass::SnpAzureVtpm | EvidenceClass::SnpSvsmVtpm if !by_chip && !by_tpm => {
            Some(("node.chip_id", "absent, and neither ek nor ak_name"))
        }
        _ => None,
    };
    if let Some((field, what)) = missing {
        return Err(BundleError::value(field, what));
    }
    let tags = node.tags.clone();
    Ok((node.name.clone(), Node { name: node.name.clone(), chip_id, ak_name, ek, minimum_class, tags }))
}

fn workload(workload: &document::Workload) -> Result<(Digest, KnownWorkload), BundleError> {
    let digest = fixed("workload.digest", &workload.digest)?;
    let known = KnownWorkload {
        name: workload.name.clone(),
        digest,
        arguments: FieldRule::parse("workload.arguments", &workload.arguments)?,
        environment: FieldRule::parse("workload.environment", &workload.environment)?,
        linking: match workload.linking {
            Linking::Static => DynamicLinking::Static,
            Linking::Dynamic => DynamicLinking::Dynamic,
        },
    };
    Ok((digest, known))
}
