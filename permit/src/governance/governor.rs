//! Who governs: keys, what people call their holders, and how many must sign.

use std::collections::BTreeSet;
use std::fmt;

use portcullis_wire::hex::hex;
use portcullis_wire::{Digest, Error, Fields, Value, bstr, decode, encode, map, or_null, sha256};

use super::{GovernanceError, MAX_GOVERNORS};
use crate::filekind::FileKind;
use crate::key::PublicKey;

/// Longest name, in bytes.
const MAX_NAME: usize = 64;
const MAX_DOCUMENT: usize = 128 * 1024;

/// A governor: a key, and what people call its holder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Governor {
    name: Option<String>,
    key: PublicKey,
}

impl Governor {
    /// A governor with a name.
    ///
    /// # Errors
    /// [`GovernanceError::Name`]: 1 to 64 printable ASCII characters, no blank at
    /// an end.
    pub fn named(name: &str, key: PublicKey) -> Result<Self, GovernanceError> {
        let printable = name.chars().all(|c| c.is_ascii_graphic() || c == ' ');
        let sound = !name.is_empty() && name.len() <= MAX_NAME && printable && name.trim() == name;
        if sound { Ok(Self { name: Some(name.to_owned()), key }) } else { Err(GovernanceError::Name(name.to_owned())) }
    }

    /// The name, where the governance root has one.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// The key.
    #[must_use]
    pub const fn key(&self) -> &PublicKey {
        &self.key
    }
}

/// A governor that has no name is shown by the thumbprint of the key.
impl From<PublicKey> for Governor {
    fn from(key: PublicKey) -> Self {
        Self { name: None, key }
    }
}

/// Name and thumbprint: the name is for people, the thumbprint is what counts.
impl fmt::Display for Governor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let thumbprint = hex(self.key.thumbprint());
        match &self.name {
            Some(name) => write!(f, "{name} ({thumbprint})"),
            None => f.write_str(&thumbprint),
        }
    }
}

/// The governors and how many of them must sign: the root of trust of a deployment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Governance {
    threshold: usize,
    governors: Vec<Governor>,
}

impl Governance {
    /// A set of distinct governors with a threshold of at least one that it can
    /// reach. Keys alone are governors without names.
    ///
    /// # Errors
    /// [`GovernanceError::Set`]; [`GovernanceError::Name`] where two have one name.
    pub fn new(
        threshold: usize,
        governors: impl IntoIterator<Item = impl Into<Governor>>,
    ) -> Result<Self, GovernanceError> {
        let mut governors: Vec<Governor> = governors.into_iter().map(Into::into).collect();
        governors.sort_by(|a, b| a.key.thumbprint().cmp(b.key.thumbprint()));
        let distinct: BTreeSet<&Digest> = governors.iter().map(|governor| governor.key.thumbprint()).collect();
        let sound = threshold >= 1 && threshold <= governors.len() && distinct.len() == governors.len();
        if !sound || governors.len() > MAX_GOVERNORS {
            return Err(GovernanceError::Set);
        }
        let mut names = BTreeSet::new();
        if let Some(twice) = governors.iter().filter_map(Governor::name).find(|name| !names.insert(*name)) {
            return Err(GovernanceError::Name(twice.to_owned()));
        }
        Ok(Self { threshold, governors })
    }

    /// How many governors must sign.
    #[must_use]
    pub const fn threshold(&self) -> usize {
        self.threshold
    }

    /// The governors, by thumbprint.
    #[must_use]
    pub fn governors(&self) -> &[Governor] {
        &self.governors
    }

    /// The governor who has a key.
    #[must_use]
    pub fn governor(&self, key: &PublicKey) -> Option<&Governor> {
        self.governors.iter().find(|governor| governor.key == *key)
    }

