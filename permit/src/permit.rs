//! The permit: a CWT (RFC 8392) that says who may run what until when.

use std::fmt;

use portcullis_wire::{Digest, Error, Fields, Value, bstr, decode, encode, hex, map, or_null, sha256};

use crate::claims::{
    AUD, BOOT, BUNDLE, CHANNEL, CKT, CNF, CONSTRAINTS, CTI, EVIDENCE, EXP, IAT, ISS, NBF, PARENT, RESULT, SCOPE,
    STATUS, SUB, WARNINGS,
};
use crate::error::PermitError;
use crate::key::SigningKey;
use crate::statement::{self, Kind};
use crate::status::StatusReference;

const MAX_PERMIT: usize = 8 * 1024;
/// Bit of the one action that a gate knows, in the AIF of the scope.
const EXECUTE: u64 = 1;

/// The first 16 bytes of SHA-256 over the encoded request.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PermitId([u8; 16]);

impl PermitId {
    /// The id of the permit for a request.
    #[must_use]
    pub fn of_request(encoded: &[u8]) -> Self {
        let digest = sha256(&[encoded]);
        let (id, _) = digest.split_first_chunk().unwrap_or((&[0; 16], &[]));
        Self(*id)
    }

    /// An id from its bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The bytes.
    #[must_use]
    pub const fn bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl fmt::Display for PermitId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::hex(&self.0))
    }
}

impl fmt::Debug for PermitId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PermitId({self})")
    }
}

/// What shall run: the program's bytes, and how it is called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Workload {
    /// SHA-256 of the executable.
    pub digest: Digest,
    /// SHA-256 of the arguments, each followed by a zero byte.
    pub arguments: Digest,
    /// SHA-256 of the environment (`NAME=value`, sorted), each followed by a
    /// zero byte.
    pub environment: Digest,
    /// Whether the executable asks for an interpreter (`PT_INTERP`).
    pub linking: DynamicLinking,
}

/// Whether shared libraries, which no digest covers, take part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DynamicLinking {
    /// The digest covers all code of the program.
    Static,
    /// The program loads shared libraries from the node's image.
    Dynamic,
}

impl DynamicLinking {
    /// `static` or `dynamic`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Static => "static",
            Self::Dynamic => "dynamic",
        }
    }
}

impl Workload {
    /// Digest over a list of strings, each ended by a zero byte, which no
    /// argument can contain.
    #[must_use]
    pub fn list_digest<'a>(items: impl IntoIterator<Item = &'a [u8]>) -> Digest {
        let joined: Vec<u8> = items.into_iter().flat_map(|item| [item, &[0]].concat()).collect();
        sha256(&[&joined])
    }

    pub(crate) fn to_value(&self) -> Value {
        map([
            (1, bstr(self.digest)),
            (2, bstr(self.arguments)),
            (3, bstr(self.environment)),
            (4, Value::Bool(self.linking == DynamicLinking::Dynamic)),
        ])
    }

    pub(crate) fn from_value(value: Value) -> Result<Self, Error> {
        let mut fields = Fields::of(value)?;
        let workload = Self {
            digest: fields.array(1)?,
            arguments: fields.array(2)?,
            environment: fields.array(3)?,
            linking: if fields.boolean(4)? { DynamicLinking::Dynamic } else { DynamicLinking::Static },
        };
        fields.finish()?;
        Ok(workload)
    }
}

/// Where a TPM stands between its boots (`TPMS_CLOCK_INFO`, TPM 2.0 Part 2,
/// §10.11.1). A renewal continues the boot of the permit before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BootCounters {
    /// Resets since the TPM was cleared.
    pub reset_count: u32,
    /// Restarts since the last reset.
    pub restart_count: u32,
    /// Milliseconds that the TPM has been powered.
    pub clock: u64,
}

impl BootCounters {
    /// Whether this is the same boot, and no earlier point of it.
    #[must_use]
    pub const fn continues(&self, earlier: &Self) -> bool {
        self.reset_count == earlier.reset_count
            && self.restart_count == earlier.restart_count
            && self.clock >= earlier.clock
    }

