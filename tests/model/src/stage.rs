//! Turns cases into true evidence under signed bundles, and lets the real
//! decider decide.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use anyhow::{Context, Result};
use portcullis_attest::binding::Role;
use portcullis_attest::snp::generation::Generation;
use portcullis_attest::snp::tcb::Tcb;
use portcullis_attest::tpm::pcr::{Bank, PcrValues};
use portcullis_attester::QuoteDevice;
use portcullis_firmware_policy::document::{self, Linking, OneOf, Requirement, RoleName};
use portcullis_firmware_policy::{Activation, Decision, ParentState, Revocations, SeenState, VerifiedBundle};
use portcullis_lab::boot;
use portcullis_lab::processor::{Fields, Processor};
use portcullis_lab::scene::{self, Ask, Device, ORIGIN, Plan, Scene, Shows, WORKLOAD, chip_id};
use portcullis_lab::tpm::SoftTpm;
use portcullis_permit::{
    BootCounters, DynamicLinking, Governance, PermitId, Revocation, RevocationTarget, Workload as Asked,
};
use portcullis_wire::hex::hex;

use crate::case::{Bundle, Case, Levels, Report, Rule, Told, Verdict};

const EK: [u8; 32] = [0xe4; 32];
const PARENT: [u8; 16] = [0x0b; 16];
const COUNTERS: BootCounters = BootCounters { reset_count: 3, restart_count: 1, clock: 5000 };

/// Machines and keys that cases are played with.
pub struct Stage {
    scene: Scene,
    generation: Generation,
    device: Device,
    /// Chips by owner and reported TCB: a key each, as on real ones.
    chips: HashMap<(bool, Levels), Processor>,
    tpms: [SoftTpm; 2],
    boots: [(Vec<u8>, PcrValues); 3],
    salt: u64,
}

/// A bundle as both deciders know it.
pub struct Staged {
    /// For the naive one.
    pub told: Bundle,
    /// For the real one.
    pub real: VerifiedBundle,
}

impl Stage {
    /// A stage for one generation, under a lab root that is kept in a folder.
    ///
    /// # Errors
    /// I/O and cryptography.
    pub fn new(root: &Path, generation: Generation) -> Result<Self> {
        let mut scene = Scene::new(root, generation)?;
        let device = scene.device("n1")?;
        let boots = ["boot-0", "boot-1", "boot-2"].map(|image| {
            let mut pcrs = PcrValues::default();
            for (pcr, value) in boot::reference(image) {
                assert!(pcrs.insert(Bank::Sha256, pcr, value));
            }
            (boot::log(&boot::events(image)), pcrs)
        });
        let tpms = [SoftTpm::new("boot-0")?, SoftTpm::new("boot-0")?];
        Ok(Self { scene, generation, device, chips: HashMap::new(), tpms, boots, salt: 0 })
    }

    /// Writes, signs and verifies a bundle.
    ///
    /// # Errors
    /// It does not pass.
    pub fn stage(&mut self, told: Bundle) -> Result<Staged> {
        let time = |seconds: u64| portcullis_lab::scene::rfc3339(seconds);
        let need = |required: bool| if required { Requirement::Required } else { Requirement::Optional };
        let chip = chip_id("n1", self.generation);
        let document = &mut self.scene.document;
        document.authority = if told.for_us { ORIGIN.into() } else { "lab/other".into() };
        (document.not_before, document.expires) = (time(told.valid.0), time(told.valid.1));
        document.classes = told.classes.iter().map(|class| (*class).to_owned()).collect();
        document.limits.clock_skew_seconds = told.skew;
        document.limits.evidence_seconds = told.evidence_seconds;
        document.limits.renewal_seconds = told.renewal_seconds;
        let distrust = &mut document.distrust;
        distrust.generations =
            told.distrusts_generation.then(|| self.generation.name().to_owned()).into_iter().collect();
        distrust.chips = told.distrusts_chip.then(|| hex(&chip)).into_iter().collect();
        let [alias, hiding, ecc, smt] = told.requires.map(need);
        let platform = &mut document.platform;
        (platform.alias_check, platform.ciphertext_hiding, platform.ecc, platform.smt_disabled) =
            (alias, hiding, ecc, smt);
        document.floors = told.floors.iter().map(|floor| self::floor(floor, self.generation)).collect();
        document.nodes = told.node.iter().map(|node| self::node(node, &chip, self.tpms[0].ak_name())).collect();
        document.workloads = told.workload.iter().map(self::workload).collect();
        let images = told.images.iter().enumerate();
        self.scene.references = images.map(|(at, image)| (format!("{at}.toml"), self.reference(at, image))).collect();
        self.scene.policies = told.rules.iter().map(|rule| rule.text()).collect::<Vec<_>>().join("\n");
        let real = self.scene.bundle().with_context(|| format!("{told:?}"))?;
        Ok(Staged { told, real })
    }

