//! A deployment without processes: bundles, devices and requests in memory, for tests
//! that need thousands of real decisions.
//!
//! ```text
//! Scene --bundle--> VerifiedBundle
//! Device --ask--> Ask: a signed request with evidence, and the facts beside it
//! Ask + bundle --decide--> Decision, by the code that the authority runs
//! ```

mod ask;

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Result;
use portcullis_attest::crypto::sha256;
use portcullis_attest::snp::generation::Generation;
use portcullis_attest::snp::tcb::Tcb;
use portcullis_attester::QuoteDevice;
use portcullis_firmware_policy::document::{
    Coverage, Distrust, Document, Floor, Limits, Linking, Node, OneOf, Platform, Reference, Requirement, RoleName,
    RootChoice, Workload,
};
use portcullis_firmware_policy::{BundleError, CONTENT_TYPE, Files, SCHEMA, VerifiedBundle, pack};
use portcullis_permit::{Governance, Governor, Quorum, SigningKey, Suite};
use portcullis_wire::hex::hex;

pub use ask::{Ask, Device, Plan, Shows};

use crate::boot;
use crate::machine::TCB;
use crate::processor::{Fields, Processor};
use crate::root::LabRoot;
use crate::tpm::SoftTpm;

/// Origin of a scene's authority.
pub const ORIGIN: &str = "lab/scene";
/// Time of a scene, Unix seconds: 2026-11-19.
pub const NOW: u64 = 1_795_046_400;
/// Image that a scene's devices boot.
pub const IMAGE: &str = "node-1.0";
/// SHA-256 of the workload that a scene's bundle knows.
pub const WORKLOAD: [u8; 32] = [0x77; 32];
/// PCRs that a scene's image has reference values for.
pub const PCRS: [u8; 4] = boot::PCRS;

const POLICY: &str = r#"@id("lab-nodes")
permit(principal, action == Action::"execute", resource)
when { principal.tags.contains("lab") };
"#;

/// A bundle in the making, and the governors who sign it.
pub struct Scene {
    /// `policy.toml`.
    pub document: Document,
    /// Files in `reference/`.
    pub references: BTreeMap<String, Reference>,
    /// Files in `ima/`.
    pub lists: BTreeMap<String, String>,
    /// The Cedar policies.
    pub policies: String,
    root: LabRoot,
    governors: [SigningKey; 3],
    governance: Governance,
}

impl Scene {
    /// A sound bundle without nodes, under a lab root that is kept in a folder.
    ///
    /// # Errors
    /// I/O and cryptography.
    pub fn new(root: &Path, generation: Generation) -> Result<Self> {
        let governor = || SigningKey::generate(Suite::Classic);
        let governors = [governor()?, governor()?, governor()?];
        let named =
            |(at, key): (usize, &SigningKey)| Governor::named(&format!("governor-{}", at + 1), key.public().clone());
        let named = governors.iter().enumerate().map(named).collect::<Result<Vec<_>, _>>()?;
        let governance = Governance::new(2, named)?;
        let root = LabRoot::open(root, generation)?;
        let references = BTreeMap::from([("node.toml".to_owned(), reference(IMAGE, RoleName::Node))]);
        Ok(Self {
            document: document(generation),
            references,
            lists: BTreeMap::new(),
            policies: POLICY.into(),
            root,
            governors,
            governance,
        })
    }

    /// The root.
    #[must_use]
    pub const fn root(&self) -> &LabRoot {
        &self.root
    }

    /// The governors: two of these three.
    #[must_use]
    pub const fn governance(&self) -> &Governance {
        &self.governance
    }

    /// Their keys.
    #[must_use]
    pub const fn governors(&self) -> &[SigningKey; 3] {
        &self.governors
    }

    /// The bundle's files.
    ///
    /// # Errors
    /// Encoding and cryptography.
    pub fn files(&self) -> Result<Files> {
        let mut files = Files::from([
            ("policy.toml".to_owned(), toml::to_string(&self.document)?.into_bytes()),
            ("lab.cedar".to_owned(), self.policies.clone().into_bytes()),
            ("schema.cedarschema".to_owned(), SCHEMA.as_bytes().to_vec()),
            ("roots/ark.der".to_owned(), self.root.ark().to_vec()),
            ("collateral/ask.der".to_owned(), self.root.ask().to_vec()),
            ("collateral/asvk.der".to_owned(), self.root.asvk().to_vec()),
            ("collateral/crl.der".to_owned(), self.root.crl(1, &[], None)?),
        ]);
        for (name, reference) in &self.references {
            files.insert(format!("reference/{name}"), toml::to_string(reference)?.into_bytes());
        }
        for (name, list) in &self.lists {
            files.insert(format!("ima/{name}"), list.clone().into_bytes());
        }
        Ok(files)
    }

    /// The bundle, signed by these governors.
    ///
    /// # Errors
    /// Encoding and cryptography.
    pub fn signed(&self, governors: &[&SigningKey]) -> Result<Vec<u8>> {
        let mut quorum = Quorum::unsigned(pack(&self.files()?)?);
        for key in governors {
            quorum.sign(CONTENT_TYPE, key)?;
        }
        Ok(quorum.encode())
    }

