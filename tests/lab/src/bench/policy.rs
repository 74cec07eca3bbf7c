//! Cost of policy in a decision: finding node and image, appraisal, and Cedar, on
//! evidence that is already verified.

use std::collections::BTreeMap;
use std::hint::black_box;

use anyhow::{Context, Result, ensure};
use portcullis_attest::binding::{Binding, Channel, Role};
use portcullis_attest::check::Checks;
use portcullis_attest::crypto::sha256;
use portcullis_attest::evidence::Evidence;
use portcullis_attest::snp::generation::Generation;
use portcullis_attest::verified::{Carriage, Challenge, VerifiedEvidence, verify};
use portcullis_authz::{Answer, Question};
use portcullis_cli::say;
use portcullis_firmware_policy::document::Node;
use portcullis_firmware_policy::{Content, Identity, appraise, identify};
use portcullis_wire::hex::hex;

use super::bare::{Bare, SMALL, fastest};
use crate::scene::{NOW, PCRS, Scene, WORKLOAD, reference};

/// Measurements of one image file.
const MEASUREMENTS_OF_AN_IMAGE: usize = 64;

/// What to measure.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// Numbers of enrolled nodes, and of allowed measurements.
    #[arg(long, value_delimiter = ',', default_values_t = [100, 10_000, 1_000_000])]
    sizes: Vec<usize>,
    /// How many Cedar policies.
    #[arg(long, default_value_t = 100)]
    policies: usize,
    /// Fail if the largest costs more than this many times the smallest.
    #[arg(long, default_value_t = 1.5)]
    growth: f64,
}

/// Runs and prints.
///
/// # Errors
/// It costs more than a P-384 verification, or grows.
pub(super) fn run(options: &Options) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let mut scene = Scene::new(&folder.path().join("root"), Generation::Genoa)?;
    let mut device = scene.device("node-1")?;
    scene.policies = policies(options.policies);
    let selection = portcullis_attest::tpm::pcr::Selection::sha256(PCRS);
    let ask = device.ask(NOW, &selection)?;
    let (facts, received) = (ask.facts(), ask.received());
    let evidence = Evidence::parse(received.evidence())?;

    let bare = Bare::new(SMALL)?;
    let verification = fastest(|| bare.verify_report())?;
    say!("bare P-384 verification: {verification:.0} µs; {} Cedar policies\n", options.policies);
    say!(
        "{:>10} {:>13} {:>13} {:>13} {:>13} {:>8}",
        "nodes",
        "measurements",
        "appraisal µs",
        "Cedar µs",
        "again µs",
        "ratio"
    );
    let mut costs = Vec::new();
    for size in &options.sizes {
        let content = content(&scene, *size)?;
        let channel = facts.channel;
        let verified = verified(&evidence, &content, &received.request().nonce, channel, &received.digest())?;
        let appraisal = fastest(|| appraise_once(&content, &verified))?;
        // A node that was not asked for before, and one that asks again.
        let mut count = 0_u64;
        let cedar = fastest(|| {
            count += 1;
            ask_once(&content, &format!("node-{count}"))
        })?;
        let again = fastest(|| ask_once(&content, "node-1"))?;
        let ratio = (appraisal + cedar) / verification;
        say!("{size:>10} {size:>13} {appraisal:>13.1} {cedar:>13.1} {again:>13.1} {ratio:>8.2}");
        costs.push(appraisal + cedar);
    }
    let (first, last) = (costs.first().context("sizes")?, costs.last().context("sizes")?);
    ensure!(*last <= verification, "{last:.0} µs, required less than one verification of {verification:.0} µs");
    ensure!(last / first <= options.growth, "grows by {:.2}, required at most {:.2}", last / first, options.growth);
    Ok(())
}

