//! The description of a bundle in words: `show` prints it, and `diff` compares two of
//! them.

use std::collections::BTreeMap;

use portcullis_attest::binding::Role;
use portcullis_attest::snp::collateral::Collateral;
use portcullis_attest::snp::roots::fingerprint;
use portcullis_cli::rfc3339;
use portcullis_firmware_policy::document::{Coverage, Requirement};
use portcullis_firmware_policy::policy::{FieldRule, KnownWorkload, Node, Reference, TcbKind};
use portcullis_firmware_policy::{Content, Files, Policy};
use portcullis_wire::hex::hex;
use portcullis_wire::sha256;

/// Attributes of an entry, in reading order.
pub(crate) type Attributes = Vec<(String, String)>;

/// Entries of one kind, by name.
pub(crate) struct Section {
    /// The noun for one entry.
    pub(crate) noun: &'static str,
    /// The title of the section.
    pub(crate) title: &'static str,
    pub(crate) items: BTreeMap<String, Attributes>,
}

/// Describes a bundle.
pub(crate) fn describe(content: &Content, files: &Files) -> Vec<Section> {
    let policy = content.policy();
    let section = |title, noun, items: BTreeMap<String, Attributes>| Section { noun, title, items };
    vec![
        section("Bundle", "bundle", BTreeMap::from([("itself".to_owned(), bundle(content))])),
        section("Distrusted", "distrust of", distrust(policy)),
        section("Platform", "platform property", platform(policy)),
        section("TCB floors", "floor for", floors(policy)),
        section("Images", "image", policy.references().iter().map(|r| (r.name.clone(), image(r))).collect()),
        section("Nodes", "node", policy.nodes.values().map(|n| (n.name.clone(), node(n))).collect()),
        section("Workloads", "workload", policy.workloads.values().map(|w| (w.name.clone(), workload(w))).collect()),
        section("Cedar policies", "policy", policies(content)),
        section("Files", "file", other_files(files)),
    ]
}

fn attribute(name: &str, value: impl ToString) -> (String, String) {
    (name.to_owned(), value.to_string())
}

fn bundle(content: &Content) -> Attributes {
    let policy = content.policy();
    let roots = content.verifier().roots();
    let classes: Vec<&str> = policy.classes.iter().map(|class| class.name()).collect();
    vec![
        attribute("authority", &policy.authority),
        attribute("version", policy.version),
        attribute("predecessor", policy.predecessor.map_or_else(|| "none".to_owned(), |digest| hex(&digest))),
        attribute("valid from", rfc3339(policy.valid.from)),
        attribute("valid until", rfc3339(policy.valid.until)),
        attribute("evidence classes", classes.join(", ")),
        attribute("roots", format!("{}: {}", roots.source().as_str(), roots.describe())),
        attribute("permits live", seconds(policy.lease_seconds)),
        attribute("status lists live", seconds(policy.status_seconds)),
        attribute("nonces live", seconds(policy.evidence_seconds)),
        attribute("renewals go on for", seconds(policy.renewal_seconds)),
        attribute("clocks may differ by", seconds(policy.clock_skew)),
        attribute("evidence is kept", policy.evidence_kept_seconds.map_or_else(|| "for ever".into(), seconds)),
        attribute("witnesses", witnesses(policy)),
        attribute("auditors", auditors(policy)),
    ]
}

fn auditors(policy: &Policy) -> String {
    let names: Vec<_> = policy.auditors.iter().map(|(key, name)| format!("{name} with {}", hex(key))).collect();
    if names.is_empty() { "none".into() } else { names.join(", ") }
}

fn witnesses(policy: &Policy) -> String {
    let Some(witnesses) = &policy.witnesses else { return "none".into() };
    let names = witnesses.quorum.keys.iter().zip(&witnesses.addresses);
    let names: Vec<_> = names.map(|(key, address)| format!("{key} at {address}")).collect();
    let (threshold, age) = (witnesses.quorum.threshold, witnesses.quorum.max_age);
    format!("{threshold} of {}, at most {age} s old: {}", names.len(), names.join(", "))
}

fn seconds(number: u64) -> String {
    format!("{number} s")
}

fn distrust(policy: &Policy) -> BTreeMap<String, Attributes> {
    let generations = policy.distrusted_generations.iter().map(|g| format!("generation {g}"));
    let veks = policy.distrusted_veks.iter().map(|key| format!("endorsement key {}", hex(key)));
    let chips = policy.distrusted_chips.iter().map(|chip| format!("chip {}", hex(chip)));
    generations.chain(veks).chain(chips).map(|name| (name, Vec::new())).collect()
}

fn platform(policy: &Policy) -> BTreeMap<String, Attributes> {
    let word = |requirement| match requirement {
        Requirement::Required => "required",
        Requirement::Optional => "optional",
    };
    let p = policy.platform;
    let one = |name: &str, value: String| (name.to_owned(), vec![attribute("is", value)]);
    BTreeMap::from([
        one("alias check", word(p.alias_check).into()),
        one("ciphertext hiding", word(p.ciphertext_hiding).into()),
        one("ECC", word(p.ecc).into()),
        one("SMT disabled", word(p.smt_disabled).into()),
        one("mitigations", format!("{:#x}", p.mitigations)),
    ])
}

/// A line for each floor, with the date from which it holds.
fn floors(policy: &Policy) -> BTreeMap<String, Attributes> {
    let mut all = BTreeMap::new();
    for (generation, floors) in &policy.floors {
        for kind in TcbKind::ALL {
            let lines = floors.of(kind).iter().map(|floor| {
                let when = floor.deny_from.map_or_else(
                    || "at least".to_owned(),
                    |from| format!("warned of until, denied from {} below", rfc3339(from)),
                );
                attribute(&when, floor.tcb)
            });
            all.insert(format!("{generation} {kind}"), lines.collect());
        }
    }
    all
}