    /// The bundle, signed by two governors and verified.
    ///
    /// # Errors
    /// It does not pass.
    pub fn bundle(&self) -> Result<VerifiedBundle> {
        let [one, two, _] = &self.governors;
        Ok(self.verify(&self.signed(&[one, two])?)?)
    }

    /// Verifies a bundle.
    ///
    /// # Errors
    /// [`BundleError`].
    pub fn verify(&self, bytes: &[u8]) -> Result<VerifiedBundle, BundleError> {
        VerifiedBundle::verify(bytes, &self.governance)
    }

    /// Makes a sound device and enrols it by chip and attestation key.
    ///
    /// # Errors
    /// Cryptography.
    pub fn device(&mut self, name: &str) -> Result<Device> {
        let chip_id = chip_id(name, self.root.generation());
        let fields =
            Fields::sound(self.root.generation(), chip_id, tcb(self.root.generation()), boot::measurement(IMAGE));
        let processor = Processor::vcek(&self.root, Fields { version: 5, ..fields })?;
        let device = Device {
            name: name.to_owned(),
            processor,
            tpm: SoftTpm::new(IMAGE)?,
            key: SigningKey::generate(Suite::Classic)?,
            shows: Shows::SnpTpm,
        };
        self.document.nodes.push(Node {
            name: name.to_owned(),
            chip_id: Some(hex(&chip_id)),
            ak_name: Some(hex(device.tpm.ak_name())),
            ek: None,
            minimum_class: "snp+tpm".into(),
            tags: vec!["lab".into()],
        });
        Ok(device)
    }
}

/// A time in the form that bundles use.
///
/// # Panics
/// No calendar has it.
#[must_use]
pub fn rfc3339(seconds: u64) -> String {
    let time = i64::try_from(seconds).ok().and_then(|s| jiff::Timestamp::from_second(s).ok());
    time.map_or_else(|| panic!("time {seconds}"), |time| time.to_string())
}

/// The chip id of a name: on Turin eight bytes and zeroes.
#[must_use]
pub fn chip_id(name: &str, generation: Generation) -> [u8; 64] {
    let mut id = [0; 64];
    let length = if generation == Generation::Turin { 8 } else { 32 };
    id.iter_mut().zip(sha256(&[name.as_bytes()])).take(length).for_each(|(to, from)| *to = from);
    id
}

/// Patch levels of a sound chip of a generation.
#[must_use]
pub fn tcb(generation: Generation) -> Tcb {
    let fmc = (generation == Generation::Turin).then_some(2);
    Tcb { fmc, ..TCB }
}

/// A floor at these patch levels, on all four TCBs, in force.
#[must_use]
pub fn floor(generation: Generation, tcb: Tcb) -> Floor {
    Floor {
        generation: generation.name().into(),
        on: Vec::new(),
        deny_from: None,
        fmc: tcb.fmc,
        boot_loader: tcb.boot_loader,
        tee: tcb.tee,
        snp: tcb.snp,
        microcode: tcb.microcode,
    }
}

/// The document of a sound bundle for a generation, without nodes.
#[must_use]
pub fn document(generation: Generation) -> Document {
    Document {
        authority: ORIGIN.into(),
        version: 1,
        predecessor: None,
        not_before: "2026-11-01T00:00:00Z".into(),
        expires: "2027-11-01T00:00:00Z".into(),
        classes: ["snp+tpm", "snp", "tpm"].map(str::to_owned).to_vec(),
        roots: RootChoice::Given,
        limits: Limits {
            lease_seconds: 60,
            status_seconds: 30,
            evidence_seconds: 10,
            renewal_seconds: 86_400,
            clock_skew_seconds: None,
            evidence_kept_seconds: None,
        },
        witnesses: None,
        distrust: Distrust::default(),
        platform: Platform {
            alias_check: Requirement::Required,
            ciphertext_hiding: Requirement::Optional,
            ecc: Requirement::Required,
            smt_disabled: Requirement::Optional,
            mitigations: 0,
        },
        floors: vec![floor(generation, tcb(generation))],
        nodes: Vec::new(),
        workloads: vec![workload()],
        auditors: Vec::new(),
    }
}

/// The workload of a sound bundle.
#[must_use]
pub fn workload() -> Workload {
    Workload {
        name: "sleep".into(),
        digest: hex(&WORKLOAD),
        arguments: "any".into(),
        environment: "any".into(),
        linking: Linking::Static,
    }
}

/// Reference values of a lab image.
#[must_use]
pub fn reference(image: &str, role: RoleName) -> Reference {
    let pcrs = boot::reference(image).into_iter().map(|(pcr, value)| (pcr.to_string(), OneOf::One(hex(&value))));
    Reference {
        name: image.to_owned(),
        role,
        covers: Coverage::BootChain,
        reviewed: true,
        not_before: None,
        expires: None,
        vmpl: 0,
        guest_svn: 1,
        host_data: "any".into(),
        id_key_digest: "any".into(),
        author_key_digest: "any".into(),
        measurements: BTreeMap::from([("lab".into(), hex(&boot::measurement(image)))]),
        pcrs: pcrs.collect(),
        boot: None,
        uki: None,
        ima: None,
        events: BTreeMap::new(),
    }
}
