//! Enrolled nodes, and the workloads that they may ask for.

use std::collections::BTreeMap;

use portcullis_attest::evidence::EvidenceClass;
use portcullis_permit::DynamicLinking;
use portcullis_wire::Digest;
use portcullis_wire::hex::hex;

use super::FieldRule;
use super::reading::Reading;
use crate::document::{self, Linking};

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

/// Words for the classes.
pub(super) const CLASSES: [(&str, EvidenceClass); 5] = {
    let [tpm, snp, snp_tpm, azure, svsm] = EvidenceClass::ALL;
    [(tpm.name(), tpm), (snp.name(), snp), (snp_tpm.name(), snp_tpm), (azure.name(), azure), (svsm.name(), svsm)]
};

/// Reads all nodes. It is a mistake if no admitted class satisfies a node's minimum.
pub(super) fn read_nodes(
    nodes: &[document::Node],
    admitted: &[EvidenceClass],
    reading: &mut Reading<'_>,
) -> BTreeMap<String, Node> {
    let mut all = BTreeMap::new();
    for (at, node) in nodes.iter().enumerate() {
        let key = format!("node[{at}]");
        if let Some(node) = read_node(node, &key, admitted, reading) {
            let name = node.name.clone();
            reading.unique(&format!("{key}.name"), &mut all, name.clone(), node, &name);
        }
    }
    all
}

fn read_node(node: &document::Node, key: &str, admitted: &[EvidenceClass], reading: &mut Reading<'_>) -> Option<Node> {
    let key = |name: &str| format!("{key}.{name}");
    let name = reading.name(&key("name"), &node.name, false);
    let minimum = reading.word(&key("minimum_class"), &node.minimum_class, &CLASSES);
    let chip_id = node.chip_id.as_ref().map(|text| reading.hex::<64>(&key("chip_id"), text));
    let ak_name = node.ak_name.as_ref().map(|text| reading.bytes(&key("ak_name"), text));
    let ek = node.ek.as_ref().map(|text| reading.hex(&key("ek"), text));
    let (name, minimum_class) = (name?, minimum?);
    // An unreadable key was noted already: skip the node.
    let unread = |absent: bool, read: bool| !absent && !read;
    if unread(chip_id.is_none(), chip_id.flatten().is_some())
        || unread(ak_name.is_none(), ak_name.as_ref().is_some_and(Option::is_some))
        || unread(ek.is_none(), ek.flatten().is_some())
    {
        return None;
    }
    let (chip_id, ak_name, ek) = (chip_id.flatten(), ak_name.flatten(), ek.flatten());
    if chip_id == Some([0; 64]) {
        return reading.wrong(key("chip_id"), "zero", "a VLEK report names no chip; enrol such a node by its ek");
    }
    if !admitted.iter().any(|class| class.satisfies(minimum_class)) {
        let hint = "add a class that satisfies it to classes, or lower it";
        return reading.wrong(key("minimum_class"), minimum_class.name(), hint);
    }
    // The evidence must identify the machine: by its chip, or by a key in one TPM. A TPM
    // that the host runs identifies the machine only by its endorsement key.
    let (by_chip, by_tpm) = (chip_id.is_some(), ak_name.is_some() || ek.is_some());
    let missing = match minimum_class {
        EvidenceClass::SnpTpm if !by_tpm => Some(("ek", "ek or ak_name")),
        EvidenceClass::SnpTpm if !by_chip && ek.is_none() => Some(("chip_id", "chip_id or ek")),
        EvidenceClass::Snp if !by_chip => Some(("chip_id", "chip_id")),
        EvidenceClass::Tpm if !by_tpm => Some(("ek", "ek or ak_name")),
        EvidenceClass::SnpAzureVtpm | EvidenceClass::SnpSvsmVtpm if !by_chip && !by_tpm => {
            Some(("chip_id", "chip_id, ek or ak_name"))
        }
        _ => None,
    };
    if let Some((field, what)) = missing {
        let hint =
            format!("a node of class {minimum_class} needs {what}; `portcullis identity` on the node prints them");
        reading.refuse(key(field), "is missing", &hint);
        return None;
    }
    Some(Node { name, chip_id, ak_name, ek, minimum_class, tags: node.tags.clone() })
}

/// Reads all workloads.
pub(super) fn read_workloads(
    workloads: &[document::Workload],
    reading: &mut Reading<'_>,
) -> BTreeMap<Digest, KnownWorkload> {
    let (mut all, mut names) = (BTreeMap::new(), BTreeMap::new());
    for (at, workload) in workloads.iter().enumerate() {
        let key = |name: &str| format!("workload[{at}].{name}");
        let name = reading.name(&key("name"), &workload.name, true);
        let digest = reading.hex(&key("digest"), &workload.digest);
        let arguments = reading.rule(&key("arguments"), &workload.arguments);
        let environment = reading.rule(&key("environment"), &workload.environment);
        let linking = match workload.linking {
            Linking::Static => DynamicLinking::Static,
            Linking::Dynamic => DynamicLinking::Dynamic,
        };
        let (Some(name), Some(digest), Some(arguments), Some(environment)) = (name, digest, arguments, environment)
        else {
            continue;
        };
        reading.unique(&key("name"), &mut names, name.clone(), (), &name);
        let known = KnownWorkload { name, digest, arguments, environment, linking };
        reading.unique(&key("digest"), &mut all, digest, known, &hex(&digest));
    }
    all
}
