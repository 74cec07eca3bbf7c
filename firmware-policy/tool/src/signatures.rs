//! Signing for governors, and the list of signers.

use std::path::PathBuf;

use anyhow::Result;
use portcullis_cli::say;
use portcullis_permit::{Governance, Governor, Other, Quorum, Signatures};
use portcullis_wire::hex::hex;
use serde_json::{Value, json};

use crate::files::{self, Refused};

/// Signs with every key. If the governors are known, each key must belong to one of
/// them.
pub(crate) fn sign(
    quorum: &mut Quorum,
    content_type: &'static str,
    keys: &[PathBuf],
    governance: Option<&Governance>,
) -> Result<()> {
    for path in keys {
        let key = files::key(path)?;
        if let Some(governance) = governance.filter(|governance| governance.governor(key.public()).is_none()) {
            let known: Vec<String> = governance.governors().iter().map(Governor::to_string).collect();
            return Err(Refused::new(format!(
                "{}: its key {} is no governor's\n  the governors of root {} are {}",
                path.display(),
                hex(key.public().thumbprint()),
                governance.root_hex(),
                known.join(", ")
            ))
            .into());
        }
        quorum.sign(content_type, &key)?;
    }
    Ok(())
}

/// The signers and related facts, one sentence each.
pub(crate) fn sentences(quorum: &Quorum, governance: Option<&Governance>) -> Vec<String> {
    let count = quorum.signatures();
    let Some(governance) = governance else {
        let many = if count == 1 { "1 signature".to_owned() } else { format!("{count} signatures") };
        return vec![match count {
            0 => "signed by nobody".to_owned(),
            _ => format!("{many}, not verified: --governance FILE says whose"),
        }];
    };
    let Signatures { governors, others } = quorum.signatures_by(governance);
    let names: Vec<String> = governors.iter().map(|governor| governor.to_string()).collect();
    let needed = governance.threshold();
    let signed = match names.as_slice() {
        [] => format!("signed by no governor, {needed} needed"),
        names => format!("signed by {} of {needed} governors needed: {}", names.len(), names.join(", ")),
    };
    std::iter::once(signed).chain(others.iter().map(Other::to_string)).collect()
}

/// Prints the signers.
pub(crate) fn tell(quorum: &Quorum, governance: Option<&Governance>) {
    sentences(quorum, governance).iter().for_each(|sentence| say!("  {sentence}"));
}

/// The signers, as JSON.
pub(crate) fn in_json(quorum: &Quorum, governance: Option<&Governance>) -> Value {
    let Some(governance) = governance else { return json!({ "count": quorum.signatures() }) };
    let Signatures { governors, others } = quorum.signatures_by(governance);
    let keys: Vec<String> = governors.iter().map(|governor| hex(governor.key().thumbprint())).collect();
    let signers: Vec<Value> = governors.into_iter().map(governor_in_json).collect();
    let why: Vec<String> = others.iter().map(Other::to_string).collect();
    json!({
        "count": quorum.signatures(),
        "governors": keys,
        "signers": signers,
        "others": others.len(),
        "not_counted": why,
        "needed": governance.threshold(),
    })
}

/// A governor, as JSON.
pub(crate) fn governor_in_json(governor: &Governor) -> Value {
    json!({ "name": governor.name(), "key": hex(governor.key().thumbprint()), "suite": governor.key().suite().name() })
}
