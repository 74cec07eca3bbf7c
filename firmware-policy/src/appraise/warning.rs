//! Conditions that are permitted today and will be denied from a date on.

use portcullis_wire::Value;

/// A check that will deny.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    /// Id of the check.
    pub check: String,
    /// The value found.
    pub found: String,
    /// The value that will be required.
    pub required: String,
    /// Start of the denial, Unix seconds.
    pub deny_from: u64,
}

impl Warning {
    pub(crate) fn to_value(&self) -> Value {
        let Self { check, found, required, deny_from } = self;
        Value::Array(vec![check.as_str().into(), found.as_str().into(), required.as_str().into(), (*deny_from).into()])
    }
}
