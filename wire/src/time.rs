//! Times for people.

/// A time for people and JSON (RFC 3339, UTC), from Unix seconds. A number that
/// no calendar has stays a number.
///
/// ```
/// assert_eq!(portcullis_wire::rfc3339(0), "1970-01-01T00:00:00Z");
/// assert_eq!(portcullis_wire::rfc3339(u64::MAX), "18446744073709551615");
/// ```
#[must_use]
pub fn rfc3339(seconds: u64) -> String {
    let time = i64::try_from(seconds).ok().and_then(|s| jiff::Timestamp::from_second(s).ok());
    time.map_or_else(|| seconds.to_string(), |time| time.to_string())
}
