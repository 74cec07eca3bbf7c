//! Converts a bundle's images to a CoRIM of the SEV-SNP profile.

use anyhow::{Context, Result};
use ciborium::Value;
use portcullis_cli::say;
use portcullis_firmware_policy::Policy;
use portcullis_firmware_policy::policy::Reference;
use portcullis_wire::{Digest, sha256, sign1};
use serde_json::json;

use super::snp::{
    CLASS_CHIP, Exported, MKEY_AUTHOR_KEY, MKEY_GUEST_SVN, MKEY_HOST_DATA, MKEY_ID_KEY, MKEY_MEASUREMENT, MKEY_VMPL,
    PROFILE,
};
use super::{Account, ExportArguments};
use crate::files;

const CONTENT_TYPE: &str = "application/rim+cbor";

pub(super) fn run(arguments: &ExportArguments) -> Result<()> {
    let opened = files::open(&arguments.bundle)?;
    let mut account = Account::default();
    let corim = corim(opened.content.policy(), &opened.quorum.digest(), &mut account);
    let bytes = match (&arguments.key, &arguments.signer) {
        (Some(key), Some(signer)) => sign(&corim, &files::key(key)?, signer)?,
        (Some(_), None) => anyhow::bail!("--signer: who signs"),
        (None, _) => corim,
    };
    files::write(&arguments.out, &bytes)?;
    if arguments.json {
        say!("{}", json!({ "schema": "portcullis/corim-export/1", "values": account.json() }));
        return Ok(());
    }
    say!("{}: {} bytes", arguments.out.display(), bytes.len());
    account.print();
    Ok(())
}

fn corim(policy: &Policy, digest: &Digest, account: &mut Account) -> Vec<u8> {
    let triples: Vec<Value> = policy.references().iter().flat_map(|reference| image(reference, account)).collect();
    for (what, there, why) in [
        ("nodes", !policy.nodes.is_empty(), "no reference values of an image"),
        ("workloads", !policy.workloads.is_empty(), "no reference values of an image"),
        ("floors", !policy.floors.is_empty(), "a TCB of the profile is one number; floors are compared level by level"),
        ("limits, classes, platform, distrust, Cedar policies", true, "no reference values of an image"),
    ] {
        if there {
            account.lose(what, why);
        }
    }
    let comid =
        map(vec![(1, map(vec![(0, Value::Bytes(uuid(digest, "comid")))])), (4, map(vec![(0, Value::Array(triples))]))]);
    let validity = map(vec![(0, epoch(policy.valid.from)), (1, epoch(policy.valid.until.saturating_sub(1)))]);
    account.keep("validity of the bundle", "rim-validity");
    let corim = map(vec![
        (0, Value::Bytes(uuid(digest, "corim"))),
        (1, Value::Array(vec![Value::Tag(506, Box::new(Value::Bytes(encode(&comid))))])),
        (3, Value::Tag(32, Box::new(PROFILE.into()))),
        (4, validity),
    ]);
    encode(&Value::Tag(501, Box::new(corim)))
}

/// A separate triple for each measurement: the measurements in one triple would all
/// have to match.
fn image(reference: &Reference, account: &mut Account) -> Vec<Value> {
    let name = &reference.name;
    let class = map(vec![(0, Value::Tag(111, Box::new(Value::Bytes(CLASS_CHIP.to_vec()))))]);
    let environment = map(vec![(0, class)]);
    let mut common = vec![
        Exported::MinSvn(MKEY_GUEST_SVN, reference.guest_svn.into()),
        Exported::Raw(MKEY_VMPL, reference.vmpl.to_le_bytes().to_vec()),
    ];
    account.keep(format!("image {name}: guest_svn, vmpl"), "mkeys 1, 5");
    if let Some(data) = reference.host_data.required() {
        common.push(Exported::Raw(MKEY_HOST_DATA, data.to_vec()));
        account.keep(format!("image {name}: host_data"), "mkey 642");
    }
    for (what, rule, key) in [
        ("id_key_digest", &reference.id_key_digest, MKEY_ID_KEY),
        ("author_key_digest", &reference.author_key_digest, MKEY_AUTHOR_KEY),
    ] {
        if let Some(digest) = rule.required() {
            common.push(Exported::Digest(key, digest.to_vec()));
            account.keep(format!("image {name}: {what}"), format!("mkey {key}"));
        }
    }
    for (what, there) in [
        ("role and coverage", true),
        ("pcrs", !reference.pcrs.is_empty()),
        ("boot", reference.boot.is_some()),
        ("uki", reference.uki.is_some()),
        ("ima", reference.ima.is_some()),
    ] {
        if there {
            account.lose(format!("image {name}: {what}"), "the SEV-SNP profile has no such thing");
        }
    }
    let mut triples = Vec::new();
    for (label, measurement) in &reference.measurements {
        let mut measurements: Vec<Value> = common.iter().map(Exported::to_value).collect();
        measurements.push(Exported::Digest(MKEY_MEASUREMENT, measurement.to_vec()).to_value());
        account.keep(format!("image {name}: measurement {label:?}"), "mkey 641");
        triples.push(Value::Array(vec![environment.clone(), Value::Array(measurements)]));
    }
    triples
}

fn sign(corim: &[u8], key: &portcullis_permit::SigningKey, signer: &str) -> Result<Vec<u8>> {
    // corim-meta: the signer.
    let meta = encode(&map(vec![(0, map(vec![(0, signer.into())]))]));
    let headers = vec![
        (1, key.public().suite().algorithm().into()),
        (3, CONTENT_TYPE.into()),
        (4, portcullis_wire::bstr(key.public().thumbprint())),
        (8, portcullis_wire::bstr(&meta)),
    ];
    sign1(headers, corim, false, |tbs| key.sign(tbs)).context("signing")
}

/// A UUID (version 8, RFC 9562) from the bundle's digest: the same bundle has the
/// same CoRIM.
fn uuid(digest: &Digest, label: &str) -> Vec<u8> {
    let derived = sha256(&[label.as_bytes(), digest]);
    let (first, _) = derived.split_first_chunk().unwrap_or((&[0; 16], &[]));
    uuid::Builder::from_custom_bytes(*first).into_uuid().into_bytes().to_vec()
}

fn map(entries: Vec<(i64, Value)>) -> Value {
    Value::Map(entries.into_iter().map(|(key, value)| (key.into(), value)).collect())
}

fn epoch(seconds: u64) -> Value {
    Value::Tag(1, Box::new(seconds.into()))
}

/// Encodes with definite lengths. Every map here is written with sorted integer keys.
fn encode(value: &Value) -> Vec<u8> {
    portcullis_wire::encode(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use portcullis_wire::hex::hex;

    #[test]
    fn ids_follow_from_the_digest() {
        assert_eq!(uuid(&[1; 32], "corim"), uuid(&[1; 32], "corim"));
        assert_ne!(uuid(&[1; 32], "corim"), uuid(&[1; 32], "comid"));
        assert_eq!(hex(&uuid(&[1; 32], "corim")).as_bytes()[12], b'8');
    }
}
