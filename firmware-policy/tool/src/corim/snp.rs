//! The SEV-SNP profile of CoRIM (draft-deeglaze-amd-sev-snp-corim-profile): converts
//! measurements to an image, value by value.

use anyhow::{Context, Result, bail};
use ciborium::Value;
use portcullis_firmware_policy::document::{Coverage, Reference, RoleName};
use portcullis_wire::hex::hex;

use super::Account;
use super::read::{self, Measurement, kind, shown};

/// `1.3.6.1.4.1.3704.3.1`: a report signed by a chip's key; `.3.2`: by a provider's.
pub(super) const CLASS_CHIP: [u8; 9] = [0x2b, 0x06, 0x01, 0x04, 0x01, 0x9c, 0x78, 0x03, 0x01];
const CLASS_PROVIDER: [u8; 9] = [0x2b, 0x06, 0x01, 0x04, 0x01, 0x9c, 0x78, 0x03, 0x02];
/// The profile's name.
pub(super) const PROFILE: &str = "tag:amd.com,2024:snp-corim-profile";
/// The algorithm SHA-384 in named information, and in COSE.
const SHA_384: [i128; 2] = [7, -43];

const TAG_BYTES: u64 = 560;
const TAG_SVN: u64 = 552;
const TAG_MIN_SVN: u64 = 553;

const MVAL_SVN: i128 = 1;
const MVAL_DIGESTS: i128 = 2;
const MVAL_RAW: i128 = 4;

/// Keys of measurements.
pub(super) const MKEY_GUEST_SVN: i128 = 1;
pub(super) const MKEY_VMPL: i128 = 5;
pub(super) const MKEY_MEASUREMENT: i128 = 641;
pub(super) const MKEY_HOST_DATA: i128 = 642;
pub(super) const MKEY_ID_KEY: i128 = 643;
pub(super) const MKEY_AUTHOR_KEY: i128 = 644;

/// Whether an environment is an SEV-SNP environment.
pub(super) fn is_snp(environment: &read::Environment) -> bool {
    environment.class_oid.as_deref().is_some_and(|oid| oid == CLASS_CHIP || oid == CLASS_PROVIDER)
}

/// An image from the reference values of one environment. `None` if they do not contain
/// a launch measurement.
pub(super) fn image(reference: &read::Reference, name: &str, account: &mut Account) -> Result<Option<Reference>> {
    let mut image = Reference {
        name: name.to_owned(),
        role: RoleName::Node,
        // A CoRIM does not state what a measurement covers.
        covers: Coverage::Firmware,
        reviewed: false,
        not_before: None,
        expires: None,
        vmpl: 0,
        guest_svn: 0,
        host_data: "any".into(),
        id_key_digest: "any".into(),
        author_key_digest: "any".into(),
        measurements: std::collections::BTreeMap::new(),
        pcrs: std::collections::BTreeMap::new(),
        boot: None,
        uki: None,
        ima: None,
        events: std::collections::BTreeMap::new(),
    };
    if let Some(instance) = &reference.environment.instance {
        let place = format!("{}.environment.instance", reference.place);
        account.lose(place, format!("{}: images are for any machine; nodes are enrolled by chip", kind(instance)));
    }
    for measurement in &reference.measurements {
        take(measurement, &mut image, account).with_context(|| measurement.place.clone())?;
    }
    Ok((!image.measurements.is_empty()).then_some(image))
}

fn take(measurement: &Measurement, image: &mut Reference, account: &mut Account) -> Result<()> {
    let Some(Value::Integer(key)) = &measurement.key else {
        let found = measurement.key.as_ref().map_or_else(|| "nothing".to_owned(), kind);
        bail!("mkey: found {found}, required an unsigned integer of the SEV-SNP profile");
    };
    let key = i128::from(*key);
    for (label, value) in &measurement.values {
        let place = format!("{}.{}", measurement.place, named(key));
        let Some(label) = label.as_integer().map(i128::from) else {
            account.lose(format!("{place}.{}", shown(label)), "an extension that the profile does not have");
            continue;
        };
        value_of(key, label, value, place, image, account)?;
    }
    Ok(())
}

fn value_of(
    key: i128,
    label: i128,
    value: &Value,
    place: String,
    image: &mut Reference,
    account: &mut Account,
) -> Result<()> {
    match (key, label) {
        (MKEY_MEASUREMENT, MVAL_DIGESTS) => {
            let digest = sha384(value)?;
            let name = format!("CoRIM {}", image.measurements.len().saturating_add(1));
            account.keep(place, format!("measurements.{name:?}"));
            image.measurements.insert(name, hex(&digest));
        }
        (MKEY_GUEST_SVN, MVAL_SVN) => match svn(value)? {
            (TAG_MIN_SVN, least) => {
                image.guest_svn = u32::try_from(least).context("a guest SVN of 32 bits")?;
                account.keep(place, "guest_svn");
            }
            (_, exact) => account.lose(place, format!("exactly {exact}: guest_svn is a lowest value")),
        },
        (MKEY_VMPL, MVAL_RAW) => {
            let bytes: [u8; 4] = raw(value)?;
            image.vmpl = u32::from_le_bytes(bytes);
            account.keep(place, "vmpl");
        }
        (MKEY_HOST_DATA, MVAL_RAW) => {
            image.host_data = hex(&raw::<32>(value)?);
            account.keep(place, "host_data");
        }
        (MKEY_ID_KEY, MVAL_DIGESTS) => {
            image.id_key_digest = hex(&sha384(value)?);
            account.keep(place, "id_key_digest");
        }
        (MKEY_AUTHOR_KEY, MVAL_DIGESTS) => {
            image.author_key_digest = hex(&sha384(value)?);
            account.keep(place, "author_key_digest");
        }
        _ => account.lose(place, why_not(key)),
    }
    Ok(())
}

