//! The structure of a CoRIM: known parts are parsed strictly, and all other parts are
//! reported.

use anyhow::{Context, Result, bail};
use ciborium::Value;

use super::Account;

/// Maximum length of a file, in bytes.
pub(super) const MAX_LENGTH: usize = 1 << 20;
/// Maximum nesting depth.
const MAX_DEPTH: usize = 32;
const TAG_CORIM: u64 = 501;
const TAG_COSWID: u64 = 505;
const TAG_COMID: u64 = 506;
const TAG_COTS: u64 = 507;
const TAG_COTL: u64 = 508;
const TAG_URI: u64 = 32;
const TAG_OID: u64 = 111;
const TAG_EPOCH: u64 = 1;

/// Triples that are read; see [`super::snp`].
const REFERENCE_VALUES: i128 = 0;
const ATTEST_KEYS: i128 = 3;
const CORIM: [&str; 6] = ["id", "tags", "dependent-rims", "profile", "rim-validity", "entities"];
const COMID: [&str; 5] = ["language", "tag-identity", "entities", "linked-tags", "triples"];
const TRIPLES: [&str; 11] = [
    "reference-values",
    "endorsed-values",
    "identity-keys",
    "attest-keys",
    "dependencies",
    "memberships",
    "coswids",
    "unassigned-7",
    "conditional-endorsement-series",
    "unassigned-9",
    "conditional-endorsements",
];

/// A parsed CoRIM.
#[derive(Debug)]
pub(super) struct Read {
    /// Its id, as text.
    pub(super) id: String,
    /// Its profile, if it names one.
    pub(super) profile: Option<String>,
    /// Validity, Unix seconds.
    pub(super) not_before: Option<u64>,
    pub(super) not_after: Option<u64>,
    /// Reference values, one entry for each environment.
    pub(super) references: Vec<Reference>,
    /// Keys that are trusted to sign attestations of environments.
    pub(super) keys: Vec<Keys>,
}

/// Reference values of one environment.
#[derive(Debug)]
pub(super) struct Reference {
    pub(super) place: String,
    pub(super) environment: Environment,
    pub(super) measurements: Vec<Measurement>,
}

/// Trust anchors of one environment.
#[derive(Debug)]
pub(super) struct Keys {
    pub(super) place: String,
    pub(super) environment: Environment,
    pub(super) keys: Vec<Value>,
}

/// The environment that values describe.
#[derive(Debug, Default)]
pub(super) struct Environment {
    /// Class id: the bytes of an OID.
    pub(super) class_oid: Option<Vec<u8>>,
    pub(super) vendor: Option<String>,
    pub(super) model: Option<String>,
    pub(super) instance: Option<Value>,
}

/// One measurement: its key, and its values by label.
#[derive(Debug)]
pub(super) struct Measurement {
    pub(super) place: String,
    pub(super) key: Option<Value>,
    pub(super) values: Vec<(Value, Value)>,
}

/// Decodes exactly one well-formed CBOR item; the input must not have more bytes.
pub(super) fn decode(bytes: &[u8]) -> Result<Value> {
    anyhow::ensure!(bytes.len() <= MAX_LENGTH, "{} bytes, at most {MAX_LENGTH}", bytes.len());
    let mut rest = bytes;
    let value = ciborium::de::from_reader_with_recursion_limit(&mut rest, MAX_DEPTH);
    let value = value.map_err(|error| anyhow::anyhow!("not well-formed CBOR: {error}"))?;
    anyhow::ensure!(rest.is_empty(), "{} bytes behind the CBOR item", rest.len());
    Ok(value)
}

/// Removes the outer tags of drafts before 06: 500 around any CoRIM, 502 around a
/// signed one.
pub(super) fn without_outer_tags(bytes: &[u8]) -> &[u8] {
    const ANY: [u8; 3] = [0xd9, 0x01, 0xf4];
    const SIGNED: [u8; 3] = [0xd9, 0x01, 0xf6];
    let inner = bytes.strip_prefix(&ANY).unwrap_or(bytes);
    inner.strip_prefix(&SIGNED).unwrap_or(inner)
}

