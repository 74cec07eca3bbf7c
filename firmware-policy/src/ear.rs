//! Results in standard formats: trustworthiness vectors (AR4SI, draft-10) and EAT
//! attestation results (EAR, draft-04).
//!
//! Both drafts may still change. Only this module depends on them: it pins one profile
//! and refuses every other. Nothing inside Portcullis decides by it.

use portcullis_attest::check::{Checks, Outcome};
use portcullis_attest::verified::VerifiedEvidence;
use portcullis_wire::hex::hex;
use portcullis_wire::{Digest, Error, Fields, Value, decode, encode, map};

/// The only profile that is written and read.
pub const PROFILE: &str = "tag:ietf.org,2026:rats/ear#04";
/// Largest result read, in bytes.
const MAX_LENGTH: usize = 64 * 1024;
const DEVELOPER: &str = "https://portcullis.invalid";

/// Claims of EAT (RFC 9711) and those that EAR suggests.
const IAT: i64 = 6;
const EAT_PROFILE: i64 = 265;
const SUBMODS: i64 = 266;
const STATUS: i64 = 1000;
const VECTOR: i64 = 1001;
const POLICY_IDS: i64 = 1003;
const VERIFIER_ID: i64 = 1004;

/// Prefix of a bundle's name among the policies of a result.
#[must_use]
pub fn policy_id(bundle: &Digest) -> String {
    format!("urn:portcullis:bundle:sha256:{}", hex(bundle))
}

/// The aspects of a vector, in AR4SI's order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are those of AR4SI, §2.3")]
pub enum Aspect {
    InstanceIdentity,
    Configuration,
    Executables,
    FileSystem,
    Hardware,
    RuntimeOpaque,
    StorageOpaque,
    SourcedData,
}

impl Aspect {
    const ALL: [Self; 8] = [
        Self::InstanceIdentity,
        Self::Configuration,
        Self::Executables,
        Self::FileSystem,
        Self::Hardware,
        Self::RuntimeOpaque,
        Self::StorageOpaque,
        Self::SourcedData,
    ];
}

/// Values used here (AR4SI, §2.3.4).
const NONE: i8 = 0;
const AFFIRMING: i8 = 2;
/// Executables: the boot loaded only known ones. The value says nothing about
/// executables loaded later.
const APPROVED_BOOT: i8 = 3;
const CONTRAINDICATED: i8 = 96;
const CRYPTOGRAPHIC_FAILURE: i8 = 99;

/// The tier that a value falls into.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Tier {
    /// No statement is possible.
    None,
    /// The aspect is as expected.
    Affirming,
    /// Something may be wrong.
    Warning,
    /// Something is wrong.
    Contraindicated,
}

impl Tier {
    /// The tier of a value.
    #[must_use]
    pub const fn of(value: i8) -> Self {
        match value {
            2..=31 => Self::Affirming,
            32..=95 => Self::Warning,
            96..=127 => Self::Contraindicated,
            _ => Self::None,
        }
    }

    const fn number(self) -> u8 {
        match self {
            Self::None => 0,
            Self::Affirming => 2,
            Self::Warning => 32,
            Self::Contraindicated => 96,
        }
    }

    fn from_number(number: u64) -> Result<Self, Error> {
        [Self::None, Self::Affirming, Self::Warning, Self::Contraindicated]
            .into_iter()
            .find(|tier| u64::from(tier.number()) == number)
            .ok_or(Error::WrongType(STATUS))
    }
}

/// One value for each aspect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct TrustVector([i8; 8]);