    /// The deterministic encoding: threshold, keys in the order of their thumbprints, and
    /// names or null in the same order. The list of names is absent if no governor has a
    /// name.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let keys = self.governors.iter().map(|governor| bstr(governor.key.to_cose())).collect();
        let mut members = vec![(1, (self.threshold as u64).into()), (2, Value::Array(keys))];
        if self.governors.iter().any(|governor| governor.name.is_some()) {
            let names = self.governors.iter().map(|governor| or_null(governor.name().map(Value::from)));
            members.push((3, Value::Array(names.collect())));
        }
        encode(&map(members))
    }

    /// Reads the deterministic encoding.
    ///
    /// # Errors
    /// [`GovernanceError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, GovernanceError> {
        let mut fields = Fields::of(decode(bytes, MAX_DOCUMENT)?)?;
        let threshold = usize::try_from(fields.uint(1)?).map_err(|_| GovernanceError::Set)?;
        let keys = fields.items(2)?;
        let names = fields.maybe(3, Fields::items)?.unwrap_or_else(|| vec![Value::Null; keys.len()]);
        fields.finish()?;
        if names.len() != keys.len() {
            return Err(Error::WrongType(3).into());
        }
        let governors = keys.into_iter().zip(names).map(|(key, name)| governor(key, name));
        let read = Self::new(threshold, governors.collect::<Result<Vec<_>, _>>()?)?;
        // The root is the digest of the one encoding that a set of governors has.
        if read.encode() == bytes { Ok(read) } else { Err(Error::Shape("governors in order of their keys").into()) }
    }

    /// Reads a file that somebody gave for the governors' keys and threshold.
    ///
    /// # Errors
    /// [`GovernanceError::File`], which says what it is instead; of such a file that
    /// cannot be, as [`Governance::decode`].
    pub fn from_file(bytes: &[u8]) -> Result<Self, GovernanceError> {
        Self::decode(bytes).map_err(|error| match FileKind::of(bytes) {
            FileKind::Cbor => error,
            other => GovernanceError::File(other),
        })
    }

    /// SHA-256 of the encoding: the governance root.
    #[must_use]
    pub fn root(&self) -> Digest {
        sha256(&[&self.encode()])
    }

    /// The governance root in hex.
    #[must_use]
    pub fn root_hex(&self) -> String {
        hex(&self.root())
    }
}

fn governor(key: Value, name: Value) -> Result<Governor, GovernanceError> {
    let bytes = key.into_bytes().map_err(|_| Error::WrongType(2))?;
    let key = PublicKey::from_cose(&bytes).map_err(|_| Error::WrongType(2))?;
    match name {
        Value::Null => Ok(key.into()),
        Value::Text(name) => Governor::named(&name, key),
        _ => Err(Error::WrongType(3).into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::{SigningKey, Suite};

    fn keys(count: usize) -> Vec<PublicKey> {
        (0..count).map(|_| SigningKey::generate(Suite::Classic).unwrap().public().clone()).collect()
    }

    #[test]
    fn refuses_sets_that_cannot_govern() {
        let keys = keys(2);
        let of = |threshold, all: &[usize]| Governance::new(threshold, all.iter().map(|n| keys[*n].clone()));
        assert_eq!(of(0, &[0]), Err(GovernanceError::Set));
        assert_eq!(of(2, &[0]), Err(GovernanceError::Set));
        assert_eq!(of(1, &[0, 0]), Err(GovernanceError::Set));
        let governance = of(2, &[0, 1]).unwrap();
        assert_eq!(Governance::decode(&governance.encode()), Ok(governance.clone()));
        assert_ne!(of(1, &[0, 1]).unwrap().root(), governance.root());
    }

    /// Roots from before governors had names keep their digest. With names the root
    /// differs, so that a name cannot be changed unnoticed.
    #[test]
    fn a_root_without_names_is_what_it_always_was_and_names_are_part_of_the_root() {
        let mut keys = keys(2);
        keys.sort_by(|a, b| a.thumbprint().cmp(b.thumbprint()));
        let plain = Governance::new(2, keys.clone()).unwrap();
        let cose = || Value::Array(keys.iter().map(|key| bstr(key.to_cose())).collect());
        assert_eq!(plain.encode(), encode(&map([(1, 2.into()), (2, cose())])));
        let with = |a: &str, b: &str| {
            let named = [Governor::named(a, keys[0].clone()).unwrap(), Governor::named(b, keys[1].clone()).unwrap()];
            Governance::new(2, named)
        };
        let named = with("alice", "bob").unwrap();
        assert_eq!(
            named.encode(),
            encode(&map([(1, 2.into()), (2, cose()), (3, Value::Array(vec!["alice".into(), "bob".into()]))]))
        );
        assert_eq!(Governance::decode(&named.encode()), Ok(named.clone()));
        assert_ne!(named.root(), plain.root());
        assert_ne!(named.root(), with("bob", "alice").unwrap().root());
        assert_eq!(with("alice", "alice"), Err(GovernanceError::Name("alice".into())));
        for wrong in ["", " alice", "al\u{ef}ce", "a\nb", &"a".repeat(65)] {
            assert_eq!(Governor::named(wrong, keys[0].clone()), Err(GovernanceError::Name(wrong.into())), "{wrong:?}");
        }
        // One encoding only: no list of nulls, one name for each key, keys in order.
        let null = Value::Array(vec![Value::Null, Value::Null]);
        for names in [null, Value::Array(vec!["alice".into()]), Value::Array(vec![1.into(), Value::Null])] {
            let bytes = encode(&map([(1, 2.into()), (2, cose()), (3, names)]));
            assert!(matches!(Governance::decode(&bytes), Err(GovernanceError::Malformed(_))));
        }
        keys.reverse();
        let turned =
            encode(&map([(1, 2.into()), (2, Value::Array(keys.iter().map(|key| bstr(key.to_cose())).collect()))]));
        assert!(matches!(Governance::decode(&turned), Err(GovernanceError::Malformed(_))));
    }
}