/// Reads an unsigned CoRIM, or a single CoMID as in examples, with or without a tag.
pub(super) fn document(bytes: &[u8], account: &mut Account) -> Result<Read> {
    match decode(bytes)? {
        Value::Tag(TAG_CORIM, inner) => corim(*inner, account),
        tag @ Value::Tag(TAG_COMID, _) => lone_comid(tag, account),
        Value::Tag(number @ (TAG_COSWID | TAG_COTS | TAG_COTL), _) => {
            bail!("no CoRIM, but one tag of it alone: {}", other_tag(number))
        }
        bare if is_comid(&bare) => lone_comid(Value::Tag(TAG_COMID, Box::new(bare)), account),
        bare => corim(bare, account),
    }
}

/// The key 1 has the identity in a CoMID, and a list of tags in a CoRIM.
fn is_comid(value: &Value) -> bool {
    let member = |key: i64| value.as_map()?.iter().find(|(k, _)| *k == Value::from(key)).map(|(_, value)| value);
    matches!((member(1), member(4)), (Some(Value::Map(_)), Some(Value::Map(_))))
}

fn corim(value: Value, account: &mut Account) -> Result<Read> {
    let mut members = Members::of(value, "corim")?.called(&CORIM);
    let mut read = Read {
        id: id_text(&members.required(0)?)?,
        profile: members.optional(3)?.map(|value| profile(&value)).transpose()?,
        not_before: None,
        not_after: None,
        references: Vec::new(),
        keys: Vec::new(),
    };
    account.keep("corim.id", "name of the drafted files");
    if read.profile.is_some() {
        account.keep("corim.profile", "says how measurements are read");
    }
    if let Some(validity) = members.optional(4)? {
        let (start, end) = self::validity(validity, "corim.rim-validity", account)?;
        (read.not_before, read.not_after) = (start, Some(end));
        account.keep("corim.rim-validity", "not_before and expires of the images");
    }
    let Value::Array(tags) = members.required(1)? else { bail!("corim.tags: not an array") };
    for (at, tag) in tags.into_iter().enumerate() {
        let place = format!("tags[{at}]");
        // Drafts before 04 have the tag inside the byte string.
        let tag = match tag {
            Value::Bytes(bytes) => decode(&bytes).with_context(|| place.clone())?,
            tag => tag,
        };
        match tag {
            Value::Tag(TAG_COMID, _) => comid(tag, &place, account, &mut read).with_context(|| place.clone())?,
            // Tags other than CoMIDs contain no information about images. The list of kinds is
            // open (`$concise-tag-type-choice`), so unknown kinds are reported by number.
            Value::Tag(number, _) => account.lose(place, other_tag(number)),
            other => bail!("{place}: found {}, required a tag, such as a CoMID", kind(&other)),
        }
    }
    members.finish(account);
    Ok(read)
}

/// Why a tag other than a CoMID has no place in a bundle.
fn other_tag(number: u64) -> String {
    match number {
        TAG_COSWID => "a CoSWID: Portcullis measures images, not packages".into(),
        TAG_COTS => "a CoTS: roots of a bundle are named one by one, not as a store".into(),
        TAG_COTL => "a CoTL: bundles say themselves what is active".into(),
        other => format!("tag {other}: an unknown kind of tag"),
    }
}

fn lone_comid(tag: Value, account: &mut Account) -> Result<Read> {
    let mut read = Read {
        id: "comid".into(),
        profile: None,
        not_before: None,
        not_after: None,
        references: Vec::new(),
        keys: Vec::new(),
    };
    comid(tag, "comid", account, &mut read)?;
    Ok(read)
}

fn comid(tag: Value, place: &str, account: &mut Account, read: &mut Read) -> Result<()> {
    let Value::Tag(_, inner) = tag else { bail!("not a CoMID") };
    let content = match *inner {
        Value::Bytes(bytes) => decode(&bytes)?,
        content => content,
    };
    let mut members = Members::of(content, place)?.called(&COMID);
    let mut identity = Members::of(members.required(1)?, &format!("{place}.tag-identity"))?;
    id_text(&identity.required(0)?)?;
    account.lose(format!("{place}.tag-identity.tag-id"), "a bundle has a digest, its parts have none");
    identity.finish(account);
    let mut triples = Members::of(members.required(4)?, &format!("{place}.triples"))?;
    if let Some(list) = triples.optional(REFERENCE_VALUES)? {
        for (at, triple) in array(list, "reference-values")?.into_iter().enumerate() {
            let place = format!("{place}.reference-values[{at}]");
            let reference = reference(triple, &place, account).with_context(|| place.clone())?;
            read.references.push(reference);
        }
    }
    if let Some(list) = triples.optional(ATTEST_KEYS)? {
        for (at, triple) in array(list, "attest-keys")?.into_iter().enumerate() {
            let place = format!("{place}.attest-keys[{at}]");
            let mut parts = array(triple, "a triple")?;
            // A key with conditions is not trusted without them.
            if parts.len() == 3 {
                account.lose(place, "keys under conditions: roots of a bundle have none");
                continue;
            }
            let keys = parts.pop().with_context(|| place.clone())?;
            let environment = parts
                .pop()
                .filter(|_| parts.is_empty())
                .with_context(|| format!("{place}: required an environment and keys"))?;
            let environment = self::environment(environment, &place, account)?;
            read.keys.push(Keys { environment, keys: array(keys, "keys")?, place });
        }
    }
    triples.called(&TRIPLES).finish_because("bundles have reference values and roots; no other triples", account);
    members.finish(account);
    Ok(())
}