fn rule<const N: usize>(rule: &FieldRule<N>) -> String {
    rule.required().map_or_else(|| "any".to_owned(), |value| hex(&value))
}

fn one_of<T: AsRef<[u8]>>(values: &[T]) -> String {
    values.iter().map(|value| hex(value.as_ref())).collect::<Vec<_>>().join(" or ")
}

fn image(reference: &Reference) -> Attributes {
    let mut all = vec![
        attribute(
            "role",
            match reference.role {
                Role::Authority => "authority",
                Role::Node => "node",
            },
        ),
        attribute(
            "launch measurement covers",
            match reference.covers {
                Coverage::BootChain => "the boot chain",
                Coverage::FirmwareAndUki => "firmware; a vTPM measures the rest",
                Coverage::Firmware => "firmware alone",
            },
        ),
        attribute("valid from", rfc3339(reference.valid.from)),
        attribute("valid until", rfc3339(reference.valid.until)),
        attribute("VMPL", reference.vmpl),
        attribute("guest SVN at least", reference.guest_svn),
        attribute("host data", rule(&reference.host_data)),
        attribute("ID key digest", rule(&reference.id_key_digest)),
        attribute("author key digest", rule(&reference.author_key_digest)),
    ];
    all.extend(
        reference.measurements.iter().map(|(name, value)| attribute(&format!("measurement {name:?}"), hex(value))),
    );
    all.extend(reference.pcrs.iter().map(|(pcr, values)| attribute(&format!("PCR {pcr}"), one_of(values))));
    if let Some(boot) = &reference.boot {
        let required = boot.secure_boot == Requirement::Required;
        all.push(attribute("Secure Boot", if required { "required" } else { "optional" }));
        if let Some(started) = &boot.started {
            all.push(attribute("firmware may start", one_of(&started.iter().collect::<Vec<_>>())));
        }
        if let Some(phases) = &boot.phases {
            all.push(attribute("phases reached", phases.iter().cloned().collect::<Vec<_>>().join(" or ")));
        }
    }
    if let Some(uki) = &reference.uki {
        all.extend(uki.sections.iter().map(|(name, values)| attribute(&format!("section {name}"), one_of(values))));
        let lines: Vec<&str> = uki.command_lines.iter().map(String::as_str).collect();
        all.push(attribute(
            "other command lines",
            if lines.is_empty() { "none".to_owned() } else { lines.join(" | ") },
        ));
    }
    all.extend(reference.events.iter().map(|(pcr, allowed)| {
        let allowed: Vec<String> = allowed.iter().map(ToString::to_string).collect();
        attribute(&format!("measured into PCR {pcr}"), allowed.join(" | "))
    }));
    if let Some(ima) = &reference.ima {
        all.push(attribute("files that may be measured", format!("{} ({} digests)", ima.file, ima.allow.len())));
        let pcrs: Vec<String> = ima.pcrs.iter().map(u8::to_string).collect();
        all.push(attribute("PCRs of measured files", pcrs.join(", ")));
    }
    all
}

fn node(node: &Node) -> Attributes {
    let mut all = vec![attribute("shows at least", node.minimum_class)];
    all.extend(node.chip_id.map(|chip| attribute("chip", hex(&chip))));
    all.extend(node.ek.map(|ek| attribute("endorsement key", hex(&ek))));
    all.extend(node.ak_name.as_ref().map(|ak| attribute("attestation key", hex(ak))));
    all.push(attribute("tags", node.tags.join(", ")));
    all
}

fn workload(workload: &KnownWorkload) -> Attributes {
    vec![
        attribute("SHA-256", hex(&workload.digest)),
        attribute("arguments", rule(&workload.arguments)),
        attribute("environment", rule(&workload.environment)),
        attribute("linking", workload.linking.as_str()),
    ]
}

fn policies(content: &Content) -> BTreeMap<String, Attributes> {
    let texts = content.authorizer().engine().texts();
    texts.into_iter().map(|(id, text)| (id, vec![attribute("text", text.trim())])).collect()
}

/// Roots, collateral, file lists and the schema, each with its description.
fn other_files(files: &Files) -> BTreeMap<String, Attributes> {
    let told = |path: &str| {
        path == "schema.cedarschema" || ["roots/", "collateral/", "ima/"].iter().any(|f| path.starts_with(f))
    };
    let about = |path: &String, bytes: &Vec<u8>| {
        let mut all = Vec::new();
        if path.starts_with("roots/") || path.starts_with("collateral/") {
            let found = Collateral::parse(bytes).unwrap_or_default();
            all.extend(found.certificates.iter().map(|c| {
                let (until, print) = (rfc3339(c.not_after), fingerprint(c));
                attribute("certificate", format!("{} until {until}, {print}", c.common_name))
            }));
            all.extend(found.crls.iter().map(|crl| {
                let (number, from, until) = (hex(&crl.number), rfc3339(crl.this_update), rfc3339(crl.next_update));
                attribute(
                    "revocation list",
                    format!("number {number}, {from} to {until}, {} revoked", crl.revoked.len()),
                )
            }));
        }
        all.push(attribute("SHA-256", hex(&sha256(&[bytes]))));
        all
    };
    files.iter().filter(|(path, _)| told(path)).map(|(path, bytes)| (path.clone(), about(path, bytes))).collect()
}
