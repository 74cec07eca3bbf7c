//! Cedar's part of a decision.

use portcullis_attest::check::Checks;
use portcullis_attest::verified::VerifiedEvidence;
use portcullis_authz::{Answer, Authorizer, Blame, Parent, Question};
use portcullis_permit::{DynamicLinking, PermitRequest};
use portcullis_wire::hex::hex;

use super::facts::{Facts, ParentState};
use crate::policy::{KnownWorkload, Node, Reference};

/// The subject of a question to Cedar.
pub(super) struct Asked<'a> {
    pub(super) node: &'a Node,
    pub(super) evidence: &'a VerifiedEvidence,
    pub(super) image: &'a Reference,
    pub(super) workload: &'a KnownWorkload,
    pub(super) request: &'a PermitRequest,
    pub(super) facts: &'a Facts<'a>,
    pub(super) at: u64,
}

pub(super) fn ask_cedar(asked: &Asked<'_>, authorizer: &Authorizer, checks: &mut Checks) {
    let Asked { node, evidence, image, workload, request, facts, at } = asked;
    let chip = evidence.snp().map(|snp| (snp.generation().name(), hex(&snp.report().chip_id)));
    let (digest, requester) = (hex(&workload.digest), hex(request.confirmation.thumbprint()));
    let parent = match (&request.parent, &facts.parent) {
        (Some(parent), ParentState::Logged { origin, since, .. }) => {
            Some((parent.to_string(), origin.to_string(), *since))
        }
        _ => None,
    };
    let answer = authorizer.ask(&Question {
        time: *at,
        node: &node.name,
        class: evidence.class().name(),
        chip: chip.as_ref().map(|(generation, id)| (*generation, id.as_str())),
        image: &image.name,
        tags: &node.tags,
        workload: &digest,
        workload_name: &workload.name,
        dynamic: request.workload.linking == DynamicLinking::Dynamic,
        requester: &requester,
        parent: parent.as_ref().map(|(id, origin, since)| Parent { id, origin, since: *since }),
    });
    let (id, found) = match answer {
        Answer::Permitted => ("authz.permit", "permitted".to_owned()),
        Answer::Forbidden(policies) => ("authz.forbid", format!("forbidden by {}", list(&policies))),
        Answer::NotPermitted => ("authz.permit", "no policy permits".to_owned()),
        Answer::Erred(policies) => ("authz.error", list(&policies)),
    };
    let permitted = found == "permitted";
    checks.require(id, permitted, || found, || "permitted by policy, without an error".into(), "Cedar policies");
}

fn list(policies: &[Blame]) -> String {
    policies.iter().map(Blame::to_string).collect::<Vec<_>>().join("; ")
}