/// Why a value of the profile does not become part of an image.
fn why_not(key: i128) -> &'static str {
    match key {
        0 => "report versions 2 to 5 are all judged",
        2 => "debugging and migration are always refused; no other bit of the policy is judged",
        3 | 4 => "family and image id are the guest owner's words, and not judged",
        6 | 647 | 3329 | 3968 => {
            "a TCB is one number here; a bundle's [[floor]] is of a generation, and compared level by level"
        }
        7 => "platform properties are of the platform, a bundle's [platform]",
        640 | 645 | 646 => "differs from report to report",
        3328 => "a chip is enrolled as a node, in [[node]]",
        3330 | 3936 => "firmware is judged by TCB, not by version",
        _ => "no value of the profile that an image has",
    }
}

/// The profile's name for a key.
fn named(key: i128) -> String {
    let name = match key {
        0 => "version",
        MKEY_GUEST_SVN => "guest-svn",
        2 => "policy",
        3 => "family-id",
        4 => "image-id",
        MKEY_VMPL => "vmpl",
        6 => "current-tcb",
        7 => "platform-info",
        640 => "report-data",
        MKEY_MEASUREMENT => "measurement",
        MKEY_HOST_DATA => "host-data",
        MKEY_ID_KEY => "id-key-digest",
        MKEY_AUTHOR_KEY => "author-key-digest",
        645 => "report-id",
        646 => "report-id-ma",
        647 => "reported-tcb",
        3328 => "chip-id",
        3329 => "committed-tcb",
        3330 => "current-version",
        3936 => "committed-version",
        3968 => "launch-tcb",
        other => return format!("mkey {other}"),
    };
    name.to_owned()
}

fn sha384(value: &Value) -> Result<[u8; 48]> {
    let digests = value.as_array().context("digests: not an array")?;
    let [digest] = digests.as_slice() else { bail!("digests: found {}, required one", digests.len()) };
    let parts = digest.as_array().context("digest: not a record of algorithm and value")?;
    let [Value::Integer(algorithm), Value::Bytes(bytes)] = parts.as_slice() else {
        bail!("digest: not a record of algorithm and value");
    };
    if !SHA_384.contains(&i128::from(*algorithm)) {
        bail!("digest: found algorithm {}, required SHA-384", i128::from(*algorithm));
    }
    bytes.as_slice().try_into().ok().with_context(|| format!("digest: {} bytes, required 48", bytes.len()))
}

fn raw<const N: usize>(value: &Value) -> Result<[u8; N]> {
    let Value::Tag(TAG_BYTES, inner) = value else { bail!("found {}, required tagged bytes", kind(value)) };
    let bytes = inner.as_bytes().context("tagged bytes without bytes")?;
    bytes.as_slice().try_into().ok().with_context(|| format!("{} bytes, required {N}", bytes.len()))
}

/// An SVN, and whether it is exact or a minimum.
fn svn(value: &Value) -> Result<(u64, u64)> {
    let (tag, number) = match value {
        Value::Tag(tag @ (TAG_SVN | TAG_MIN_SVN), inner) => (*tag, inner.as_integer()),
        Value::Integer(number) => (TAG_SVN, Some(*number)),
        other => bail!("found {}, required an SVN", kind(other)),
    };
    Ok((tag, number.and_then(|n| u64::try_from(n).ok()).context("an SVN of 64 bits")?))
}

/// A measurement for an export: its key, label and value.
pub(super) enum Exported {
    MinSvn(i128, u64),
    Digest(i128, Vec<u8>),
    Raw(i128, Vec<u8>),
}

impl Exported {
    /// A measurement-map.
    pub(super) fn to_value(&self) -> Value {
        let (key, label, value) = match self {
            Self::MinSvn(key, svn) => (key, MVAL_SVN, Value::Tag(TAG_MIN_SVN, Box::new((*svn).into()))),
            Self::Digest(key, digest) => {
                let record = Value::Array(vec![7.into(), Value::Bytes(digest.clone())]);
                (key, MVAL_DIGESTS, Value::Array(vec![record]))
            }
            Self::Raw(key, bytes) => (key, MVAL_RAW, Value::Tag(TAG_BYTES, Box::new(Value::Bytes(bytes.clone())))),
        };
        let integer = |n: i128| Value::Integer(i64::try_from(n).unwrap_or_default().into());
        let mval = Value::Map(vec![(integer(label), value)]);
        Value::Map(vec![(integer(0), integer(*key)), (integer(1), mval)])
    }
}