    fn reference(&self, at: usize, image: &crate::case::Image) -> document::Reference {
        let boots = image.boots.iter().filter_map(|boot| {
            let (_, pcrs) = self.boots.get(usize::from(*boot))?;
            pcrs.value(Bank::Sha256, 4).map(hex)
        });
        document::Reference {
            not_before: Some(scene::rfc3339(image.valid.0)),
            expires: Some(scene::rfc3339(image.valid.1)),
            vmpl: image.vmpl,
            guest_svn: image.guest_svn,
            host_data: image.host_data.map_or_else(|| "any".into(), |byte| hex(&[byte; 32])),
            measurements: image.measurements.iter().map(|m| (format!("m{m}"), hex(&[*m; 48]))).collect(),
            pcrs: BTreeMap::from([("4".into(), OneOf::Any(boots.collect()))]),
            ..scene::reference(&format!("image-{at}"), RoleName::Node)
        }
    }

    /// Plays a case: makes the evidence, signs the request, decides.
    ///
    /// # Errors
    /// Cryptography.
    pub fn play(&mut self, staged: &Staged, told: &Told) -> Result<Verdict> {
        let decision = self.decision(staged, told)?;
        Ok(verdict(&decision))
    }

    /// As [`Stage::play`], with the decision itself.
    ///
    /// # Errors
    /// Cryptography.
    pub fn decision(&mut self, staged: &Staged, told: &Told) -> Result<Decision> {
        Ok(self.ask(staged, told)?.decide(&staged.real))
    }

    /// The request of a case, with true evidence, and the facts beside it.
    ///
    /// # Errors
    /// Cryptography.
    pub fn ask(&mut self, staged: &Staged, told: &Told) -> Result<Ask> {
        self.salt += 1;
        self.device.name = if told.own_name { "n1".into() } else { "n9".into() };
        self.device.shows = match (&told.report, &told.quote) {
            (Some(_), Some(_)) => Shows::SnpTpm,
            (Some(_), None) => Shows::Snp,
            (None, _) => Shows::Tpm,
        };
        if let Some(report) = &told.report {
            self.set_chip(report)?;
        }
        let own_ak = told.quote.as_ref().is_none_or(|quote| quote.own_ak);
        if let Some(quote) = &told.quote {
            let (log, pcrs) = self.boots[usize::from(quote.boot)].clone();
            let tpm = &mut self.tpms[usize::from(!own_ak)];
            (tpm.event_log, tpm.pcrs, tpm.counters) = (log, pcrs, COUNTERS);
        }
        let at = usize::from(!own_ak);
        std::mem::swap(&mut self.device.tpm, &mut self.tpms[at]);
        let plan = self.plan(told);
        let ask = plan.ask(&mut self.device, staged.real.policy().selection(Role::Node));
        std::mem::swap(&mut self.device.tpm, &mut self.tpms[at]);
        ask
    }

    /// The governors of the stage's bundles.
    #[must_use]
    pub const fn governance(&self) -> &Governance {
        self.scene.governance()
    }

