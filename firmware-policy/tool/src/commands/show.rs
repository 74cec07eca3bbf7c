//! The full content of a bundle, for a reviewer.

use std::path::Path;

use anyhow::Result;
use portcullis_cli::say;
use portcullis_permit::Governance;
use portcullis_wire::hex::hex;
use serde_json::{Map, Value, json};

use crate::describe::{Attributes, Section, describe};
use crate::files;
use crate::signatures::{governor_in_json, in_json, sentences};

pub(crate) fn show(path: &Path, governance: Option<&Path>, as_json: bool) -> Result<()> {
    if let Some(root) = files::as_governance(path) {
        show_governance(&root, as_json);
        return Ok(());
    }
    let opened = files::open(path)?;
    let sections = describe(&opened.content, &opened.files);
    let governance = governance.map(files::governance).transpose()?;
    if as_json {
        let told: Map<String, Value> = sections.iter().map(|s| (s.title.to_lowercase(), section_json(s))).collect();
        let body = json!({
            "schema": "portcullis/bundle/1",
            "digest": hex(&opened.quorum.digest()),
            "signatures": in_json(&opened.quorum, governance.as_ref()),
            "sections": told,
        });
        say!("{body}");
        return Ok(());
    }
    say!("digest {}", hex(&opened.quorum.digest()));
    sentences(&opened.quorum, governance.as_ref()).iter().for_each(|sentence| say!("{sentence}"));
    for section in &sections {
        say!("\n{}", section.title);
        if section.items.is_empty() {
            say!("  none");
        }
        for (name, attributes) in &section.items {
            say!("  {name}");
            let width = attributes.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
            for (name, value) in attributes {
                let mut lines = value.lines();
                say!("    {name:width$}  {}", lines.next().unwrap_or_default());
                lines.for_each(|line| say!("    {:width$}  {line}", ""));
            }
        }
    }
    Ok(())
}

fn section_json(section: &Section) -> Value {
    let item = |attributes: &Attributes| -> Map<String, Value> {
        attributes.iter().map(|(name, value)| (name.clone(), Value::from(value.as_str()))).collect()
    };
    section
        .items
        .iter()
        .map(|(name, attributes)| (name.clone(), Value::Object(item(attributes))))
        .collect::<Map<_, _>>()
        .into()
}

/// Shows the governors, and the root that authorities and nodes are configured with.
fn show_governance(governance: &Governance, as_json: bool) {
    let governors = governance.governors();
    if as_json {
        let list: Vec<Value> = governors.iter().map(governor_in_json).collect();
        let (root, needed) = (governance.root_hex(), governance.threshold());
        say!("{}", json!({ "schema": "portcullis/governance/1", "root": root, "needed": needed, "governors": list }));
        return;
    }
    say!("governance root {}", governance.root_hex());
    say!("{} of these {} governors must sign", governance.threshold(), governors.len());
    governors.iter().for_each(|governor| say!("  {governor}, {}", governor.key().suite().name()));
}