    /// `[reset count, restart count, clock]`.
    #[must_use]
    pub fn to_value(&self) -> Value {
        Value::Array(vec![self.reset_count.into(), self.restart_count.into(), self.clock.into()])
    }

    /// Reads what [`BootCounters::to_value`] writes.
    ///
    /// # Errors
    /// [`Error::WrongType`].
    pub fn from_value(value: Value) -> Result<Self, Error> {
        let wrong = || Error::WrongType(BOOT);
        let Value::Array(items) = value else { return Err(wrong()) };
        let [Value::Integer(reset), Value::Integer(restart), Value::Integer(clock)] = items.as_slice() else {
            return Err(wrong());
        };
        Ok(Self {
            reset_count: (*reset).try_into().map_err(|_| wrong())?,
            restart_count: (*restart).try_into().map_err(|_| wrong())?,
            clock: (*clock).try_into().map_err(|_| wrong())?,
        })
    }
}

impl fmt::Display for BootCounters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { reset_count, restart_count, clock } = self;
        write!(f, "reset {reset_count}, restart {restart_count}, clock {clock} ms")
    }
}

/// How the permitted program may run. An absent digest was left open by policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Constraints {
    /// Required digest of the arguments.
    pub arguments: Option<Digest>,
    /// Required digest of the environment.
    pub environment: Option<Digest>,
    /// Whether a dynamically linked program may run.
    pub linking: DynamicLinking,
}

/// The content of a permit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Permit {
    /// Origin of the authority's log.
    pub issuer: String,
    /// Name of the enrolled node.
    pub subject: String,
    /// The gate that may use it: `gate/` and the node's name.
    pub audience: String,
    /// Start, Unix seconds.
    pub not_before: u64,
    /// End, Unix seconds, exclusive.
    pub expires: u64,
    /// Id.
    pub id: PermitId,
    /// Thumbprint of the key that must be held.
    pub confirmation: Digest,
    /// SHA-256 of the executable that may run.
    pub workload: Digest,
    /// How it may run.
    pub constraints: Constraints,
    /// Where its status is told.
    pub status: StatusReference,
    /// SHA-256 of the evidence.
    pub evidence: Digest,
    /// SHA-256 of the bundle.
    pub bundle: Digest,
    /// SHA-256 of the attestation result.
    pub result: Digest,
    /// SHA-256 of the recorded channel facts.
    pub channel: Digest,
    /// Where the node's TPM stood, in the classes that have one.
    pub boot: Option<BootCounters>,
    /// The permit that this one renews.
    pub parent: Option<PermitId>,
    /// What will be denied from a date on.
    pub warnings: Vec<PermitWarning>,
}

/// A check that permits today and will deny.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PermitWarning {
    /// Id of the check.
    pub check: String,
    /// From when on, Unix seconds.
    pub deny_from: u64,
}

impl PermitWarning {
    fn to_value(&self) -> Value {
        Value::Array(vec![self.check.as_str().into(), self.deny_from.into()])
    }

    fn from_value(value: Value) -> Result<Self, Error> {
        let parts = value.into_array().ok().and_then(|parts| <[Value; 2]>::try_from(parts).ok());
        let Some([Value::Text(check), Value::Integer(from)]) = parts else { return Err(Error::WrongType(WARNINGS)) };
        Ok(Self { check, deny_from: from.try_into().map_err(|_| Error::WrongType(WARNINGS))? })
    }
}

impl Permit {
    /// The audience of a node's gate.
    #[must_use]
    pub fn gate_audience(node: &str) -> String {
        format!("gate/{node}")
    }