fn reference(triple: Value, place: &str, account: &mut Account) -> Result<Reference> {
    let [environment, measurements] = pair(triple)?;
    let environment = self::environment(environment, place, account)?;
    let mut all = Vec::new();
    // Drafts before 08 have one measurement instead of a list.
    let list = match measurements {
        Value::Array(list) => list,
        one @ Value::Map(_) => vec![one],
        other => bail!("found {}, required measurements", kind(&other)),
    };
    for (at, measurement) in list.into_iter().enumerate() {
        let place = format!("{place}.measurements[{at}]");
        let mut members = Members::of(measurement, &place)?;
        let key = members.optional(0)?;
        let Value::Map(values) = members.required(1)? else { bail!("{place}.mval: not a map") };
        members.finish(account);
        all.push(Measurement { place, key, values });
    }
    Ok(Reference { place: place.to_owned(), environment, measurements: all })
}

fn environment(value: Value, place: &str, account: &mut Account) -> Result<Environment> {
    let mut members = Members::of(value, &format!("{place}.environment"))?;
    let mut environment = Environment { instance: members.optional(1)?, ..Environment::default() };
    if let Some(class) = members.optional(0)? {
        let mut class = Members::of(class, &format!("{place}.environment.class"))?;
        match class.optional(0)? {
            Some(Value::Tag(TAG_OID, oid)) => environment.class_oid = oid.into_bytes().ok(),
            Some(other) => {
                account.lose(format!("{place}.environment.class.id"), format!("{}, not an OID", kind(&other)))
            }
            None => {}
        }
        environment.vendor = class.optional(1)?.map(|v| text(&v)).transpose()?;
        environment.model = class.optional(2)?.map(|v| text(&v)).transpose()?;
        class.finish(account);
    }
    members.finish(account);
    Ok(environment)
}

/// The members of a map. The caller takes them one by one; the account reports the
/// rest.
struct Members {
    place: String,
    entries: Vec<(Value, Value)>,
    /// The draft's names of members, by label.
    names: &'static [&'static str],
}

impl Members {
    fn of(value: Value, place: &str) -> Result<Self> {
        let entries = match value {
            Value::Map(entries) => entries,
            other => bail!("{place}: found {}, required a map", kind(&other)),
        };
        for (at, (key, _)) in entries.iter().enumerate() {
            if entries.iter().skip(at.saturating_add(1)).any(|(other, _)| other == key) {
                bail!("{place}: {} is there twice", shown(key));
            }
        }
        Ok(Self { place: place.to_owned(), entries, names: &[] })
    }

    const fn called(mut self, names: &'static [&'static str]) -> Self {
        self.names = names;
        self
    }

    fn name(&self, label: &Value) -> String {
        let number = label.as_integer().and_then(|n| usize::try_from(n).ok());
        let name = number.and_then(|n| self.names.get(n)).copied();
        name.map_or_else(|| shown(label), str::to_owned)
    }

    fn optional(&mut self, key: i128) -> Result<Option<Value>> {
        let is = |found: &Value| found.as_integer().map(i128::from) == Some(key);
        let at = self.entries.iter().position(|(found, _)| is(found));
        Ok(at.map(|at| self.entries.remove(at).1))
    }

    fn required(&mut self, key: i128) -> Result<Value> {
        let place = self.place.clone();
        self.optional(key)?.with_context(|| format!("{place}: member {key} is missing"))
    }

    /// Reports the remaining members in the account.
    fn finish(self, account: &mut Account) {
        self.finish_because("Portcullis has no such thing", account);
    }

    fn finish_because(self, why: &str, account: &mut Account) {
        for (label, _) in &self.entries {
            account.lose(format!("{}.{}", self.place, self.name(label)), why);
        }
    }
}

