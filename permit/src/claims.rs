//! CWT claims (RFC 8392 and the IANA registry), named once.

/// Issuer.
pub const ISS: i64 = 1;
/// Subject.
pub const SUB: i64 = 2;
/// Audience.
pub const AUD: i64 = 3;
/// Expiry, Unix seconds.
pub const EXP: i64 = 4;
/// Not before, Unix seconds.
pub const NBF: i64 = 5;
/// Issued at, Unix seconds.
pub const IAT: i64 = 6;
/// Id.
pub const CTI: i64 = 7;
/// Confirmation (RFC 8747).
pub const CNF: i64 = 8;
/// Scope (RFC 8693, RFC 9200).
pub const SCOPE: i64 = 9;
/// Confirmation method: COSE key thumbprint (RFC 9679; IANA registered 5 for it, and
/// other implementations have the same number).
pub const CKT: i64 = 5;
/// Status list (Token Status List, approved draft-21).
pub const STATUS_LIST: i64 = 65533;
/// Time to live, seconds (ibid.).
pub const TTL: i64 = 65534;
/// Status (ibid.).
pub const STATUS: i64 = 65535;

/// Private: SHA-256 of the evidence.
pub const EVIDENCE: i64 = -70_001;
/// Private: SHA-256 of the policy bundle.
pub const BUNDLE: i64 = -70_002;
/// Private: SHA-256 of the attestation result.
pub const RESULT: i64 = -70_003;
/// Private: id of the parent permit.
pub const PARENT: i64 = -70_004;
/// Private: constraints on the execution.
pub const CONSTRAINTS: i64 = -70_005;
/// Private: SHA-256 of the recorded channel facts.
pub const CHANNEL: i64 = -70_006;
/// Private: boot counters of the node's TPM.
pub const BOOT: i64 = -70_007;
/// Private: checks that will deny from a date on.
pub const WARNINGS: i64 = -70_008;