    /// The claims, deterministically encoded.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let target = format!("sha-256:{}", hex::hex(&self.workload));
        // AIF (RFC 9237): one object, the set of permitted actions as bits.
        let aif = Value::Array(vec![Value::Array(vec![target.into(), EXECUTE.into()])]);
        let constraints = map([
            (1, or_null(self.constraints.arguments.map(bstr))),
            (2, or_null(self.constraints.environment.map(bstr))),
            (3, Value::Bool(self.constraints.linking == DynamicLinking::Dynamic)),
        ]);
        encode(&map([
            (ISS, self.issuer.as_str().into()),
            (SUB, self.subject.as_str().into()),
            (AUD, self.audience.as_str().into()),
            (EXP, self.expires.into()),
            (NBF, self.not_before.into()),
            (IAT, self.not_before.into()),
            (CTI, bstr(self.id.bytes())),
            (CNF, map([(CKT, bstr(self.confirmation))])),
            (SCOPE, bstr(encode(&aif))),
            (STATUS, self.status.to_value()),
            (EVIDENCE, bstr(self.evidence)),
            (BUNDLE, bstr(self.bundle)),
            (RESULT, bstr(self.result)),
            (PARENT, or_null(self.parent.map(|id| bstr(id.bytes())))),
            (CONSTRAINTS, constraints),
            (CHANNEL, bstr(self.channel)),
            (BOOT, or_null(self.boot.map(|boot| boot.to_value()))),
            (WARNINGS, Value::Array(self.warnings.iter().map(PermitWarning::to_value).collect())),
        ]))
    }

    /// Reads the claims.
    ///
    /// # Errors
    /// [`PermitError::Malformed`].
    pub fn decode(bytes: &[u8]) -> Result<Self, PermitError> {
        let mut fields = Fields::of(decode(bytes, MAX_PERMIT)?)?;
        let mut confirmation = fields.nested(CNF)?;
        let mut constraints = fields.nested(CONSTRAINTS)?;
        let permit = Self {
            issuer: fields.text(ISS)?,
            subject: fields.text(SUB)?,
            audience: fields.text(AUD)?,
            not_before: fields.uint(NBF)?,
            expires: fields.uint(EXP)?,
            id: PermitId(fields.array(CTI)?),
            confirmation: confirmation.array(CKT)?,
            workload: workload_of(&fields.bytes(SCOPE)?)?,
            constraints: Constraints {
                arguments: constraints.maybe(1, Fields::array)?,
                environment: constraints.maybe(2, Fields::array)?,
                linking: if constraints.boolean(3)? { DynamicLinking::Dynamic } else { DynamicLinking::Static },
            },
            status: StatusReference::from_value(fields.required(STATUS)?)?,
            evidence: fields.array(EVIDENCE)?,
            bundle: fields.array(BUNDLE)?,
            result: fields.array(RESULT)?,
            channel: fields.array(CHANNEL)?,
            boot: match fields.required(BOOT)? {
                Value::Null => None,
                value => Some(BootCounters::from_value(value)?),
            },
            parent: fields.maybe(PARENT, Fields::array)?.map(PermitId),
            warnings: fields.items(WARNINGS)?.into_iter().map(PermitWarning::from_value).collect::<Result<_, _>>()?,
        };
        if fields.uint(IAT)? != permit.not_before {
            return Err(Error::WrongType(IAT).into());
        }
        confirmation.finish()?;
        constraints.finish()?;
        fields.finish()?;
        Ok(permit)
    }

    /// Signs the permit. It is good for nothing before it is in the log.
    ///
    /// # Errors
    /// [`PermitError::Signing`].
    pub fn sign(&self, key: &SigningKey) -> Result<Vec<u8>, PermitError> {
        statement::sign(Kind::Permit, key, &self.issuer, &self.subject, &self.encode())
    }
}

fn workload_of(scope: &[u8]) -> Result<Digest, Error> {
    let refused = || Error::WrongType(SCOPE);
    let Value::Array(objects) = decode(scope, 256)? else { return Err(refused()) };
    let [Value::Array(object)] = objects.as_slice() else { return Err(refused()) };
    let [Value::Text(target), actions] = object.as_slice() else { return Err(refused()) };
    if *actions != Value::from(EXECUTE) {
        return Err(refused());
    }
    target.strip_prefix("sha-256:").and_then(hex::unhex_array).ok_or_else(refused)
}
