//! Everything that a reviewer needs to see of a bundle.

use std::path::Path;

use anyhow::Result;
use portcullis_cli::say;
use portcullis_permit::{Governance, Quorum};
use portcullis_wire::hex::hex;
use serde_json::{Map, Value, json};

use crate::describe::{Attributes, Section, describe};
use crate::files;

pub(crate) fn show(path: &Path, governance: Option<&Path>, as_json: bool) -> Result<()> {
    let opened = files::open(path)?;
    let sections = describe(&opened.content, &opened.files);
    let governance = governance.map(files::governance).transpose()?;
    if as_json {
        let told: Map<String, Value> = sections.iter().map(|s| (s.title.to_lowercase(), section_json(s))).collect();
        let body = json!({
            "schema": "portcullis/bundle/1",
            "digest": hex(&opened.quorum.digest()),
            "signatures": signatures_json(&opened.quorum, governance.as_ref()),
            "sections": told,
        });
        say!("{body}");
        return Ok(());
    }
    say!("digest {}", hex(&opened.quorum.digest()));
    say!("{}", signatures(&opened.quorum, governance.as_ref()));
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

fn signatures(quorum: &Quorum, governance: Option<&Governance>) -> String {
    let count = quorum.signatures();
    match governance {
        _ if count == 0 => "signed by nobody".into(),
        None => format!("{count} signatures, not looked at: --governance FILE checks them"),
        Some(governance) => {
            let (signers, others) = quorum.signers(governance);
            let names: Vec<String> = signers.iter().map(|key| hex(key.thumbprint())).collect();
            let (found, needed) = (signers.len(), governance.threshold());
            let foreign = if others == 0 { String::new() } else { format!("; {others} signatures of nobody known") };
            format!("signed by {found} governors, {needed} needed: {}{foreign}", names.join(", "))
        }
    }
}

fn signatures_json(quorum: &Quorum, governance: Option<&Governance>) -> Value {
    let Some(governance) = governance else { return json!({ "count": quorum.signatures() }) };
    let (signers, others) = quorum.signers(governance);
    let names: Vec<String> = signers.iter().map(|key| hex(key.thumbprint())).collect();
    json!({ "count": quorum.signatures(), "governors": names, "others": others, "needed": governance.threshold() })
}