    fn plan(&self, told: &Told) -> Plan {
        let ak_name = self.device.tpm.ak_name().to_vec();
        let mut revocations = Revocations::default();
        let mut revoke = |target| {
            revocations.apply(&Revocation {
                authority: ORIGIN.into(),
                sequence: 1,
                predecessor: None,
                expires: u64::MAX,
                target,
                reason: String::new(),
            });
        };
        let [node, workload] = told.revoked;
        if node {
            revoke(RevocationTarget::Node(self.device.name.clone()));
        }
        let digest = if told.known_workload { WORKLOAD } else { [0x99; 32] };
        if workload {
            revoke(RevocationTarget::Workload(digest));
        }
        let [node, workload] = told.lifted;
        if node {
            revoke(RevocationTarget::NodeLifted(self.device.name.clone()));
        }
        if workload {
            revoke(RevocationTarget::WorkloadLifted(digest));
        }
        let parent = told.parent.as_ref().map(|_| PermitId::from_bytes(PARENT));
        let parent_state = match &told.parent {
            None => ParentState::None,
            Some(None) => ParentState::Unknown,
            Some(Some(parent)) => {
                if parent.revoked {
                    revoke(RevocationTarget::Permit(PermitId::from_bytes(PARENT)));
                }
                let earlier = BootCounters { clock: 4000, ..COUNTERS };
                let other = BootCounters { reset_count: 2, ..COUNTERS };
                ParentState::Logged {
                    subject: if parent.same { self.device.name.clone() } else { "n7".into() },
                    confirmation: *self.device.key.public().thumbprint(),
                    workload: digest,
                    origin: PermitId::from_bytes([0x0c; 16]),
                    since: parent.since,
                    boot: told.quote.as_ref().map(|_| if parent.same_boot { earlier } else { other }),
                }
            }
        };
        Plan {
            nonce_age: told.nonce_age,
            audience: if told.audience { ORIGIN.into() } else { "lab/elsewhere".into() },
            statement_repeated: told.statement,
            nonce_repeated: told.nonce,
            workload: Asked {
                digest,
                arguments: [told.arguments; 32],
                environment: [told.environment; 32],
                linking: if told.dynamic { DynamicLinking::Dynamic } else { DynamicLinking::Static },
            },
            parent,
            parent_state,
            seen: if told.contradicted { SeenState::Contradicted } else { SeenState::None },
            activation: told.activated.then_some(Activation { ek: EK, ak_name }),
            channel_kept: told.this_session,
            revocations,
            salt: self.salt,
            ..Plan::at(told.time)
        }
    }

    fn set_chip(&mut self, report: &Report) -> Result<()> {
        let [current, committed, reported, launch] = report.tcbs;
        let generation = self.generation;
        let tcb = |levels| tcb(levels, generation);
        let chip = chip_id(if report.own_chip { "n1" } else { "n2" }, generation);
        let [alias, hiding, ecc, smt_off] = report.has.map(u64::from);
        let [debug, migration] = report.allows.map(u64::from);
        let fields = Fields {
            version: 5,
            vmpl: report.vmpl,
            guest_svn: report.guest_svn,
            host_data: [report.host_data; 32],
            platform_info: (1 - smt_off) | ecc << 2 | hiding << 4 | alias << 5,
            policy: 0x3_0000 | debug << 19 | migration << 18,
            current_tcb: tcb(current),
            committed_tcb: tcb(committed),
            reported_tcb: tcb(reported),
            launch_tcb: tcb(launch),
            ..Fields::sound(generation, chip, tcb(reported), [report.measurement; 48])
        };
        let key = (report.own_chip, reported);
        let mut processor = match self.chips.remove(&key) {
            Some(processor) => processor,
            None => Processor::vcek(self.scene.root(), fields.clone())?,
        };
        processor.fields = fields;
        let before = std::mem::replace(&mut self.device.processor, processor);
        let levels = levels(before.fields.reported_tcb);
        let own = before.fields.chip_id == chip_id("n1", generation);
        self.chips.insert((own, levels), before);
        Ok(())
    }
}