/// The aspect for each prefix of check ids; the first match counts.
const ASPECTS: [(&str, Aspect); 25] = [
    ("snp.measurement", Aspect::Executables),
    ("snp.guest_svn", Aspect::Executables),
    ("tpm.reference", Aspect::Executables),
    ("tpm.expected", Aspect::Executables),
    ("tpm.pcr", Aspect::Executables),
    ("tpm.eventlog", Aspect::Executables),
    ("ima.", Aspect::Executables),
    ("boot.", Aspect::Executables),
    ("uki.", Aspect::Executables),
    ("reference.", Aspect::Executables),
    ("snp.policy", Aspect::RuntimeOpaque),
    ("snp.vmpl", Aspect::RuntimeOpaque),
    ("snp.platform", Aspect::Hardware),
    ("snp.mitigations", Aspect::Hardware),
    ("snp.tcb", Aspect::Hardware),
    ("chip.", Aspect::Hardware),
    ("snp.host_data", Aspect::Configuration),
    ("snp.id_key", Aspect::Configuration),
    ("snp.author_key", Aspect::Configuration),
    ("bundle.", Aspect::Configuration),
    ("snp.", Aspect::InstanceIdentity),
    ("node.", Aspect::InstanceIdentity),
    ("azure.", Aspect::InstanceIdentity),
    ("evidence.", Aspect::InstanceIdentity),
    ("tpm.", Aspect::InstanceIdentity),
];

/// Checks that fail if a signature does not verify.
const SIGNATURES: [&str; 5] = ["snp.signature", "snp.chain.", "tpm.signature", "snp.root", "tpm.certificate.chain"];

impl TrustVector {
    /// The vector for a list of checks. An aspect is affirmed if at least one of its checks
    /// was made, and no check failed or is missing. It is contraindicated if a check
    /// failed.
    #[must_use]
    pub fn of(checks: &Checks) -> Self {
        let mut vector = Self::default();
        for check in checks.list() {
            let Some((_, aspect)) = ASPECTS.iter().find(|(prefix, _)| check.id.starts_with(prefix)) else { continue };
            let signature = SIGNATURES.iter().any(|prefix| check.id.starts_with(prefix));
            let found = match check.outcome {
                Outcome::Pass if *aspect == Aspect::Executables => APPROVED_BOOT,
                Outcome::Pass => AFFIRMING,
                // This is still fail-closed: the decision denies. Only the vector says unknown.
                Outcome::Missing => NONE,
                Outcome::Fail if signature => CRYPTOGRAPHIC_FAILURE,
                Outcome::Fail => CONTRAINDICATED,
            };
            vector.merge(*aspect, found, check.outcome);
        }
        vector
    }

    /// The vector of evidence that passed every check of an appraisal.
    pub(crate) fn affirmed(evidence: &VerifiedEvidence) -> Self {
        let mut vector = Self::default();
        let mut put = |aspect: Aspect, value| vector.merge(aspect, value, Outcome::Pass);
        put(Aspect::InstanceIdentity, AFFIRMING);
        put(Aspect::Configuration, AFFIRMING);
        put(Aspect::Executables, APPROVED_BOOT);
        if evidence.snp().is_some() {
            put(Aspect::Hardware, AFFIRMING);
            put(Aspect::RuntimeOpaque, AFFIRMING);
        }
        vector
    }

    /// A failed check outranks a missing one, and a missing check outranks a passed one.
    fn merge(&mut self, aspect: Aspect, found: i8, outcome: Outcome) {
        const MISSING: i8 = i8::MIN;
        let Some(value) = self.0.get_mut(aspect as usize) else { return };
        *value = match outcome {
            Outcome::Fail => (*value).max(found),
            Outcome::Missing if Tier::of(*value) != Tier::Contraindicated => MISSING,
            Outcome::Pass if *value == NONE => found,
            Outcome::Pass | Outcome::Missing => *value,
        };
    }

    /// The value of an aspect; 0 if no statement is possible.
    #[must_use]
    pub fn value(&self, aspect: Aspect) -> i8 {
        self.0.get(aspect as usize).copied().filter(|value| *value > 0).unwrap_or(NONE)
    }