/// Policies of several shapes, of which one permits.
fn policies(count: usize) -> String {
    let policy = |n: usize| match n % 4 {
        0 => format!(
            r#"@id("p{n}") permit(principal, action, resource) when {{ principal.tags.contains("team-{n}") }};"#
        ),
        1 => format!(r#"@id("p{n}") forbid(principal == Node::"node-{n}-retired", action, resource);"#),
        2 => format!(
            r#"@id("p{n}") forbid(principal in Generation::"Milan", action, resource) when {{ resource.name == "job-{n}" }};"#
        ),
        _ => format!(
            r#"@id("p{n}") forbid(principal, action, resource) when {{ principal.image == "image-{n}" && context.time - context.since > {n} }};"#
        ),
    };
    let rest: Vec<String> = (1..count).map(policy).collect();
    let permit = r#"@id("lab") permit(principal, action, resource) when { principal.tags.contains("lab") };"#;
    format!("{permit}\n{}", rest.join("\n"))
}

/// A bundle with this many nodes and measurements. It stays in memory: a million nodes
/// exceed the limit of a file.
fn content(scene: &Scene, size: usize) -> Result<Content> {
    let named = |label: &str, n: usize| sha256(&[label.as_bytes(), &n.to_be_bytes()]);
    let mut document = scene.document.clone();
    document.nodes.extend((1..size).map(|n| Node {
        name: format!("other-{n}"),
        chip_id: Some(hex(&[named("chip", n), named("chip 2", n)].concat())),
        ak_name: None,
        ek: Some(hex(&named("ek", n))),
        minimum_class: "snp+tpm".into(),
        tags: vec!["lab".into()],
    }));
    let mut references: Vec<_> = scene.references.clone().into_iter().collect();
    for image in 0..(size / MEASUREMENTS_OF_AN_IMAGE) {
        let mut other = reference(&format!("image {image}"), portcullis_firmware_policy::document::RoleName::Node);
        let measurement = |n: usize| {
            let digest = [&named("m", image)[..], &named("m", n)].concat();
            (format!("{n} vCPUs"), hex(&digest[16..]))
        };
        other.measurements = (0..MEASUREMENTS_OF_AN_IMAGE).map(measurement).collect::<BTreeMap<_, _>>();
        references.push((format!("reference/{image}.toml"), other));
    }
    Ok(Content::of(&scene.files()?, &document, &references)?)
}

fn verified(
    evidence: &Evidence,
    content: &Content,
    nonce: &[u8; 32],
    channel: Channel,
    context: &[u8; 32],
) -> Result<VerifiedEvidence> {
    let binding = Binding { role: Role::Node, nonce, channel, context };
    let selection = content.policy().selection(Role::Node);
    let challenge = Challenge { binding, carriage: Carriage::Direct, selection };
    let mut checks = Checks::refusals();
    let verified = verify(evidence, &challenge, content.verifier(), NOW, &mut checks);
    verified.with_context(|| format!("{:?}", checks.refused().next()))
}

fn appraise_once(content: &Content, evidence: &VerifiedEvidence) -> Result<()> {
    let policy = content.policy();
    let node = policy.nodes.get(black_box("node-1")).context("node")?;
    let identity = Identity {
        name: &node.name,
        role: Role::Node,
        chip_id: node.chip_id.as_ref().map(<[u8; 64]>::as_slice),
        ak_name: node.ak_name.as_deref(),
        ek: node.ek.as_ref(),
        activation: None,
        minimum_class: node.minimum_class,
    };
    let mut checks = Checks::refusals();
    ensure!(identify(evidence, &identity, &mut checks), "not identified");
    let appraisal = appraise(evidence, &identity, policy, NOW, &mut checks);
    policy.workloads.get(black_box(&WORKLOAD)).context("workload")?;
    black_box(appraisal.result).map(|_| ()).with_context(|| format!("{:?}", checks.refused().next()))
}

fn ask_once(content: &Content, node: &str) -> Result<()> {
    let tags = ["lab".to_owned()];
    let chip = hex(&[7; 64]);
    let question = Question { node, tags: &tags, chip: Some(("Genoa", &chip)), parent: None, ..Question::EXAMPLE };
    let answer = content.authorizer().ask(black_box(&question));
    ensure!(answer == Answer::Permitted, "{answer:?}");
    Ok(())
}
