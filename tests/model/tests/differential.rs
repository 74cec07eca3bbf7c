//! The real decider against the naive one, over generated cases. A million of
//! them: `ci/differential`.

use std::collections::BTreeMap;
use std::path::Path;

use fastrand::Rng;
use portcullis_attest::snp::generation::Generation;
use portcullis_model::stage::compare;
use portcullis_model::{Stage, Verdict, generate};

#[test]
fn both_deciders_agree() {
    let root = Path::new(env!("CARGO_TARGET_TMPDIR")).join("lab-root");
    let mut seen: BTreeMap<String, u32> = BTreeMap::new();
    for (seed, generation) in [(1, Generation::Milan), (2, Generation::Turin)] {
        let mut stage = Stage::new(&root, generation).unwrap();
        let mut rng = Rng::with_seed(seed);
        for _ in 0..50 {
            let staged = stage.stage(generate::bundle(&mut rng)).unwrap();
            for _ in 0..60 {
                match compare(&mut stage, &staged, &generate::told(&mut rng, &staged.told)).unwrap() {
                    Verdict::Permit { warnings, .. } => {
                        *seen.entry("permit".into()).or_default() += 1;
                        *seen.entry("warning".into()).or_default() += warnings.len() as u32;
                    }
                    Verdict::Denial { checks, .. } => {
                        checks.into_iter().for_each(|check| *seen.entry(check).or_default() += 1);
                    }
                }
            }
        }
    }
    // A comparison in which something never happens shows nothing about it.
    let must = [
        "permit",
        "warning",
        "bundle.not_before",
        "bundle.expired",
        "bundle.authority",
        "request.audience",
        "request.statement",
        "request.nonce",
        "request.seen",
        "request.nonce.age",
        "snp.tcb.order",
        "evidence.binding",
        "tpm.nonce",
        "node.enrolled",
        "evidence.class",
        "node.chip_id",
        "node.ak",
        "node.activation",
        "evidence.admitted",
        "chip.generation",
        "chip.id",
        "snp.tcb.floor.current",
        "snp.tcb.floor.committed",
        "snp.tcb.floor.reported",
        "snp.tcb.floor.launch",
        "snp.platform.alias_check",
        "snp.platform.ciphertext_hiding",
        "snp.platform.ecc",
        "snp.platform.smt_disabled",
        "snp.policy.debug",
        "snp.policy.migration",
        "snp.measurement",
        "tpm.reference",
        "reference.validity",
        "snp.vmpl",
        "snp.guest_svn",
        "snp.host_data",
        "tpm.reference.4",
        "node.revoked",
        "workload.revoked",
        "parent.logged",
        "parent.same",
        "parent.boot",
        "parent.age",
        "parent.revoked",
        "workload.known",
        "workload.arguments",
        "workload.environment",
        "workload.linking",
        "authz.error",
        "authz.forbid",
        "authz.permit",
    ];
    let missing: Vec<&str> = must.into_iter().filter(|check| !seen.contains_key(*check)).collect();
    assert_eq!(missing, Vec::<&str>::new(), "never seen; seen: {seen:?}");
}