fn pair(value: Value) -> Result<[Value; 2]> {
    let found = kind(&value);
    let parts = value.into_array().ok().and_then(|parts| parts.try_into().ok());
    parts.with_context(|| format!("found {found}, required a record of two"))
}

fn array(value: Value, what: &str) -> Result<Vec<Value>> {
    let found = kind(&value);
    value.into_array().map_err(|_| anyhow::anyhow!("{what}: found {found}, required an array"))
}

fn text(value: &Value) -> Result<String> {
    value.as_text().map(str::to_owned).with_context(|| format!("found {}, required a text", kind(value)))
}

fn id_text(value: &Value) -> Result<String> {
    match value {
        Value::Text(text) => Ok(text.clone()),
        Value::Bytes(bytes) if bytes.len() == 16 => Ok(portcullis_wire::hex::hex(bytes)),
        other => bail!("found {}, required an id: a text or a UUID", kind(other)),
    }
}

fn profile(value: &Value) -> Result<String> {
    match value {
        Value::Tag(TAG_URI, uri) => text(uri),
        Value::Text(uri) => Ok(uri.clone()),
        Value::Tag(TAG_OID, oid) => match oid.as_bytes() {
            Some(bytes) => Ok(format!("oid:{}", portcullis_wire::hex::hex(bytes))),
            None => bail!("corim.profile: an OID without bytes"),
        },
        other => bail!("corim.profile: found {}, required a URI or an OID", kind(other)),
    }
}

/// A validity: optional start, and end; Unix seconds.
pub(super) type Span = (Option<u64>, u64);

fn validity(value: Value, place: &str, account: &mut Account) -> Result<Span> {
    let mut members = Members::of(value, place)?;
    let start = members.optional(0)?.map(|value| epoch(&value, f64::ceil)).transpose()?;
    let end = epoch(&members.required(1)?, f64::floor)?;
    members.finish(account);
    Ok((start, end))
}

/// The signer's name and the validity in a `corim-meta` map.
pub(super) fn meta(bytes: &[u8], account: &mut Account) -> Result<(String, Option<Span>)> {
    let mut members = Members::of(decode(bytes)?, "corim-meta")?;
    let mut signer = Members::of(members.required(0)?, "corim-meta.signer")?;
    let name = text(&signer.required(0)?)?;
    signer.finish(account);
    let span = members.optional(1)?.map(|value| validity(value, "corim-meta.signature-validity", account));
    members.finish(account);
    Ok((name, span.transpose()?))
}

/// A time (RFC 8949 §3.4.2): whole seconds, or a fraction. `inside` rounds a fraction
/// so that the validity does not become longer.
fn epoch(value: &Value, inside: fn(f64) -> f64) -> Result<u64> {
    /// The end of the year 9999.
    const LATEST: u64 = 253_402_300_799;
    let Value::Tag(TAG_EPOCH, inner) = value else { bail!("found {}, required a time", kind(value)) };
    let seconds = match inner.as_ref() {
        Value::Integer(seconds) => u64::try_from(*seconds).ok(),
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "in range, and whole")]
        Value::Float(seconds) if (0.0..1e12).contains(seconds) => Some(inside(*seconds) as u64),
        _ => None,
    };
    seconds.filter(|seconds| *seconds <= LATEST).context("a time before 1970, or after 9999")
}

/// A short name for the type of a value.
pub(super) fn kind(value: &Value) -> String {
    match value {
        Value::Integer(_) => "an integer".into(),
        Value::Bytes(_) => "bytes".into(),
        Value::Float(_) => "a float".into(),
        Value::Text(_) => "a text".into(),
        Value::Bool(_) => "a boolean".into(),
        Value::Null => "null".into(),
        Value::Tag(tag, _) => format!("tag {tag}"),
        Value::Array(_) => "an array".into(),
        Value::Map(_) => "a map".into(),
        _ => "something else".into(),
    }
}

/// A label, for display.
pub(super) fn shown(value: &Value) -> String {
    match value {
        Value::Integer(n) => i128::from(*n).to_string(),
        Value::Text(text) => text.clone(),
        Value::Tag(TAG_OID, oid) => {
            oid.as_bytes().map_or_else(|| "oid".into(), |b| format!("oid:{}", portcullis_wire::hex::hex(b)))
        }
        other => kind(other),
    }
}