    /// The worst tier of all aspects. [`Tier::None`] if no aspect was affirmed, or if a
    /// check is missing and no tier is worse than affirming.
    #[must_use]
    pub fn status(&self) -> Tier {
        let tiers = || Aspect::ALL.into_iter().map(|aspect| Tier::of(self.value(aspect)));
        let worst = tiers().max().unwrap_or(Tier::None);
        let unknown = self.0.iter().any(|value| *value < 0);
        if unknown && worst < Tier::Warning { Tier::None } else { worst }
    }

    pub(crate) fn to_value(self) -> Value {
        let entries = Aspect::ALL.into_iter().map(|aspect| (aspect as i64, self.value(aspect)));
        map(entries.filter(|(_, value)| *value != NONE).map(|(aspect, value)| (aspect, i64::from(value).into())))
    }

    /// A vector with at least one claim: a result omits an empty vector.
    fn from_value(value: Value) -> Result<Self, Error> {
        if value.as_map().is_some_and(Vec::is_empty) {
            return Err(Error::WrongType(VECTOR));
        }
        let mut fields = Fields::of(value)?;
        let mut vector = Self::default();
        for (aspect, slot) in (0_i64..).zip(vector.0.iter_mut()) {
            if let Some(value) = fields.optional(aspect) {
                let number = value.as_integer().and_then(|number| i8::try_from(number).ok());
                *slot = number.ok_or(Error::WrongType(VECTOR))?;
            }
        }
        fields.finish()?;
        Ok(vector)
    }
}

/// A result for one machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ear {
    /// Time of the result, Unix seconds.
    pub issued: u64,
    /// Name of the submodule: the machine, or the part of it that was appraised.
    pub subject: String,
    /// The vector.
    pub vector: TrustVector,
    /// Policies of the appraisal.
    pub policies: Vec<String>,
}

impl Ear {
    /// The claims, deterministically encoded: the payload of a CWT, or a UCCS.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let policies: Vec<Value> = self.policies.iter().map(|policy| policy.as_str().into()).collect();
        let (vector, policies) = (self.vector.to_value(), Value::Array(policies));
        // The draft permits no empty vector and no empty list: both are omitted.
        let filled = |value: &Value| {
            value.as_map().is_some_and(|map| !map.is_empty()) || value.as_array().is_some_and(|list| !list.is_empty())
        };
        let optional = [(VECTOR, vector), (POLICY_IDS, policies)].into_iter().filter(|(_, value)| filled(value));
        let status = (STATUS, u64::from(self.vector.status().number()).into());
        let module = map(std::iter::once(status).chain(optional));
        let build = concat!("portcullis ", env!("CARGO_PKG_VERSION"));
        encode(&map([
            (EAT_PROFILE, PROFILE.into()),
            (IAT, self.issued.into()),
            (VERIFIER_ID, map([(0, DEVELOPER.into()), (1, build.into())])),
            (SUBMODS, Value::Map(vec![(self.subject.as_str().into(), module)])),
        ]))
    }

    /// Reads a result of the pinned profile with one submodule.
    ///
    /// # Errors
    /// [`Error`]; also for another profile, or for a status that differs from the vector's.
    pub fn decode(bytes: &[u8]) -> Result<Self, Error> {
        let mut fields = Fields::of(decode(bytes, MAX_LENGTH)?)?;
        if fields.text(EAT_PROFILE)? != PROFILE {
            return Err(Error::Shape("an EAR of the pinned profile"));
        }
        let issued = fields.uint(IAT)?;
        let mut verifier = fields.nested(VERIFIER_ID)?;
        let (_developer, _build) = (verifier.text(0)?, verifier.text(1)?);
        verifier.finish()?;
        let Value::Map(modules) = fields.required(SUBMODS)? else { return Err(Error::WrongType(SUBMODS)) };
        fields.finish()?;
        let [(name, module)] = <[(Value, Value); 1]>::try_from(modules).map_err(|_| Error::WrongType(SUBMODS))?;
        let subject = name.into_text().map_err(|_| Error::WrongType(SUBMODS))?;
        let mut module = Fields::of(module)?;
        let status = Tier::from_number(module.uint(STATUS)?)?;
        let vector = module.optional(VECTOR).map(TrustVector::from_value).transpose()?.unwrap_or_default();
        let policies = module.optional(POLICY_IDS).map(policy_ids).transpose()?.unwrap_or_default();
        module.finish()?;
        // The status must not be better than the vector.
        if status != Tier::None && status != vector.status() {
            return Err(Error::WrongType(STATUS));
        }
        Ok(Self { issued, subject, vector, policies })
    }
}

