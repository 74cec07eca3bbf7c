//! What is permitted today and will be denied from a date on.

use portcullis_wire::Value;

/// A check that will deny.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    /// Id of the check.
    pub check: String,
    /// What was found.
    pub found: String,
    /// What will be required.
    pub required: String,
    /// From when on, Unix seconds.
    pub deny_from: u64,
}

impl Warning {
    pub(crate) fn to_value(&self) -> Value {
        let Self { check, found, required, deny_from } = self;
        Value::Array(vec![check.as_str().into(), found.as_str().into(), required.as_str().into(), (*deny_from).into()])
    }
}