/// A verdict in the terms of the model.
#[must_use]
pub fn verdict(decision: &Decision) -> Verdict {
    match decision {
        Decision::Authorized { permit, .. } => Verdict::Permit {
            arguments: permit.constraints.arguments.map(|digest| digest[0]),
            environment: permit.constraints.environment.map(|digest| digest[0]),
            dynamic: permit.constraints.linking == DynamicLinking::Dynamic,
            warnings: permit.warnings.iter().map(|w| (w.check.clone(), w.deny_from)).collect(),
        },
        Decision::Denied(denial) => Verdict::Denial {
            checks: denial.refusals.iter().map(|refusal| refusal.check.clone()).collect(),
            told: denial.refusals.iter().all(|r| r.found.is_some() && r.required.is_some() && r.remedy.is_some()),
        },
    }
}

/// Whether both deciders come to the same.
///
/// # Errors
/// They do not; or cryptography.
pub fn compare(stage: &mut Stage, staged: &Staged, told: &Told) -> Result<Verdict> {
    let required = crate::naive::decide(&Case { bundle: &staged.told, told });
    let found = stage.play(staged, told)?;
    anyhow::ensure!(
        found == required,
        "the decider says {found}\nthe model says   {required}\n{:#?}\n{told:#?}",
        staged.told
    );
    Ok(found)
}

fn tcb(levels: Levels, generation: Generation) -> Tcb {
    let [boot_loader, tee, snp, microcode] = levels;
    Tcb { fmc: (generation == Generation::Turin).then_some(2), boot_loader, tee, snp, microcode }
}

const fn levels(tcb: Tcb) -> Levels {
    [tcb.boot_loader, tcb.tee, tcb.snp, tcb.microcode]
}

fn floor(floor: &crate::case::Floor, generation: Generation) -> document::Floor {
    document::Floor {
        on: floor.on.iter().map(|kind| (*kind).to_owned()).collect(),
        deny_from: floor.deny_from.map(scene::rfc3339),
        ..scene::floor(generation, tcb(floor.levels, generation))
    }
}

fn node(node: &crate::case::Node, chip: &[u8; 64], ak_name: &[u8]) -> document::Node {
    document::Node {
        name: "n1".into(),
        chip_id: node.by_chip.then(|| hex(chip)),
        ak_name: node.by_ak.then(|| hex(ak_name)),
        ek: node.by_ek.then(|| hex(&EK)),
        minimum_class: node.minimum.into(),
        tags: node.tags.iter().map(|tag| (*tag).to_owned()).collect(),
    }
}

fn workload(workload: &crate::case::Workload) -> document::Workload {
    let rule = |bound: Option<u8>| bound.map_or_else(|| "any".into(), |byte| hex(&[byte; 32]));
    document::Workload {
        name: "job".into(),
        digest: hex(&WORKLOAD),
        arguments: rule(workload.arguments),
        environment: rule(workload.environment),
        linking: if workload.dynamic { Linking::Dynamic } else { Linking::Static },
    }
}

impl Rule {
    /// The policy.
    const fn text(self) -> &'static str {
        match self {
            Self::PermitLab => {
                r#"@id("lab") permit(principal, action, resource) when { principal.tags.contains("lab") };"#
            }
            Self::PermitBoth => {
                r#"@id("both") permit(principal, action, resource) when { principal.class == "snp+tpm" };"#
            }
            Self::PermitStatic => r#"@id("static") permit(principal, action, resource) when { !resource.dynamic };"#,
            Self::ForbidBlue => {
                r#"@id("blue") forbid(principal, action, resource) when { principal.tags.contains("blue") };"#
            }
            Self::ForbidFirst => r#"@id("first") forbid(principal, action, resource) unless { context.renewal };"#,
            Self::ForbidSecondImage => {
                r#"@id("second") forbid(principal, action, resource) when { principal.image == "image-1" };"#
            }
            Self::ForbidOldLines => {
                r#"@id("old") forbid(principal, action, resource) when { context.time - context.since > 500 };"#
            }
            Self::Err => {
                r#"@id("err") permit(principal, action, resource) when { context.time * 9223372036854775807 == 1 };"#
            }
        }
    }
}