/// At least one policy: a result omits an empty list.
fn policy_ids(value: Value) -> Result<Vec<String>, Error> {
    let ids: Option<Vec<String>> = value
        .into_array()
        .ok()
        .filter(|list| !list.is_empty())
        .and_then(|list| list.into_iter().map(|id| id.into_text().ok()).collect());
    ids.ok_or(Error::WrongType(POLICY_IDS))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checks(list: &[(&'static str, Outcome)]) -> Checks {
        let mut checks = Checks::all();
        for (id, outcome) in list {
            match outcome {
                Outcome::Missing => checks.missing(*id, "x", "x"),
                other => drop(checks.require(*id, *other == Outcome::Pass, String::new, String::new, "x")),
            }
        }
        checks
    }

    const SOUND: [(&str, Outcome); 4] = [
        ("snp.signature", Outcome::Pass),
        ("snp.measurement", Outcome::Pass),
        ("snp.tcb.order", Outcome::Pass),
        ("snp.policy.debug", Outcome::Pass),
    ];

    #[test]
    fn what_passed_is_affirmed_and_what_was_not_looked_at_is_not() {
        let vector = TrustVector::of(&checks(&SOUND));
        assert_eq!(vector.status(), Tier::Affirming);
        assert_eq!(vector.value(Aspect::Executables), APPROVED_BOOT);
        assert_eq!(vector.value(Aspect::Hardware), AFFIRMING);
        assert_eq!(vector.value(Aspect::StorageOpaque), NONE);
        assert_eq!(TrustVector::default().status(), Tier::None);
    }

    #[test]
    fn failures_outrank_what_is_missing_in_any_order() {
        let missing = ("snp.crl", Outcome::Missing);
        let forged = ("snp.signature", Outcome::Fail);
        let old = ("snp.tcb.floor.current", Outcome::Fail);
        let with = |more: &[(&'static str, Outcome)]| TrustVector::of(&checks(&[&SOUND[..], more].concat()));
        assert_eq!(with(&[missing]).status(), Tier::None);
        assert_eq!(with(&[old]).value(Aspect::Hardware), CONTRAINDICATED);
        for order in [[missing, forged], [forged, missing]] {
            assert_eq!(with(&order).value(Aspect::InstanceIdentity), CRYPTOGRAPHIC_FAILURE);
            assert_eq!(with(&order).status(), Tier::Contraindicated);
        }
    }

    /// The CBOR example of draft-ietf-rats-ear (`ear-cbor-1`), under the profile of
    /// its fourth version and without the raw evidence, which is not read here.
    #[test]
    fn the_result_of_the_draft_says_here_what_it_says_there() {
        use ciborium::value::Value as Cbor;
        let text = |text: &str| Cbor::Text(text.into());
        let number = |n: i64| Cbor::Integer(n.into());
        let module = |claims: Vec<(i64, Cbor)>| Cbor::Map(claims.into_iter().map(|(k, v)| (number(k), v)).collect());
        let vector = module(vec![(0, number(2)), (2, number(96)), (4, number(2))]);
        let policy = "https://veraison.example/policy/1/60a0068d";
        let claims = |vector: Cbor, policies: Vec<Cbor>| {
            let submodule = module(vec![(1000, number(96)), (1001, vector), (1003, Cbor::Array(policies))]);
            let result = module(vec![
                (6, number(1_666_529_184)),
                (265, text("tag:ietf.org,2026:rats/ear#04")),
                (266, Cbor::Map(vec![(text("PSA"), submodule)])),
                (1004, module(vec![(0, text("https://veraison-project.org")), (1, text("vts 0.0.1"))])),
            ]);
            let mut bytes = Vec::new();
            ciborium::into_writer(&result, &mut bytes).unwrap();
            bytes
        };
        let ear = Ear::decode(&claims(vector.clone(), vec![text(policy)])).unwrap();
        assert_eq!((ear.issued, ear.subject.as_str(), ear.policies), (1_666_529_184, "PSA", vec![policy.to_owned()]));
        let values = Aspect::ALL.map(|aspect| ear.vector.value(aspect));
        assert_eq!(values, [2, 0, 96, 0, 2, 0, 0, 0]);
        assert_eq!(ear.vector.status(), Tier::Contraindicated);

        // `non-empty`, `[ + text ]` and `trustworthiness-claim = -128 .. 127` of its CDDL.
        let refused = |vector, policies| Ear::decode(&claims(vector, policies)).unwrap_err();
        assert_eq!(refused(vector.clone(), Vec::new()), Error::WrongType(POLICY_IDS));
        assert_eq!(refused(vector, vec![number(1)]), Error::WrongType(POLICY_IDS));
        assert_eq!(refused(module(Vec::new()), vec![text(policy)]), Error::WrongType(VECTOR));
        for claim in [text("affirming"), number(128), Cbor::Null] {
            assert_eq!(refused(module(vec![(2, claim)]), vec![text(policy)]), Error::WrongType(VECTOR));
        }
    }

    /// The output has the labels and types of the draft's CDDL, for independent readers.
    #[test]
    fn a_result_without_claims_or_policies_leaves_them_out() {
        let ear = Ear { issued: 1, subject: "n".into(), vector: TrustVector::default(), policies: Vec::new() };
        let bytes = ear.encode();
        let claims: Value = ciborium::from_reader(bytes.as_slice()).unwrap();
        let labels = |map: &Value| -> Vec<i128> {
            map.as_map().unwrap().iter().map(|(label, _)| label.as_integer().unwrap().into()).collect()
        };
        assert_eq!(labels(&claims), [6, 265, 266, 1004]);
        let submods = claims.as_map().unwrap()[2].1.as_map().unwrap();
        assert_eq!(labels(&submods[0].1), [1000]);
        assert_eq!(Ear::decode(&bytes), Ok(ear));
    }

    #[test]
    fn results_are_read_back_and_other_profiles_are_refused() {
        let vector = TrustVector::of(&checks(&SOUND));
        let ear = Ear { issued: 1_795_000_000, subject: "node-1".into(), vector, policies: vec!["urn:x".into()] };
        let bytes = ear.encode();
        assert_eq!(Ear::decode(&bytes), Ok(ear));
        let at = bytes.windows(PROFILE.len()).position(|window| window == PROFILE.as_bytes()).unwrap();
        let mut other = bytes.clone();
        other[at + PROFILE.len() - 1] = b'3'; // ear#03, as in the example of the draft before
        assert_eq!(Ear::decode(&other), Err(Error::Shape("an EAR of the pinned profile")));
        // A status that is better than its vector.
        let bad = TrustVector::of(&checks(&[("snp.signature", Outcome::Fail)]));
        let mut claims = Ear { issued: 1, subject: "n".into(), vector: bad, policies: Vec::new() }.encode();
        let at = claims.windows(2).position(|window| window == [0x18, 96]).unwrap();
        claims.splice(at..at + 2, [2]);
        assert_eq!(Ear::decode(&claims), Err(Error::WrongType(STATUS)));
    }
}
